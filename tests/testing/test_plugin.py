"""`pytest --divergence` needs no test file, and behaves as pytest does; and one test per check from a decorator."""

import shlex
from typing import Any
from xml.etree import ElementTree

import pytest

import fguidance as fg
from fguidance.cli import main
from fguidance.testing import parametrize_with_checks
from fguidance.testing.check import CHECKS
from fguidance.testing.plugin import command

pytest_plugins = ["pytester"]

MODULE = """
from fguidance.testing import Declaration
from tests.testing.test_subject import InTorch


class Right(InTorch):
    pass


class Negative(InTorch):
    declaration = Declaration(expected_failures={"weight_is_gradient_of_value": "its sign is another"})

    def weight(self, log_p, log_q):
        return -super().weight(log_p, log_q)


class Crashes:
    def __init__(self):
        raise RuntimeError("no luck")


class Unknowable:
    __class__ = property(lambda self: 1 / 0)


unknowable = Unknowable()
"""


@pytest.fixture(autouse=True)
def package(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a test, a module elsewhere, and a terminal with room for the summary."""
    monkeypatch.setenv("COLUMNS", "250")
    elsewhere = pytester.mkpydir("plugin_package")
    (elsewhere / "module.py").write_text(MODULE)
    pytester.syspathinsert()


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)


def test_all_checks_are_collected_and_none_is_run(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--divergence", "plugin_package.module:Right", "--collect-only", "-q")
    assert result.ret == 0
    names = [line for line in result.outlines if "::" in line]
    assert names == [f"plugin_package.module:Right::{check}" for check in CHECKS]
    result.stdout.fnmatch_lines([f"{len(CHECKS)} tests collected*"])
    assert "fguidance: " not in result.stdout.str()


def test_some_are_chosen_and_their_examples_counted(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--divergence", "plugin_package.module:Right", "-k", "homogeneous or not_negative")
    result.assert_outcomes(passed=2, deselected=len(CHECKS) - 2)
    result.stdout.fnmatch_lines([
        f"collected {len(CHECKS)} items / {len(CHECKS) - 2} deselected / 2 selected",
        "fguidance: 2 checks ran 100 examples",
    ])


def test_failures_are_shown_in_the_records_words(pytester: pytest.Pytester) -> None:
    arguments = ("--divergence", "plugin_package.module:Negative", "-k", "step_against or of_value or sums_to", "-rfs")
    result = run(pytester, *arguments)
    assert result.ret == 1
    result.assert_outcomes(failed=1, xfailed=1, skipped=2, deselected=len(CHECKS) - 4)
    result.stdout.fnmatch_lines([
        "*Negative: a_step_against_the_force_lowers_the_value*",
        "the divergence goes from * to *",
        "property: A small step of the logits along minus the force lowers the divergence.",
        "counterexample: {*",
        "reproduce: check_divergence(..., checks=?'a_step_against_the_force_lowers_the_value'?, *",
        "* examples were run",
        "run it again: fguidance check plugin_package.module:Negative --check a_step_against_*",
        "*no logit_gradient is given*",
    ])
    result.stdout.fnmatch_lines(["FAILED *::a_step_against_the_force_lowers_the_value - the divergence goes *"])
    assert "Traceback" not in result.stdout.str()


def test_the_printed_command_runs_that_check_again(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(pytester, "--divergence", "plugin_package.module:Negative", "-k", "step_against")
    (line,) = {line for line in result.outlines if line.startswith("run it again: ")}  # in CI the summary repeats it
    name = "a_step_against_the_force_lowers_the_value"
    assert ended(line.removeprefix("run it again: ")) == 1
    assert f"failed   {name}" in capsys.readouterr().out
    assert ended(command("-log(t)", CHECKS[name])) == 0
    assert "-log(t): 1 checks, " in capsys.readouterr().out


def ended(line: str) -> object:
    """The status of a command as a shell would run it."""
    program, *arguments = shlex.split(line)
    assert program == "fguidance"
    with pytest.raises(SystemExit) as status:
        main(arguments)
    return status.value.code


def test_the_first_failure_ends_it(pytester: pytest.Pytester) -> None:
    result = run(pytester, "--divergence", "plugin_package.module:Negative", "-x", "-k", "step_against or homogen")
    result.assert_outcomes(failed=1, deselected=len(CHECKS) - 2)


def test_the_ini_option_and_two_divergences(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ndivergence =\n    plugin_package.module:Right\n    t*log(t)\n")
    result = run(pytester, "--divergence", "js", "-k", "force_sums_to_zero", "-v")
    result.assert_outcomes(passed=2, skipped=1, deselected=3 * (len(CHECKS) - 1))
    for name in ("plugin_package.module:Right", "t[*]log(t)", "js"):
        result.stdout.fnmatch_lines([f"{name}::force_sums_to_zero *"])


def test_junit_has_the_number_of_examples(pytester: pytest.Pytester) -> None:
    run(pytester, "--divergence", "js", "-k", "force_sums_to_zero", "--junitxml=out.xml")
    (noted,) = ElementTree.parse(pytester.path / "out.xml").iter("property")
    assert (noted.get("name"), noted.get("value")) == ("fguidance_examples", "25")


def test_tests_of_ones_own_run_beside_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_homogeneous(): pass")
    run(pytester, "--divergence", "js", "-k", "homogeneous").assert_outcomes(passed=2, deselected=len(CHECKS) - 1)
    result = run(pytester)
    result.assert_outcomes(passed=1)
    assert "fguidance: " not in result.stdout.str()


@pytest.mark.parametrize(
    ("specification", "message"),
    (
        ("t%2", "generator 't%2', column 2: '%' is not allowed"),
        ("plugin_package.module:Nothing", "the module plugin_package.module has no Nothing"),
        ("plugin_nowhere:Mine", "cannot import plugin_nowhere"),
        ("plugin_package.module:Crashes", "Crashes cannot be made without arguments"),
        ("plugin_package.module:MODULE", "the module plugin_package.module has no MODULE"),
        ("plugin_package.module:unknowable", "unknowable cannot be read: ZeroDivisionError: division by zero"),
    ),
)  # fmt: skip
def test_a_bad_specification_is_a_usage_error(pytester: pytest.Pytester, specification: str, message: str) -> None:
    result = run(pytester, "--divergence", specification)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


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


def test_results_and_the_number_of_examples_of_the_decorator(pytester: pytest.Pytester) -> None:
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


def test_what_cannot_be_tested_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="int has no method value"):
        parametrize_with_checks([3])
    with pytest.raises(ValueError, match="generator"):
        parametrize_with_checks(["t%2"])
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
