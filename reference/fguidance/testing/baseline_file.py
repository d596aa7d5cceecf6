"""The file of a regression baseline: exact numbers, read with suspicion and written once.

It is JSON. Every floating-point number in it is hexadecimal text (`float.hex`), so it says exactly what was found, and
it holds the inputs too: a later run reads them, whatever this library would choose by then.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fguidance.testing.subject import PARTS

FORMAT, SCHEMA = "fguidance-baseline", 1


@dataclass(frozen=True)
class Array:
    """A tensor in exact form: its dtype, its shape, and its entries as `float.hex` writes them."""

    dtype: str
    shape: list[int]
    numbers: list[str]

    @classmethod
    def of(cls, tensor: Tensor) -> "Array":
        """The exact form of a floating-point tensor."""
        entries = tensor.detach().cpu().double().flatten().tolist()
        return cls(str(tensor.dtype).removeprefix("torch."), list(tensor.shape), [entry.hex() for entry in entries])

    @property
    def tensor(self) -> Tensor:
        """The tensor, exactly."""
        return torch.tensor(self.entries, dtype=torch.float64).reshape(self.shape).to(getattr(torch, self.dtype))

    @property
    def entries(self) -> list[float]:
        """The numbers, in Python's floats."""
        return [float.fromhex(number) for number in self.numbers]


@dataclass(frozen=True)
class Entry:
    """One input and what came out for it: by part, an `Array` or the name of the exception that was raised."""

    case: str
    logits: Array
    log_p: Array
    log_q: Array
    results: dict[str, Array | str]

    @property
    def inputs(self) -> dict[str, Tensor]:
        """Logits, log_p and log_q by name."""
        return {name: getattr(self, name).tensor for name in ("logits", "log_p", "log_q")}


@dataclass(frozen=True)
class Baseline:
    """What was found, of what, when, and with which versions."""

    name: str
    date: str
    versions: dict[str, str]
    entries: list[Entry]


def read(path: Path, name: str) -> Baseline | None:
    """The baseline in a file; None where there is no file yet.

    Args:
        path: the file.
        name: what it must have been recorded of.

    Raises:
        ValueError: it is no baseline of that name that this version can read, or its folder is missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise ValueError(f"baseline {path}: there is no folder {path.parent} to record it in") from None
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"baseline {path} cannot be read: {error}") from error
    return _understood(path, name, text)


def _understood(path: Path, name: str, text: str) -> Baseline:
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"baseline {path} is damaged: it is not JSON ({error})") from error
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ValueError(f"baseline {path} is another file: its format is not {FORMAT!r}")
    if stored.get("schema") != SCHEMA:
        raise ValueError(f"baseline {path} has schema {stored.get('schema')!r}; this version reads {SCHEMA}")
    if stored.get("name") != name:
        raise ValueError(f"baseline {path} was recorded of {stored.get('name')!r}, not of {name!r}")
    try:
        return Baseline(name, str(stored["date"]), dict(stored["versions"]), _entries(stored))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"baseline {path} is damaged: {type(error).__name__}: {error}") from error


def _entries(stored: dict[str, Any]) -> list[Entry]:
    entries = [_entry_of(found) for found in stored["entries"]]
    if not entries:
        raise ValueError("it holds no entries")
    return entries


def _entry_of(found: dict[str, Any]) -> Entry:
    logits, log_p, log_q = (_array_of(found[name]) for name in ("logits", "log_p", "log_q"))
    results = {part: old if isinstance(old, str) else _array_of(old) for part, old in found["results"].items()}
    if not results or not results.keys() <= set(PARTS):
        raise ValueError(f"the results must be of {', '.join(PARTS)}, not {', '.join(results) or 'nothing'}")
    return Entry(str(found["case"]), logits, log_p, log_q, results)


def _array_of(found: dict[str, Any]) -> Array:
    array = Array(**found)
    if not array.tensor.is_floating_point():
        raise ValueError(f"{array.dtype} is no floating-point dtype")
    return array


def write_once(path: Path, baseline: Baseline) -> None:
    """Write a file that is not there yet, whole or not at all.

    Args:
        path: the file.
        baseline: what it shall hold.

    Raises:
        ValueError: the file is there by now, or cannot be written.
    """
    text = json.dumps({"format": FORMAT, "schema": SCHEMA, **asdict(baseline)}, indent=1) + "\n"
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        _publish(partial, path, text)
    except OSError as error:
        raise ValueError(f"baseline {path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _publish(partial: Path, path: Path, text: str) -> None:
    """Give the written file its name by a link, which, unlike a rename, fails where another file has it by now."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
