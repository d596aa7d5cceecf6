"""What a step holds in memory at once, followed on networks without storage."""

import functools
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fguidance.run.config import ModelConfig, RunConfig
from fguidance.run.networks import empty_classifier, empty_inputs, empty_model


@dataclass(frozen=True)
class Memory:
    """Of a step of one shard, in bytes and in float32, with attention written out: at most what a device needs.

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


def memory(config: RunConfig) -> Memory:
    """Follow a step of a configuration, without weights and without calculating.

    Raises:
        ValueError: a network of a shape that there is not.
    """
    size = config.sampling.shard_size
    weights, model = _of_model(config.model.model_dump_json(), size)
    if not config.guidance.by_classifier:
        return Memory(weights, model, 0)
    classifier = empty_classifier(config.classifier)
    x, t = empty_inputs(config.model, size)
    x.requires_grad_()

    def gradient() -> None:
        logits = classifier(x, t) if config.classifier.input == "noisy" else classifier(x)
        torch.autograd.grad(logits.sum(), x)

    return Memory(weights + _bytes(classifier), model, peak_bytes(gradient, (x, t, *_tensors(classifier))))


@functools.cache
def _of_model(told: str, size: int) -> tuple[int, int]:
    config = ModelConfig.model_validate_json(told)
    model, (x, t) = empty_model(config), empty_inputs(config, size)
    with torch.no_grad():
        return _bytes(model), peak_bytes(lambda: model(x, t, t), (x, t, *_tensors(model)))


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _bytes(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in _tensors(network))


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
    """Counts a storage when an operation first returns it, until nothing refers to it."""

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
            if isinstance(leaf, Tensor) and id(leaf.untyped_storage()) not in self.known:
                self._count(leaf.untyped_storage())
        return returned

    def _count(self, storage: torch.UntypedStorage) -> None:
        self.known.add(id(storage))
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, id(storage), storage.nbytes())

    def _freed(self, known: int, size: int) -> None:
        self.known.discard(known)
        self.now -= size
