"""The tests that the pytest plugin adds: one for each check of each divergence that was named."""

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

    def __init__(self, *, check: Check, subject: Subject, **keywords: object) -> None:
        super().__init__(**keywords)  # type: ignore[arg-type]
        self.check = check
        self.subject = subject
        self.fguidance_examples: int | None = None

    def runtest(self) -> None:
        """Run the check; skip, fail or mark as expected what its record says."""
        record = run_check(self.check, self.subject)
        self.fguidance_examples = record.examples
        settle(record)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The record's own words; a traceback through the suite would help nobody."""
        return str(excinfo.value) if excinfo.errisinstance(CheckFailed) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, None, str]:
        """Where pytest says that the test is."""
        return "fguidance", None, f"{self.subject.name}: {self.check.name}"


class CheckFailed(AssertionError):
    """A check failed; the message holds its reason and counterexample."""


def settle(record: Record) -> None:
    """Turn a record into what pytest shows.

    Raises:
        CheckFailed: the check failed.
    """
    if record.status == "skipped":
        pytest.skip(record.reason)
    if record.status == "expected":
        pytest.xfail(record.reason)
    if record.status == "failed":
        parts = (record.title, *details(record), f"{record.examples} examples were run")
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
            yield CheckItem.from_parent(session, name=name, nodeid=name, check=check, subject=subject)
