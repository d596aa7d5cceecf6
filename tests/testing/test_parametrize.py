"""One test per check and divergence, from a decorator."""

from pathlib import Path
from typing import Any

import pytest

import fguidance as fg
from fguidance.testing import parametrize_with_checks
from fguidance.testing.check import CHECKS

pytest_plugins = ["pytester"]

FILE = """
from fguidance.testing import Declaration, parametrize_with_checks
from tests.testing.test_subject import InTorch


class Negative(InTorch):
    def weight(self, log_p, log_q):
        return -super().weight(log_p, log_q)


class Declared(Negative):
    declaration = Declaration(expected_failures={"a_step_against_the_force_lowers_the_value": "it runs uphill"})


@parametrize_with_checks([InTorch, Negative, Declared], max_examples=5)
def test_divergence(divergence, check):
    check(divergence)
"""


def test_every_check_of_every_divergence_is_a_case() -> None:
    mark = parametrize_with_checks(["js", "t*log(t)"]).mark
    names = [case.id for case in mark.args[1]]
    assert names == [f"{name}-{check}" for name in ("js", "t*log(t)") for check in CHECKS]


def test_results_and_the_number_of_examples(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    pytester.makepyfile(FILE)
    result = pytester.runpytest_inprocess("-k", "a_step_against or force_sums_to_zero", "-rfx", "--tb=short")
    result.assert_outcomes(passed=1, failed=1, xfailed=1, skipped=3, deselected=3 * (len(CHECKS) - 2))
    result.stdout.fnmatch_lines([
        "*the divergence goes from*",
        "*reproduce: check_divergence(..., checks=?'a_step_against_the_force_lowers_the_value'?, *",
        "*examples were run",
        "fguidance: 3 checks ran * examples",
        "FAILED *a_step_against_the_force_lowers_the_value* - CheckFailed: the divergence goes from*",
        "*it runs uphill (the divergence goes from*",
    ])


def test_what_cannot_be_tested_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="int has no method value"):
        parametrize_with_checks([3])
    with pytest.raises(ValueError, match="generator"):
        parametrize_with_checks(["t^2"])
    with pytest.raises(ValueError, match="divergences must not be empty: nothing would be checked"):
        parametrize_with_checks([])


class Module:
    value = weight = staticmethod(lambda log_p, log_q: log_p)


@pytest.mark.parametrize(
    ("single", "message"),
    (
        ("t*log(t)", r"divergences must be a list of divergences, not one alone: write \['t\*log\(t\)'\]"),
        (Module, r"not one alone: write \[Module\]"), (Module(), r"not one alone: write \[\.\.\.\]"),
        (fg.divergence("js"), "not one alone"), (3, "not one alone"), (None, "not one alone"),
        ((len, max), r"not functions: write \[\(value, weight\)\]"),
    ),
)  # fmt: skip
def test_one_alone_is_refused(single: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        parametrize_with_checks(single)


def test_any_iterable_of_divergences_is_taken() -> None:
    assert len(parametrize_with_checks(name for name in ("js", "rkl")).mark.args[1]) == 2 * len(CHECKS)
