"""The tests that the pytest plugin adds: one for each check of each divergence that was named."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from fguidance.testing.check import Check
from fguidance.testing.record import Record
from fguidance.testing.report_text import details, printable
from fguidance.testing.runner import run_check
from fguidance.testing.specification import named_subject, resolve
from fguidance.testing.subject import Subject
from fguidance.testing.suite import selected


class CheckItem(pytest.Item):
    """One check of one divergence, as a test of pytest."""

    def __init__(self, *, check: Check, subject: Subject, specification: str, **keywords: object) -> None:
        super().__init__(**keywords)  # type: ignore[arg-type]
        self.check = check
        self.subject = subject
        self.specification = specification
        self.fguidance_examples: int | None = None

    def runtest(self) -> None:
        """Run the check; skip, fail or mark as expected what its record says."""
        record = run_check(self.check, self.subject)
        self.fguidance_examples = record.examples
        settle(record)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The record's own words and how to run the check again; a traceback through the suite would help nobody."""
        if not excinfo.errisinstance(CheckFailed):
            return super().repr_failure(excinfo, style)
        return f"{excinfo.value}\nrun it again: {command(self.specification, self.check)}"

    def reportinfo(self) -> tuple[str, None, str]:
        """Where pytest says that the test is."""
        return "fguidance", None, f"{self.subject.name}: {self.check.name}"


def command(specification: str, check: Check) -> str:
    """What runs one check alone: no file holds it, so pytest does not take the name of its test for an argument."""
    return f"fguidance check {shlex.quote(specification)} --check {check.name}"


class CheckFailed(AssertionError):
    """A check failed; the message begins with the reason, which is all that pytest's summary shows."""

    __module__ = "builtins"  # or the summary would show where this class is from, and no more


def settle(record: Record) -> None:
    """Turn a record into what pytest shows.

    Raises:
        CheckFailed: the check failed.
    """
    __tracebackhide__ = True
    if record.status == "skipped":
        pytest.skip(record.reason)
    if record.status == "expected":
        pytest.xfail(record.reason)
    if record.status == "failed":
        reason, *evidence = details(record)
        parts = (reason, f"property: {record.title}", *evidence, f"{record.examples} examples were run")
        raise CheckFailed("\n".join(parts))


def collect(session: pytest.Session, specifications: list[str]) -> Iterator[pytest.Item]:
    """The tests for the divergences named by `specifications`.

    Raises:
        pytest.UsageError: a specification that names nothing that can be tested.
    """
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
