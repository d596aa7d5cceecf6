"""Value, weight and force of a generator to 60 digits or more, by walking its tree with mpmath."""

import functools
import math

import mpmath
import sympy as sp
from mpmath import mpf
from torch import Tensor

from fguidance.symbolic import t
from fguidance.symbolic.evaluate import MPMATH
from fguidance.symbolic.evaluate import evaluate as walk

DIGITS = 60

def evaluate(expression: sp.Expr, at: mpf) -> mpf:
    """The value of an expression in t at a point, in mpmath's working precision."""
    return walk(expression, t, at, MPMATH)


@functools.lru_cache(maxsize=256)
def _slope(generator: sp.Expr) -> sp.Expr:
    return sp.diff(generator, t)


def _value(generator: sp.Expr, at: mpf) -> mpf:
    """f(t), infinite where it is beyond what mpmath holds."""
    try:
        return evaluate(generator, at)
    except OverflowError:
        return mpmath.inf


def _slope_at(generator: sp.Expr, at: mpf) -> mpf:
    """f'(t), infinite where it is beyond what mpmath holds: f' increases, so its sign there is that of t - 1."""
    try:
        return evaluate(_slope(generator), at)
    except OverflowError:
        return mpmath.inf if at > 1 else -mpmath.inf


def slope_at_one(generator: sp.Expr) -> mpf:
    """f'(1)."""
    return evaluate(_slope(generator), mpf(1))


def numbers(tensor: Tensor) -> list[mpf]:
    """The entries of a vector, exactly."""
    return [mpf(entry) for entry in tensor.detach().double().tolist()]


def _exp(entry: mpf) -> mpf:
    return mpf(0) if entry == -mpmath.inf else mpmath.exp(entry)


def _digits(*vectors: Tensor) -> int:
    """Enough digits for probabilities as small as these, cubed, to cancel against 1."""
    smallest = min(float(v[v.isfinite()].min()) for v in vectors)
    return DIGITS + int(3 * max(0.0, -smallest) / math.log(10))


def weights(generator: sp.Expr, log_p: Tensor, log_q: Tensor, gauge: float = 0.0) -> list[mpf]:
    """w = p f'(p/q) with f'(1) = `gauge`, at the log-probabilities given, each class by itself."""
    with mpmath.workdps(_digits(log_p, log_q)):
        constant = mpf(gauge) - slope_at_one(generator)
        ps, qs = map(_exp, numbers(log_p)), map(_exp, numbers(log_q))
        return [p * (_slope_at(generator, p / q) + constant) for p, q in zip(ps, qs, strict=True)]


def value(generator: sp.Expr, log_p: Tensor, log_q: Tensor) -> mpf:
    """sum_i q_i f(p_i/q_i), f in the gauge f'(1) = 0; every q_i > 0."""
    with mpmath.workdps(_digits(log_p, log_q)):
        slope = slope_at_one(generator)
        ps, qs = map(_exp, numbers(log_p)), map(_exp, numbers(log_q))
        return mpmath.fsum(
            q * (_value(generator, p / q) - slope * (p / q - 1)) for p, q in zip(ps, qs, strict=True)
        )


@functools.lru_cache(maxsize=256)
def bound(generator: sp.Expr) -> float:
    """The largest value that the divergence takes, f(0) + lim f(t)/t in the gauge; infinite if there is none."""
    from fguidance.symbolic import end_values

    return float(sum(end_values(generator)))


@functools.lru_cache(maxsize=256)
def largest_term_at_one(generator: sp.Expr) -> float:
    """The largest of the terms that f(t) is a sum of, at t = 1: 1/|a (a - 1)| for (t^a - 1)/(a (a - 1))."""
    terms = sp.Add.make_args(sp.expand(generator))
    return float(max(abs(evaluate(term, mpf(1))) for term in terms))


def softmax(logits: Tensor) -> list[mpf]:
    """The probabilities of a vector of logits, in mpmath's working precision."""
    entries = numbers(logits)
    powers = [mpmath.exp(entry - max(entries)) for entry in entries]
    total = mpmath.fsum(powers)
    return [power / total for power in powers]


def force(generator: sp.Expr, logits: Tensor, log_q: Tensor) -> tuple[list[mpf], list[mpf], list[mpf]]:
    """The gradient of the divergence in the logits, the weights in the gauge, and the probabilities."""
    spread = logits.detach().double()
    with mpmath.workdps(_digits(spread - spread.max(), log_q)):
        ps, qs = softmax(logits), [_exp(entry) for entry in numbers(log_q)]
        constant = slope_at_one(generator)
        weights = [p * (_slope_at(generator, p / q) - constant) for p, q in zip(ps, qs, strict=True)]
        total = mpmath.fsum(weights)
        return [w - p * total for w, p in zip(weights, ps, strict=True)], weights, ps
