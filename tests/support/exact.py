"""The divergences once more, with hundreds of digits, from generators that are written by hand.

Every number that goes in is a binary float and is taken exactly. Probabilities as small as e^-300 cancel against 1
and are raised to powers, so 60 digits are not enough: `DIGITS` leaves hundreds to spare.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import mpmath
import sympy as sp
import torch
from mpmath import mpf
from torch import Tensor

from fguidance.symbolic import t
from fguidance.symbolic.evaluate import MPMATH, evaluate

DIGITS = 400
Homogeneous = Callable[[mpf, mpf], mpf]


class Reference(NamedTuple):
    """w(p, q) = p f'(p/q) and q f(p/q) in the gauge f'(1) = 0, as functions that also hold at q = 0 where finite."""

    weight: Homogeneous
    value: Homogeneous | None


@functools.cache
def reference(generator: sp.Expr) -> Reference:
    """Of an expression in t; 1e-1000000 stands for a probability of 0."""
    value, slope = (functools.partial(evaluate, part, t, arithmetic=MPMATH) for part in (generator, generator.diff(t)))
    least = mpf(10) ** -1_000_000
    with mpmath.workdps(DIGITS):
        tangent = slope(mpf(1))

    def ratio(p: mpf, q: mpf) -> mpf:
        return (p or least) / (q or least)

    return Reference(
        lambda p, q: p * (slope(ratio(p, q)) - tangent),
        lambda p, q: (q or least) * (value(ratio(p, q)) - tangent * (ratio(p, q) - 1)),
    )


JS_PRINTED = Reference(lambda p, q: 2 * (q - p) / (p + q), None)


def numbers(tensor: Tensor) -> list[mpf]:
    """The entries of a vector, exactly."""
    return [mpf(entry) for entry in tensor.detach().double().tolist()]


def exponentials(log_prob: Tensor) -> list[mpf]:
    """exp of every entry, exactly 0 for -inf."""
    return [mpf(0) if entry == -math.inf else mpmath.exp(entry) for entry in log_prob.detach().double().tolist()]


def softmax(logits: Tensor) -> list[mpf]:
    """The probabilities of a vector of logits."""
    entries = numbers(logits)
    powers = [mpmath.exp(entry - max(entries)) for entry in entries]
    total = mpmath.fsum(powers)
    return [power / total for power in powers]


class ExactGradient(NamedTuple):
    """w - p sum(w), with what the bounds on its error are stated in."""

    gradient: list[mpf]
    weights: list[mpf]
    probabilities: list[mpf]

    @property
    def largest_part(self) -> mpf:
        """max(largest |weight|, largest probability), the scale of bound (A)."""
        return max(*map(abs, self.weights), *self.probabilities)

    @property
    def largest_component(self) -> mpf:
        """The largest |component| of the gradient, the scale of bound (B)."""
        return max(map(abs, self.gradient))


def logit_gradient(of: Reference, logits: Tensor, log_q: Tensor) -> ExactGradient:
    """The gradient of the divergence in the logits, to a few hundred digits."""
    with mpmath.workdps(DIGITS):
        probabilities = softmax(logits)
        weights = [of.weight(p, q) for p, q in zip(probabilities, exponentials(log_q), strict=True)]
        total = mpmath.fsum(weights)
        gradient = [w - p * total for w, p in zip(weights, probabilities, strict=True)]
        return ExactGradient(gradient, weights, probabilities)


def weights(of: Reference, log_p: Tensor, log_q: Tensor) -> list[mpf]:
    """The weights at given log-probabilities."""
    with mpmath.workdps(DIGITS):
        pairs = zip(exponentials(log_p), exponentials(log_q), strict=True)
        return [of.weight(p, q) for p, q in pairs]


def value(of: Reference, log_p: Tensor, log_q: Tensor) -> mpf:
    """The divergence at given log-probabilities, f in the gauge f'(1) = 0."""
    assert of.value is not None
    with mpmath.workdps(DIGITS):
        pairs = zip(exponentials(log_p), exponentials(log_q), strict=True)
        return mpmath.fsum(of.value(p, q) for p, q in pairs)


def spacing(scale: mpf, dtype: torch.dtype) -> mpf:
    """finfo.eps times `scale`, and no less than the spacing of subnormal numbers."""
    finfo = torch.finfo(dtype)
    return max(finfo.eps * abs(scale), mpf(finfo.tiny) * finfo.eps)


def error_in_ulp(found: Tensor, exact: list[mpf], scale: mpf) -> float:
    """The largest error of a vector in units of `spacing(scale)`; NaN counts as infinite.

    An infinity is right where the exact value, rounded, is beyond the range of the dtype, and only there.
    """
    unit, beyond = spacing(scale, found.dtype), mpf(torch.finfo(found.dtype).max)
    worst = mpf(0)
    with mpmath.workdps(DIGITS):
        for entry, correct in zip(found.detach().double().tolist(), exact, strict=True):
            if math.isnan(entry):
                return math.inf
            if math.isinf(entry):
                rightly = abs(correct) * (1 + 64 * torch.finfo(found.dtype).eps) > beyond and entry * correct > 0
                worst = max(worst, mpf(0) if rightly else mpf("inf"))
            else:
                worst = max(worst, abs(entry - correct) / unit)
    return float(worst)
