"""Shards: files of a few images each, written whole or not at all, each with a checksum of all that made it."""

import hashlib
import io
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = "shards"
DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Shard:
    """What one shard holds.

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
        return self.folder / FOLDER / f"{index:06d}.shard"

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
        for folder in (self.folder, self.folder / FOLDER):
            for path in folder.glob(".*.partial"):
                path.unlink(missing_ok=True)

    def _digest(self, index: int, content: bytes) -> bytes:
        found = hashlib.sha256(f"{self.run} {index}\n".encode())
        found.update(content)
        return found.digest()


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
