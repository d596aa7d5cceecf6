"""From a generator to its numerical definition, whose numbers are compared with 60 digits before it is used.

A generator that somebody writes may hold what no analysis foresaw: a bend narrower than every quadrature, an
exponential that overflows, coefficients that cancel. So what was derived from it is compared, at log-ratios of both
signs and all sizes, with the generator itself in mpmath, and nothing wrong comes out in silence.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mpmath
import sympy as sp
import torch
from mpmath import mpf
from torch import Tensor

from fguidance import closed_forms
from fguidance.closed_forms import Divergence
from fguidance.symbolic import forms
from fguidance.symbolic import generator as derived
from fguidance.symbolic.evaluate import MPMATH, TORCH, compiled, evaluate
from fguidance.symbolic.kinks import Part, is_twice_differentiable, smooth_parts
from fguidance.symbolic.parsing import LARGEST_NUMBER, t

CLOSED = dataclasses.replace(
    TORCH,
    functions={
        **TORCH.functions,
        forms.Softplus: closed_forms.softplus, forms.Sigmoid: torch.sigmoid,
        forms.Power: closed_forms.power, forms.Difference: closed_forms.difference, forms.Over: torch.div,
        forms.Hypotenuse: torch.hypot, forms.RelativePower: closed_forms.relative_power,
    },
)  # fmt: skip
"""PyTorch's arithmetic with the functions of the closed forms."""
Nodes = tuple[tuple[float, float], ...]
NEAR = 0.5
"""The abs(u) up to which a general slope is the integral of its bend."""


def define(generator: sp.Expr) -> Divergence:
    """The numerical definition of a generator, the first of several whose numbers are right.

    Args:
        generator: f(t), an expression in t that `as_generator` accepted.

    Raises:
        ValueError: a limit is too large to calculate with, or no definition gives the right numbers; the message says
            where, which, and what is right.
    """
    parts, ends, found = smooth_parts(generator), _ends(generator), ""
    one = len(parts) == 1
    for definition in _definitions(generator, *ends) if one else _joined_definitions(generator, parts, ends):
        if not (found := shortfall(generator, definition)):
            return definition
    raise ValueError(f"generator {generator!s:.200} cannot be calculated with: {found}")


def _definitions(generator: sp.Expr, at_zero: float = 0.0, at_infinity: float = 0.0) -> Iterator[Divergence]:
    """From the terms of the generator, and from what its slope grows like; each also written in t - 1 near t = 1."""
    if (form := forms.termwise(generator)) is not None:
        weight, value = (compiled(part, (forms.p, forms.q, forms.u), CLOSED) for part in (form.weight, form.value))
        bend, gauge, radius = compiled(form.bend, (forms.u,), CLOSED), float(form.gauge), float(form.radius)
        yield Divergence(weight, gauge, value, bend, at_zero, at_infinity, radius, bounded=False)
        yield _sharp(generator, Divergence(weight, gauge, value, None, at_zero, at_infinity, bounded=False))
    yield _general(generator, GAUSS_NODES, at_zero, at_infinity)
    general = _general(generator, CROWDED_NODES, at_zero, at_infinity)
    yield general
    yield _sharp(generator, general)


def _joined_definitions(generator: sp.Expr, parts: tuple[Part, ...], ends: tuple[float, float]) -> Iterator[Divergence]:
    """A definition of each smooth part, between the kinks; at a kink the mean of both."""
    tangent, is_smooth = sp.diff(generator, t).subs(t, 1), is_twice_differentiable(parts)
    lines, places = [], []
    for part in parts:
        at_one = part.expression.subs(t, 1), sp.diff(part.expression, t).subs(t, 1) - tangent
        lines.append(tuple(float(sp.N(number, 30)) for number in at_one))
        places.append(
            tuple(
                float(sp.N(sp.log(place), 30)) if place else -math.inf for place in (part.low, part.middle, part.high)
            )
        )
    straight = Divergence(lambda p, q, u: 0 * p, 0.0, lambda p, q, u: 0 * q, None, 0.0, 0.0)
    candidates = [
        _definitions(part.expression - part.expression.subs(t, 1))
        if sp.diff(part.expression, t, 2) != 0
        else itertools.repeat(straight)
        for part in parts
    ]
    for found in zip(*candidates, strict=False):
        shares = list(zip(found, lines, places, strict=True))

        weight, value = functools.partial(_mean, shares, _part_weight), functools.partial(_mean, shares, _part_value)
        yield Divergence(weight, 0.0, value, None, *ends, smooth=is_smooth, bounded=False)


def _part_weight(part: Divergence, line: tuple[float, ...], p: Tensor, q: Tensor, u: Tensor) -> Tensor:
    return part.weight(p, q, u) + (part.gauge + line[1]) * p


def _part_value(part: Divergence, line: tuple[float, ...], p: Tensor, q: Tensor, u: Tensor) -> Tensor:
    assert part.value is not None
    terms = part.value(p, q, u)
    if part.bend is not None:
        near = u.clamp(-part.radius, part.radius)
        terms = torch.where(near == u, q * closed_forms.integrated(part.bend, near), terms)
    return terms + line[0] * q + line[1] * closed_forms.difference(p, q, u)


def _mean(shares: list[Any], term: Callable[..., Tensor], p: Tensor, q: Tensor, u: Tensor) -> Tensor:
    """The term of the part in which u lies, of both parts at a kink; what is elsewhere is calculated in the middle."""
    total, count = torch.zeros_like(u), torch.zeros_like(u)
    for part, line, (low, middle, high) in shares:
        inside = (low <= u) & (u <= high)
        safe = (torch.where(inside, own, other) for own, other in ((p, 1.0), (q, math.exp(-middle)), (u, middle)))
        total, count = total + torch.where(inside, term(part, line, *safe), 0.0), count + inside
    return total / count


def _ends(generator: sp.Expr) -> tuple[float, float]:
    limits = derived.end_values(generator)
    for place, limit in zip(("f(t) at 0", "f(t)/t at infinity"), limits, strict=True):
        if not (limit == sp.oo or abs(sp.N(limit)) < LARGEST_NUMBER):
            raise ValueError(f"generator {generator}: the limit of {place}, {limit}, is too large to calculate with")
    return float(limits[0]), float(limits[1])


def _two_sided(sides: tuple[sp.Expr, sp.Expr]) -> Callable[[Tensor], Tensor]:
    """A function of u from its two sides in y = -abs(u): the first for u < 0, the second from 0 on."""
    below, above = (compiled(forms.with_softplus(side), (derived.log_ratio,), CLOSED) for side in sides)
    return lambda u: torch.where(u < 0, below(u.clamp_max(0)), above(-u.clamp_min(0)))


def _grown(factor: Tensor, growth: Tensor) -> Tensor:
    """factor * exp(growth), in two halves, so that it overflows only where the product does."""
    half = torch.exp(growth / 2)
    return factor * half * half


def _general(generator: sp.Expr, nodes: Nodes, at_zero: float, at_infinity: float) -> Divergence:
    """Of any generator: plain differences, and close to t = 1 integrals of the bend at these nodes."""
    sides = *derived.scaled_slope(generator), *derived.scaled_tails(generator)
    slope, growth, tail, tail_growth = map(_two_sided, sides)
    bend = compiled(forms.bend_of(generator), (forms.u,), CLOSED)
    one = torch.zeros((), dtype=torch.float64)
    tangent = float(slope(one) * torch.exp(growth(one)))

    def weight(p: Tensor, q: Tensor, u: Tensor) -> Tensor:
        far = _grown(p, growth(u)) * slope(u) - tangent * p
        close = u.clamp(-NEAR, NEAR)
        terms = (share * bend(node * close) for node, share in nodes)
        return torch.where(close == u, p * close * sum(terms, torch.zeros_like(u)), far)

    def value(p: Tensor, q: Tensor, u: Tensor) -> Tensor:
        far = _grown(torch.where(u < 0, q, p), tail_growth(u)) * tail(u)
        close = u.clamp(-1, 1)
        terms = (share * bend(node * close) * torch.exp(node * close) * torch.expm1((1 - node) * close)
                 for node, share in nodes)  # fmt: skip
        return torch.where(close == u, q * close * sum(terms, torch.zeros_like(u)), far)

    return Divergence(weight, 0.0, value, None, at_zero, at_infinity, bounded=False)


def _sharp(generator: sp.Expr, far: Divergence) -> Divergence:
    """A definition that is written in t - 1 near t = 1, where a generator may bend sharply or cancel."""
    x = sp.Symbol("x", real=True)
    slope = compiled(sp.diff(generator, t).subs(t, 1 + x), (x,), CLOSED)
    tangent = float(slope(torch.zeros((), dtype=torch.float64)))
    far_value = far.value
    assert far_value is not None

    def near(u: Tensor) -> Tensor:
        found: Tensor = slope(torch.expm1(u))
        return found - tangent

    def weight(p: Tensor, q: Tensor, u: Tensor) -> Tensor:
        close = u.clamp(-SHARP, SHARP)
        return torch.where(close == u, p * near(close), far.weight(p, q, u) + far.gauge * p)

    def value(p: Tensor, q: Tensor, u: Tensor) -> Tensor:
        close = u.clamp(-SHARP, SHARP)
        terms = (share * near(node * close) * torch.exp(node * close) for node, share in CROWDED_NODES)
        return torch.where(close == u, q * close * sum(terms, torch.zeros_like(u)), far_value(p, q, u))

    return far._replace(weight=weight, gauge=0.0, value=value, bend=None)


def _double_exponential(step: float, reach: int) -> Nodes:
    """Positions and weights on [0, 1] after Takahasi and Mori; they crowd towards both ends, where a slope may bend."""
    places = [(k * step, math.exp(-math.pi * math.sinh(k * step))) for k in range(-reach, reach + 1)]
    return tuple((1 / (1 + e), step * math.pi * math.cosh(k) / (1 + e) / (1 + 1 / e)) for k, e in places)


GAUSS_NODES: Nodes = tuple((node, share) for x, share in closed_forms.NODES for node in (x, 1 - x))
CROWDED_NODES: Nodes = _double_exponential(1 / 24, 78)
SHARP = 2.0
"""The abs(u) up to which the slope of a generator that bends sharply is written in t - 1."""


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
EPS, TINY = torch.finfo(torch.float64).eps, torch.finfo(torch.float64).tiny
ULPS = 1024
"""Of rounding that nobody is blamed for, beside what 4 ulp in the log-ratios change, 16 ulp of the probabilities in the
weight and, away from t = 1, in the value, and where f''(1) = 0, as for (t - 1)^4, 4 ulp of the slope times p in all."""
LOWEST = -700.0
"""The log-probability down to which numbers are compared: below, a probability is no normal float64 number."""
PARTS = ("value", "weight", "force")


@dataclass(frozen=True)
class Probe:
    """One place, with what the generator gives there.

    Attributes:
        log_probs: log p and log q of one class, float32 numbers.
        logits: those of two classes, the second of which is at the place.
        log_target: log q of the two.
        exact: value and weight of the one class, and the force on the second of the two.
        allowed: what rounding may change in each.
    """

    log_probs: tuple[float, float]
    logits: tuple[float, float]
    log_target: tuple[float, float]
    exact: tuple[float, ...]
    allowed: tuple[float, ...]


class _Exact:
    """f, f' and t f'' by walking the tree of the generator with mpmath, f and f' less what the gauge takes off."""

    def __init__(self, generator: sp.Expr) -> None:
        first = sp.diff(generator, t)
        second = sp.diff(first, t).replace(sp.DiracDelta, lambda *_: sp.S.Zero)  # beside the kinks
        self._value, self._slope, self._second = generator, first, second
        self._at_one = evaluate(first, t, mpf(1), MPMATH)

    @functools.cached_property
    def flat(self) -> mpf:
        """The size of the slope, at most 1, where f''(1) = 0, and else 0."""
        try:
            bends = self.bend(mpf(1)) > mpf(10) ** -50
        except ZeroDivisionError:  # infinitely
            bends = True
        if bends:
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
    logits = (0.0, min(log_p, -0.5))
    target, force, shaken = _force(exact, logits, (other, nominal))
    found = q * exact.value(place), p * exact.slope(place), force
    moved = (1 + abs(log_p) + abs(log_q)) * (abs(found[0]) + abs(found[1])), abs(ratio) * p * exact.bend(place), shaken
    sizes = p + q if abs(ratio) > 0.1 else 0, p, 0
    flat = min(1, abs(ratio)) ** 2 * exact.flat * p, exact.flat * p, exact.flat * p
    parts = zip(found, moved, sizes, flat, strict=True)
    ulps = (ULPS * abs(right) + 4 * shift + 16 * size + 4 * rest for right, shift, size, rest in parts)
    allowed = tuple(float(EPS * number) + TINY for number in ulps)
    return Probe((log_p, log_q), logits, target, tuple(map(float, found)), allowed)


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


CLOSE = 0.5
"""Zeros z with abs(Im z) below this share of Re z lie close to t > 0."""
LARGEST_DEGREE = 12


@functools.lru_cache(maxsize=64)
def places(generator: sp.Expr) -> tuple[tuple[float, float], ...]:
    """The points t > 0 close to a complex zero of a polynomial inside a function or a power, and their distances.

    Args:
        generator: f(t), an expression in t.

    Returns:
        (t, distance to the zero) in the order of t; the distance is 0 where the zero is on the axis. Polynomials of a
        degree over 12 are left out, and what is no polynomial.
    """
    found = set()
    for part in generator.atoms(sp.Pow, sp.Function) - generator.atoms(sp.exp):
        inner = part.args[0]
        is_whole = isinstance(part, sp.Pow) and part.exp.is_Integer and part.exp > 0
        if is_whole or inner == t or not inner.has(t) or not inner.is_polynomial(t):
            continue
        if sp.degree(inner, t) <= LARGEST_DEGREE:
            with contextlib.suppress(mpmath.mp.NoConvergence):
                zeros = [tuple(map(float, zero.as_real_imag())) for zero in sp.nroots(inner, n=30, maxsteps=100)]
                found |= {(real, abs(side)) for real, side in zeros if real > 0 and abs(side) < CLOSE * real}
    return tuple(sorted(found))


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
    return tuple(probe for probe in found if min(probe.log_probs) > LOWEST)


def numbers(definition: Divergence, asked: tuple[Probe, ...]) -> Tensor:
    """Value, weight and force of a definition at the probes, shape (probes, 3), float64."""
    log_p, log_q = _column(asked, "log_probs").unsqueeze(-1).unbind(1)
    with torch.no_grad():
        value = closed_forms.value(definition, log_p, log_q)
        weight = closed_forms.weight(definition, log_p, log_q)[:, 0]
        force = closed_forms.logit_gradient(definition, _column(asked, "logits"), _column(asked, "log_target"))[:, 1]
    return torch.stack((value, weight, force), -1)


def _column(asked: tuple[Probe, ...], name: str) -> Tensor:
    return torch.tensor([getattr(probe, name) for probe in asked], dtype=torch.float64)


def shortfall(generator: sp.Expr, definition: Divergence) -> str:
    """The first number of a definition that is off by more than rounding explains: where, which, and what is right.

    Close to the end of the range it may be infinite.

    Args:
        generator: f(t), an expression in t, twice differentiable.
        definition: what was derived from it.

    Returns:
        Nothing where all of them are right.
    """
    asked = probes(generator)
    exact, allowed = _column(asked, "exact"), _column(asked, "allowed")
    try:
        found = numbers(definition, asked)
    except OverflowError:  # a constant is beyond the range
        found = torch.full_like(exact, math.nan)
    beyond = (exact.abs() >= torch.finfo(torch.float64).max / 2**10) & ~found.isfinite()
    wrong = (~beyond & ~((found - exact).abs() <= allowed)).nonzero()
    if not len(wrong):
        return ""
    row, part = wrong[0].tolist()
    log_p, log_q = asked[row].log_probs
    place = f"at t = {math.exp(log_p - log_q):.9g} (log t = {log_p - log_q:.6g})"
    return f"{place} its {PARTS[part]} comes out as {found[row, part]:.15g}, not {exact[row, part]:.15g}"
