"""Inputs that find mistakes: plain, tied, near-equal and saturated logits, smoothed targets, log-ratios of any size."""

import math
from dataclasses import dataclass

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


@st.composite
def targets(
    draw: st.DrawFn,
    classes: int,
    dtype: torch.dtype = torch.float64,
    zeros: bool = False,
    largest_spread: float = 12.0,
) -> Tensor:
    """Log-targets: label-smoothed, (1 - epsilon)/classes + epsilon [i = label], or with a share of its own per class.

    Args:
        draw: given by Hypothesis.
        classes: number of classes.
        dtype: of the result.
        zeros: whether targets that are 0 for some classes are drawn as well, one-hot ones among them.
        largest_spread: up to which the logarithms of two shares may differ; epsilon goes from 0 to 0.99.

    Returns:
        Shape (classes,), log-probabilities.
    """
    if draw(st.booleans()):
        return draw(_smoothed(classes, zeros)).to(dtype)
    spread = draw(st.sampled_from((1.0, 3.0, largest_spread)))
    logits = _spread_out(draw, classes, min(spread, largest_spread) / 2)
    if spread > FAR_APART and classes > 1:
        logits[0], logits[1] = -spread / 2, spread / 2
    if zeros and draw(st.booleans()):
        logits[:: 1 + draw(st.integers(1, classes))] = -torch.inf
    return torch.log_softmax(logits.roll(draw(st.integers(0, classes - 1))), -1).to(dtype)


@st.composite
def _smoothed(draw: st.DrawFn, classes: int, zeros: bool) -> Tensor:
    label = draw(st.integers(0, classes - 1))
    choices = (0.9, 0.5, 0.0, 0.99, 1.0) if zeros else (0.9, 0.5, 0.0, 0.99)
    epsilon = draw(st.sampled_from(choices))
    q = torch.full((classes,), (1 - epsilon) / classes, dtype=torch.float64)
    q[label] += epsilon
    return q.log()


def _spread_out(draw: st.DrawFn, classes: int, spread: float) -> Tensor:
    if classes > 10:
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
        return spread * torch.rand(classes, generator=generator, dtype=torch.float64)
    steps = draw(st.lists(st.integers(-16, 16), min_size=classes, max_size=classes))
    return spread * torch.tensor(steps, dtype=torch.float64) / 16


@st.composite
def logits(
    draw: st.DrawFn,
    log_q: Tensor,
    dtype: torch.dtype = torch.float64,
    largest_spread: float = 30.0,
    kinds: tuple[str, ...] = KINDS,
) -> Case:
    """Logits of every kind for a target.

    Args:
        draw: given by Hypothesis.
        log_q: the target, shape (classes,); its largest entry is the label.
        dtype: of the result.
        largest_spread: the most by which a one-hot logit stands out.
        kinds: some of `KINDS`.

    Returns:
        A `Case`.
    """
    classes, kind = len(log_q), draw(st.sampled_from(kinds))
    found = _spread_out(draw, classes, draw(st.sampled_from((1.0, 3.0, 10.0))))
    label = int(log_q.argmax())
    other = (label + 1) % classes
    if kind == "tied":
        found[other] = found[label]
    elif kind == "near the target":
        found = log_q.double().clamp_min(-60) + found * draw(st.sampled_from((1e-1, 1e-2, 1e-3, 1e-5)))
    elif kind.startswith("one-hot"):
        found = found / 100
        sizes = st.just(int(largest_spread)) | st.integers(3, int(largest_spread))
        found[label if kind == "one-hot on the label" else other] += float(draw(sizes))
    elif kind == "far from zero":
        found = found + draw(st.sampled_from((-1000.0, 1000.0)))
    return Case(found.to(dtype), log_q.to(dtype), kind)


@st.composite
def cases(
    draw: st.DrawFn,
    dtype: torch.dtype = torch.float64,
    largest_spread: float = 30.0,
    kinds: tuple[str, ...] = KINDS,
    classes: tuple[int, ...] = CLASSES,
    zeros: bool = False,
    largest_target_spread: float = 12.0,
) -> Case:
    """A target and logits for it; see `targets` and `logits`."""
    spread = min(largest_spread, 6.0 if dtype == torch.float16 else largest_target_spread)  # 1/q must not overflow
    log_q = draw(targets(draw(st.sampled_from(classes)), zeros=zeros, largest_spread=spread))
    return draw(logits(log_q, dtype, largest_spread, kinds))


@dataclass(frozen=True)
class Pair:
    """Two distributions over the same classes, as log-probabilities of shape (classes,)."""

    log_p: Tensor
    log_q: Tensor


def _log_distribution(draw: st.DrawFn, classes: int, spread: float) -> Tensor:
    steps = draw(st.lists(st.integers(-8, 8), min_size=classes, max_size=classes))
    return torch.log_softmax(spread * torch.tensor(steps, dtype=torch.float64) / 8, -1)


@st.composite
def pairs(
    draw: st.DrawFn,
    classes: tuple[int, ...] = (2, 3, 5),
    largest_spread: float = 6.0,
    dtype: torch.dtype = torch.float64,
) -> Pair:
    """Two distributions, some of them equal, none with a zero."""
    number = draw(st.sampled_from(classes))
    spread = draw(st.sampled_from((0.5, 2.0, largest_spread)))
    log_p, log_q = (_log_distribution(draw, number, spread) for _ in range(2))
    return Pair(log_p.to(dtype), log_q.to(dtype))


@st.composite
def near_pairs(draw: st.DrawFn, dtype: torch.dtype = torch.float64) -> Pair:
    """Two distributions over 3 or 201 classes whose log-ratios are between 1e-3 and 1e-1, rounded to `dtype`.

    Many classes have a large entropy, and what is computed as a difference of entropies loses the more by it.
    The entries of a rounded distribution do not sum to exactly 1. A last class of small probability takes up what is
    missing, so that sum p - sum q is far below the rounding of a probability near 1.
    """
    distance = draw(st.sampled_from((1e-3, 1e-2, 1e-1)))
    share = draw(st.integers(2, 8)) / 10
    first = torch.tensor([share, 1 - share - 0.002], dtype=torch.float64)
    moved = first + distance * share * torch.tensor([-1.0, 1.0], dtype=torch.float64)
    parts = torch.linspace(1, 2, draw(st.sampled_from((1, 100))), dtype=torch.float64)
    parts = parts / parts.sum()
    log_p, log_q = (_filled(torch.outer(leading, parts).flatten().log().to(dtype)) for leading in (moved, first))
    return Pair(log_p, log_q)


def _filled(leading: Tensor) -> Tensor:
    rest = 1 - leading.double().exp().sum()
    return torch.cat((leading, rest.log().to(leading.dtype)[None]))


def log_ratios(largest: float = 300.0) -> st.SearchStrategy[float]:
    """Log-ratios u = log p - log q of either sign and every size from 1e-8 to `largest`, and 0."""
    smallest, steps = math.log(1e-8), 1 << 15  # whole numbers are drawn more evenly than floating-point ones
    step = (math.log(largest) - smallest) / steps
    sizes = st.integers(0, steps).map(lambda k: min(largest, math.exp(smallest + k * step)))
    large = st.integers(1, 1 << 12).map(lambda k: k / (1 << 12) * largest)
    return st.just(0.0) | st.sampled_from((1, -1)).flatmap(lambda sign: (sizes | large).map(lambda size: sign * size))
