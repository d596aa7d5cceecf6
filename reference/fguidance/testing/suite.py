"""`check_divergence`: every property on one divergence, in one line."""

import inspect
import os
from collections.abc import Sequence
from typing import Any

from hypothesis import settings

import fguidance.testing.checks  # noqa: F401  registers the checks
from fguidance.testing import baseline as regression
from fguidance.testing.check import CHECKS, Check
from fguidance.testing.declaration import Declaration
from fguidance.testing.environment import environment
from fguidance.testing.record import arguments_of
from fguidance.testing.report import Report
from fguidance.testing.runner import against_declaration, run_check
from fguidance.testing.subject import Subject, as_subject, attribute_of

_BASELINE_FAILURE = ("expected_failures", regression.NAME)


def check_divergence(
    source: Any,
    declaration: Declaration | None = None,
    *,
    name: str | None = None,
    checks: Sequence[str] | None = None,
    max_examples: int | None = None,
    seed: int | None = None,
    reproduce_failure: tuple[str, bytes] | str | None = None,
    baseline: str | os.PathLike[str] | None = None,
    baseline_ulps: float = regression.ULPS,
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
        reproduce_failure: Hypothesis' line in a record (`Record.reproduce`), or its two arguments
            (`Record.reproduce_failure`), to run that example alone; `checks` then names the one check it belongs to.
        baseline: a file of numbers to be held against, in a check called ``baseline``. The first run records it,
            later runs compare, and an existing file is never written to.
        baseline_ulps: by how many units in the last place of its dtype each number may differ from the one recorded.
        **declared: entries of the declaration, such as ``generator="t*log(t)"`` or ``symmetric=True``.

    Returns:
        A `Report` with one record per check.

    Raises:
        TypeError: `source` is nothing that can be tested, or an unknown entry is declared.
        ValueError: a name that is not registered, a generator that cannot be parsed or is not convex, an unknown check,
            an example that is of no use here, or a baseline that cannot be read or written.
    """
    subject = as_subject(source, _declared(source, declaration, declared), name)
    reproduce_failure = arguments_of(reproduce_failure) if isinstance(reproduce_failure, str) else reproduce_failure
    if reproduce_failure is not None and (checks is None or len(checks) != 1):
        raise ValueError(f"reproduce_failure is an example of one check: name that one in checks, not {checks!r}")
    named = selected(_without_baseline(checks, baseline), subject)
    compare = None if baseline is None else regression.baseline_check(subject, baseline, baseline_ulps)
    records = [
        run_check(check, subject, max_examples=max_examples, reproduce=reproduce_failure, random_seed=seed)
        for check in named
    ]
    if compare is not None:
        records.append(against_declaration(compare(), subject))
    return Report(subject.name, tuple(records), _settings(max_examples, seed), subject)


def _without_baseline(checks: Sequence[str] | None, baseline: object) -> Sequence[str] | None:
    """The names of the checks that are in `CHECKS`: the one of the baseline may be named too where there is one."""
    if isinstance(checks, str):
        raise TypeError(f"checks must be a list of names, not the text {checks!r}")
    return checks if checks is None or baseline is None else [name for name in checks if name != regression.NAME]


def _declared(source: Any, declaration: Declaration | None, entries: dict[str, object]) -> Declaration | None:
    if inspect.isroutine(declaration):
        raise TypeError("two functions are given as one pair: check_divergence((value, weight), ...)")
    stated = declaration or attribute_of(source, "declaration")
    return (stated or Declaration()).with_changes(**entries) if entries else stated


def selected(names: Sequence[str] | None, subject: Subject) -> tuple[Check, ...]:
    """The checks of those names, or all of them.

    Raises:
        ValueError: a name that is no check's, here or among the expected failures.
    """
    for what, given in (("checks", names or ()), ("expected_failures", subject.declaration.expected_failures)):
        unknown = [name for name in given if name not in CHECKS and (what, name) != _BASELINE_FAILURE]
        if unknown:
            raise ValueError(f"{what}: {unknown[0]!r} is not one of {', '.join(CHECKS)}")
    return tuple(CHECKS.values()) if names is None else tuple(CHECKS[name] for name in names)


def _settings(max_examples: int | None, seed: int | None) -> dict[str, Any]:
    return {
        "max_examples": settings().max_examples if max_examples is None else max_examples,
        "derandomize": settings().derandomize,
        "seed": seed,
        **environment(),
    }
