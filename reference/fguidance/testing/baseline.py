"""A regression baseline: the results of a divergence at fixed inputs, written down once and compared ever after.

The file is a NumPy archive (.npz). It holds every number exactly, and the inputs too: a later run reads them, whatever
this library would choose by then. `about` in it is JSON: of what it was recorded, when, with which versions, the names
of the cases, the dtype of each array, and the exceptions that took the place of results.
"""

import contextlib
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
from fguidance.testing.report import Record, environment, versions
from fguidance.testing.runner import BASELINE
from fguidance.testing.subject import PARTS, Subject, plain
from fguidance.testing.tolerance import ulps_between

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
    """Case, logits, log_p and log_q, each of shape (..., classes), of every case in every dtype; nothing is random.

    The logarithms are Python's, so that they are the same under every version of PyTorch.
    """
    for dtype in dtypes:
        for case, shape, rows in BATCHES:
            yield _given(case, shape, [row for row, _ in rows], [_target(shape[-1], e) for _, e in rows], dtype)
        target = _target(5, 0.9)
        near = [entry + NEAR * step for entry, step in zip(target, (1, -2, 0, 1, -1), strict=True)]
        yield _given("near the target", (5,), [near], [target], dtype)
        equal = torch.tensor(target, dtype=torch.float64).to(dtype)
        yield {"case": "equal to the target", **{name: equal.clone() for name in INPUTS}}


def _target(classes: int, epsilon: float) -> list[float]:
    rest = (1 - epsilon) / classes
    return [math.log(rest + epsilon), *[math.log(rest)] * (classes - 1)]


def _given(case: str, shape: tuple[int, ...], logits: Sequence[Row], log_q: Sequence[Row], dtype: torch.dtype) -> Entry:
    def rounded(rows: Sequence[Row]) -> Tensor:
        return torch.tensor(rows, dtype=torch.float64).to(dtype).reshape(shape)

    log_p = [_log_softmax(row) for row in rounded(logits).reshape(len(logits), -1).double().tolist()]
    return {"case": case, "logits": rounded(logits), "log_p": rounded(log_p), "log_q": rounded(log_q)}


def _log_softmax(logits: list[float]) -> list[float]:
    """To the last digit of the largest too: its own 1 is kept out of the sum."""
    top = max(logits)
    others = [math.exp(entry - top) for entry in logits]
    others.remove(1.0)
    total = math.log1p(math.fsum(others))
    return [entry - top - total for entry in logits]


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
        record = _recorded(place, subject) if stored is None else _compared(place, *stored, subject, ulps)
        return replace(record, seconds=time.perf_counter() - start)

    return run


def read(path: Path, name: str) -> tuple[dict[str, Any], list[Entry]] | None:
    """What a baseline says about itself, and its entries; None where there is no file yet.

    Args:
        path: the file.
        name: what it must have been recorded of.

    Raises:
        ValueError: it is no baseline of that name that this version can read, or its folder is missing.
    """
    if not path.exists():
        if not path.parent.is_dir():
            raise ValueError(f"baseline {path}: there is no folder {path.parent} to record it in")
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            stored = {key: file[key] for key in file.files}
        about = json.loads(str(stored.pop("about")))
        of, schema, recorded = about["format"], about["schema"], about["name"]
    except Exception as error:  # whatever a damaged archive, or another file, makes NumPy raise
        raise ValueError(f"baseline {path} is damaged or another file: {type(error).__name__}: {error}") from error
    if (of, schema) != (FORMAT, SCHEMA):
        raise ValueError(f"baseline {path} is {of!r} of schema {schema!r}; this version reads {FORMAT!r} of {SCHEMA}")
    if recorded != name:
        raise ValueError(f"baseline {path} was recorded of {recorded!r}, not of {name!r}")
    try:
        return about, _entries(about, stored)
    except Exception as error:  # whatever is missing or of another kind
        raise ValueError(f"baseline {path} is damaged: {type(error).__name__}: {error}") from error


def _entries(about: dict[str, Any], stored: dict[str, Any]) -> list[Entry]:
    entries: list[Entry] = [{"case": str(case)} for case in about["cases"]]
    for key, kind in about["kinds"].items():
        number, name = key.split(".")
        if name not in (*INPUTS, *PARTS):
            raise ValueError(f"{name} is none of {', '.join((*INPUTS, *PARTS))}")
        if kind not in DTYPES and name in INPUTS:
            raise ValueError(f"{kind} is none of {', '.join(DTYPES)}")
        known = kind in DTYPES
        entries[int(number)][name] = torch.from_numpy(stored[key]).to(getattr(torch, kind)) if known else str(kind)
    if not entries or any(not {*INPUTS} < {*entry} - {"case"} for entry in entries):
        raise ValueError("an entry without inputs or results, or no entry")
    return entries


def _write_once(path: Path, subject: Subject, entries: list[Entry]) -> None:
    """Write a file that is not there yet, whole or not at all.

    Raises:
        ValueError: the file is there by now, or cannot be written.
    """
    flat = {f"{k}.{name}": one for k, entry in enumerate(entries) for name, one in entry.items() if name != "case"}
    arrays = {key: one.double().numpy() for key, one in flat.items() if isinstance(one, Tensor)}
    kinds = {key: plain(one.dtype) if isinstance(one, Tensor) else one for key, one in flat.items()}
    about = {
        "format": FORMAT, "schema": SCHEMA, "name": subject.name, "date": environment()["date"],
        "versions": versions(), "cases": [entry["case"] for entry in entries], "kinds": kinds,
    }  # fmt: skip
    file = io.BytesIO()
    np.savez(file, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(file.getvalue())
        try:
            os.link(partial, path)  # which, unlike a rename, fails where another file has the name by now
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            with path.open("xb") as whole:
                whole.write(file.getvalue())
    except OSError as error:
        raise ValueError(f"baseline {path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


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
    entries = [
        {**entry, **{part: _result(subject, part, entry) for part in subject.parts}} for entry in inputs(subject.dtypes)
    ]
    reason, shown = "", {}
    for part in subject.parts:
        for entry in entries:
            if not isinstance(entry[part], Tensor) and not isinstance(
                raised := _attempt(subject, part, entry), Tensor | ValueError
            ):
                reason = (
                    f"{part} raises {type(raised).__name__}: {raised} on the input {entry['case']!r} in "
                    f"{plain(entry['log_q'].dtype)}; only a ValueError is taken for a refusal"
                )
                return _failed(f"nothing was recorded: {reason}", _shown(entry, part), len(entries))
        if not any(isinstance(entry[part], Tensor) for entry in entries):
            reason, shown = f"{part} gives a number for no input", {"part": part}
    again = [drift for entry in entries for drift in _drifts(subject, entry) if drift["ulps"] > 0]
    if again and not reason:
        reason, shown = "the same input gives something else the second time", again[0]
    if reason:
        return _failed(f"nothing was recorded: {reason}", shown, len(entries))
    _write_once(path, subject, entries)
    reason = f"recorded in {path}: later runs are compared with it"
    return Record(BASELINE, TITLE, "passed", reason, examples=len(entries))


def _compared(path: Path, about: dict[str, Any], entries: list[Entry], subject: Subject, ulps: float) -> Record:
    moved = [drift for entry in entries for drift in _drifts(subject, entry) if drift["ulps"] > ulps]
    again = "move the file away, and the next run records it anew"
    if moved:
        worst = max(moved, key=lambda drift: drift["ulps"])
        now = versions()
        then = {name: about["versions"].get(name, now[name]) for name in now}
        changed = [f"{name} {then[name]} (now {now[name]})" for name in now if then[name] != now[name]]
        other_kind = "index" not in worst or worst["ulps"] == math.inf
        extent = "one result is of another kind" if other_kind else f"the largest difference is {worst['ulps']:g} ulps"
        reason = (
            f"{len(moved)} numbers differ by more than {ulps:g} ulps from {path}, recorded {about['date']} with "
            f"{', '.join(changed) or 'the same versions'}; {extent}; if that is meant, {again}"
        )
        return _failed(reason, worst, len(entries))
    known = {name for entry in entries for name in entry} | {plain(entry["log_q"].dtype) for entry in entries}
    new = [name for name in (*subject.parts, *map(plain, subject.dtypes)) if name not in known]
    if new:
        reason = f"{path}, recorded {about['date']}, holds nothing of {', '.join(new)}: nothing else moved; {again}"
        return _failed(reason, {}, len(entries))
    return Record(BASELINE, TITLE, "passed", examples=len(entries))


def _drifts(subject: Subject, entry: Entry) -> Iterator[dict[str, Any]]:
    """Each number that is not what it was, with its input."""
    for part in PARTS:
        if part not in entry:
            continue
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


def _failed(reason: str, counterexample: dict[str, Any], examples: int) -> Record:
    return Record(BASELINE, TITLE, "failed", reason, counterexample, examples)
