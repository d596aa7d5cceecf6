"""The fixtures: numbers of the published programs, and the weights and inputs that anybody can make again for them."""

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FIXTURES = Path(__file__).parents[2] / "tests" / "fixtures"


def arrays(name: str) -> dict[str, Tensor]:
    """The arrays of a fixture, by name."""
    return {key: torch.from_numpy(value) for key, value in np.load(FIXTURES / name, allow_pickle=False).items()}


def state_of(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict that a fixture holds beside inputs and outputs."""
    return {key.removeprefix("state/"): value for key, value in given.items() if key.startswith("state/")}


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Every key and shape of a published state dict."""
    listed = json.loads((FIXTURES / f"{name}_state_dict.json").read_text(encoding="utf-8"))
    return {key: tuple(shape) for key, shape in listed.items()}


def made_weights(name: str, gain: float = 2) -> dict[str, Tensor]:
    """Weights for a published state dict."""
    return weights_of(shapes(name), gain)


def weights_of(listed: dict[str, tuple[int, ...]], gain: float = 2) -> dict[str, Tensor]:
    """The i-th key in sorted order comes from NumPy's generator of seed i; kernels have the variance gain / inputs."""
    return {key: _made(number, key, listed[key], gain) for number, key in enumerate(sorted(listed))}


def resnet_images() -> Tensor:
    """Two images of 128 pixels, ``(2, 3, 128, 128)``, of normal noise."""
    return torch.from_numpy(np.random.default_rng(10**6).standard_normal((2, 3, 128, 128))).float()


def chain_noise(steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of two images of 16 pixels: the noise to begin with, that of each step, and labels of ten classes."""
    rng = np.random.default_rng(10**6)
    drawn = torch.from_numpy(rng.standard_normal((steps + 1, 2, 3, 16, 16))).float()
    return drawn[0], drawn[1:], torch.from_numpy(rng.integers(0, 10, 2))


def inception_images() -> dict[str, Tensor]:
    """Coloured tiles under noise, 8-bit: two square ones to stretch, and one that shrinks in one direction."""
    rng = np.random.default_rng(10**6)

    def tiles(batch: int, height: int, width: int) -> Tensor:
        coarse = np.kron(rng.integers(0, 256, (batch, 3, height // 16, width // 16)), np.ones((16, 16), int))
        return torch.from_numpy(((coarse + rng.integers(0, 256, coarse.shape)) // 2).astype(np.uint8))

    return {"square": tiles(2, 128, 128), "high": tiles(1, 400, 160)}


def _made(number: int, key: str, shape: tuple[int, ...], gain: float) -> Tensor:
    rng = np.random.default_rng(number)
    if key.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    if key.endswith("running_var"):
        made = 0.5 + rng.random(shape)
    elif len(shape) >= 2:
        made = rng.standard_normal(shape) * math.sqrt(gain / math.prod(shape[1:]))
    elif key.endswith("weight"):
        made = 0.5 + 0.5 * rng.random(shape)
    else:
        made = 0.1 * rng.standard_normal(shape)
    return torch.from_numpy(np.asarray(made)).float()
