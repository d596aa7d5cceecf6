"""A check: one property, the examples that it is tried on, and the subjects that it applies to."""

import functools
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

from fguidance.testing.subject import Subject
from fguidance.testing.surroundings import settings_kept

Body = Callable[[Subject, Any], None]


class Violation(AssertionError):
    """A property does not hold; `evidence` holds the numbers that show it, by name."""

    def __init__(self, message: str, **evidence: object) -> None:
        super().__init__(message)
        self.evidence = evidence


@dataclass(frozen=True)
class Check:
    """One property of a divergence.

    Attributes:
        name: what a report and `expected_failures` call it.
        title: the property, as a sentence.
        body: takes a subject and an example; raises `Violation` where the property does not hold.
        examples: the strategy of examples for a subject.
        applies: None if the check applies to a subject, otherwise the reason why it does not.
        most_examples: no more than so many examples, for a check that is dear or has one case only.
    """

    name: str
    title: str
    body: Body
    examples: Callable[[Subject], st.SearchStrategy[Any]]
    applies: Callable[[Subject], str | None]
    most_examples: int | None = None


CHECKS: dict[str, Check] = {}


def _undone(body: Body) -> Body:
    """The body with gradients recorded and warnings ignored, which are no mistakes.

    These and all other settings are put back, whatever a subject does to them.
    """

    @functools.wraps(body)
    def run(subject: Subject, example: Any) -> None:
        with settings_kept(), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body(subject, example)

    return run


def _always(subject: Subject) -> None:
    """The check applies to every subject."""


def check(
    examples: Callable[[Subject], st.SearchStrategy[Any]],
    applies: Callable[[Subject], str | None] = _always,
    most_examples: int | None = None,
) -> Callable[[Body], Body]:
    """Register a function as a check: its name is the check's, the first line of its docstring the title."""

    def register(body: Body) -> Body:
        title = (inspect.getdoc(body) or "").splitlines()[0]
        name = body.__name__
        if name in CHECKS:
            raise ValueError(f"a check named {name!r} is already registered")
        CHECKS[name] = Check(name, title, _undone(body), examples, applies, most_examples)
        return body

    return register
