"""The baseline holds exact numbers, is written once, and tells of every number that moves."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fguidance as fg
from fguidance.testing import Record, check_divergence
from fguidance.testing.baseline import INPUTS, inputs, read
from fguidance.testing.tolerance import ulps_between
from tests.testing.right import HellingerInNumpy
from tests.testing.wrong import base

ALL = ("float16", "bfloat16", "float32", "float64")
Change = Any


class Hellinger(base.Hellinger):
    name = "mine"


class InNumPy(HellingerInNumpy):
    name = "mine"


class Forced(Hellinger):
    def logit_gradient(self, logits: Any, log_q: Any) -> Any:
        weight = self.weight(torch.log_softmax(logits, -1), log_q)
        return weight - torch.softmax(logits, -1) * weight.sum(-1, keepdim=True)


def but(part: str, change: Any, base: type = Hellinger) -> Any:
    """The class with a part replaced by `change(result, log_p)`."""
    return type("Changed", (base,), {part: lambda self, p, q: change(getattr(base, part)(self, p, q), p)})()


def run(source: Any, path: Path, **options: Any) -> Record:
    (record,) = check_divergence(source, checks=["baseline"], baseline=path, **options).records
    return record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "baseline.npz"


def rewritten(path: Path, change: Change) -> None:
    """Write the file anew with what it says about itself changed."""
    with np.load(path) as file:
        stored = dict(file)
    with path.open("wb") as file:
        np.savez(file, **{**stored, "about": np.array(json.dumps(change(json.loads(str(stored["about"])))))})


class TestRecording:
    @pytest.mark.parametrize("source", (Hellinger, InNumPy, "js"))
    def test_the_first_run_records_and_the_second_compares(self, path: Path, source: Any) -> None:
        first = run(source, path)
        assert first.status == "passed"
        assert str(path) in first.reason
        kept = path.read_bytes()
        second = run(source, str(path))
        assert (second.status, second.reason, second.examples) == ("passed", "", first.examples)
        assert path.read_bytes() == kept
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_every_promised_dtype_is_in_it_exactly_with_versions(self, path: Path) -> None:
        js = fg.divergence("js")
        run(js, path, dtypes=ALL)
        about, entries = read(path, "js")  # type: ignore[misc]
        assert {"torch", "fguidance", "numpy"} <= set(about["versions"])
        for stored, given in zip(entries, inputs(getattr(torch, dtype) for dtype in ALL), strict=True):
            assert all(stored[name].dtype == given[name].dtype for name in INPUTS)
            assert all(torch.equal(stored[name], given[name]) for name in INPUTS)
            assert torch.equal(stored["weight"], js.weight(given["log_p"], given["log_q"]))

    def test_it_is_one_record_beside_the_checks(self, path: Path) -> None:
        report = check_divergence(Hellinger, baseline=path, checks=["value_is_not_negative"], max_examples=2)
        assert [record.check for record in report.records] == ["value_is_not_negative", "baseline"]

    def test_what_changes_by_itself_is_not_recorded(self, path: Path) -> None:
        calls = iter(range(10**6))
        record = run(but("value", lambda value, _: value + 1e-6 * next(calls)), path)
        assert record.status == "failed"
        assert "second time" in record.reason
        assert not path.exists()

    def test_a_refusal_is_an_answer(self, path: Path) -> None:
        def refuse(weight: Any, log_p: Any) -> Any:
            if log_p.shape[-1] == 7:
                raise ValueError("not seven")
            return weight

        refuses = but("weight", refuse)
        assert run(refuses, path).status == run(refuses, path).status == "passed"
        record = run(Hellinger, path)
        assert (record.status, record.counterexample["old"]) == ("failed", "ValueError")

    @pytest.mark.parametrize("error", (ZeroDivisionError("by zero"), SystemExit(3)))
    @pytest.mark.parametrize("part", ("value", "weight"))
    def test_another_error_is_not_recorded(self, path: Path, part: str, error: BaseException) -> None:
        def crash(result: Any, log_p: Any) -> Any:
            if log_p.ndim == 3:
                raise error
            return result

        record = run(but(part, crash), path)
        assert record.status == "failed"
        assert f"{part} raises {type(error).__name__}: {error} on the input 'a batch with an axis" in record.reason
        assert (record.counterexample["part"], len(record.counterexample["log_p"])) == (part, 2)
        assert not path.exists()

    def test_a_part_that_refuses_everything_is_not_recorded(self, path: Path) -> None:
        def refuse(*_: object) -> Any:
            raise ValueError("never")

        record = run(but("weight", refuse), path)
        assert (record.status, record.reason) == (
            "failed", "nothing was recorded: weight gives a number for no input"
        )  # fmt: skip
        assert not path.exists()


class TestComparing:
    def test_a_number_that_moves_is_shown_with_its_input(self, path: Path) -> None:
        run(Hellinger, path)
        moved = but("value", lambda value, _: (1 + 2.0**-40) * value)
        record, shown = run(moved, path), run(moved, path).counterexample
        assert (record.status, shown["part"], shown["dtype"]) == ("failed", "value", "float64")
        assert 2**11 < shown["ulps"] < 2**13
        given = [torch.tensor(shown[name], dtype=torch.float64) for name in ("log_p", "log_q")]
        assert [float(one.value(*given)) for one in (Hellinger(), moved)] == [shown["old"], shown["new"]]
        assert run(moved, path, baseline_ulps=2**13).status == "passed"

    @pytest.mark.parametrize(("ulps", "allowed", "status"), ((2, 4, "passed"), (16, 4, "failed"), (2, 0, "failed")))
    def test_the_allowance_is_in_ulps(self, path: Path, ulps: int, allowed: int, status: str) -> None:
        run(Hellinger, path, dtypes=("float64",))
        moved = but("value", lambda value, _: (1 + ulps * 2.0**-52) * value)
        options = {} if allowed == 4 else {"baseline_ulps": allowed}
        assert run(moved, path, dtypes=("float64",), **options).status == status

    def test_the_recorded_inputs_are_used(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run(Hellinger, path)
        monkeypatch.setattr("fguidance.testing.baseline.inputs", lambda dtypes: pytest.fail("inputs were made anew"))
        assert run(Hellinger, path).status == "passed"

    @pytest.mark.parametrize(
        ("part", "change", "message"),
        (
            ("weight", lambda weight, _: weight.double(), "another kind"),
            ("value", lambda value, _: value[..., None], "another kind"),
            ("value", lambda value, _: value.flip(0) if value.ndim else value, "'a batch"),
            ("value", lambda value, p: value + (p.shape[-1] > 200), "'many classes'"),
        ),
    )
    def test_what_else_is_drift(self, path: Path, part: str, change: Any, message: str) -> None:
        run(Hellinger, path)
        record = run(but(part, change), path)
        assert record.status == "failed"
        assert message in f"{record.reason} {record.counterexample}"

    def test_a_part_that_came_later_is_said_and_the_file_is_kept(self, path: Path) -> None:
        run(Hellinger, path)
        kept = path.read_bytes()
        record = run(Forced, path)
        assert record.status == "failed"
        assert "holds nothing of logit_gradient" in record.reason
        assert "move the file away" in record.reason
        assert path.read_bytes() == kept
        path.rename(path.with_name("old.npz"))
        assert run(Forced, path).status == run(Forced, path).status == "passed"
        assert run(Hellinger, path).status == "failed"

    def test_a_dtype_that_came_later_is_said(self, path: Path) -> None:
        run(Hellinger, path, dtypes=("float64",))
        assert "holds nothing of float32" in run(Hellinger, path, dtypes=("float64", "float32")).reason

    def test_an_expected_failure_with_other_versions_named(self, path: Path) -> None:
        run(Hellinger, path)
        rewritten(path, lambda about: {**about, "versions": {**about["versions"], "torch": "1.0"}})
        moved = but("value", lambda value, _: 2 * value)
        record = run(moved, path, expected_failures={"baseline": "twice by now"})
        assert record.status == "expected"
        assert f"torch 1.0 (now {torch.__version__})" in record.reason


def _text(old: str, new: str) -> Change:
    return lambda about: json.loads(json.dumps(about).replace(old, new))


class TestFile:
    @pytest.mark.parametrize(
        ("change", "message"),
        (
            (lambda about: {**about, "format": "something"}, "is 'something' of schema 2; this version reads"),
            (lambda about: {**about, "schema": 3}, "of schema 3; this version reads"),
            (lambda about: {**about, "name": "yours"}, "was recorded of 'yours', not of 'mine'"),
            (lambda about: {"format": "x"}, "damaged or another file: KeyError"),
            (lambda about: {**about, "cases": None}, "is damaged or another file: TypeError"),
            (lambda about: {**about, "cases": [], "kinds": {}}, "is damaged or another file: ValueError: .* no entry"),
            (lambda about: {**about, "kinds": {}}, "is damaged or another file: ValueError: an entry without"),
            (_text("float64", "int64"), "is damaged or another file: ValueError: int64 is none"),
            (_text("value", "worth"), "is damaged or another file: ValueError: worth is none"),
            (_text('"0.log_q', '"99.log_q'), "is damaged or another file: KeyError"),
        ),
    )
    def test_a_file_that_says_something_else_is_refused_and_kept(self, path: Path, change: Any, message: str) -> None:
        run(Hellinger, path)
        rewritten(path, change)
        self._require_refused(path, message)

    @pytest.mark.parametrize(
        "change",
        (
            lambda file: file[:-40], lambda file: b"", lambda file: b"[]", lambda file: b"\x93NUMPY\x01\x00",
            lambda file: file[:2000] + bytes(16) + file[2016:], lambda file: file[:30], lambda file: b"\xff\xfe\x00",
        ),
    )  # fmt: skip
    def test_damaged_bytes_are_refused_and_kept(self, path: Path, change: Any) -> None:
        run(Hellinger, path)
        path.write_bytes(change(path.read_bytes()))
        self._require_refused(path, "damaged")

    def _require_refused(self, path: Path, message: str) -> None:
        kept = path.read_bytes()
        with pytest.raises(ValueError, match=message) as caught:
            check_divergence(Hellinger, baseline=path)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == kept

    def test_nothing_in_it_is_unpickled(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, about=np.array([print], dtype=object))
        self._require_refused(path, "allow_pickle")

    def test_folders(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="damaged or another file: IsADirectoryError"):
            run(Hellinger, tmp_path)
        with pytest.raises(ValueError, match="there is no folder"):
            run(Hellinger, tmp_path / "none" / "baseline.npz")

    def test_a_file_that_appears_meanwhile_is_kept(self, path: Path) -> None:
        def write(value: Any, log_p: Any) -> Any:
            if log_p.dtype == torch.float32:  # in the run itself, after the file was looked for
                path.write_text("somebody else's")
            return value

        with pytest.raises(ValueError, match="cannot be written: File exists"):
            run(but("value", write), path)
        assert path.read_text() == "somebody else's"
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    @pytest.mark.parametrize("ulps", (-1, math.nan, "4", True))
    def test_the_bound_is_a_number(self, path: Path, ulps: Any) -> None:
        with pytest.raises(ValueError, match="baseline_ulps must be a number of at least 0"):
            run(Hellinger, path, baseline_ulps=ulps)

    def test_the_name_needs_a_file(self) -> None:
        with pytest.raises(ValueError, match="'baseline' is not one of"):
            check_divergence(Hellinger, checks=["baseline"])


@pytest.mark.parametrize("dtype", ALL)
def test_inputs_are_distributions_of_every_kind(dtype: str) -> None:
    found = list(inputs([getattr(torch, dtype)]))
    for entry in found:
        logits, log_p, log_q = (entry[name] for name in INPUTS)
        assert {one.dtype for one in (logits, log_p, log_q)} == {getattr(torch, dtype)}
        if entry["case"] != "equal to the target":
            exact = torch.log_softmax(logits.double(), -1).to(log_p.dtype)
            torch.testing.assert_close(log_p, exact, rtol=2 * torch.finfo(log_p.dtype).eps, atol=1e-15)
            totals = log_q.double().exp().sum(-1)
            torch.testing.assert_close(totals, torch.ones_like(totals), atol=1e-2, rtol=0)
    assert max(float(entry["log_p"].max()) for entry in found) > -1e-10
    distances = [float((entry["log_p"] - entry["log_q"]).abs().max()) for entry in found]
    assert min(distances) == 0
    assert any(0 < distance < 0.05 for distance in distances)
    assert {tuple(entry["log_q"].shape) for entry in found} >= {(2,), (3,), (7,), (300,), (3, 3), (2, 1, 4)}


class TestUlps:
    @pytest.mark.parametrize("start", (0.0, -1.0, 1.0, -5e-324, 1e300, -3e-310))
    def test_steps_to_the_next_number_are_counted(self, start: float) -> None:
        end = start
        for _ in range(5):
            end = math.nextafter(end, math.inf)
        pair = torch.tensor([start, end], dtype=torch.float64)
        assert ulps_between(pair, pair.flip(0)).tolist() == [5, 5]

    @pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float32))
    def test_the_unit_is_that_of_the_dtype(self, dtype: torch.dtype) -> None:
        one = torch.ones((), dtype=dtype)
        assert ulps_between(one, one + 3 * torch.finfo(dtype).eps) == 3

    @pytest.mark.parametrize(
        ("one", "other", "apart"),
        (
            (0.0, -0.0, 0), (math.nan, math.nan, 0), (math.inf, math.inf, 0), (1.0, math.nan, math.inf),
            (1.0, math.inf, math.inf), (-math.inf, math.inf, math.inf), (-1e308, 1e308, 1.8e19),
        ),
    )  # fmt: skip
    def test_special_numbers(self, one: float, other: float, apart: float) -> None:
        found = ulps_between(torch.tensor([one], dtype=torch.float64), torch.tensor([other], dtype=torch.float64))
        assert float(found) == pytest.approx(apart, rel=0.03)
