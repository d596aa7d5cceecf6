"""Weights that anybody can make for a published architecture, by the rule that the fixtures state."""

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FIXTURES = Path(__file__).parents[1] / "fixtures"


def arrays(name: str) -> dict[str, Tensor]:
    """The arrays of a fixture, by name."""
    return {key: torch.from_numpy(value) for key, value in np.load(FIXTURES / name).items()}


def state_of(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict that a fixture holds beside inputs and outputs."""
    return {key.removeprefix("state/"): value for key, value in given.items() if key.startswith("state/")}


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Every key and shape of a published state dict."""
    listed = json.loads((FIXTURES / f"{name}_state_dict.json").read_text(encoding="utf-8"))
    return {key: tuple(shape) for key, shape in listed.items()}


def made_weights(name: str) -> dict[str, Tensor]:
    """The i-th key in sorted order comes from NumPy's generator of seed i."""
    listed = shapes(name)
    return {key: _made(number, key, listed[key]) for number, key in enumerate(sorted(listed))}


def _made(number: int, key: str, shape: tuple[int, ...]) -> Tensor:
    rng = np.random.default_rng(number)
    if key.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    if key.endswith("running_var"):
        made = 0.5 + rng.random(shape)
    elif len(shape) >= 2:
        made = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
    elif key.endswith("weight"):
        made = 0.5 + 0.5 * rng.random(shape)
    else:
        made = 0.1 * rng.standard_normal(shape)
    return torch.from_numpy(np.asarray(made)).float()
