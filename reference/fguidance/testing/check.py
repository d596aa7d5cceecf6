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

Body = Callable[[Subject, Any], None]
Examples = Callable[[Subject], st.SearchStrategy[Any]]
Condition = Callable[[Subject], str | None]


@dataclass(frozen=True)
class Check:
    """One property of a divergence: its name, a sentence, a body that raises `Violation`, and what it is tried on.

    Each condition gives None if the check applies to a subject, else the reason why it does not. A check that is dear
    or has one case has a number of `most_examples`, and is not shrunk; others take a share of the examples asked for,
    less than 1 where shapes and dtypes matter and numbers do not.
    """

    name: str
    title: str
    body: Body
    examples: Examples
    conditions: tuple[Condition, ...]
    most_examples: int | None = None
    share: float = 1.0

    def applies(self, subject: Subject) -> str | None:
        """None, or the first reason why the check does not apply."""
        return next((reason for one in self.conditions if (reason := one(subject)) is not None), None)


CHECKS: dict[str, Check] = {}


def check(
    examples: Examples, *conditions: Condition, most_examples: int | None = None, share: float = 1.0
) -> Callable[[Body], Body]:
    """Register a function as a check: its name is the check's, the first line of its docstring the title."""

    def register(body: Body) -> Body:
        @functools.wraps(body)
        def run(subject: Subject, example: Any) -> None:
            with torch.enable_grad(), warnings.catch_warnings():  # a warning is no mistake
                warnings.simplefilter("ignore")
                body(subject, example)

        title = (inspect.getdoc(body) or "").splitlines()[0]
        CHECKS[body.__name__] = Check(body.__name__, title, run, examples, conditions, most_examples, share)
        return body

    return register
