"""The folder of a run: which run it is of, and its shards, files of a few images, each whole or not there at all."""

import datetime
import hashlib
import io
import json
import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fguidance.inputs import require_whole
from fguidance.run.assets import file_and_part, file_sha256, locate
from fguidance.run.config import RunConfig

RECORD, SAMPLES, SHARDS = "run.json", "samples.npz", "shards"
DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Identity:
    """All that decides the samples of a run; those of equal ones are the same bit for bit.

    Attributes:
        config: the effective configuration.
        num_samples: how many images.
        weights: the SHA-256 of each file of weights.
        versions: of fguidance and PyTorch.
        device: the kind of device.
    """

    config: dict[str, Any]
    num_samples: int
    weights: dict[str, str]
    versions: dict[str, str]
    device: str

    @property
    def digest(self) -> str:
        """A SHA-256 of it, but for the configuration's title."""
        config = {name: value for name, value in self.config.items() if name != "title"}
        return hashlib.sha256(json.dumps(vars(self) | {"config": config}, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Shard:
    """Images of one shard.

    Attributes:
        images: ``(n, H, W, C)`` uint8.
        labels: ``(n,)`` int64.
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Shards:
    """The shards of one run in its folder. A file is a SHA-256 followed by the ``.npz`` that it is of.

    Attributes:
        folder: of the run.
        run: the digest of all that decides what the shards hold; a shard of another run counts as damaged.
    """

    folder: Path
    run: str

    def path(self, index: int) -> Path:
        """The file of a shard."""
        return self.folder / SHARDS / f"{index:06d}.shard"

    def write(self, index: int, shard: Shard) -> None:
        """Put a shard in its place at once; a process that is killed leaves a partial file of another name.

        Raises:
            OSError: no space, or no right to write; what was there before is left as it was.
        """
        path = self.path(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        np.savez(content, images=shard.images.numpy(), labels=shard.labels.numpy())
        try:
            write_whole(path, self._digest(index, content.getvalue()) + content.getvalue())
        except FileNotFoundError:  # a second copy of the command was quicker, finished the run and tidied up
            if self.read(index) is None:
                raise

    def read(self, index: int) -> Shard | None:
        """A shard, or None where there is none that is whole and of this run."""
        try:
            content = self.path(index).read_bytes()
        except FileNotFoundError:
            return None
        if content[:DIGEST_BYTES] != self._digest(index, content[DIGEST_BYTES:]):
            return None
        with np.load(io.BytesIO(content[DIGEST_BYTES:]), allow_pickle=False) as found:
            return Shard(torch.from_numpy(found["images"]), torch.from_numpy(found["labels"]))

    def missing(self, indices: range) -> list[int]:
        """Those that have to be made: there is no file, or it is damaged, or of another run."""
        return [index for index in indices if self.read(index) is None]

    def remove_partial_files(self) -> None:
        """Take away what killed processes left behind, once nobody writes any more."""
        for folder in (self.folder, self.folder / SHARDS):
            for path in folder.glob(".*.partial"):
                path.unlink(missing_ok=True)

    def _digest(self, index: int, content: bytes) -> bytes:
        return hashlib.sha256(f"{self.run} {index}\n".encode() + content).digest()


def identity(config: RunConfig, num_samples: int, device: torch.device) -> Identity:
    """The identity of a run that begins here.

    Raises:
        FileNotFoundError: a file of weights is missing.
        ValueError: `num_samples` is below 1, or an asset has another hash than the pinned one.
    """
    num_samples = require_whole("num_samples", num_samples)
    files = dict.fromkeys(file_and_part(one)[0] for one in config.weights)
    return Identity(
        config.model_dump(mode="json"),
        num_samples,
        {name: file_sha256(locate(name)) for name in files},
        {name: version(name) for name in ("fguidance", "torch")},
        device_kind(device),
    )


def device_kind(device: torch.device) -> str:
    """The name of a GPU, or the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


def holds_run(folder: Path, run: Identity) -> bool:
    """Whether a folder is that of a run already; False if it is new or empty.

    Raises:
        FileExistsError: it holds another run, or other files.
        ValueError: its record is corrupt.
    """
    # Listed first: another process may begin the same run between the two looks.
    listed = [one.name for one in folder.iterdir()] if folder.exists() else []
    if (folder / RECORD).is_file():
        found = read_identity(folder)
        if found.digest != run.digest:
            first, second = _flat(vars(found)), _flat(vars(run))
            names = [one for one in first | second if one != "config.title" and first.get(one) != second.get(one)]
            told = f"its {names[0]} is {first.get(names[0])!r} and not {second.get(names[0])!r}"
            raise FileExistsError(f"{folder} holds another run ({told}); take another folder")
        return True
    if others := [name for name in listed if not name.endswith(".partial")]:
        raise FileExistsError(f"{folder} is not empty (it has {others[0]}) and holds no run; take another folder")
    return False


def open_folder(folder: Path, run: Identity) -> Shards:
    """Begin a run in a folder, or go on with the same one.

    Args:
        folder: a new or empty folder, or that of the same run.
        run: which run.

    Raises:
        FileExistsError: as `holds_run`.
        ValueError: as `holds_run`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not holds_run(folder, run):
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        begun = {"date": date, "python": platform.python_version()}
        write_whole(folder / RECORD, (json.dumps(vars(run) | begun, indent=2) + "\n").encode())
    return Shards(folder, run.digest)


def read_identity(folder: Path) -> Identity:
    """Which run a folder is of.

    Raises:
        FileNotFoundError: none.
        ValueError: its record is corrupt.
    """
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no run: there is no {RECORD}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        run = Identity(**{name: found[name] for name in Identity.__annotations__})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is corrupt: {error!r}") from error
    if not isinstance(run.config, dict):
        raise ValueError(f"{path} is corrupt: its config is no table")
    return run


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears at once with all of its content, and is on the disk when this returns.

    Raises:
        OSError: no space, or no right to write; what was there before is left as it was.
    """
    partial = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # the new name must reach the disk too
        finally:
            os.close(descriptor)
