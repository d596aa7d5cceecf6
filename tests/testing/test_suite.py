"""`check_divergence`: its choices, and failures that can be brought back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from fguidance.testing import Declaration, check_divergence
from fguidance.testing.runner import NO_LONGER_FAILS
from tests.testing.test_subject import InTorch

CHECK = "weight_is_homogeneous"


class WrongSometimes(InTorch):
    """Wrong where p of the first class is large."""

    def weight(self, log_p: Any, log_q: Any) -> Any:
        weights = super().weight(log_p, log_q)
        return 2 * weights if float(log_p[..., 0].exp().max()) > 0.7 else weights


@pytest.fixture
def profile(tmp_path: Path) -> Iterator[Path]:
    """A profile with random examples and a database, as users have it."""
    before = settings.get_current_profile_name()
    folder = tmp_path / "examples"
    database = DirectoryBasedExampleDatabase(folder)
    settings.register_profile("as users have it", derandomize=False, database=database, max_examples=100)
    settings.load_profile("as users have it")
    yield folder
    settings.load_profile(before)


class OtherwiseWhenCompiled(InTorch):
    def value(self, log_p: Any, log_q: Any) -> Any:
        return super().value(log_p, log_q) * (2 if torch.compiler.is_compiling() else 1)


def test_a_dear_check_is_not_shrunk() -> None:
    (record,) = check_divergence(OtherwiseWhenCompiled, checks=["compiling_gives_the_same"]).records
    assert record.status == "failed"
    assert record.examples <= 3


def test_two_functions_are_asked_for_as_a_pair() -> None:
    made = InTorch()
    with pytest.raises(TypeError, match=r"check_divergence\(\(value, weight\)"):
        check_divergence(made.value, made.weight)  # type: ignore[arg-type]


class TestFailuresComeBack:
    def test_the_line_runs_the_same_example_alone(self) -> None:
        (failed,) = check_divergence(WrongSometimes, checks=[CHECK]).failures
        again = check_divergence(WrongSometimes, checks=[CHECK], reproduce_failure=failed.reproduce_failure)
        (record,) = again.records
        assert (record.status, record.examples) == ("failed", 1)
        assert (record.counterexample, record.reason) == (failed.counterexample, failed.reason)
        whole = check_divergence(WrongSometimes, checks=[CHECK], reproduce_failure=failed.reproduce)
        assert whole.records[0].counterexample == failed.counterexample

    @pytest.mark.parametrize("line", ("", "js", "@reproduce_failure('6.1', open('x'))", "@reproduce_failure('6.1')"))
    def test_another_line(self, line: str) -> None:
        with pytest.raises(ValueError, match="reproduce_failure must be a line like"):
            check_divergence(WrongSometimes, checks=[CHECK], reproduce_failure=line)

    def test_once_mended_it_passes(self) -> None:
        (failed,) = check_divergence(WrongSometimes, checks=[CHECK]).failures
        (record,) = check_divergence(InTorch, checks=[CHECK], reproduce_failure=failed.reproduce_failure).records
        assert (record.status, record.examples, record.reason) == ("passed", 1, NO_LONGER_FAILS)

    def test_a_line_of_another_version_or_check(self) -> None:
        (failed,) = check_divergence(WrongSometimes, checks=[CHECK]).failures
        assert failed.reproduce_failure is not None
        version, blob = failed.reproduce_failure
        assert version == hypothesis.__version__
        with pytest.raises(ValueError, match=r"it is of Hypothesis 1\.0, but this is"):
            check_divergence(WrongSometimes, checks=[CHECK], reproduce_failure=("1.0", blob))
        with pytest.raises(ValueError, match="holds no example of value_is_jointly_convex"):
            check_divergence(WrongSometimes, checks=["value_is_jointly_convex"], reproduce_failure=(version, b"AAA="))
        for checks in (None, [], [CHECK, "force_sums_to_zero"]):
            with pytest.raises(ValueError, match="reproduce_failure is an example of one check"):
                check_divergence(WrongSometimes, checks=checks, reproduce_failure=(version, blob))

    def test_the_database_replays_a_failure(self, profile: Path) -> None:
        (failed,) = check_divergence(WrongSometimes, checks=[CHECK]).failures
        assert any(profile.rglob("*"))
        settings.register_profile("replay alone", settings(), phases=[Phase.reuse])
        settings.load_profile("replay alone")
        (again,) = check_divergence(WrongSometimes, checks=[CHECK]).failures
        assert again.counterexample == failed.counterexample
        assert again.examples <= 3
        assert not check_divergence(InTorch, checks=[CHECK]).failures[0].counterexample  # nothing of it to replay


class TestChoices:
    def test_checks_and_their_order(self) -> None:
        names = ["value_is_not_negative", "weight_is_zero_at_equality"]
        report = check_divergence(InTorch, checks=names, max_examples=3)
        assert [record.check for record in report.records] == names
        assert all(record.examples <= 3 for record in report.records)

    @pytest.mark.usefixtures("profile")
    def test_a_seed_makes_two_runs_equal(self) -> None:
        class Listens(InTorch):
            def __init__(self) -> None:
                self.heard: list[list[float]] = []

            def weight(self, log_p: Any, log_q: Any) -> Any:
                self.heard.append(log_p.tolist())
                return super().weight(log_p, log_q)

        heard = []
        for seed in (5, 5, 6):
            subject = Listens()
            report = check_divergence(subject, checks=[CHECK], seed=seed, max_examples=20)
            assert report.settings["seed"] == seed
            heard.append(subject.heard)
        assert heard[0] == heard[1] != heard[2]

    def test_entries_of_the_declaration(self) -> None:
        report = check_divergence(
            InTorch, Declaration(symmetric=False), checks=["symmetry_is_as_declared"], symmetric=True, max_examples=3
        )
        assert report.passed

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        (
            ({"checks": ["nope"]}, ValueError, "checks: 'nope' is not one of"),
            ({"checks": "force_sums_to_zero"}, TypeError, "checks must be a list of names, not the text"),
            ({"expected_failures": {"nope": "why"}}, ValueError, "expected_failures: 'nope' is not one of"),
            ({"smoth": True}, TypeError, "a declaration has no entry 'smoth'"),
            ({"max_examples": 0, "checks": [CHECK]}, Exception, "max_examples"),
        ),
    )
    def test_bad_ones_are_refused(self, options: dict[str, Any], error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            check_divergence(InTorch, **options)
