"""A regression baseline: the results of a divergence at fixed inputs, written down once and compared ever after.

The file is a NumPy archive (.npz). It holds every number exactly, and the inputs too: a later run reads them, whatever
this library would choose by then. `about` in it is JSON: of what it was recorded, when, with which versions, the names
of the cases, the dtype of each array, and the exceptions that took the place of results.
"""

import io
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fguidance.testing.declaration import DTYPES
from fguidance.testing.report import Record, Status, environment, versions
from fguidance.testing.strategies import Case
from fguidance.testing.subject import PARTS, Subject, plain
from fguidance.testing.tolerance import ulps_between

BASELINE = "baseline"
"""The check of a baseline, which is none of `CHECKS` and may be declared to fail as they may."""
FORMAT, SCHEMA = "fguidance-baseline", 2
TITLE = "Every number is what it was when the baseline was recorded."
ULPS = 4.0
INPUTS = ("logits", "log_p", "log_q")
NEAR, MANY = 2.0**-7, 300
Row = Sequence[float]
Entry = dict[str, Any]
"""A `case`, its `INPUTS` as tensors, and by part a tensor or the name of the exception that was raised."""
BATCHES: tuple[tuple[str, tuple[int, ...], tuple[tuple[Row, float], ...]], ...] = (
    ("ordinary, two classes", (2,), (((0.75, -1.25), 0.9),)),
    ("ordinary, three classes", (3,), (((0.5, -1.0, 2.25), 0.9),)),
    ("ordinary, seven classes, target half smoothed", (7,), (((0.0, 1.5, -2.0, 0.25, 3.0, -0.5, 1.0), 0.5),)),
    ("uniform target", (4,), (((1.0, 0.0, -3.0, 2.0), 0.0),)),
    ("tied with the label", (3,), (((1.5, 1.5, -0.5), 0.9),)),
    ("all tied", (4,), (((0.0, 0.0, 0.0, 0.0), 0.9),)),
    ("saturated on the label", (3,), (((40.0, 0.0, 0.5), 0.9),)),
    ("saturated on another class", (3,), (((0.0, 40.0, 0.5), 0.9),)),
    ("nearly saturated on another class", (3,), (((0.0, 12.0, 0.5), 0.9),)),
    ("far from zero", (3,), (((-1000.0, -998.0, -1004.0), 0.9),)),
    ("many classes", (MANY,), ((tuple(37 * index % 101 / 16 - 3 for index in range(MANY)), 0.9),)),
    ("a batch", (3, 3), (((0.5, -1.0, 2.25), 0.9), ((0.0, 40.0, 0.5), 0.9), ((1.5, 1.5, -0.5), 0.0))),
    ("a batch with an axis of 1", (2, 1, 4), (((1.0, 0.0, -3.0, 2.0), 0.9), ((0.0, 12.0, 0.5, -1.0), 0.5))),
)
"""Name, shape, and the rows: logits and the epsilon of the label-smoothed target; the label is the first class."""


def inputs(dtypes: Iterable[torch.dtype]) -> Iterator[Entry]:
    """Case, logits, log_p and log_q, each of shape (..., classes), of every case in every dtype; nothing is random."""
    for dtype in dtypes:
        for name, shape, rows in BATCHES:
            logits = torch.tensor([row for row, _ in rows], dtype=torch.float64).reshape(shape)
            log_q = torch.stack([_target(shape[-1], epsilon) for _, epsilon in rows]).reshape(shape)
            yield _entry(Case(logits, log_q, name).to(dtype))
        target = _target(5, 0.9)
        near = target + NEAR * torch.tensor([1.0, -2.0, 0.0, 1.0, -1.0], dtype=torch.float64)
        yield _entry(Case(near, target, "near the target").to(dtype))
        yield {"case": "equal to the target", **dict.fromkeys(INPUTS, target.to(dtype))}


def _target(classes: int, epsilon: float) -> Tensor:
    q = torch.full((classes,), (1 - epsilon) / classes, dtype=torch.float64)
    q[0] += epsilon
    return q.log()


def _entry(case: Case) -> Entry:
    return {"case": case.kind, "logits": case.logits, "log_p": case.log_p, "log_q": case.log_q}


def baseline_check(subject: Subject, path: str | os.PathLike[str], ulps: float = ULPS) -> Callable[[], Record]:
    """The check of a subject against a baseline file, which is read at once; there is none before the first run."""
    if isinstance(ulps, bool) or not isinstance(ulps, int | float) or not ulps >= 0:
        raise ValueError(f"baseline_ulps must be a number of at least 0, not {ulps!r}")
    place = Path(path)
    if not place.parent.is_dir():
        raise ValueError(f"baseline {place}: there is no folder {place.parent} to record it in")
    stored = read(place, subject.name) if place.exists() else None

    def run() -> Record:
        start = time.perf_counter()
        record = _recorded(place, subject) if stored is None else _compared(place, *stored, subject, ulps)
        return replace(record, seconds=time.perf_counter() - start)

    return run


def read(path: Path, name: str) -> tuple[dict[str, Any], list[Entry]]:
    """What a baseline of that name says about itself, and its entries; a ValueError if it is none, or damaged."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            stored = dict(file)
        about = json.loads(str(stored.pop("about")))
        of, schema, recorded = about["format"], about["schema"], about["name"]
        entries = _entries(about, stored) if (of, schema) == (FORMAT, SCHEMA) else []
    except Exception as error:  # whatever a damaged archive, or another file, makes NumPy raise
        raise ValueError(f"baseline {path} is damaged or another file: {type(error).__name__}: {error}") from error
    if not entries:
        raise ValueError(f"baseline {path} is {of!r} of schema {schema!r}; this version reads {FORMAT!r} of {SCHEMA}")
    if recorded != name:
        raise ValueError(f"baseline {path} was recorded of {recorded!r}, not of {name!r}")
    return about, entries


def _entries(about: dict[str, Any], stored: dict[str, Any]) -> list[Entry]:
    entries: list[Entry] = [{"case": str(case)} for case in about["cases"]]
    for key, kind in about["kinds"].items():
        number, name = key.split(".")
        known = kind in DTYPES
        if name not in (*INPUTS, *PARTS):
            raise ValueError(f"{name} is none of {', '.join((*INPUTS, *PARTS))}")
        if not known and name in INPUTS:
            raise ValueError(f"{kind} is none of {', '.join(DTYPES)}")
        entries[int(number)][name] = torch.from_numpy(stored[key]).to(getattr(torch, kind)) if known else str(kind)
    if not entries or any(not {*INPUTS} < {*entry} - {"case"} for entry in entries):
        raise ValueError("an entry without inputs or results, or no entry")
    return entries


def _write_once(path: Path, subject: Subject, entries: list[Entry]) -> None:
    """Write a file that is not there yet; a ValueError if it is by now, or cannot be written."""
    flat = {f"{k}.{name}": one for k, entry in enumerate(entries) for name, one in entry.items() if name != "case"}
    arrays = {key: one.double().numpy() for key, one in flat.items() if isinstance(one, Tensor)}
    about = {
        "format": FORMAT, "schema": SCHEMA, "name": subject.name, "date": environment()["date"],
        "versions": versions(), "cases": [entry["case"] for entry in entries],
        "kinds": {key: plain(one.dtype) if isinstance(one, Tensor) else one for key, one in flat.items()},
    }  # fmt: skip
    written = io.BytesIO()  # first, so that an interruption leaves no half of a file
    np.savez(written, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
    try:
        with path.open("xb") as file:  # which fails where another file has the name by now
            file.write(written.getvalue())
    except OSError as error:
        raise ValueError(f"baseline {path} cannot be written: {error.strerror or error}") from error


def _attempt(subject: Subject, part: str, entry: Entry) -> Tensor | BaseException:
    first = entry["logits" if part == "logit_gradient" else "log_p"]
    try:
        return subject.parts[part](first.clone(), entry["log_q"].clone()).detach().cpu()
    except (Exception, SystemExit) as error:  # whatever a user's code raises is its answer
        return error


def _result(subject: Subject, part: str, entry: Entry) -> Tensor | str:
    found = _attempt(subject, part, entry) if part in subject.parts else "missing"
    return type(found).__name__ if isinstance(found, BaseException) else found


def _recorded(path: Path, subject: Subject) -> Record:
    entries = list(inputs(subject.dtypes))

    def failed(reason: str, shown: dict[str, Any]) -> Record:
        return _record("failed", f"nothing was recorded: {reason}", shown, entries)

    for part in subject.parts:
        for entry in entries:
            found = _attempt(subject, part, entry)
            if not isinstance(found, Tensor | ValueError):
                place = f"on the input {entry['case']!r} in {plain(entry['log_q'].dtype)}"
                raised = f"{part} raises {type(found).__name__}: {found} {place}"
                return failed(f"{raised}; only a ValueError is taken for a refusal", _shown(entry, part))
            entry[part] = found if isinstance(found, Tensor) else type(found).__name__
        if not any(isinstance(entry[part], Tensor) for entry in entries):
            return failed(f"{part} gives a number for no input", {"part": part})
    again = [drift for entry in entries for drift in _drifts(subject, entry) if drift["ulps"] > 0]
    if again:
        return failed("the same input gives something else the second time", again[0])
    _write_once(path, subject, entries)
    return _record("passed", f"recorded in {path}: later runs are compared with it", {}, entries)


def _compared(path: Path, about: dict[str, Any], entries: list[Entry], subject: Subject, ulps: float) -> Record:
    moved = [drift for entry in entries for drift in _drifts(subject, entry) if drift["ulps"] > ulps]
    again = "move the file away, and the next run records it anew"
    if moved:
        worst = max(moved, key=lambda drift: drift["ulps"])
        then, now = about["versions"], versions()
        changed = [f"{name} {then[name]} (now {now[name]})" for name in now if then.get(name, now[name]) != now[name]]
        other_kind = "index" not in worst or worst["ulps"] == math.inf
        extent = "one result is of another kind" if other_kind else f"the largest difference is {worst['ulps']:g} ulps"
        reason = (
            f"{len(moved)} numbers differ by more than {ulps:g} ulps from {path}, recorded {about['date']} with "
            f"{', '.join(changed) or 'the same versions'}; {extent}; if that is meant, {again}"
        )
        return _record("failed", reason, worst, entries)
    known = {name for entry in entries for name in entry} | {plain(entry["log_q"].dtype) for entry in entries}
    new = [name for name in (*subject.parts, *map(plain, subject.dtypes)) if name not in known]
    if new:
        reason = f"{path}, recorded {about['date']}, holds nothing of {', '.join(new)}: nothing else moved; {again}"
        return _record("failed", reason, {}, entries)
    return _record("passed", "", {}, entries)


def _drifts(subject: Subject, entry: Entry) -> Iterator[dict[str, Any]]:
    """Each number that is not what it was, with its input."""
    for part in (part for part in PARTS if part in entry):
        old, new, shown = entry[part], _result(subject, part, entry), _shown(entry, part)
        if isinstance(old, str) or isinstance(new, str):
            if not isinstance(old, type(new)) or old != new:
                yield {**shown, "old": plain(old), "new": plain(new), "ulps": math.inf}
        elif (old.dtype, old.shape) != (new.dtype, new.shape):
            kinds = {name: [plain(one.dtype), list(one.shape)] for name, one in (("old", old), ("new", new))}
            yield {**shown, **kinds, "ulps": math.inf}
        else:
            apart, before, after = ulps_between(old, new).flatten(), old.flatten(), new.flatten()
            for index in apart.nonzero().flatten().tolist():
                numbers = {"index": index, "old": float(before[index]), "new": float(after[index])}
                yield {**shown, **numbers, "ulps": float(apart[index])}


def _shown(entry: Entry, part: str) -> dict[str, Any]:
    given = {name: plain(entry[name]) for name in ("logits" if part == "logit_gradient" else "log_p", "log_q")}
    return {"part": part, "case": entry["case"], "dtype": plain(entry["log_q"].dtype), **given}


def _record(status: Status, reason: str, counterexample: dict[str, Any], entries: list[Entry]) -> Record:
    return Record(BASELINE, TITLE, status, reason, counterexample, len(entries))
