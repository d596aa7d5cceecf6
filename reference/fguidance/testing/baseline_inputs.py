"""The inputs of a baseline: ordinary, equal, near-equal, tied and saturated, few classes and many, one row and batches.

There is no random number among them.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

Given = tuple[str, Tensor, Tensor, Tensor]
Row = Sequence[float]
NEAR = 2.0**-7
MANY = 300
CASES: tuple[tuple[str, Row, float], ...] = (
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
    ("many classes", tuple(37 * index % 101 / 16 - 3 for index in range(MANY)), 0.9),
)
"""Name, logits, and the epsilon of the label-smoothed target; the label is the first class."""
BATCHES: tuple[tuple[str, tuple[int, ...], tuple[tuple[Row, float], ...]], ...] = (
    ("a batch", (3, 3), (((0.5, -1.0, 2.25), 0.9), ((0.0, 40.0, 0.5), 0.9), ((1.5, 1.5, -0.5), 0.0))),
    ("a batch with an axis of 1", (2, 1, 4), (((1.0, 0.0, -3.0, 2.0), 0.9), ((0.0, 12.0, 0.5, -1.0), 0.5))),
)
"""Name, shape, and the rows: logits and the epsilon of each."""


def inputs(dtypes: Iterable[torch.dtype]) -> Iterator[Given]:
    """Name, logits, log_p and log_q of every case in every dtype, each of shape (..., classes).

    The logarithms are Python's, so that they are the same under every version of PyTorch.
    """
    for dtype in dtypes:
        for case, logits, epsilon in CASES:
            yield _given(case, (len(logits),), [logits], [_target(len(logits), epsilon)], dtype)
        for case, shape, rows in BATCHES:
            targets = [_target(shape[-1], epsilon) for _, epsilon in rows]
            yield _given(case, shape, [logits for logits, _ in rows], targets, dtype)
        target = _target(5, 0.9)
        near = [entry + NEAR * step for entry, step in zip(target, (1, -2, 0, 1, -1), strict=True)]
        yield _given("near the target", (5,), [near], [target], dtype)
        equal = _tensor(target, dtype)
        yield "equal to the target", equal, equal.clone(), equal.clone()


def _target(classes: int, epsilon: float) -> list[float]:
    rest = (1 - epsilon) / classes
    return [math.log(rest + epsilon), *[math.log(rest)] * (classes - 1)]


def _given(case: str, shape: tuple[int, ...], logits: Sequence[Row], log_q: Sequence[Row], dtype: torch.dtype) -> Given:
    rounded = _tensor(logits, dtype)
    log_p = [_log_softmax(row) for row in rounded.double().tolist()]
    found = (rounded.reshape(shape), _tensor(log_p, dtype).reshape(shape), _tensor(log_q, dtype).reshape(shape))
    return case, *found


def _tensor(numbers: Row | Sequence[Row], dtype: torch.dtype) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).to(dtype)


def _log_softmax(logits: list[float]) -> list[float]:
    """To the last digit of the largest too: its own 1 is kept out of the sum."""
    top = max(logits)
    others = [math.exp(entry - top) for entry in logits]
    others.remove(1.0)
    total = math.log1p(math.fsum(others))
    return [entry - top - total for entry in logits]
