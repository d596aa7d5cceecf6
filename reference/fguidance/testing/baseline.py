"""A regression baseline: what a divergence gives at fixed inputs, written down once and compared ever after."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fguidance.testing.baseline_file import Array, Baseline, Entry, read, write_once
from fguidance.testing.baseline_inputs import inputs
from fguidance.testing.environment import today, versions
from fguidance.testing.record import Record
from fguidance.testing.subject import Subject
from fguidance.testing.ulps import ulps_between

NAME, TITLE = "baseline", "Every number is what it was when the baseline was recorded."
ULPS = 4.0


def baseline_check(subject: Subject, path: str | os.PathLike[str], ulps: float = ULPS) -> Callable[[], Record]:
    """The check of a subject against a baseline file, with the file already read.

    Args:
        subject: what is tested.
        path: the file; where there is none the check records it, and an existing one is never written to.
        ulps: by how many units in the last place each number may differ from the one recorded.

    Returns:
        Runs the check and gives its record.

    Raises:
        ValueError: the file is no baseline of this subject that this version can read, or its folder is missing.
    """
    if isinstance(ulps, bool) or not isinstance(ulps, int | float) or not ulps >= 0:
        raise ValueError(f"baseline_ulps must be a number of at least 0, not {ulps!r}")
    place = Path(path)
    stored = read(place, subject.name)

    def run() -> Record:
        start = time.perf_counter()
        record = _recorded(place, subject) if stored is None else _compared(place, stored, subject, ulps)
        return replace(record, seconds=time.perf_counter() - start)

    return run


def _recorded(path: Path, subject: Subject) -> Record:
    entries = [_entry(subject, *given) for given in inputs(subject.dtypes)]
    if (failure := _unusable(subject, entries)) is not None:
        return failure
    again = [_entry(subject, *given) for given in inputs(subject.dtypes)]
    changed = [(old, new) for old, new in zip(entries, again, strict=True) if old != new]
    if changed:
        reason = "nothing was recorded: the same input gives something else the second time"
        return _failed(reason, {"first": asdict(changed[0][0]), "second": asdict(changed[0][1])}, len(entries))
    write_once(path, Baseline(subject.name, today(), versions(), entries))
    reason = f"recorded in {path}: later runs are compared with it"
    return Record(NAME, TITLE, "passed", reason, examples=len(entries))


def _unusable(subject: Subject, entries: list[Entry]) -> Record | None:
    """Why there is nothing to hold on to: an error, or a part that gives a number for no input."""
    for part, entry in itertools.product(subject.parts(), entries):
        if not isinstance(raised := _attempt(subject, part, **entry.inputs), Array | ValueError):
            reason = (
                f"nothing was recorded: {part} raises {type(raised).__name__}: {raised} on the input "
                f"{entry.case!r} in {entry.log_q.dtype}; only a ValueError is taken for a refusal"
            )
            return _failed(reason, _shown_inputs(entry, part), len(entries))
    for part in subject.parts():
        if all(isinstance(entry.results[part], str) for entry in entries):
            return _failed(f"nothing was recorded: {part} gives a number for no input", {"part": part}, len(entries))
    return None


def _entry(subject: Subject, case: str, logits: Tensor, log_p: Tensor, log_q: Tensor) -> Entry:
    results = {part: _result(subject, part, logits, log_p, log_q) for part in subject.parts()}
    return Entry(case, Array.of(logits), Array.of(log_p), Array.of(log_q), results)


def _result(subject: Subject, part: str, logits: Tensor, log_p: Tensor, log_q: Tensor) -> Array | str:
    if part not in subject.parts():
        return "missing"
    found = _attempt(subject, part, logits, log_p, log_q)
    return found if isinstance(found, Array) else type(found).__name__


def _attempt(subject: Subject, part: str, logits: Tensor, log_p: Tensor, log_q: Tensor) -> Array | BaseException:
    first = logits if part == "logit_gradient" else log_p
    try:
        return Array.of(subject.parts()[part](first.clone(), log_q.clone()))
    except (Exception, SystemExit) as error:  # whatever a user's code raises is its answer
        return error


@dataclass(frozen=True)
class _Drift:
    """One number that moved."""

    ulps: float
    shown: dict[str, Any]


def _compared(path: Path, stored: Baseline, subject: Subject, ulps: float) -> Record:
    entries = stored.entries
    moved = [drift for entry in entries for drift in _drifts(entry, subject) if drift.ulps > ulps]
    if not moved and (new := _unknown_to(stored, subject)):
        reason = (
            f"{path}, recorded {stored.date}, holds nothing of {', '.join(new)}: nothing else moved; "
            "move the file away, and the next run records it anew"
        )
        return _failed(reason, {}, len(entries))
    if not moved:
        return Record(NAME, TITLE, "passed", examples=len(entries))
    worst = max(moved, key=lambda drift: drift.ulps)
    reason = (
        f"{len(moved)} numbers differ by more than {ulps:g} ulps from {path}, recorded {stored.date} "
        f"with {_changed_versions(stored.versions)}; {_extent(worst)}; "
        "if that is meant, move the file away, and the next run records it anew"
    )
    return _failed(reason, worst.shown, len(entries))


def _unknown_to(stored: Baseline, subject: Subject) -> list[str]:
    """The parts and the dtypes that the subject has by now, and had not when the baseline was recorded."""
    parts = {part for entry in stored.entries for part in entry.results}
    dtypes = {entry.log_q.dtype for entry in stored.entries}
    promised = [str(dtype).removeprefix("torch.") for dtype in subject.dtypes]
    return [part for part in subject.parts() if part not in parts] + [name for name in promised if name not in dtypes]


def _extent(worst: _Drift) -> str:
    if "index" not in worst.shown or worst.ulps == torch.inf:
        return "one result is of another kind"
    return f"the largest difference is {worst.ulps:g} ulps"


def _changed_versions(then: dict[str, str]) -> str:
    now = versions()
    changed = [f"{name} {then[name]} (now {now[name]})" for name in now if then.get(name, now[name]) != now[name]]
    return ", ".join(changed) or "the same versions"


def _drifts(entry: Entry, subject: Subject) -> Iterator[_Drift]:
    for part, old in entry.results.items():
        new = _result(subject, part, **entry.inputs)
        for ulps, numbers in _differences(old, new):
            yield _Drift(ulps, {**_shown_inputs(entry, part), **numbers, "ulps": ulps})


def _shown_inputs(entry: Entry, part: str) -> dict[str, Any]:
    first = "logits" if part == "logit_gradient" else "log_p"
    given = {name: getattr(entry, name).tensor.double().tolist() for name in (first, "log_q")}
    return {"part": part, "case": entry.case, "dtype": entry.log_q.dtype, **given}


def _differences(old: Array | str, new: Array | str) -> Iterator[tuple[float, dict[str, Any]]]:
    if isinstance(old, str) or isinstance(new, str):
        if old != new:
            yield torch.inf, {"old": _shown(old), "new": _shown(new)}
    elif (old.dtype, old.shape) != (new.dtype, new.shape):
        yield torch.inf, {"old": asdict(old), "new": asdict(new)}
    else:
        for index, (before, after) in enumerate(zip(old.entries, new.entries, strict=True)):
            ulps = ulps_between(before, after, getattr(torch, old.dtype))
            yield ulps, {"index": index, "old": before, "new": after}


def _shown(result: Array | str) -> Any:
    return result if isinstance(result, str) else result.entries


def _failed(reason: str, counterexample: dict[str, Any], examples: int) -> Record:
    return Record(NAME, TITLE, "failed", reason, counterexample, examples)
