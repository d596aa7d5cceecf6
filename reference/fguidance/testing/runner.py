"""`check_divergence`: every property on one divergence, in one line; and one check on one subject with Hypothesis."""

import hashlib
import inspect
import math
import os
import re
import sysconfig
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, reproduce_failure, seed, settings
from hypothesis.errors import DidNotReproduce, FailedHealthCheck, FlakyFailure, UnsatisfiedAssumption

import fguidance
import fguidance.testing.checks
from fguidance.testing.baseline import BASELINE, ULPS, baseline_check
from fguidance.testing.check import CHECKS, Check
from fguidance.testing.declaration import Declaration
from fguidance.testing.report import Record, Report, arguments_of, environment
from fguidance.testing.subject import Subject, as_subject, attribute_of, plain
from fguidance.testing.surroundings import settings_kept
from fguidance.testing.tolerance import Violation

_REPRODUCE = re.compile(r"@reproduce_failure\(.*\)")
_NOT_THEIRS = (
    str(Path(fguidance.__file__).parent), "<", *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
)  # fmt: skip
"""How the names of files begin that do not belong to the code under test."""
NO_LONGER_FAILS = "the example that failed passes now"


@dataclass
class _Trace:
    """The traces of one run: the number of its examples, and the last that failed, which is the smallest."""

    examples: int = 0
    example: Any = None
    evidence: dict[str, object] = field(default_factory=dict)


def selected(names: Sequence[str] | None, subject: Subject) -> tuple[Check, ...]:
    """The checks of those names, or all; a ValueError for a name that is none's, here or among expected failures."""
    declared = [name for name in subject.declaration.expected_failures if name != BASELINE]
    for what, listed in {"checks": names or (), "expected_failures": declared}.items():
        for name in (name for name in listed if name not in CHECKS):
            raise ValueError(f"{what}: {name!r} is not one of {', '.join(CHECKS)}")
    return tuple(CHECKS.values()) if names is None else tuple(CHECKS[name] for name in names)


def run_check(
    check: Check,
    subject: Subject,
    *,
    max_examples: int | None = None,
    reproduce: tuple[str, bytes] | None = None,
    random_seed: int | None = None,
) -> Record:
    """The record of one check, whatever happens in it; the options are those of `check_divergence`."""
    start, inapplicable = time.perf_counter(), check.applies(subject)
    if inapplicable is not None:
        return Record(check.name, check.title, "skipped", inapplicable)
    trace = _Trace()
    test = _test(check, subject, trace, max_examples)
    if random_seed is not None:
        test = seed(random_seed)(test)
    if reproduce is not None:
        if reproduce[0] != hypothesis.__version__:
            this = hypothesis.__version__
            raise ValueError(f"reproduce_failure: it is of Hypothesis {reproduce[0]}, but this is {this}")
        test = reproduce_failure(*reproduce)(test)
    status, reason, failure = "passed", "", {}
    try:
        with settings_kept():
            test()
        if trace.examples == 0:
            status, reason = "failed", "no example was run, so nothing was checked"
    except DidNotReproduce as error:
        if trace.examples == 0:
            raise ValueError(f"reproduce_failure: it holds no example of {check.name}: {error}") from error
        reason = NO_LONGER_FAILS
    except Exception as error:  # whatever a user's code raises is a failure of that code
        status, reason, failure = "failed", _message(error), _shown(trace, error)
    seconds = time.perf_counter() - start
    record = Record(check.name, check.title, status, reason, examples=trace.examples, seconds=seconds, **failure)  # type: ignore[arg-type]
    return against_declaration(record, subject)


def _test(check: Check, subject: Subject, trace: _Trace, max_examples: int | None) -> Any:
    def test(example: Any) -> None:
        trace.examples += 1
        try:
            check.body(subject, example)
        except UnsatisfiedAssumption:
            trace.examples -= 1
            raise
        except SystemExit as error:  # which would end the run as if everything had passed
            trace.example = example
            raise RuntimeError(f"the code under test called sys.exit({error.code!r})") from None
        except Exception as error:
            trace.example, trace.evidence = example, getattr(error, "evidence", {})
            raise

    test.__name__ = test.__qualname__ = f"check_{check.name}"
    decorated: Any = given(check.examples(subject))(test)
    # This keeps the examples of each check and subject apart in Hypothesis' database.
    digest = hashlib.sha256(f"{check.name}:{subject.name}".encode()).digest()
    decorated.hypothesis.inner_test._hypothesis_internal_add_digest = digest
    return settings(_settings(check, max_examples))(decorated)


def _settings(check: Check, max_examples: int | None) -> settings:
    active = settings()
    wanted = active.max_examples if max_examples is None else max_examples
    dear = check.most_examples is not None  # and shrinking would call it hundreds of times
    most = min(wanted, check.most_examples or wanted, max(math.ceil(check.share * wanted), min(wanted, 10)))
    phases = [phase for phase in active.phases if not (dear and phase in (Phase.shrink, Phase.explain))]
    quiet = [*active.suppress_health_check, HealthCheck.too_slow, HealthCheck.large_base_example]
    return settings(
        active, max_examples=most, deadline=None, print_blob=True, report_multiple_bugs=False,
        suppress_health_check=quiet, phases=phases,
    )  # fmt: skip


def _message(error: Exception) -> str:
    if isinstance(error, FailedHealthCheck):
        return "hardly any example could be tried: it gives up those where value or force are NaN or infinite"
    if isinstance(error, FlakyFailure):
        first = _message(error.exceptions[0]) if isinstance(error.exceptions[0], Exception) else "it failed"
        return f"the same input failed and then passed, so it is not deterministic; when it failed: {first}"
    if isinstance(error, Violation):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS)]
    place = f" ({own[-1].name}, line {own[-1].lineno} of {Path(own[-1].filename).name})" if own else ""
    return f"raised {type(error).__name__}: {error}{place}"


def _shown(trace: _Trace, error: Exception) -> dict[str, Any]:
    """The counterexample in plain types, and Hypothesis' line that brings it back."""
    example = plain(trace.example)
    named = example if isinstance(example, dict) else {} if example is None else {"example": example}
    found = _REPRODUCE.search("\n".join(getattr(error, "__notes__", [])))
    return {"counterexample": {**named, **plain(trace.evidence)}, "reproduce": found.group() if found else ""}


def against_declaration(record: Record, subject: Subject) -> Record:
    """The record as it counts where the check was declared to fail."""
    reason = subject.declaration.expected_failures.get(record.check)
    if reason is None or record.status == "skipped":
        return record
    if record.status == "failed" and record.examples > 0:
        return replace(record, status="expected", reason=f"{reason} ({record.reason})")
    if record.status == "passed":
        return replace(record, status="failed", reason=f"declared to fail ({reason}), but it passes")
    return record


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
