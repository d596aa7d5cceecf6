"""How fast a configuration samples, with random weights: anybody can measure it, and only the speed is meant."""

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from fguidance.diffusion import Schedule, sample
from fguidance.guidance import Guidance
from fguidance.run import networks
from fguidance.run.config import GuidanceConfig, RunConfig
from fguidance.run.cost import cost
from fguidance.run.folder import device_kind
from fguidance.run.job import Painter

PER_TABLE = 50_000
WARM_UP, REPEATS = 3, 20


@dataclass(frozen=True)
class Speed:
    """Of one way to sample.

    Attributes:
        seconds_per_step: of a whole batch.
        images_per_second: at the configuration's number of steps.
        hours_per_table: for 50,000 images on one such device.
        guidance_share: of a step, that the guidance's own arithmetic takes; 0 where nothing guides.
        peak_memory: bytes on the GPU, or None on a CPU.
    """

    seconds_per_step: float
    images_per_second: float
    hours_per_table: float
    guidance_share: float
    peak_memory: int | None


def random_painter(config: RunConfig, device: torch.device, seed: int = 0) -> Painter:
    """A painter whose weights are small random numbers, so that no file is needed."""
    guided = config.guidance.by_classifier
    classifier = networks.empty_classifier(config.classifier) if guided else None
    torch.manual_seed(seed)
    made = [None if one is None else _filled(one, device) for one in (networks.empty_model(config.model), classifier)]
    assert made[0] is not None
    guidance, schedule = networks.load_guidance(config.guidance), networks.load_schedule(config.sampling)
    return Painter(config, device, made[0], made[1], guidance, schedule).tuned()


def _filled(network: nn.Module, device: torch.device) -> nn.Module:
    network = network.to_empty(device=device)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            nn.init.ones_(tensor) if name.endswith("running_var") else nn.init.normal_(tensor, std=0.02)
        else:
            tensor.zero_()
    return network


def ways(config: RunConfig) -> dict[str, RunConfig]:
    """What is compared: no guidance, Ma et al.'s, and JS."""
    base = config.guidance.model_dump()

    def guided(**changes: Any) -> RunConfig:
        return config.model_copy(update={"guidance": GuidanceConfig(**(base | changes))})

    return {
        "unguided": guided(method="unguided"),
        "ma": guided(method="score", alpha=0.0),
        "js": guided(method="score", divergence="js", alpha=0.5),
    }


def bench(config: RunConfig, device: torch.device, repeats: int = REPEATS) -> dict[str, Any]:
    """Measure a configuration.

    Args:
        config: one with a classifier; `sampling.shard_size` is the batch.
        device: where.
        repeats: steps that are timed, after some that are not.

    Returns:
        A record with the speed of each of `ways`, of the plain eager loop, the ratio, settings, versions and device.

    Raises:
        ValueError: the configuration has no classifier.
    """
    if config.classifier.network == "none":
        raise ValueError("a configuration with a classifier is needed, such as imagenet128/table3/js")
    found = {name: measure(random_painter(one, device), repeats) for name, one in ways(config).items()}
    plain = measure_plain(ways(config)["js"], device, repeats)
    return {
        "speed": {name: vars(one) for name, one in found.items()},
        "plain_eager_seconds_per_step": plain,
        "times_faster_than_plain": plain / found["js"].seconds_per_step,
        "flops_per_step_and_image": cost(ways(config)["js"]).image // config.sampling.steps,
        "config": config.model_dump(mode="json"),
        "repeats": repeats,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": device_kind(device),
        "versions": {one: version(one) for one in ("fguidance", "torch", "diffusers")},
    }


def measure(painter: Painter, repeats: int) -> Speed:
    """Time the steps of one batch."""
    device, sampling = painter.device, painter.config.sampling
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    steps = replace_steps(painter, WARM_UP)
    steps.shard(0)
    seconds = _seconds(lambda: replace_steps(painter, repeats).shard(0), device) / repeats
    per_image = seconds * sampling.steps / sampling.shard_size
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    share = _guidance_seconds(painter) / seconds if painter.guidance is not None else 0.0
    return Speed(seconds, 1 / per_image, per_image * PER_TABLE / 3600, share, memory)


def replace_steps(painter: Painter, steps: int) -> Painter:
    """The same with fewer steps, each as costly."""
    return replace(painter, schedule=Schedule.linear(1000).respace(max(steps, 2)))


def _guidance_seconds(painter: Painter) -> float:
    """What the closed-form gradient in the logits takes for one batch, the classifier left out."""
    sampling, guidance = painter.config.sampling, painter.guidance
    if not isinstance(guidance, Guidance):
        return 0.0
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(sampling.shard_size, sampling.num_classes, generator=generator).to(painter.device)
    labels = torch.zeros(sampling.shard_size, dtype=torch.int64, device=painter.device)
    guidance.logit_gradient(logits, labels)

    def many() -> None:
        for _ in range(REPEATS):
            guidance.logit_gradient(logits, labels)

    return _seconds(many, painter.device) / REPEATS


def measure_plain(config: RunConfig, device: torch.device, repeats: int) -> float:
    """Seconds per step of a loop as one would first write it: all weights in float16 (bfloat16 on a CPU), eager."""
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    plain = config.model_copy(update={"sampling": config.sampling.model_copy(update={"compile": False})})
    painter = random_painter(plain, device)
    model, classifier = painter.model.to(dtype), painter.classifier
    assert classifier is not None

    def halved(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        found: Tensor = model(x_t.to(dtype), t, y)
        return found.float()

    def run(steps: int) -> None:
        shape, size = config.model.shape, config.sampling.shard_size
        labels = torch.zeros(size, dtype=torch.int64, device=device)
        sample(
            halved, Schedule.linear(1000).respace(max(steps, 2)), labels, guidance=painter.guidance,
            classifier=classifier, classifier_input=config.classifier.input,
            shape=(shape["in_channels"], shape["image_size"], shape["image_size"]), seeds=range(size), progress=False,
        )  # fmt: skip

    run(WARM_UP)
    return _seconds(lambda: run(repeats), device) / repeats


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun
