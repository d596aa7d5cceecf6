"""A decorator that makes one test of pytest out of each check of each divergence."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from fguidance.testing.check import Check
from fguidance.testing.plugin import settle
from fguidance.testing.runner import run_check
from fguidance.testing.subject import Subject, as_subject
from fguidance.testing.suite import selected


class BoundCheck:
    """A check as a test calls it: with the divergence, raising what pytest understands."""

    def __init__(self, check: Check, max_examples: int | None) -> None:
        self.check = check
        self.max_examples = max_examples
        self.fguidance_examples: int | None = None

    def __call__(self, subject: Subject) -> None:
        """Run the check; skip, fail or mark as expected what its record says."""
        record = run_check(self.check, subject, max_examples=self.max_examples)
        self.fguidance_examples = record.examples
        settle(record)

    def __repr__(self) -> str:
        return self.check.name


def parametrize_with_checks(divergences: Iterable[Any], *, max_examples: int | None = None) -> Callable[..., Any]:
    """Parametrise a test over every check of every divergence.

    Use it as::

        @parametrize_with_checks([MyDivergence(), "t*log(t)"])
        def test_divergence(divergence, check):
            check(divergence)

    Args:
        divergences: each anything that `check_divergence` takes; an attribute `declaration` is used.
        max_examples: examples per check; None takes the active Hypothesis profile's number.

    Raises:
        TypeError: one of them is nothing that can be tested.
        ValueError: a generator that cannot be parsed or is not convex.
    """
    subjects = [as_subject(divergence) for divergence in divergences]
    cases = [
        pytest.param(subject, BoundCheck(check, max_examples), id=f"{subject.name}-{check.name}")
        for subject in subjects
        for check in selected(None, subject)
    ]
    return pytest.mark.parametrize(("divergence", "check"), cases)
