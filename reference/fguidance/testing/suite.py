"""`check_divergence`: every property on one divergence, in one line."""

import platform
from collections.abc import Sequence
from typing import Any

import hypothesis
import torch
from hypothesis import settings

import fguidance.testing.checks  # registers the checks
from fguidance.testing.check import CHECKS, Check
from fguidance.testing.declaration import Declaration
from fguidance.testing.report import Report
from fguidance.testing.runner import run_check
from fguidance.testing.subject import Subject, as_subject


def check_divergence(
    source: Any,
    declaration: Declaration | None = None,
    *,
    name: str | None = None,
    checks: Sequence[str] | None = None,
    max_examples: int | None = None,
    seed: int | None = None,
    reproduce_failure: tuple[str, bytes] | None = None,
    **declared: object,
) -> Report:
    """Run every property on a divergence and report what was found; nothing is raised for a failure.

    Args:
        source: a generator as text or SymPy expression, a registered name, a `Divergence`, an object or class with
            `value(log_p, log_q)` and `weight(log_p, log_q)` in PyTorch or NumPy, or a pair of such functions; an
            optional `logit_gradient(logits, log_q)` is checked as well.
        declaration: what is stated about it.
        name: what the report calls it.
        checks: names of the checks to run; None runs them all.
        max_examples: examples per check; None takes the active Hypothesis profile's number.
        seed: a seed for the examples; None leaves it to the profile.
        reproduce_failure: the two arguments of Hypothesis' line in a record, to run that example alone; name the one
            check it belongs to in `checks`.
        **declared: entries of the declaration, such as ``generator="t*log(t)"`` or ``symmetric=True``.

    Returns:
        A `Report` with one record per check.

    Raises:
        TypeError: `source` is nothing that can be tested, or an unknown entry is declared.
        ValueError: a generator that cannot be parsed or is not convex, or an unknown check.
    """
    subject = as_subject(source, _declared(source, declaration, declared), name)
    records = tuple(
        run_check(check, subject, max_examples=max_examples, reproduce=reproduce_failure, random_seed=seed)
        for check in selected(checks, subject)
    )
    return Report(subject.name, records, _settings(max_examples, seed), subject)


def _declared(source: Any, declaration: Declaration | None, entries: dict[str, object]) -> Declaration | None:
    stated = declaration or getattr(source, "declaration", None)
    return (stated or Declaration()).with_changes(**entries) if entries else stated


def selected(names: Sequence[str] | None, subject: Subject) -> tuple[Check, ...]:
    """The checks of those names, or all of them.

    Raises:
        ValueError: a name that is no check's, here or among the expected failures.
    """
    for what, given in (("checks", names or ()), ("expected_failures", subject.declaration.expected_failures)):
        unknown = [name for name in given if name not in CHECKS]
        if unknown:
            raise ValueError(f"{what}: {unknown[0]!r} is not one of {', '.join(CHECKS)}")
    return tuple(CHECKS.values()) if names is None else tuple(CHECKS[name] for name in names)


def _settings(max_examples: int | None, seed: int | None) -> dict[str, Any]:
    return {
        "max_examples": settings().max_examples if max_examples is None else max_examples,
        "derandomize": settings().derandomize,
        "seed": seed,
        "fguidance": fguidance.__version__,
        "torch": torch.__version__,
        "hypothesis": hypothesis.__version__,
        "python": platform.python_version(),
    }
