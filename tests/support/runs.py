"""What the tests of runs share: configurations that take a moment, and what a folder holds."""

from pathlib import Path

import torch
from torch import Tensor

from fguidance.diffusion import Schedule
from fguidance.evaluation import read_samples, to_uint8
from fguidance.run import RunConfig, load_config
from fguidance.run.folder import SAMPLES
from fguidance.run.job import Worker
from fguidance.run.networks import load_classifier, load_judge, load_model

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


def knowledge(config: RunConfig, images: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """The model's error at step 100, and how often the guiding and the judging classifier are right."""
    step, generator = torch.full((len(images),), 100), torch.Generator().manual_seed(0)
    noise = torch.randn(images.shape, generator=generator)
    x_t = Schedule.linear(1000).add_noise(images, noise, step)
    predicted = load_model(config.model)(x_t, step, labels)[:, : images.shape[1]]
    classifier = load_classifier(config.classifier)
    assert classifier is not None
    logits = classifier(x_t, step) if config.classifier.input == "noisy" else classifier(images)
    pixels = to_uint8(images).permute(0, 3, 1, 2)
    judged = load_judge(config.features).features_and_logits(pixels)[:, -10:]
    right = [(one.argmax(1) == labels).double().mean().item() for one in (logits, judged)]
    return (predicted - noise).square().mean().item(), right[0], right[1]


def shard_files(folder: Path) -> list[str]:
    """The names of the finished shards."""
    return sorted(path.name for path in (folder / "shards").glob("*.shard"))
