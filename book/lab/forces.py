"""Forces of f-divergences on chosen logits: along the way to one-hot, in the plain form, and to any precision."""

import functools
from collections.abc import Callable, Sequence

import mpmath
import sympy as sp
import torch
from torch import Tensor

import fguidance as fg
from fguidance import symbolic
from fguidance.symbolic.evaluate import evaluate


def logits_at(missing: Tensor, num_classes: int, sits_on: int) -> Tensor:
    """Logits of a p with p_k = 1 - missing on the class k = `sits_on`, the rest shared equally.

    Args:
        missing: 1 - p_k, between 0 and 1, any shape (...).
        num_classes: N, at least 2.
        sits_on: the class k, from 0.

    Returns:
        Shape (..., num_classes); they are differences of logarithms, so they exist for `missing` far below 1e-16.
    """
    logits = missing.new_zeros(*missing.shape, num_classes)
    logits[..., sits_on] = torch.log1p(-missing) - torch.log(missing / (num_classes - 1))
    return logits


def push_on_label(divergence: fg.Divergence, logits: Tensor, epsilon: float, label: int = 0) -> Tensor:
    """What guidance by `divergence` at strength 1 adds to the label's logit: minus :eq:`eq-logit-gradient`.

    Args:
        divergence: whose force.
        logits: shape (..., classes).
        epsilon: the weight of the target on the label.
        label: the label of every sample.

    Returns:
        Shape (...), positive where guidance makes the label more probable.
    """
    labels = torch.full(logits.shape[:-1], label)
    log_q = fg.label_smoothed_log_target(labels, logits.shape[-1], epsilon, logits.dtype)
    return -divergence.logit_gradient(logits, log_q)[..., label]


def curvature(divergence: fg.Divergence) -> float:
    """f''(1), by which the figures divide: divergences of equal curvature agree for p close to q."""
    return float(sp.diff(divergence.generator, symbolic.t, 2).subs(symbolic.t, 1))


def log_log_slopes(x: Tensor, y: Tensor) -> Tensor:
    """The slopes of log |y| against log x between neighbouring points, along the last axis."""
    return torch.diff(y.abs().log()) / torch.diff(x.log())


@functools.cache
def _slope(generator: sp.Expr) -> sp.Expr:
    return symbolic.slope(generator)


@functools.cache
def _precise_slope(generator: sp.Expr) -> Callable[[mpmath.mpf], mpmath.mpf]:
    return sp.lambdify(symbolic.t, _slope(generator), "mpmath")


def plain_logit_gradient(divergence: fg.Divergence, logits: Tensor, log_q: Tensor) -> Tensor:
    """w - p * sum(w) as one would first write it, with w = p f'(p/q); for comparison only.

    Args:
        divergence: a divergence with a generator.
        logits: shape (..., classes).
        log_q: log-probabilities of the target, the same shape.

    Returns:
        The shape and dtype of `logits`.
    """
    p = logits.softmax(-1)
    weights = p * evaluate(_slope(divergence.generator), symbolic.t, p / log_q.exp())
    return weights - p * weights.sum(-1, keepdim=True)


def exact_logit_gradient(
    divergence: fg.Divergence, logits: Tensor, log_q: Tensor, digits: int = 400
) -> list[mpmath.mpf]:
    """w - p * sum(w) of one sample, computed by mpmath with so many decimal digits.

    Args:
        divergence: a divergence with a generator.
        logits: shape (classes,), taken as exact numbers.
        log_q: log-probabilities of the target, the same shape, taken as exact numbers.
        digits: decimal digits; more than twice those of exp(the spread of the logits), or nothing is left of it.

    Returns:
        One number per class.
    """
    slope = _precise_slope(divergence.generator)
    with mpmath.workdps(digits):
        unnormalised = [mpmath.exp(mpmath.mpf(logit)) for logit in logits.tolist()]
        total = mpmath.fsum(unnormalised)
        p = [part / total for part in unnormalised]
        weights = [a * slope(a / mpmath.exp(mpmath.mpf(b))) for a, b in zip(p, log_q.tolist(), strict=True)]
        total = mpmath.fsum(weights)
        return [w - a * total for w, a in zip(weights, p, strict=True)]


def error_in_ulp(found: Tensor, exact: Sequence[mpmath.mpf]) -> float:
    """The largest error of a component, in units in the last place of the largest exact component.

    The unit is that of the dtype of `found`, but never below its smallest positive number.
    """
    info = torch.finfo(found.dtype)
    largest = max(abs(component) for component in exact)
    unit = mpmath.ldexp(info.eps, mpmath.frexp(largest)[1] - 1)
    unit = max(unit, mpmath.mpf(info.smallest_normal) * info.eps)
    errors = (abs(mpmath.mpf(a) - b) for a, b in zip(found.tolist(), exact, strict=True))
    return float(max(errors) / unit)
