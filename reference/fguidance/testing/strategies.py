"""Inputs that find mistakes: plain, tied, near-equal and saturated logits, smoothed targets, log-ratios of any size.

Hypothesis draws what decides about an example, its kind and its number of classes, and one seed for its numbers.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

KINDS = (
    "ordinary", "tied", "near the target", "one-hot on the label", "one-hot on another class", "far from zero",
)  # fmt: skip
CLASSES = (2, 3, 4, 7, 10)
MANY_CLASSES = 1000
FAR_APART = 12.0
"""A target that may be spread further sometimes is, all the way."""
SEEDS = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Case:
    """A vector of logits and a target.

    Attributes:
        logits: shape (classes,).
        log_q: log-probabilities of the target, the same shape and dtype.
        kind: which of `KINDS` the logits are.
    """

    logits: Tensor
    log_q: Tensor
    kind: str

    @property
    def log_p(self) -> Tensor:
        """The classifier's log-probabilities, log softmax of the logits in float64, rounded to their dtype."""
        return torch.log_softmax(self.logits.double(), -1).to(self.logits.dtype)

    def to(self, dtype: torch.dtype) -> "Case":
        """The same case in another dtype."""
        return Case(self.logits.to(dtype), self.log_q.to(dtype), self.kind)


@dataclass(frozen=True)
class Pair:
    """Two distributions over the same classes, as log-probabilities of shape (classes,)."""

    log_p: Tensor
    log_q: Tensor


class Dice:
    """A source of choices and of plain numbers that a seed decides."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        return int(torch.randint(low, high + 1, (), generator=self._generator))

    def choice(self, options: Sequence[Any]) -> Any:
        """One of some options."""
        return options[self.whole(0, len(options) - 1)]

    def spread(self, classes: int, spread: float, steps: int = 16) -> Tensor:
        """Numbers from -spread to spread in float64: of few classes multiples of spread/steps, easily read."""
        if classes > 10:
            return spread * (2 * torch.rand(classes, generator=self._generator, dtype=torch.float64) - 1)
        whole = torch.randint(-steps, steps + 1, (classes,), generator=self._generator)
        return spread * whole.double() / steps


def _target(dice: Dice, classes: int, zeros: bool, largest_spread: float) -> Tensor:
    """A log-target: label-smoothed, or with a share of its own per class; shape (classes,), float64."""
    if dice.whole(0, 1):
        epsilon = dice.choice((0.9, 0.5, 0.0, 0.99, 1.0)[: 4 + zeros])
        q = torch.full((classes,), (1 - epsilon) / classes, dtype=torch.float64)
        q[dice.whole(0, classes - 1)] += epsilon
        return q.log()
    spread = dice.choice((1.0, 3.0, largest_spread, largest_spread))
    found = dice.spread(classes, min(spread, largest_spread) / 2)
    if spread > FAR_APART and classes > 1:
        found[0], found[1] = spread / 2, -spread / 2  # the class after the label, on which logits are one-hot
    if zeros and dice.whole(0, 1):
        found[:: 1 + dice.whole(1, classes)] = -torch.inf
    return torch.log_softmax(found.roll(dice.whole(0, classes - 1)), -1)


def _logits(dice: Dice, log_q: Tensor, kind: str, largest_spread: float) -> Tensor:
    """Logits of a kind for a target, shape (classes,), float64."""
    classes, label = len(log_q), int(log_q.argmax())
    found, other = dice.spread(classes, dice.choice((1.0, 3.0, 10.0))), (label + 1) % classes
    if kind == "tied":
        found[other] = found[label]
    elif kind == "near the target":
        found = log_q.double().clamp_min(-60) + found * dice.choice((1e-1, 1e-2, 1e-3, 1e-5))
    elif kind.startswith("one-hot"):
        most = int(largest_spread)
        found = found / 100
        sizes = (most, dice.whole(3, most), dice.whole(3, min(most, 12)))  # up to 12 apart, forces are well seen
        found[label if kind == "one-hot on the label" else other] += dice.choice(sizes)
    elif kind == "far from zero":
        found = found + dice.choice((-1000.0, 1000.0))
    return found


def targets(
    classes: int, dtype: torch.dtype = torch.float64, zeros: bool = False, largest_spread: float = 12.0
) -> st.SearchStrategy[Tensor]:
    """Log-targets: label-smoothed, (1 - epsilon)/classes + epsilon [i = label], or with a share of its own per class.

    Args:
        classes: number of classes.
        dtype: of the log-probabilities drawn, which have the shape (classes,).
        zeros: whether targets that are 0 for some classes are drawn as well, one-hot ones among them.
        largest_spread: up to which the logarithms of two shares may differ; epsilon goes from 0 to 0.99.
    """
    return SEEDS.map(lambda seed: _target(Dice(seed), classes, zeros, largest_spread).to(dtype))


def logits(
    log_q: Tensor, dtype: torch.dtype = torch.float64, largest_spread: float = 30.0, kinds: tuple[str, ...] = KINDS
) -> st.SearchStrategy[Case]:
    """Cases with logits of every kind for a target.

    Args:
        log_q: the target, shape (classes,); its largest entry is the label.
        dtype: of the result.
        largest_spread: the most by which a one-hot logit stands out.
        kinds: some of `KINDS`.
    """

    def made(kind: str, seed: int) -> Case:
        return Case(_logits(Dice(seed), log_q, kind, largest_spread), log_q, kind).to(dtype)

    return st.builds(made, st.sampled_from(kinds), SEEDS)


@functools.cache  # Hypothesis validates a strategy once
def cases(
    dtype: torch.dtype = torch.float64,
    largest_spread: float = 30.0,
    kinds: tuple[str, ...] = KINDS,
    classes: tuple[int, ...] = CLASSES,
    zeros: bool = False,
    largest_target_spread: float = 12.0,
) -> st.SearchStrategy[Case]:
    """A target and logits for it; see `targets` and `logits`."""
    spread = min(largest_spread, 6.0 if dtype == torch.float16 else largest_target_spread)  # 1/q must not overflow

    def made(number: int, kind: str, seed: int) -> Case:
        dice = Dice(seed)
        log_q = _target(dice, number, zeros, spread)
        return Case(_logits(dice, log_q, kind, largest_spread), log_q, kind).to(dtype)

    return st.builds(made, st.sampled_from(classes), st.sampled_from(kinds), SEEDS)


@functools.cache
def pairs(
    classes: tuple[int, ...] = (2, 3, 5), largest_spread: float = 6.0, dtype: torch.dtype = torch.float64
) -> st.SearchStrategy[Pair]:
    """Two distributions, some of them equal, some targets uniform, none with a zero."""

    def made(number: int, spread: float, seed: int) -> Pair:
        dice = Dice(seed)
        first, second = (dice.spread(number, spread, 8) for _ in range(2))
        second = dice.choice((first, 0 * second, *[second] * 8))
        return Pair(*(torch.log_softmax(log, -1).to(dtype) for log in (first, second)))

    return st.builds(made, st.sampled_from(classes), st.sampled_from((0.5, 2.0, largest_spread)), SEEDS)


@functools.cache
def near_pairs(dtype: torch.dtype = torch.float64) -> st.SearchStrategy[Pair]:
    """Two distributions over 3 or 201 classes whose log-ratios are between 1e-3 and 1e-1, rounded to `dtype`.

    What is computed as a difference of entropies loses the more, the more classes there are. A last class of small
    probability takes up what the rounded entries miss of the sum 1.
    """

    def made(distance: float, tenths: int, number: int) -> Pair:
        share = tenths / 10
        first = torch.tensor([share, 1 - share - 0.002], dtype=torch.float64)
        moved = first + distance * share * torch.tensor([-1.0, 1.0], dtype=torch.float64)
        parts = torch.linspace(1, 2, number, dtype=torch.float64)
        leading = [torch.outer(one, parts / parts.sum()).flatten().log().to(dtype) for one in (moved, first)]
        return Pair(*(torch.cat((log, (1 - log.double().exp().sum()).log().to(dtype)[None])) for log in leading))

    return st.builds(made, st.sampled_from((1e-3, 1e-2, 1e-1)), st.integers(2, 8), st.sampled_from((1, 100)))


@functools.cache
def log_ratios(largest: float = 300.0) -> st.SearchStrategy[float]:
    """Log-ratios u = log p - log q of either sign and every size from 1e-8 to `largest`, and 0."""
    smallest, steps = math.log(1e-8), 1 << 15  # whole numbers are drawn more evenly than floating-point ones
    step = (math.log(largest) - smallest) / steps
    sizes = st.integers(0, steps).map(lambda k: min(largest, math.exp(smallest + k * step)))
    large = st.integers(1, 1 << 12).map(lambda k: k / (1 << 12) * largest)
    return st.builds(float.__mul__, st.sampled_from((1.0, -1.0)), st.just(0.0) | sizes | large)
