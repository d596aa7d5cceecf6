"""A decorator that makes one test of pytest out of each check of each divergence."""

import inspect
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
        __tracebackhide__ = True
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
        divergences: a list, each entry anything that `check_divergence` takes; an attribute `declaration` is used.
        max_examples: examples per check; None takes the active Hypothesis profile's number.

    Raises:
        TypeError: one of them is nothing that can be tested, or there is one divergence where a list is wanted.
        ValueError: the list is empty, or a generator cannot be parsed or is not convex.
    """
    subjects = [as_subject(divergence) for divergence in _several(divergences)]
    cases = [
        pytest.param(subject, BoundCheck(check, max_examples), id=f"{subject.name}-{check.name}")
        for subject in subjects
        for check in selected(None, subject)
    ]
    return pytest.mark.parametrize(("divergence", "check"), cases)


def _several(divergences: Iterable[Any]) -> list[Any]:
    single = isinstance(divergences, str | type) or hasattr(divergences, "weight")
    if single or not isinstance(divergences, Iterable):
        raise TypeError(f"divergences must be a list of divergences, not one alone: write [{_shown(divergences)}]")
    several = list(divergences)
    if several and all(inspect.isroutine(part) for part in several):
        raise TypeError("divergences must be a list of divergences, not functions: write [(value, weight)] for a pair")
    if not several:
        raise ValueError("divergences must not be empty: nothing would be checked")
    return several


def _shown(source: Any) -> str:
    return source.__name__ if isinstance(source, type) else repr(source) if isinstance(source, str) else "..."
