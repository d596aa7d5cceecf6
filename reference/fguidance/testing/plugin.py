"""Tests of pytest, one for each check of each divergence: from a decorator, and from `pytest --divergence`."""

import inspect
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from fguidance.testing.check import Check
from fguidance.testing.report import printable
from fguidance.testing.runner import run_check, selected
from fguidance.testing.subject import Subject, as_subject, named_subject, resolve


class CheckFailed(AssertionError):
    """A failed check; the message begins with the reason, which is all that pytest's summary shows."""

    __module__ = "builtins"  # or the summary would show where this class is from, and no more


class BoundCheck:
    """A check as a test calls it: with the divergence, raising what pytest understands."""

    def __init__(self, check: Check, max_examples: int | None = None) -> None:
        self.check = check
        self.max_examples = max_examples
        self.fguidance_examples: int | None = None

    def __call__(self, subject: Subject) -> None:
        """Run the check; skip, fail with `CheckFailed` or mark as expected what its record says."""
        __tracebackhide__ = True
        record = run_check(self.check, subject, max_examples=self.max_examples)
        self.fguidance_examples = record.examples
        if record.status == "skipped":
            pytest.skip(record.reason)
        if record.status == "expected":
            pytest.xfail(record.reason)
        if record.status == "failed":
            reason, *evidence = record.details
            told = (reason, f"property: {record.title}", *evidence, f"{record.examples} examples were run")
            raise CheckFailed("\n".join(told))

    def __repr__(self) -> str:
        return self.check.name


class CheckItem(pytest.Item):
    """One check of one divergence, as a test of pytest that no file holds."""

    def __init__(self, *, check: Check, subject: Subject, specification: str, **keywords: object) -> None:
        super().__init__(**keywords)  # type: ignore[arg-type]
        self.bound, self.subject, self.specification = BoundCheck(check), subject, specification
        self.fguidance_examples: int | None = None

    def runtest(self) -> None:
        """Run the check as a test calls it."""
        try:
            self.bound(self.subject)
        finally:
            self.fguidance_examples = self.bound.fguidance_examples

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The record's own words and how to run the check again; a traceback through the suite would help nobody."""
        if not excinfo.errisinstance(CheckFailed):
            return super().repr_failure(excinfo, style)
        return f"{excinfo.value}\nrun it again: {command(self.specification, self.bound.check)}"

    def reportinfo(self) -> tuple[str, None, str]:
        """Where pytest says that the test is."""
        return "fguidance", None, f"{self.subject.name}: {self.bound.check.name}"


def command(specification: str, check: Check) -> str:
    """The command that runs one check alone: pytest takes the name of a test that no file holds for no argument."""
    return f"fguidance check {shlex.quote(specification)} --check {check.name}"


def collect(session: pytest.Session, specifications: list[str]) -> Iterator[pytest.Item]:
    """The tests for the divergences named by `specifications`; a UsageError if one names nothing that can be tested."""
    for text in specifications:
        try:
            subject = named_subject(text, resolve(text))
            checks = selected(None, subject)
        except (TypeError, ValueError) as error:
            raise pytest.UsageError(printable(f"--divergence: {error}")) from error
        for check in checks:
            name = f"{text}::{check.name}"
            yield CheckItem.from_parent(
                session, name=name, nodeid=name, check=check, subject=subject, specification=text
            )


def parametrize_with_checks(divergences: Iterable[Any], *, max_examples: int | None = None) -> Callable[..., Any]:
    """Parametrise a test over every check of every divergence.

    Use it as::

        @parametrize_with_checks([MyDivergence(), "t*log(t)"])
        def test_divergence(divergence, check):
            check(divergence)

    Args:
        divergences: a list, each entry anything that `check_divergence` takes; an attribute `declaration` is used.
        max_examples: examples per check; None takes the active Hypothesis profile's number.

    Raises:
        TypeError: one of them is nothing that can be tested, or there is one divergence where a list is wanted.
        ValueError: the list is empty, or a generator cannot be parsed or is not convex.
    """
    one = divergences
    if isinstance(one, str | type) or hasattr(one, "weight") or not isinstance(one, Iterable):
        shown = one.__name__ if isinstance(one, type) else repr(one) if isinstance(one, str) else "..."
        raise TypeError(f"divergences must be a list of divergences, not one alone: write [{shown}]")
    several = list(divergences)
    if not several:
        raise ValueError("divergences must not be empty: nothing would be checked")
    if all(inspect.isroutine(part) for part in several):
        raise TypeError("divergences must be a list of divergences, not functions: write [(value, weight)] for a pair")
    cases = [
        pytest.param(subject, BoundCheck(check, max_examples), id=f"{subject.name}-{check.name}")
        for subject in map(as_subject, several)
        for check in selected(None, subject)
    ]
    return pytest.mark.parametrize(("divergence", "check"), cases)
