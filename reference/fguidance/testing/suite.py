"""`check_divergence`: every property on one divergence, in one line."""

import inspect
import os
from collections.abc import Sequence
from typing import Any

from hypothesis import settings

from fguidance.testing.baseline import ULPS, baseline_check
from fguidance.testing.declaration import Declaration
from fguidance.testing.report import Report, arguments_of, environment
from fguidance.testing.runner import BASELINE, against_declaration, run_check, selected
from fguidance.testing.subject import as_subject, attribute_of


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
    baseline_ulps: float = ULPS,
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
        max_examples: examples per check; None takes the active Hypothesis profile's number. Checks in which shapes and
            dtypes matter more than numbers take a share of it.
        seed: a seed for the examples; None leaves it to the profile.
        reproduce_failure: Hypothesis' line in a record (`Record.reproduce`), or its two arguments
            (`Record.reproduce_failure`), to run that example alone; `checks` then names the one check it belongs to.
        baseline: a file (.npz) of numbers to be held against, in a check called ``baseline``. The first run records
            it, later runs compare, and an existing file is never written to.
        baseline_ulps: by how many units in the last place of its dtype each number may differ from the one recorded.
        **declared: entries of the declaration, such as ``generator="t*log(t)"`` or ``symmetric=True``.

    Returns:
        A `Report` with one record per check.

    Raises:
        TypeError: `source` is nothing that can be tested, or an unknown entry is declared.
        ValueError: a name that is not registered, a generator that cannot be parsed or is not convex, an unknown check,
            an example that is of no use here, or a baseline that cannot be read or written.
    """
    if inspect.isroutine(declaration):
        raise TypeError("two functions are given as one pair: check_divergence((value, weight), ...)")
    if isinstance(checks, str):
        raise TypeError(f"checks must be a list of names, not the text {checks!r}")
    stated = declaration or attribute_of(source, "declaration")
    subject = as_subject(source, (stated or Declaration()).with_changes(**declared) if declared else stated, name)
    reproduce = arguments_of(reproduce_failure) if isinstance(reproduce_failure, str) else reproduce_failure
    if reproduce is not None and (checks is None or len(checks) != 1):
        raise ValueError(f"reproduce_failure is an example of one check: name that one in checks, not {checks!r}")
    names = checks if checks is None or baseline is None else [one for one in checks if one != BASELINE]
    named = selected(names, subject)
    compare = None if baseline is None else baseline_check(subject, baseline, baseline_ulps)
    options: Any = {"max_examples": max_examples, "reproduce": reproduce, "random_seed": seed}
    records = [run_check(check, subject, **options) for check in named]
    if compare is not None:
        records.append(against_declaration(compare(), subject))
    wanted = settings().max_examples if max_examples is None else max_examples
    asked = {"max_examples": wanted, "derandomize": settings().derandomize, "seed": seed}
    return Report(subject.name, tuple(records), {**asked, **environment()}, subject)
