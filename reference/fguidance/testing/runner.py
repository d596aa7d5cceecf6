"""Run one check on one subject with Hypothesis, and say what happened."""

import hashlib
import re
import sysconfig
import time
import traceback
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, reproduce_failure, seed, settings
from hypothesis.errors import DidNotReproduce, FailedHealthCheck, FlakyFailure, UnsatisfiedAssumption

import fguidance
from fguidance.testing.check import Check, Violation
from fguidance.testing.plain import plain
from fguidance.testing.record import Record
from fguidance.testing.subject import Subject

_REPRODUCE = re.compile(r"@reproduce_failure\(.*\)")
_NOT_THEIRS = (
    str(Path(fguidance.__file__).parent), "<", *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")),
)  # fmt: skip
"""How the names of files begin that do not belong to the code under test."""
NO_LONGER_FAILS = "the example that failed passes now"


@dataclass
class _Trace:
    """What the examples of one run left: how many there were, and the last that failed, which is the smallest."""

    examples: int = 0
    example: Any = None
    evidence: dict[str, object] = field(default_factory=dict)


def run_check(
    check: Check,
    subject: Subject,
    *,
    max_examples: int | None = None,
    reproduce: tuple[str, bytes] | None = None,
    random_seed: int | None = None,
) -> Record:
    """The record of one check, whatever happens in it.

    Args:
        check: one of `CHECKS`.
        subject: what is tested.
        max_examples: how many examples to try; None takes the active Hypothesis profile's number.
        reproduce: Hypothesis' version and blob of a failing example, to run that one alone.
        random_seed: a seed for the examples; None leaves it to the profile.

    Raises:
        ValueError: `reproduce` belongs to another check or to another version of Hypothesis.
    """
    start = time.perf_counter()
    inapplicable = check.applies(subject)
    if inapplicable is not None:
        return Record(check.name, check.title, "skipped", inapplicable)
    trace = _Trace()
    test = _test(check, subject, trace, max_examples)
    if random_seed is not None:
        test = seed(random_seed)(test)
    if reproduce is not None:
        test = _of_one_example(test, reproduce)
    try:
        test()
    except DidNotReproduce as error:
        record = _not_reproduced(check, trace, error)
    except Exception as error:  # whatever a user's code raises is a failure of that code
        record = _failed(check, trace, error)
    else:
        record = _passed(check, trace)
    return against_declaration(replace(record, seconds=time.perf_counter() - start), subject)


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
            trace.example = example
            trace.evidence = getattr(error, "evidence", {})
            raise

    test.__name__ = test.__qualname__ = f"check_{check.name}"
    decorated: Any = given(check.examples(subject))(test)
    decorated.hypothesis.inner_test._hypothesis_internal_add_digest = _digest(check, subject)
    return settings(_settings(check, max_examples))(decorated)


def _digest(check: Check, subject: Subject) -> bytes:
    """Keeps the examples of each check and subject apart in Hypothesis' database."""
    return hashlib.sha256(f"{check.name}:{subject.name}".encode()).digest()


def _settings(check: Check, max_examples: int | None) -> settings:
    active = settings()
    wanted = active.max_examples if max_examples is None else max_examples
    most = wanted if check.most_examples is None else min(wanted, check.most_examples)
    dear = check.most_examples is not None  # and shrinking would call it hundreds of times
    phases = [phase for phase in active.phases if not (dear and phase in (Phase.shrink, Phase.explain))]
    quiet = [*active.suppress_health_check, HealthCheck.too_slow, HealthCheck.large_base_example]
    return settings(
        active, max_examples=most, deadline=None, print_blob=True, report_multiple_bugs=False,
        suppress_health_check=quiet, phases=phases,
    )  # fmt: skip


def _of_one_example(test: Any, reproduce: tuple[str, bytes]) -> Any:
    version, blob = reproduce
    if version != hypothesis.__version__:
        raise ValueError(f"reproduce_failure: it is of Hypothesis {version}, but this is {hypothesis.__version__}")
    return reproduce_failure(version, blob)(test)


def _not_reproduced(check: Check, trace: _Trace, error: DidNotReproduce) -> Record:
    if trace.examples == 0:
        raise ValueError(f"reproduce_failure: it holds no example of {check.name}: {error}") from error
    return Record(check.name, check.title, "passed", NO_LONGER_FAILS, examples=trace.examples)


def _passed(check: Check, trace: _Trace) -> Record:
    if trace.examples == 0:
        return Record(check.name, check.title, "failed", "no example was run, so nothing was checked")
    return Record(check.name, check.title, "passed", examples=trace.examples)


def _failed(check: Check, trace: _Trace, error: Exception) -> Record:
    found = _REPRODUCE.search("\n".join(getattr(error, "__notes__", [])))
    counterexample = {name: plain(value) for name, value in {**_named(trace.example), **trace.evidence}.items()}
    return Record(
        check.name, check.title, "failed", _message(error), counterexample, trace.examples,
        reproduce=found.group() if found else "",
    )  # fmt: skip


def _message(error: Exception) -> str:
    if isinstance(error, FailedHealthCheck):
        return "hardly any example could be tried: it gives up those where value or force are NaN or infinite"
    if isinstance(error, FlakyFailure):
        first = _message(error.exceptions[0]) if isinstance(error.exceptions[0], Exception) else "it failed"
        return f"the same input failed and then passed, so it is not deterministic; when it failed: {first}"
    return str(error) if isinstance(error, Violation) else f"raised {type(error).__name__}: {error}{_place(error)}"


def _place(error: Exception) -> str:
    """Where the code under test was when it raised: the last line that is not this library's or an installed one's."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_THEIRS)]
    return f" ({own[-1].name}, line {own[-1].lineno} of {Path(own[-1].filename).name})" if own else ""


def _named(example: Any) -> dict[str, object]:
    if example is None:
        return {}
    if is_dataclass(example):
        return {entry.name: getattr(example, entry.name) for entry in fields(example)}
    return {"example": example}


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
