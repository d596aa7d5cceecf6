"""Whether the numbers of a definition are those of its generator: value, weight and force against 60 digits.

A generator that somebody writes may hold what no analysis foresaw: a bend narrower than every quadrature, an
exponential that overflows, coefficients that cancel. So what was derived from it is compared, at log-ratios of both
signs and all sizes, with the generator itself in mpmath, and nothing wrong comes out in silence.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import mpmath
import sympy as sp
import torch
from mpmath import mpf
from torch import Tensor

from fguidance import _generated
from fguidance._generated import Definition
from fguidance.interpreter import MPMATH, evaluate
from fguidance.parsing import t
from fguidance.places import places

DIGITS = 60
SIZES = (
    1e-12, 1e-8, 1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.99, 1.01, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0,
    20.0, 35.0, 60.0, 85.0, 110.0, 200.0, 400.0, 700.0,
)  # fmt: skip
"""The abs(u) that are tried on either side, u = log t."""
OTHERS = {True: (8.0, 0.7, 0.0, 3.0), False: (0.7, -0.4, 0.0)}
"""The log-ratios of the other, likelier class of a force, in turn, for u < 0 and for u > 0."""
NEIGHBOURS = 10.0
"""The abs(u) below which every third force is between two log-ratios that are close to each other."""
ACROSS = 0.35
"""The abs(u) below which every third force is between two log-ratios on either side of t = 1."""
ULPS = {torch.float64: 1024, torch.float32: 256}
"""Of rounding that nobody is blamed for, beside what 4 ulp in the log-ratios change."""
DEEPEST = 2.0**18
"""The abs(log p) from which on float32 log-probabilities are too coarse for a log-ratio, and nothing is compared."""
PARTS = ("value", "weight", "force")


@dataclass(frozen=True)
class Probe:
    """One place, with what the generator gives there.

    Attributes:
        log_probs: log p and log q of one class, float32 numbers.
        logits: those of two classes, the second of which is at the place.
        log_target: log q of the two.
        exact: value and weight of the one class, and the force on the second of the two.
        slack: what an error of the size of the log-ratios would change in each.
        sizes: the probabilities in value and weight; away from t = 1 float64 may be off by 16 ulp of them.
        flat: the size of the slope times p where f''(1) = 0, as for (t - 1)^4, and else 0. There weight and force are
            far below it close to t = 1, and may be off by 4 ulp of it.
    """

    log_probs: tuple[float, float]
    logits: tuple[float, float]
    log_target: tuple[float, float]
    exact: tuple[float, float, float]
    slack: tuple[float, float, float]
    sizes: tuple[float, float, float]
    flat: float


@dataclass(frozen=True)
class Shortfall:
    """A number that is off by more than rounding explains: which, where, in which dtype, and what is right."""

    part: str
    place: float
    dtype: torch.dtype
    found: float
    exact: float

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        found = f"its {self.part} comes out as {self.found:.15g} in {name}"
        return f"at t = {self.place:.9g} {found}, not {self.exact:.15g}"


class _Exact:
    """f, f' and t f'' by walking the tree of the generator with mpmath, f and f' less what the gauge takes off."""

    def __init__(self, generator: sp.Expr) -> None:
        first = sp.diff(generator, t)
        self._value, self._slope, self._second = generator, first, sp.diff(first, t)
        self._at_one = evaluate(first, t, mpf(1), MPMATH)

    @functools.cached_property
    def flat(self) -> mpf:
        """The size of the slope, at most 1, where f''(1) = 0, and else 0."""
        if self.bend(mpf(1)) > mpf(10) ** -50:
            return mpf(0)
        return min(mpf(1), abs(self.slope(mpf(10) ** 12)), 1000 * abs(self.slope(mpf(2))))

    def value(self, place: mpf) -> mpf:
        return evaluate(self._value, t, place, MPMATH) - self._at_one * (place - 1)

    def slope(self, place: mpf) -> mpf:
        return evaluate(self._slope, t, place, MPMATH) - self._at_one

    def bend(self, place: mpf) -> mpf:
        return abs(place * evaluate(self._second, t, place, MPMATH))


def _single(number: float | mpf) -> float:
    return float(torch.tensor(float(number), dtype=torch.float32))


def _floats(triple: tuple[mpf, mpf, mpf]) -> tuple[float, float, float]:
    return float(triple[0]), float(triple[1]), float(triple[2])


def _shift(ratio: float, steepness: mpf) -> float:
    """A log-probability at which neither probability exceeds 1 and the weight is not far above it."""
    if abs(ratio) < 0.01 or not steepness:
        return _single(min(0.0, ratio))
    return _single(min(0.0, ratio, -float(mpmath.log(steepness))))


def _probe(exact: _Exact, nominal: float, other: float) -> Probe:
    log_p = _shift(nominal, abs(exact.slope(mpmath.exp(nominal))))
    log_q = _single(log_p - nominal)
    ratio = mpf(log_p) - mpf(log_q)
    place, p, q = mpmath.exp(ratio), mpmath.exp(log_p), mpmath.exp(log_q)
    value, weight = q * exact.value(place), p * exact.slope(place)
    moved = (1 + abs(log_p) + abs(log_q)) * (abs(weight) + abs(value)), abs(ratio) * p * exact.bend(place)
    logits = (0.0, min(log_p, -0.5))
    target, force, shaken = _force(exact, logits, (other, nominal))
    sizes = (p + q, p, mpf(0)) if abs(ratio) > 0.1 else (mpf(0),) * 3
    found, slack, forgiven = map(_floats, ((value, weight, force), (*moved, shaken), sizes))
    return Probe((log_p, log_q), logits, target, found, slack, forgiven, float(exact.flat * p))


def _force(
    exact: _Exact, logits: tuple[float, float], nominal: tuple[float, float]
) -> tuple[tuple[float, float], mpf, mpf]:
    """The target of two classes for log-ratios near the nominal ones, the force on the second, and its slack.

    Of two logits less than 10 apart it may be off by 8 ulp of the largest weight or probability.
    """
    total = mpmath.log1p(mpmath.exp(logits[1]))
    log_p = -total, logits[1] - total
    target = _single(log_p[0] - nominal[0]), _single(log_p[1] - nominal[1])
    ratios = log_p[0] - mpf(target[0]), log_p[1] - mpf(target[1])
    others, own = map(mpmath.exp, ratios)
    share, slopes = mpmath.exp(sum(log_p)), (exact.slope(others), exact.slope(own))
    moved = (1 + abs(ratios[0])) * exact.bend(others) + (1 + abs(ratios[1])) * exact.bend(own)
    sizes = 2 * mpmath.exp(log_p[0]) * max(1, *map(abs, slopes)) if logits[1] > -10 else 0
    return target, share * (slopes[1] - slopes[0]), share * moved + sizes


def _log_ratios(generator: sp.Expr) -> Iterator[float]:
    """Of all sizes, and close to where the generator may bend quickly."""
    yield from itertools.chain.from_iterable((-size, size) for size in SIZES)
    for place, distance in places(generator):
        if abs(place - 1) > 1e-9:
            yield from (math.log(place) + sign * 10.0**-exponent for exponent in range(1, 13) for sign in (-1, 1))
        yield from (math.log(place) + sign * math.log1p(distance / place) for sign in (-1, 1) if distance)


def _other(number: int, ratio: float) -> float:
    """The log-ratio of the other class: of two, far away or close by in turn, and now and then across t = 1."""
    if number % 3 == 0 and abs(ratio) < NEIGHBOURS:
        return 1.01 * ratio + 0.001
    if number % 3 == 1 and abs(ratio) < ACROSS:
        return -0.5 * ratio
    others = OTHERS[ratio < 0]
    return others[number % len(others)]


@functools.lru_cache(maxsize=8)
def probes(generator: sp.Expr) -> tuple[Probe, ...]:
    """What the generator gives at some 60 places, to 60 digits; places where mpmath overflows are left out."""
    found = []
    with mpmath.workdps(DIGITS + int(SIZES[-1])):
        exact = _Exact(generator)
    for number, ratio in enumerate(_log_ratios(generator)):
        other = _other(number, ratio)
        with mpmath.workdps(DIGITS + int(abs(ratio))):
            try:
                found.append(_probe(exact, ratio, other))
            except (OverflowError, ZeroDivisionError):
                continue
    return tuple(probe for probe in found if -probe.log_probs[0] < DEEPEST)


def numbers(definition: Definition, asked: tuple[Probe, ...], dtype: torch.dtype) -> Tensor:
    """Value, weight and force of a definition at the probes.

    Args:
        definition: any with a value.
        asked: what `probes` returns.
        dtype: of the inputs, float32 or float64.

    Returns:
        Shape (probes, 3), `dtype`.
    """
    log_p, log_q = _column(asked, "log_probs", dtype).unsqueeze(-1).unbind(1)
    logits, target = (_column(asked, name, dtype) for name in ("logits", "log_target"))
    with torch.no_grad():
        value = _generated.value(definition, log_p, log_q)
        weight = _generated.weight(definition, log_p, log_q)[:, 0]
        force = _generated.logit_gradient(definition, logits, target)[:, 1]
    return torch.stack((value, weight, force), -1)


def _is_right(found: Tensor, asked: tuple[Probe, ...], dtype: torch.dtype) -> Tensor:
    """Whether each number is what rounding explains; close to the end of the range and beyond, whether it is large."""
    exact, slack, sizes = (_column(asked, name) for name in ("exact", "slack", "sizes"))
    info = torch.finfo(dtype)
    forgiven = 4 * slack + (16 * sizes if dtype == torch.float64 else 0)
    flat = _column(asked, "flat")[:, None] * torch.tensor([name != "value" for name in PARTS])
    allowed = info.eps * (ULPS[dtype] * exact.abs() + forgiven + 4 * flat) + info.tiny
    beyond = (exact.abs() >= info.max / 2**10) & ~found.isfinite()
    return beyond | ((found - exact).abs() <= allowed)


def _column(asked: tuple[Probe, ...], name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor([getattr(probe, name) for probe in asked], dtype=dtype)


def shortfall(generator: sp.Expr, definition: Definition) -> Shortfall | None:
    """The first number of a definition that is off by more than rounding explains, in float64 and then in float32.

    Args:
        generator: f(t), an expression in t, twice differentiable.
        definition: what was derived from it.

    Returns:
        None where all of them are right.
    """
    asked = probes(generator)
    for dtype in ULPS:
        found = _numbers_or_nan(definition, asked, dtype)
        wrong = (~_is_right(found, asked, dtype)).nonzero()
        if len(wrong):
            row, part = wrong[0].tolist()
            log_p, log_q = asked[row].log_probs
            return Shortfall(
                PARTS[part], math.exp(log_p - log_q), dtype, float(found[row, part]), asked[row].exact[part]
            )
    return None


def _numbers_or_nan(definition: Definition, asked: tuple[Probe, ...], dtype: torch.dtype) -> Tensor:
    """The numbers in float64; NaN where a constant is beyond the range of the dtype."""
    try:
        return numbers(definition, asked, dtype).double()
    except OverflowError:
        return torch.full((len(asked), len(PARTS)), math.nan, dtype=torch.float64)
