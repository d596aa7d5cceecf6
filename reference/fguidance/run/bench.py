"""Costs of sampling by a configuration: its speed with random weights, its operations, and its memory."""

import datetime
import functools
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from fguidance.diffusion import Schedule, sample
from fguidance.guidance import Guidance
from fguidance.run import networks
from fguidance.run.config import ClassifierConfig, GuidanceConfig, ModelConfig, RunConfig
from fguidance.run.folder import device_kind
from fguidance.run.job import Painter

PER_TABLE = 50_000
WARM_UP, REPEATS = 3, 20


@dataclass(frozen=True)
class Speed:
    """Throughput of one sampling method.

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


@dataclass(frozen=True)
class Cost:
    """Operations for one image, and parameters of the networks.

    Attributes:
        model: floating-point operations of a forward pass of the diffusion model, a multiplication and an addition
            counted as two.
        classifier: of a forward and a backward pass of the classifier to its input; 0 where none guides.
        steps: of the schedule, so that an image costs ``steps * (model + classifier)``.
        model_parameters: of the diffusion model.
        classifier_parameters: of the classifier.
    """

    model: int
    classifier: int
    steps: int
    model_parameters: int
    classifier_parameters: int

    @property
    def image(self) -> int:
        """Operations of one image."""
        return self.steps * (self.model + self.classifier)


@dataclass(frozen=True)
class Memory:
    """Memory of a step of one shard, in bytes and in float32, with attention written out: at most what a device needs.

    Attributes:
        weights: of both networks.
        model: what a forward pass of the diffusion model makes and holds at once.
        classifier: what the classifier's forward and backward pass hold, one after the other with the model's; 0 where
            none guides.
    """

    weights: int
    model: int
    classifier: int

    @property
    def step(self) -> int:
        """All that a step holds at once."""
        return self.weights + max(self.model, self.classifier)


def bench(config: RunConfig, device: torch.device, repeats: int = REPEATS) -> dict[str, Any]:
    """Measure the speed of a configuration.

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
    found = {name: _speed(random_painter(one, device), repeats) for name, one in ways(config).items()}
    plain = _plain_seconds(ways(config)["js"], device, repeats)
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


def ways(config: RunConfig) -> dict[str, RunConfig]:
    """The methods that are compared: no guidance, Ma et al.'s, and JS."""
    changes: dict[str, dict[str, Any]] = {
        "unguided": {"method": "unguided"},
        "ma": {"method": "score", "alpha": 0.0},
        "js": {"method": "score", "divergence": "js", "alpha": 0.5},
    }
    base = config.guidance.model_dump()
    return {name: config.model_copy(update={"guidance": GuidanceConfig(**base | one)}) for name, one in changes.items()}


def random_painter(config: RunConfig, device: torch.device, seed: int = 0) -> Painter:
    """A painter whose weights are small random numbers, so that no file is needed."""
    model = networks.empty_model(config.model).to_empty(device=device)
    classifier = None
    if config.guidance.by_classifier:
        classifier = networks.empty_classifier(config.classifier).to_empty(device=device)
    torch.manual_seed(seed)
    for network in (model, classifier):
        for name, tensor in () if network is None else network.state_dict().items():
            if tensor.is_floating_point():
                nn.init.ones_(tensor) if name.endswith("running_var") else nn.init.normal_(tensor, std=0.02)
            else:
                tensor.zero_()
    guidance, schedule = networks.load_guidance(config.guidance), networks.load_schedule(config.sampling)
    return Painter(config, device, model, classifier, guidance, schedule).tuned()


def replace_steps(painter: Painter, steps: int) -> Painter:
    """The same with fewer steps, each as costly."""
    return replace(painter, schedule=Schedule.linear(1000).respace(max(steps, 2)))


def _speed(painter: Painter, repeats: int) -> Speed:
    device, sampling = painter.device, painter.config.sampling
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    replace_steps(painter, WARM_UP).shard(0)
    seconds = _seconds(lambda: replace_steps(painter, repeats).shard(0), device) / repeats
    per_image = seconds * sampling.steps / sampling.shard_size
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    share = 0.0
    if isinstance(guidance := painter.guidance, Guidance):  # its gradient in the logits, the classifier left out
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(sampling.shard_size, sampling.num_classes, generator=generator).to(device)
        labels = torch.zeros(sampling.shard_size, dtype=torch.int64, device=device)
        guidance.logit_gradient(logits, labels)
        many = _seconds(lambda: [guidance.logit_gradient(logits, labels) for _ in range(REPEATS)], device)
        share = many / REPEATS / seconds
    return Speed(seconds, 1 / per_image, per_image * PER_TABLE / 3600, share, memory)


def _plain_seconds(config: RunConfig, device: torch.device, repeats: int) -> float:
    """Seconds per step of a loop as one would first write it: all weights in float16 (bfloat16 on a CPU), eager."""
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    plain = config.model_copy(update={"sampling": config.sampling.model_copy(update={"compile": False})})
    painter = random_painter(plain, device)
    model = painter.model.to(dtype)

    def halved(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        found: Tensor = model(x_t.to(dtype), t, y)
        return found.float()

    def run(steps: int) -> None:
        shape, size = config.model.shape, config.sampling.shard_size
        labels = torch.zeros(size, dtype=torch.int64, device=device)
        sample(
            halved, Schedule.linear(1000).respace(max(steps, 2)), labels, guidance=painter.guidance,
            classifier=painter.classifier, classifier_input=config.classifier.input,
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


def cost(config: RunConfig) -> Cost:
    """Count the operations of a configuration on networks without storage: without weights and without calculating.

    Raises:
        ValueError: a network of a shape that there is not.
    """
    passes = 2 if config.guidance.method == "classifier_free" else 1
    operations, parameters = _model_operations(config.model.model_dump_json())
    if not config.guidance.by_classifier:
        return Cost(passes * operations, 0, config.sampling.steps, parameters, 0)
    classifier = _classifier_operations(config.classifier.model_dump_json(), config.model.model_dump_json())
    return Cost(operations, classifier[0], config.sampling.steps, parameters, classifier[1])


def memory(config: RunConfig) -> Memory:
    """Follow a step of a configuration on networks without storage: without weights and without calculating.

    Raises:
        ValueError: a network of a shape that there is not.
    """
    size = config.sampling.shard_size
    weights, model = _model_memory(config.model.model_dump_json(), size)
    if not config.guidance.by_classifier:
        return Memory(weights, model, 0)
    own, peak = _classifier_memory(config.classifier.model_dump_json(), config.model.model_dump_json(), size)
    return Memory(weights + own, model, peak)


@functools.cache  # the rows of a table share networks, which take seconds to count
def _model_operations(told: str) -> tuple[int, int]:
    config = ModelConfig.model_validate_json(told)
    model, (x, t) = networks.empty_model(config), networks.empty_inputs(config, 1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x, t, t)
    return counter.get_total_flops(), _parameters(model)


@functools.cache
def _model_memory(told: str, size: int) -> tuple[int, int]:
    config = ModelConfig.model_validate_json(told)
    model, (x, t) = networks.empty_model(config), networks.empty_inputs(config, size)
    own = _tensors(model)
    with torch.no_grad():
        return sum(one.nbytes for one in own), peak_bytes(lambda: model(x, t, t), (x, t, *own))


@functools.cache
def _classifier_operations(told: str, model: str) -> tuple[int, int]:
    classifier, score, _ = _classifier_pass(told, model, 1)
    with FlopCounterMode(display=False) as counter:
        score().backward()  # type: ignore[no-untyped-call]
    return counter.get_total_flops(), _parameters(classifier)


@functools.cache
def _classifier_memory(told: str, model: str, size: int) -> tuple[int, int]:
    classifier, score, (x, t) = _classifier_pass(told, model, size)
    own = _tensors(classifier)
    return sum(one.nbytes for one in own), peak_bytes(lambda: torch.autograd.grad(score(), x), (x, t, *own))


def _classifier_pass(told: str, model: str, size: int) -> tuple[nn.Module, Callable[[], Tensor], tuple[Tensor, Tensor]]:
    """An empty classifier, the sum of its logits for an input that asks for a gradient, and that input."""
    config = ClassifierConfig.model_validate_json(told)
    classifier = networks.empty_classifier(config)
    x, t = networks.empty_inputs(ModelConfig.model_validate_json(model), size)
    x.requires_grad_()
    inputs = (x, t) if config.input == "noisy" else (x,)
    return classifier, lambda: classifier(*inputs).sum(), (x, t)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def peak_bytes(work: Callable[[], object], given: Iterable[Tensor]) -> int:
    """The most bytes that tensors have at once which `work` makes; on any device, also on "meta".

    Args:
        work: calls PyTorch.
        given: tensors that were there before, which do not count, nor do views of them.
    """
    watch = _Watch(given)
    with watch:
        work()
    return watch.peak


class _Watch(TorchDispatchMode):
    """Count of storages, from when an operation first returns one until nothing refers to it."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.given = [tensor.untyped_storage() for tensor in given]
        self.known = {id(storage) for storage in self.given}
        self.now = self.peak = 0

    def __torch_dispatch__(
        self, function: Callable[..., object], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> object:
        returned = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(returned):
            if isinstance(leaf, Tensor) and id(storage := leaf.untyped_storage()) not in self.known:
                self.known.add(id(storage))
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, id(storage), storage.nbytes())
        return returned

    def _freed(self, known: int, size: int) -> None:
        self.known.discard(known)
        self.now -= size
