"""The smooth calibration error once more, from its definition and from nothing of the library."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

DOUBLE = torch.float64


class Problem(NamedTuple):
    """Confidences and whether they were right."""

    confidence: np.ndarray
    correct: np.ndarray

    def tensors(self) -> tuple[Tensor, Tensor]:
        """The same as the library takes them."""
        return torch.from_numpy(self.confidence), torch.from_numpy(self.correct)


def random_problem(seed: int, size: int, low: float = 0.0, high: float = 1.0, over: float = 1.0) -> Problem:
    """Confidences that are uniform, and right as often as their power `over` says."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(low, high, size)
    return Problem(confidence, rng.random(size) < confidence**over)


def problems(most: int = 12) -> st.SearchStrategy[Problem]:
    """A few samples, with ties and confidences at the ends."""
    confidence = st.one_of(st.sampled_from((0.0, 0.25, 0.5, 1.0)), st.floats(0, 1))
    rows = st.lists(st.tuples(confidence, st.booleans()), min_size=1, max_size=most)
    return rows.map(lambda found: Problem(np.array([f for f, _ in found]), np.array([y for _, y in found])))


def smoothed_residual(
    at: np.ndarray, confidence: np.ndarray, correct: np.ndarray, bandwidth: float, values: np.ndarray | None = None
) -> np.ndarray:
    """1/n sum_i K(t, f_i) (y_i - f_i), K a Gaussian reflected at 0 and 1 as often as can be seen."""
    residual = correct - confidence if values is None else values
    images = np.arange(-math.ceil(1 + 5 * bandwidth), math.ceil(1 + 5 * bandwidth) + 1)
    centres = np.concatenate([2 * images[:, None] + confidence, 2 * images[:, None] - confidence], 1)
    masses = np.tile(residual / len(residual), (len(images), 2))
    near = (centres > -9 * bandwidth) & (centres < 1 + 9 * bandwidth)
    kernel = np.exp(-(((at[:, None] - centres[near]) / bandwidth) ** 2) / 2) / (math.sqrt(2 * math.pi) * bandwidth)
    return kernel @ masses[near]


def integral_of_size(values: np.ndarray) -> float:
    """The integral over [0, 1] of the absolute value of what runs straight between the values."""
    left, right = np.abs(values[:-1]), np.abs(values[1:])
    whole = left + right
    crossing = values[:-1] * values[1:] < 0
    pieces = np.where(crossing, (left**2 + right**2) / np.where(whole > 0, whole, 1), whole) / 2
    return float(pieces.sum() / len(pieces))


def plain_smooth_ece(confidence: np.ndarray, correct: np.ndarray, bandwidth: float) -> float:
    """The error at a bandwidth by quadrature in float64."""
    at = np.linspace(0, 1, max(1001, math.ceil(60 / bandwidth)))
    return integral_of_size(smoothed_residual(at, confidence, correct, bandwidth))


def plain_rule(confidence: np.ndarray, correct: np.ndarray) -> float:
    """The bandwidth that equals its error, if it is above 0.002."""
    return float(brentq(lambda width: plain_smooth_ece(confidence, correct, width) - width, 2e-3, 1, xtol=1e-10))


def slopes(function: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-4) -> np.ndarray:
    """The gradient by central differences."""
    shifts = step * np.eye(at.size).reshape(at.size, *at.shape)
    return np.array([(function(at + one) - function(at - one)) / (2 * step) for one in shifts]).reshape(at.shape)
