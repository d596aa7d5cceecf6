"""The job: shards that depend on the seed and their number alone, made by however many processes, and then joined."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fguidance.diffusion import ImageGuidance, Schedule, classifier_free, sample
from fguidance.evaluation import to_uint8, write_samples
from fguidance.run import networks
from fguidance.run.config import RunConfig
from fguidance.run.folder import SAMPLES, Shard, Shards, holds_run, identity, open_folder

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@dataclass(frozen=True)
class Worker:
    """One of the processes that share a run.

    Attributes:
        rank: its number, from 0.
        world_size: how many there are.
        device: on which it computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @classmethod
    def from_environment(cls, device: str | None = None) -> "Worker":
        """This process, as ``torchrun`` tells it; alone where it does not.

        Args:
            device: such as "cpu"; None for the GPU of the process's local rank where there is one.

        Raises:
            ValueError: the environment says what cannot be.
        """
        numbers = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
        for name in numbers:
            text = os.environ.get(name, str(numbers[name]))
            if not text.isdecimal():
                raise ValueError(f"the environment variable {name} must be a whole number, not {text!r}")
            numbers[name] = int(text)
        rank, size = numbers["RANK"], numbers["WORLD_SIZE"]
        if not rank < size:
            raise ValueError(f"the environment variable RANK is {rank}; it must be below WORLD_SIZE, {size}")
        own = f"cuda:{numbers['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu"
        return cls(rank, size, _device(device or own))


def _device(name: str) -> torch.device:
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"there is no device {name!r}: it must be cpu, cuda or cuda:NUMBER") from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"the device must be cpu, cuda or cuda:NUMBER, not {name!r}")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {name!r}: PyTorch finds {torch.cuda.device_count()} GPUs here")
    return found


@dataclass(frozen=True)
class Outcome:
    """Work that a process did.

    Attributes:
        made: how many shards it made.
        found: how many of its shards were there already.
        samples: the finished file, or None where other processes are not done.
    """

    made: int
    found: int
    samples: Path | None


@contextmanager
def repeatable() -> Iterator[None]:
    """Let PyTorch take deterministic algorithms, and put its settings back.

    It warns of an operation that has none, or raises where the caller has asked for that. What is compiled meanwhile
    takes no kernel because it was the quickest in a trial. The workspace of cuBLAS is read when a process first
    multiplies on a GPU, so it is set for good, unless it is set.
    """
    os.environ.setdefault(WORKSPACE, ":4096:8")
    settings: Any = torch.utils.deterministic
    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=warns or not enabled)
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        settings.fill_uninitialized_memory = filled


@dataclass(frozen=True)
class Painter:
    """The networks of a configuration on a device; makes any shard."""

    config: RunConfig
    device: torch.device
    model: nn.Module
    classifier: nn.Module | None
    guidance: ImageGuidance | None
    schedule: Schedule = field(repr=False)

    @classmethod
    def load(cls, config: RunConfig, device: torch.device) -> "Painter":
        """Read the weights.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: it is corrupt, another one than the pinned, or of another architecture.
        """
        classifier = networks.load_classifier(config.classifier) if config.guidance.by_classifier else None
        model = networks.load_model(config.model).to(device)
        guidance, schedule = networks.load_guidance(config.guidance), networks.load_schedule(config.sampling)
        return cls(config, device, model, classifier and classifier.to(device), guidance, schedule).tuned()

    def tuned(self) -> "Painter":
        """The same, laid out and compiled for its device as far as the configuration asks for it."""
        if self.device.type == "cuda":  # the quickest of the algorithms may differ from process to process
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        for network in (self.model, self.classifier):
            if network is not None and self.device.type == "cuda":  # tensor cores want channels last
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if network is not None and self.config.sampling.compile:
                network.compile()
        return self

    @repeatable()
    def shard(self, index: int, progress: bool = False) -> Shard:
        """Draw one shard, which depends on the configuration and its number alone.

        Raises:
            FloatingPointError: NaN or infinity in a network's output.
        """
        labels, seeds = labels_and_seeds(self.config, index)
        shape, sampling, guidance = self.config.model.shape, self.config.sampling, self.config.guidance
        model = self._in_precision(self.model)
        if guidance.method == "classifier_free":
            model = classifier_free(model, guidance.guidance_scale, null_label=self.config.model.null_label)
        try:
            images = sample(
                model, self.schedule, labels.to(self.device), guidance=self.guidance,
                classifier=None if self.classifier is None else self._in_precision(self.classifier),
                classifier_input=self.config.classifier.input, guidance_scale=guidance.guidance_scale,
                sine_gamma=guidance.sine_gamma, sampler=sampling.sampler, eta=sampling.eta, seeds=seeds,
                shape=(shape["in_channels"], shape["image_size"], shape["image_size"]),
                clip_denoised=sampling.clip_denoised, progress=progress,
            )  # fmt: skip
        except FloatingPointError as error:
            raise FloatingPointError(f"shard {index}: {error}; the shards before it are kept") from error
        return Shard(to_uint8(images).cpu(), labels)

    def _in_precision(self, network: nn.Module) -> Callable[..., Tensor]:
        """The network in the precision that is asked for, its output in float32."""

        def called(*inputs: Tensor) -> Tensor:
            with networks.autocast(self.config.sampling.precision, self.device):
                output: Tensor = network(*inputs)
            return output.float()

        return called


def labels_and_seeds(config: RunConfig, index: int) -> tuple[Tensor, list[int]]:
    """What a shard is asked for, of the run's seed and the shard's number.

    Returns:
        labels ``(shard_size,)`` int64 on the CPU, evenly at random, and the seed of each sample's noise.
    """
    size = config.sampling.shard_size
    drawn = np.random.SeedSequence(config.sampling.seed, spawn_key=(index,)).generate_state(2 * size, np.uint64)
    labels = torch.from_numpy((drawn[:size] % config.sampling.num_classes).astype(np.int64))
    return labels, [int(seed >> 1) for seed in drawn[size:]]


def run_job(
    config: RunConfig,
    folder: Path,
    num_samples: int,
    worker: Worker | None = None,
    watch: Callable[[list[int]], Iterator[int]] = iter,
) -> Outcome:
    """Sample into a folder, or go on where an earlier process stopped.

    Args:
        config: of the run.
        folder: new, empty, or of the same run.
        num_samples: how many images.
        worker: which part of the work is this process's; None to ask the environment.
        watch: wraps the shards that are to be made, to show progress.

    Returns:
        What was done. Whoever finds all shards complete joins them to ``samples.npz``.

    Raises:
        FileExistsError: the folder holds another run, or other files.
        FileNotFoundError: weights are missing.
        ValueError: weights that are corrupt or of another architecture, or bad numbers.
        FloatingPointError: NaN or infinity in a network's output.
        OSError: no space; all finished shards are kept.
    """
    worker = worker or Worker.from_environment()
    run = identity(config, num_samples, worker.device)
    # Networks that cannot be read begin no run: the folder stays free for the mended configuration.
    painter = None if holds_run(folder, run) else Painter.load(config, worker.device)
    shards = open_folder(folder, run)
    every = range(-(-num_samples // config.sampling.shard_size))
    own = every[worker.rank :: worker.world_size]
    if (folder / SAMPLES).is_file():
        return Outcome(0, len(own), folder / SAMPLES)
    todo = shards.missing(own)
    if todo:
        painter = painter or Painter.load(config, worker.device)
        for index in watch(todo):
            with _room_for(f"shard {index}", shards.folder):
                shards.write(index, painter.shard(index))
    done = not shards.missing(every)
    if done:
        _join(shards, every, num_samples)
    return Outcome(len(todo), len(own) - len(todo), folder / SAMPLES if done else None)


@contextmanager
def _room_for(what: str, folder: Path) -> Iterator[None]:
    """Say what to do where a disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        told = f"{error.strerror} for {what}; all finished shards are kept: make room and run this again"
        raise OSError(error.errno, told, str(folder)) from error


def _join(shards: Shards, every: range, num_samples: int) -> None:
    """Put all shards into one file, unless another process just did."""
    found = [shard for index in every if (shard := shards.read(index)) is not None]
    images = torch.cat([shard.images for shard in found])[:num_samples]
    labels = torch.cat([shard.labels for shard in found])[:num_samples]
    try:
        with _room_for(SAMPLES, shards.folder):
            write_samples(shards.folder / SAMPLES, images, labels)
    except FileExistsError:
        return
    shards.remove_partial_files()
