"""What the tests of runs share: configurations that take a moment, and what a folder holds."""

from pathlib import Path

import torch
from torch import Tensor

from fguidance.evaluation import read_samples
from fguidance.run import RunConfig, load_config
from fguidance.run.folder import SAMPLES
from fguidance.run.job import Worker

TINY = ("sampling.steps=2", "sampling.shard_size=4")
"""Overrides with which a shard takes a moment."""
CPU = torch.device("cpu")
ALONE = Worker(0, 1, CPU)


def tiny(*overrides: str, name: str = "digits") -> RunConfig:
    """A packaged configuration with two steps and four images in a shard."""
    return load_config(name, (*TINY, *overrides))


def as_options(*overrides: str) -> list[str]:
    """Overrides as the command takes them."""
    return [part for override in overrides for part in ("--set", override)]


def arrays(folder: Path) -> tuple[Tensor, Tensor]:
    """The images and labels of a finished run."""
    images, labels = read_samples(folder / SAMPLES)
    assert labels is not None
    return images, labels


def equal(first: Path, second: Path) -> bool:
    """Whether two finished runs hold the same, bit for bit."""
    return all(one.equal(other) for one, other in zip(arrays(first), arrays(second), strict=True))


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder: what it holds, and when it was written."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def shard_files(folder: Path) -> list[str]:
    """The names of the finished shards."""
    return sorted(path.name for path in (folder / "shards").glob("*.shard"))
