"""The inputs of a baseline: ordinary, equal, near-equal, tied and saturated, without a random number among them."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

Given = tuple[str, Tensor, Tensor, Tensor]
NEAR = 2.0**-7
CASES: tuple[tuple[str, tuple[float, ...], float], ...] = (
    ("ordinary, two classes", (0.75, -1.25), 0.9),
    ("ordinary, three classes", (0.5, -1.0, 2.25), 0.9),
    ("ordinary, seven classes, target half smoothed", (0.0, 1.5, -2.0, 0.25, 3.0, -0.5, 1.0), 0.5),
    ("uniform target", (1.0, 0.0, -3.0, 2.0), 0.0),
    ("tied with the label", (1.5, 1.5, -0.5), 0.9),
    ("all tied", (0.0, 0.0, 0.0, 0.0), 0.9),
    ("saturated on the label", (40.0, 0.0, 0.5), 0.9),
    ("saturated on another class", (0.0, 40.0, 0.5), 0.9),
    ("nearly saturated on another class", (0.0, 12.0, 0.5), 0.9),
    ("far from zero", (-1000.0, -998.0, -1004.0), 0.9),
)
"""Name, logits, and the epsilon of the label-smoothed target; the label is the first class."""


def inputs(dtypes: Iterable[torch.dtype]) -> Iterator[Given]:
    """Name, logits, log_p and log_q of every case in every dtype, each of shape (classes,).

    The logarithms are Python's, so that they are the same under every version of PyTorch.
    """
    for dtype in dtypes:
        for case, logits, epsilon in CASES:
            yield _given(case, logits, _target(len(logits), epsilon), dtype)
        target = _target(5, 0.9)
        near = [entry + NEAR * step for entry, step in zip(target, (1, -2, 0, 1, -1), strict=True)]
        yield _given("near the target", near, target, dtype)
        equal = _tensor(target, dtype)
        yield "equal to the target", equal, equal.clone(), equal.clone()


def _target(classes: int, epsilon: float) -> list[float]:
    rest = (1 - epsilon) / classes
    return [math.log(rest + epsilon), *[math.log(rest)] * (classes - 1)]


def _given(case: str, logits: Iterable[float], log_q: list[float], dtype: torch.dtype) -> Given:
    rounded = torch.tensor(list(logits), dtype=torch.float64).to(dtype)
    found = (rounded, _tensor(_log_softmax(rounded.double().tolist()), dtype), _tensor(log_q, dtype))
    return case, *found


def _tensor(numbers: list[float], dtype: torch.dtype) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).to(dtype)


def _log_softmax(logits: list[float]) -> list[float]:
    """To the last digit of the largest too: its own 1 is kept out of the sum."""
    top = max(logits)
    others = [math.exp(entry - top) for entry in logits]
    others.remove(1.0)
    total = math.log1p(math.fsum(others))
    return [entry - top - total for entry in logits]
