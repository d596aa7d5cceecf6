"""Value, weight and force of a generator to 60 digits or more, by walking its tree with mpmath; and its limits.

All that the suite takes of this library's symbolic part passes through here, but for the proof of convexity.
"""

import functools
import math
from collections.abc import Iterable

import mpmath
import sympy as sp
import torch
from mpmath import mpf
from torch import Tensor

from fguidance.symbolic import as_generator, dual, end_values, gauge_fixed, saturation_limit, t
from fguidance.symbolic.evaluate import MPMATH
from fguidance.symbolic.evaluate import evaluate as walk
from fguidance.symbolic.numerical import places as bends
from fguidance.symbolic.parsing import parse_generator

__all__ = [
    "as_generator", "bends", "bound", "double", "dual", "end_values", "evaluate", "force", "gauge_fixed",
    "largest_term_at_one", "numbers", "parse_generator", "saturation_limit", "slope_at_one", "t", "value", "weights",
]  # fmt: skip

DIGITS = 60


def evaluate(expression: sp.Expr, at: mpf) -> mpf:
    """The value of an expression in t at a point, in mpmath's working precision; infinite beyond mpmath's range."""
    try:
        return walk(expression, t, at, MPMATH)
    except OverflowError:
        return mpmath.inf


@functools.lru_cache(maxsize=256)
def _slope(generator: sp.Expr) -> sp.Expr:
    return sp.diff(generator, t)


def _slope_at(generator: sp.Expr, at: mpf) -> mpf:
    """f'(t): f' increases, so where it is beyond mpmath's range its sign is that of t - 1."""
    found = evaluate(_slope(generator), at)
    return -mpmath.inf if found == mpmath.inf and at < 1 else found


@functools.lru_cache(maxsize=256)
def _slope_at_one(generator: sp.Expr, digits: int) -> mpf:
    return evaluate(_slope(generator), mpf(1))


def slope_at_one(generator: sp.Expr) -> mpf:
    """f'(1)."""
    return _slope_at_one(generator, mpmath.mp.dps)


def numbers(tensor: Tensor) -> list[mpf]:
    """The entries of a vector, exactly."""
    return [mpf(entry) for entry in tensor.detach().double().tolist()]


def double(entries: Iterable[mpf]) -> Tensor:
    """Numbers of mpmath as a vector in float64."""
    return torch.tensor([float(entry) for entry in entries], dtype=torch.float64)


def _exp(log: Tensor) -> list[mpf]:
    return [mpf(0) if entry == -mpmath.inf else mpmath.exp(entry) for entry in numbers(log)]


def _digits(*vectors: Tensor) -> int:
    """Enough digits for probabilities as small as these, cubed, to cancel against 1."""
    smallest = min(float(v[v.isfinite()].min()) for v in vectors)
    return DIGITS + int(3 * max(0.0, -smallest) / math.log(10))


def _weights(generator: sp.Expr, ps: list[mpf], qs: list[mpf], gauge: float = 0.0) -> list[mpf]:
    constant = mpf(gauge) - slope_at_one(generator)
    return [p * (_slope_at(generator, p / q) + constant) for p, q in zip(ps, qs, strict=True)]


def weights(generator: sp.Expr, log_p: Tensor, log_q: Tensor, gauge: float = 0.0) -> list[mpf]:
    """w = p f'(p/q) with f'(1) = `gauge`, at the log-probabilities given, each class by itself."""
    with mpmath.workdps(_digits(log_p, log_q)):
        return _weights(generator, _exp(log_p), _exp(log_q), gauge)


def value(generator: sp.Expr, log_p: Tensor, log_q: Tensor) -> mpf:
    """sum_i q_i f(p_i/q_i), f in the gauge f'(1) = 0; every q_i > 0."""
    with mpmath.workdps(_digits(log_p, log_q)):
        slope, pairs = slope_at_one(generator), zip(_exp(log_p), _exp(log_q), strict=True)
        return mpmath.fsum(q * (evaluate(generator, p / q) - slope * (p / q - 1)) for p, q in pairs)


def force(generator: sp.Expr, logits: Tensor, log_q: Tensor) -> tuple[list[mpf], list[mpf], list[mpf]]:
    """The gradient of the divergence in the logits, the weights in the gauge, and the probabilities."""
    below = logits.detach().double() - float(logits.max())
    with mpmath.workdps(_digits(below, log_q)):
        entries = numbers(logits)
        powers = [mpmath.exp(entry - max(entries)) for entry in entries]
        norm = mpmath.fsum(powers)
        ps = [power / norm for power in powers]
        found = _weights(generator, ps, _exp(log_q))
        total = mpmath.fsum(found)
        return [w - p * total for w, p in zip(found, ps, strict=True)], found, ps


@functools.lru_cache(maxsize=256)
def bound(generator: sp.Expr) -> float:
    """The largest value that the divergence takes, f(0) + lim f(t)/t in the gauge; infinite if there is none."""
    return float(sum(end_values(generator)))


@functools.lru_cache(maxsize=256)
def largest_term_at_one(generator: sp.Expr) -> float:
    """The largest of the terms that f(t) is a sum of, at t = 1: 1/|a (a - 1)| for (t^a - 1)/(a (a - 1))."""
    terms = sp.Add.make_args(sp.expand(generator))
    return float(max(abs(evaluate(term, mpf(1))) for term in terms))
