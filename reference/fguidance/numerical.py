"""From a generator to its numerical definition: exact pieces where it has them, else a general form that is checked."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import sympy as sp
import torch
from torch import Tensor

from fguidance import _generated, careful, symbolic
from fguidance._generated import Contrast, Definition, Slope, SlopeDifference, Term
from fguidance.accuracy import shortfall
from fguidance.interpreter import evaluate
from fguidance.parsing import LARGEST_NUMBER
from fguidance.places import places

if TYPE_CHECKING:
    from fguidance.symbolic import Piece

BREAKS = (1.0, 8.0, 64.0)
"""The abs(u) from each of which to the next a careful value is integrated, beside where the generator bends quickly."""
NEAR = 2.0
"""The abs(u) below which a careful slope is written in t - 1."""


def define(generator: sp.Expr) -> Definition:
    """The numerical definition of a generator, the first of several whose numbers are right.

    Args:
        generator: f(t), an expression in t that `symbolic.as_generator` accepted.

    Raises:
        ValueError: a limit is too large to calculate with, or no definition gives the right numbers; the message says
            where, which, and what is right.
    """
    found = None
    for definition in _definitions(generator):
        for wide in (False, True):
            candidate = definition._replace(wide=wide)
            found = shortfall(generator, candidate)
            if found is None:
                return candidate
            if found.dtype == torch.float64:
                break  # which a wider dtype cannot mend
    raise ValueError(f"generator {generator!s:.200} cannot be calculated with: {found}")


def _definitions(generator: sp.Expr) -> Iterator[Definition]:
    """From the quickest to the most careful."""
    plain = _plain(generator)
    yield plain
    integrated = plain._replace(breaks=_breaks(generator))
    yield integrated
    if plain.near is not None:
        slope = functools.partial(_generated.general_difference, slope=_careful_slope(generator))
        yield integrated._replace(slope_difference=slope)


def _breaks(generator: sp.Expr) -> tuple[float, ...]:
    """Those of any generator, where this one bends quickly, and the end of a quick bend at t = 1."""
    bends = (8 * distance if abs(place - 1) <= 0.01 else abs(math.log(place)) for place, distance in places(generator))
    return tuple(sorted({*BREAKS, *(bend for bend in bends if bend > 0)}))


def _power(generator: sp.Expr) -> Definition | None:
    """A multiple of a member of the alpha family, whose value keeps its digits where the power is close to 0 or 1."""
    found = symbolic.pieces(generator)
    if found is None or len(found) > 1 or found[0].kernel != "power_difference":
        return None
    _ends(generator)
    return _generated.scaled(
        _generated.alpha_family(float(found[0].arguments[1] + 1)), float(found[0].derivative_sign)
    )


def _plain(generator: sp.Expr) -> Definition:
    if (power := _power(generator)) is not None:
        return power
    tails, growths = symbolic.scaled_tails(generator)
    ends = _ends(generator)

    def both(expressions: tuple[sp.Expr, sp.Expr], log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        at_zero, at_infinity = (evaluate(one, symbolic.log_ratio, log_ratio) for one in expressions)
        return at_zero, at_infinity

    both_tails = functools.partial(both, tails)
    growth = functools.partial(both, growths) if any(growths) else None
    if (found := symbolic.pieces(generator)) is not None:
        radius = _generated.quadrature_radius(symbolic.steepest_power(found))
        return Definition(_composed(found), both_tails, ends, bounded=False, radius=radius, growth=growth)
    slope = _slope(generator)
    slope_difference = functools.partial(_generated.general_difference, slope=slope)
    near = functools.partial(_generated.general_near, slope=slope)
    return Definition(slope_difference, both_tails, ends, bounded=False, near=near, growth=growth)


def _ends(generator: sp.Expr) -> tuple[float, float]:
    limits = symbolic.end_values(generator)
    for place, limit in zip(("f(t) at 0", "f(t)/t at infinity"), limits, strict=True):
        if not (limit == sp.oo or abs(sp.N(limit)) < LARGEST_NUMBER):
            raise ValueError(f"generator {generator}: the limit of {place}, {limit}, is too large to calculate with")
    return float(limits[0]), float(limits[1])


def _composed(pieces: "tuple[Piece, ...]") -> SlopeDifference:
    kernels = [(getattr(_generated, piece.kernel), _plain_numbers(piece)) for piece in pieces]

    def slope_difference(at: Contrast) -> Term:
        terms = (kernel(at, *arguments) for kernel, arguments in kernels)
        total: Term = functools.reduce(_generated.add_terms, terms)
        return total

    return slope_difference


def _plain_numbers(piece: "Piece") -> tuple[float | int, ...]:
    """The arguments as Python numbers; the whole power of a sigmoid stays an int."""
    numbers: list[float | int] = [float(argument) for argument in piece.arguments]
    if piece.kernel == "sigmoid_difference":
        numbers[1] = int(piece.arguments[1])
    return tuple(numbers)


def _two_sided(sides: tuple[sp.Expr, sp.Expr], log_ratio: Tensor) -> Tensor:
    left = evaluate(sides[0], symbolic.log_ratio, log_ratio.clamp_max(0))
    right = evaluate(sides[1], symbolic.log_ratio, -log_ratio.clamp_min(0))
    return torch.where(log_ratio < 0, left, right)


def _slope(generator: sp.Expr) -> Slope:
    scaled = symbolic.scaled_slope(generator)
    value, derivative, growth = (
        functools.partial(_two_sided, sides) for sides in (scaled.value, scaled.derivative, scaled.growth)
    )
    return Slope(value, derivative, growth, guarded=True)


def _careful_slope(generator: sp.Expr) -> Slope:
    """The slope written in t - 1 around t = 1, where it may bend sharply, and without a pole at t = 0."""
    scaled = careful.slope_far_out(generator)
    growth = functools.partial(_two_sided, scaled.growth)

    def in_three_parts(middle: sp.Expr, sides: tuple[sp.Expr, sp.Expr]) -> Callable[[Tensor], Tensor]:
        def function(log_ratio: Tensor) -> Tensor:
            near = log_ratio.abs() < NEAR
            inner = torch.where(near, log_ratio, 0.0)
            close = evaluate(middle, symbolic.log_ratio, inner) * torch.exp(-growth(inner))
            outer = torch.where(near, torch.copysign(torch.full_like(log_ratio, NEAR), log_ratio), log_ratio)
            return torch.where(near, close, _two_sided(sides, outer))

        return function

    value, derivative = careful.slope_around_one(generator)
    return Slope(
        in_three_parts(value, scaled.value), in_three_parts(derivative, scaled.derivative), growth, guarded=True
    )
