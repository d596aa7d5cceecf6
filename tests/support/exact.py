"""The divergences once more, written by hand in mpmath from the definitions and from nothing of the library.

Every number that goes in is a binary float and is taken exactly. Probabilities as small as e^-300 cancel against 1
and are raised to powers, so 60 digits are not enough: `DIGITS` leaves hundreds to spare.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import mpmath
import sympy as sp
import torch
from mpmath import mpf
from torch import Tensor

from fguidance.symbolic.evaluate import MPMATH, evaluate

DIGITS = 400
Homogeneous = Callable[[mpf, mpf], mpf]


class Reference(NamedTuple):
    """w(p, q) = p f'(p/q) and q f(p/q) in the gauge f'(1) = 0, as functions that also hold at q = 0 where finite."""

    weight: Homogeneous
    value: Homogeneous | None


def _js_value(p: mpf, q: mpf) -> mpf:
    m = (p + q) / 2
    return ((p * mpmath.log(p / m) if p else 0) + (q * mpmath.log(q / m) if q else 0)) / 2


def _kl(p: mpf, q: mpf) -> mpf:
    return (p * mpmath.log(p / q) if p else mpf(0)) - p + q


def _log_over(p: mpf, q: mpf, m: mpf) -> mpf:
    """p log(p/m), 0 at p = 0."""
    return p * mpmath.log(p / m) if p else mpf(0)


def _gan_value(p: mpf, q: mpf) -> mpf:
    return 2 * _js_value(p, q)


def _arithmetic_geometric(p: mpf, q: mpf) -> mpf:
    m = (p + q) / 2
    return m * mpmath.log(m / mpmath.sqrt(p * q)) if p and q else mpf("inf")


def _root_2() -> mpf:
    return mpmath.sqrt(mpf(2))


REFERENCES: dict[str, Reference] = {
    "rkl": Reference(lambda p, q: p - q, lambda p, q: _kl(q, p)),
    "fkl": Reference(lambda p, q: p * mpmath.log(p / q), _kl),
    "js": Reference(lambda p, q: p * mpmath.log(2 * p / (p + q)) / 2, _js_value),
    "js_printed": Reference(lambda p, q: 2 * (q - p) / (p + q), None),
    "hellinger": Reference(lambda p, q: p - mpmath.sqrt(p * q), lambda p, q: (mpmath.sqrt(p) - mpmath.sqrt(q)) ** 2),
    "pearson": Reference(lambda p, q: 2 * p * (p - q) / q, lambda p, q: (p - q) ** 2 / q),
    "neyman": Reference(lambda p, q: p - q**2 / p, lambda p, q: (p - q) ** 2 / p),
    "jeffreys": Reference(lambda p, q: p * mpmath.log(p / q) + p - q, lambda p, q: (p - q) * mpmath.log(p / q)),
    "triangular": Reference(
        lambda p, q: p * (p - q) * (p + 3 * q) / (p + q) ** 2, lambda p, q: (p - q) ** 2 / (p + q)
    ),
    "lin_k": Reference(
        lambda p, q: p / 2 - p * q / (p + q),
        lambda p, q: _log_over(q, p, (p + q) / 2) + (p - q) / 2,
    ),
    "lin_k_reverse": Reference(
        lambda p, q: p * mpmath.log(2 * p / (p + q)) + p * q / (p + q) - p / 2,
        lambda p, q: _log_over(p, q, (p + q) / 2) - (p - q) / 2,
    ),
    "gan": Reference(lambda p, q: p * mpmath.log(2 * p / (p + q)), _gan_value),
    "symmetric_chi_squared": Reference(
        lambda p, q: 2 * p * (p - q) / q + p - q**2 / p, lambda p, q: (p - q) ** 2 * (1 / p + 1 / q)
    ),
    "vajda_chi4": Reference(lambda p, q: 4 * p * ((p - q) / q) ** 3, lambda p, q: (p - q) ** 4 / q**3),
    "arithmetic_geometric": Reference(
        lambda p, q: p * mpmath.log((p + q) / (2 * mpmath.sqrt(p * q))) / 2 + (p - q) / 4, _arithmetic_geometric
    ),
    "perimeter": Reference(
        lambda p, q: p * p / mpmath.sqrt(p * p + q * q) - p / _root_2(),
        lambda p, q: mpmath.sqrt(p * p + q * q) - (p + q) / _root_2(),
    ),
    "exponential": Reference(
        lambda p, q: p * (mpmath.exp(p / q - 1) - 1), lambda p, q: q * mpmath.exp(p / q - 1) - p
    ),
    "total_variation": Reference(lambda p, q: p * mpmath.sign(p - q) / 2, lambda p, q: abs(p - q) / 2),
}


def alpha_reference(alpha: float) -> Reference:
    """The alpha family: w = (p^a q^(1-a) - p)/(a - 1), its values (p^a q^(1-a) - a p - (1-a) q)/(a(a-1))."""
    if alpha in (0, 1):
        return REFERENCES["rkl" if alpha == 0 else "fkl"]
    a = mpf(alpha)

    def mixed(p: mpf, q: mpf) -> mpf:
        return mpf(0) if (q == 0 and a < 1) or (p == 0 and a > 0) else p**a * q ** (1 - a)

    return Reference(
        lambda p, q: (mixed(p, q) - p) / (a - 1),
        lambda p, q: (mixed(p, q) - a * p - (1 - a) * q) / (a * (a - 1)),
    )


def scaled_alpha_reference(factor: mpf, alpha: mpf) -> Reference:
    """A multiple of the alpha family; factor and alpha are mpmath numbers, taken at `DIGITS` digits."""
    inner = alpha_reference(alpha)
    assert inner.value is not None
    value = inner.value
    return Reference(lambda p, q: factor * inner.weight(p, q), lambda p, q: factor * value(p, q))


def skewed_js_reference(skew: float) -> Reference:
    """s KL(p, m) + (1 - s) KL(q, m) with m = s p + (1 - s) q: w = s p log(p/m)."""
    s = mpf(skew)

    def mixed(p: mpf, q: mpf) -> mpf:
        return s * p + (1 - s) * q

    return Reference(
        lambda p, q: s * _log_over(p, q, mixed(p, q)),
        lambda p, q: s * _log_over(p, q, mixed(p, q)) + (1 - s) * _log_over(q, p, mixed(p, q)),
    )


def skewed_rkl_reference(skew: float) -> Reference:
    """KL(q, m) with m = s p + (1 - s) q: w = s p - s p q/m, and q log(q/m) + s (p - q)."""
    s = mpf(skew)
    return Reference(
        lambda p, q: s * p - s * p * q / (s * p + (1 - s) * q),
        lambda p, q: _log_over(q, p, s * p + (1 - s) * q) + s * (p - q),
    )


def blended_reference(blend: float) -> Reference:
    """(p - q)^2/m with m = b p + (1 - b) q: w = p (2 (p - q)/m - b (p - q)^2/m^2)."""
    b = mpf(blend)

    def mixed(p: mpf, q: mpf) -> mpf:
        return b * p + (1 - b) * q

    return Reference(
        lambda p, q: p * (2 * (p - q) / mixed(p, q) - b * ((p - q) / mixed(p, q)) ** 2),
        lambda p, q: (p - q) ** 2 / mixed(p, q),
    )


def softened_total_variation_reference(width: float) -> Reference:
    """(sqrt((p - q)^2 + w^2 q^2) - w q)/2: w = p (p - q)/(2 sqrt((p - q)^2 + w^2 q^2))."""

    def root(p: mpf, q: mpf) -> mpf:
        return mpmath.sqrt((p - q) ** 2 + (mpf(width) * q) ** 2)

    return Reference(
        lambda p, q: p * (p - q) / (2 * root(p, q)) if p != q else mpf(0),
        lambda p, q: (root(p, q) - mpf(width) * q) / 2,
    )


def puri_vincze_reference(exponent: float) -> Reference:
    """|p - q|^k/(2 (p + q)^(k - 1)), differentiated by the quotient rule."""
    k = mpf(exponent)

    def share(p: mpf, q: mpf) -> mpf:
        return abs(p - q) / (p + q)

    return Reference(
        lambda p, q: p * share(p, q) ** (k - 1) * (k * mpmath.sign(p - q) - (k - 1) * share(p, q)) / 2,
        lambda p, q: abs(p - q) * share(p, q) ** (k - 1) / 2,
    )


def osterreicher_vajda_reference(beta: float) -> Reference:
    """b/(b - 1) times the power sum (p^b + q^b)^(1/b) less that of two equal parts; at b = 1 twice Jensen-Shannon."""
    if beta == 1:
        return REFERENCES["gan"]
    b = mpf(beta)

    def power_sum(p: mpf, q: mpf) -> mpf:
        return (p**b + q**b) ** (1 / b)

    return Reference(
        lambda p, q: p * b / (b - 1) * ((p / power_sum(p, q)) ** (b - 1) - mpf(2) ** (1 / b - 1)) if p else mpf(0),
        lambda p, q: b / (b - 1) * (power_sum(p, q) - mpf(2) ** (1 / b - 1) * (p + q)),
    )


def from_slope(slope: Callable[[mpf], mpf], generator: Callable[[mpf], mpf]) -> Reference:
    """The reference of a generator of one's own, from f' and f."""

    def tangent() -> mpf:
        return slope(mpf(1))

    return Reference(
        lambda p, q: p * (slope(p / q) - tangent()),
        lambda p, q: q * (generator(p / q) - tangent() * (p / q - 1)),
    )


def from_generator(generator: sp.Expr) -> Reference:
    """The reference of a row that has none of its own here; 1e-4000 stands for a target of 0."""
    (symbol,) = generator.free_symbols
    first = sp.diff(generator, symbol)
    found = from_slope(*(lambda at, part=part: evaluate(part, symbol, at, MPMATH) for part in (first, generator)))
    least = mpf(10) ** -4000
    return Reference(lambda p, q: found.weight(p, q or least), lambda p, q: found.value(p, q or least))


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


def logit_gradient(reference: Reference, logits: Tensor, log_q: Tensor) -> ExactGradient:
    """The gradient of the divergence in the logits, to a few hundred digits."""
    with mpmath.workdps(DIGITS):
        probabilities = softmax(logits)
        weights = [reference.weight(p, q) for p, q in zip(probabilities, exponentials(log_q), strict=True)]
        total = mpmath.fsum(weights)
        gradient = [w - p * total for w, p in zip(weights, probabilities, strict=True)]
        return ExactGradient(gradient, weights, probabilities)


def weights(reference: Reference, log_p: Tensor, log_q: Tensor) -> list[mpf]:
    """The weights at given log-probabilities."""
    with mpmath.workdps(DIGITS):
        pairs = zip(exponentials(log_p), exponentials(log_q), strict=True)
        return [reference.weight(p, q) for p, q in pairs]


def value(reference: Reference, log_p: Tensor, log_q: Tensor) -> mpf:
    """The divergence at given log-probabilities, f in the gauge f'(1) = 0."""
    assert reference.value is not None
    with mpmath.workdps(DIGITS):
        pairs = zip(exponentials(log_p), exponentials(log_q), strict=True)
        return mpmath.fsum(reference.value(p, q) for p, q in pairs)


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
