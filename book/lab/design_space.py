"""Where each registered divergence lies in the space of designs: what its generator does at both ends and at t = 1."""

import functools
import math
from dataclasses import dataclass

import sympy as sp
import torch
from torch import Tensor

import fguidance as fg
from fguidance import symbolic

FORCES = ("grows", "stays", "fades", "vanishes")


@dataclass(frozen=True)
class Design:
    """What decides how a divergence guides.

    Attributes:
        name: the registered name.
        divergence: the divergence; a family at its default parameter.
        limit: L, the limit of t f'(t) at 0 (:eq:`eq-saturation`).
        at_zero: the power s of t with which f' grows at 0, at most 0.
        at_infinity: the power r with which it grows at infinity, at least 0; infinite for an exponential.
        curvature: f''(1), 0 for a generator that is flatter than a parabola there and None for one that is sharper.
        resembles: the parameter of the alpha family that agrees to third order at p = q; None if there is no such.
        largest: the supremum of D over all pairs of distributions, perhaps infinite.
    """

    name: str
    divergence: fg.Divergence
    limit: float
    at_zero: float
    at_infinity: float
    curvature: float | None
    resembles: float | None
    largest: float

    @property
    def force(self) -> str:
        """What the force does at one-hot p: one of `FORCES`; "fades" means with a power of 1 - p below one."""
        if self.limit != 0:
            return "stays" if math.isfinite(self.limit) else "grows"
        return "fades" if self.at_zero < 0 else "vanishes"

    @property
    def scale(self) -> float:
        """What its forces are divided by in the figures: f''(1), or 1 where that is 0 or does not exist."""
        return self.curvature or 1.0


def design(name: str) -> Design:
    """Analyse one registered divergence with SymPy."""
    divergence = fg.divergence(name)
    at_zero, at_infinity = symbolic.growth_powers(divergence.generator)
    curvature, resembles = _at_agreement(divergence)
    return Design(
        name,
        divergence,
        float(symbolic.saturation_limit(divergence.generator)),
        float(at_zero),
        float(at_infinity),
        curvature,
        resembles,
        float(sum(symbolic.end_values(divergence.generator))),
    )


@functools.cache
def designs() -> tuple[Design, ...]:
    """Every registered divergence, those whose force grows first, and then by growth at infinity."""
    names = [name for name in fg.divergence_names() if fg.divergence(name).is_divergence]
    return tuple(sorted(map(design, names), key=lambda d: (d.at_zero, d.at_infinity, d.name)))


def _at_agreement(divergence: fg.Divergence) -> tuple[float | None, float | None]:
    if not divergence.is_smooth:
        return None, None
    second, third = (sp.diff(divergence.generator, symbolic.t, order).subs(symbolic.t, 1) for order in (2, 3))
    return float(second), float(2 + third / second) if second != 0 else None


def weight_at(divergence: fg.Divergence, t: Tensor) -> Tensor:
    """w / q = t f'(t) as the library computes it, for a class with q so small that all t up to 1e8 can be had.

    Args:
        divergence: whose weight.
        t: p / q, float64, shape (...), from 0 to 1e8.

    Returns:
        The shape of `t`.
    """
    q = torch.tensor([1e-9, 1 - 1e-9], dtype=torch.float64)
    log_p = torch.stack([t.log() + q[0].log(), torch.log1p(-t * q[0])], -1)
    return divergence.weight(log_p, q.log().expand_as(log_p))[..., 0] / q[0]


def wrongly_sure(spread: Tensor, num_classes: int) -> Tensor:
    """Logits (..., classes) that are 0 but for class 1, which is `spread` (...) above the label, class 0."""
    logits = spread.new_zeros(*spread.shape, num_classes)
    logits[..., 1] = spread
    return logits


def force_length(divergence: fg.Divergence, logits: Tensor, epsilon: float) -> Tensor:
    """The Euclidean length of the force in the logits for label 0, shape (...)."""
    labels = torch.zeros(logits.shape[:-1], dtype=torch.int64)
    log_q = fg.label_smoothed_log_target(labels, logits.shape[-1], epsilon, logits.dtype)
    return divergence.logit_gradient(logits, log_q).norm(dim=-1)


def force_bound(design: Design, smallest_target: float) -> float:
    """The bound :eq:`eq-force-bound` on the sum of the force's sizes, from one number for each end.

    Args:
        design: a divergence whose weights are in the gauge f'(1) = 0.
        smallest_target: the smallest q_i, from 1e-8 to 1.

    Returns:
        2 (sup of -t f'(t) below 1 + f'(1 / q)), the first on a grid down to t = 1e-12; infinite where L is.
    """
    if math.isinf(design.limit):
        return math.inf
    below = torch.logspace(-12, 0, 2401, dtype=torch.float64)
    left = (-weight_at(design.divergence, below)).amax().item()
    highest = torch.tensor(1 / smallest_target, dtype=torch.float64)
    return 2 * (left + (weight_at(design.divergence, highest) / highest).item())
