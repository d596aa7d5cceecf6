"""What the figures of a report show: weight and force of two classes along p, and what they should be."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fguidance.testing import exact
from fguidance.testing.subject import Subject

TARGETS = (0.1, 0.5, 0.9)
LOG_ODDS = tuple(step / 2 for step in range(-28, 29))
"""log(p/(1 - p)) at the points of a curve: p from 8e-7 to 1 - 8e-7."""


@dataclass(frozen=True)
class Curve:
    """One quantity of the first of two classes, whose target is q, at each of `LOG_ODDS`.

    Attributes:
        target: q.
        found: what the subject gives; NaN where it raised.
        expected: the generator's, in high precision; None where there is no generator.
        error: how far they are apart, in units in the last place of the larger of |expected| and p.
    """

    target: float
    found: list[float]
    expected: list[float] | None
    error: list[float] | None


@dataclass(frozen=True)
class _Point:
    logits: Tensor
    log_p: Tensor
    log_q: Tensor


def _point(log_odds: float, target: float, dtype: torch.dtype) -> _Point:
    logits = torch.tensor([log_odds, 0.0], dtype=torch.float64).to(dtype)
    log_p = torch.log_softmax(logits.double(), -1).to(dtype)
    log_q = torch.tensor([target, 1 - target], dtype=torch.float64).log().to(dtype)
    return _Point(logits, log_p, log_q)


def weight_curve(subject: Subject, target: float, dtype: torch.dtype) -> Curve:
    """The first weight along p for one target."""

    def expected(point: _Point) -> float:
        return float(exact.weights(subject.generator, point.log_p, point.log_q, subject.declaration.gauge)[0])

    return _curve(subject, target, dtype, lambda point: _weights(subject, point), expected)


def force_curve(subject: Subject, target: float, dtype: torch.dtype) -> Curve:
    """The first component of the force along p for one target."""

    def expected(point: _Point) -> float:
        return float(exact.force(subject.generator, point.logits, point.log_q)[0][0])

    return _curve(subject, target, dtype, lambda point: _force(subject, point), expected)


def _weights(subject: Subject, point: _Point) -> Tensor:
    assert subject.weight is not None
    return subject.weight(point.log_p.clone(), point.log_q.clone())


def _force(subject: Subject, point: _Point) -> Tensor:
    """The subject's own force, or that of its weights."""
    if subject.logit_gradient is not None:
        return subject.logit_gradient(point.logits.clone(), point.log_q.clone())
    weights = _weights(subject, point)
    return weights - point.log_p.exp() * weights.sum(-1, keepdim=True)


def _curve(
    subject: Subject,
    target: float,
    dtype: torch.dtype,
    find: Callable[[_Point], Tensor],
    expect: Callable[[_Point], float],
) -> Curve:
    points = [_point(log_odds, target, dtype) for log_odds in LOG_ODDS]
    found = [_first(find, point) for point in points]
    if subject.generator is None:
        return Curve(target, found, None, None)
    expected = [_known(expect, point) for point in points]
    return Curve(target, found, expected, _errors(points, found, expected, dtype))


def _first(find: Callable[[_Point], Tensor], point: _Point) -> float:
    try:
        return float(find(point).detach().double().flatten()[0])
    except Exception:  # whatever a user's code raises: the records say so
        return math.nan


def _known(expect: Callable[[_Point], float], point: _Point) -> float:
    try:
        return expect(point)
    except (ArithmeticError, TypeError, ValueError):  # at a kink, say
        return math.nan


def _errors(
    points: Sequence[_Point], found: Sequence[float], expected: Sequence[float], dtype: torch.dtype
) -> list[float]:
    unit = torch.finfo(dtype).eps
    scales = [max(abs(wanted), math.exp(float(point.log_p[0]))) for point, wanted in zip(points, expected, strict=True)]
    rows = zip(found, expected, scales, strict=True)
    return [abs(one - wanted) / (unit * scale) if math.isfinite(one) else math.nan for one, wanted, scale in rows]
