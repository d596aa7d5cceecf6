"""The smooth parts of a generator that holds absolute values, and the places between them."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import sympy as sp

from fguidance.symbolic.parsing import t

LARGEST_DEGREE = 12
SAME = sp.Float(10) ** -25


@dataclass(frozen=True)
class Part:
    """Expression that a generator is equal to for low <= t <= high."""

    expression: sp.Expr
    low: sp.Expr
    high: sp.Expr

    @property
    def middle(self) -> sp.Expr:
        """Some t between the ends."""
        return self.low + 1 if self.high == sp.oo else (self.low + self.high) / 2


def smooth_parts(generator: sp.Expr) -> tuple[Part, ...]:
    """The parts of a generator between the places where the argument of an absolute value changes its sign.

    Args:
        generator: f(t), an expression in t.

    Returns:
        Parts without absolute values, in the order of t, from 0 to infinity.

    Raises:
        ValueError: the places cannot be found, as the argument is no sum of powers of t, nor its log, tanh or atan.
    """
    return tuple(_split(Part(generator, sp.S.Zero, sp.oo)))


def _split(part: Part) -> Iterator[Part]:
    inner = min(part.expression.atoms(sp.Abs), key=sp.count_ops, default=None)
    if inner is None:
        yield part
        return
    zeros = sorted({zero for zero in _zeros(inner.args[0]) if part.low < zero and zero < part.high})
    ends = [part.low, *zeros, part.high]
    for low, high in itertools.pairwise(ends):
        sign = sp.sign(sp.N(inner.args[0].subs(t, Part(t, low, high).middle), 30))
        yield from _split(Part(part.expression.xreplace({inner: sign * inner.args[0]}), low, high))


def _zeros(expression: sp.Expr) -> Iterator[sp.Expr]:
    """The zeros t > 0; numbers that are no fractions come with 50 digits."""
    if isinstance(expression, sp.tanh | sp.atan):
        yield from _zeros(expression.args[0])
    elif isinstance(expression, sp.log):
        yield from _zeros(expression.args[0] - 1)
    elif isinstance(expression, sp.Mul):
        for factor in expression.args:
            yield from _zeros(factor) if factor.has(t) else ()
    elif (polynomial := _in_a_root(expression)) is not None:
        inner, degree = polynomial
        yield from (z**degree if z.is_Rational else sp.N(z, 60) ** degree for z in sp.real_roots(inner) if z > 0)
    else:
        raise ValueError(
            f"generator: where abs({expression}) has a kink cannot be found; write sums of powers of t in abs()"
        )


def _in_a_root(expression: sp.Expr) -> tuple[sp.Poly, int] | None:
    """The numerator as a polynomial in the n-th root of t, and n; None for no sum of powers, or a degree over 12."""
    root = sp.Symbol("root", positive=True)
    degree = math.lcm(
        *(int(part.exp.q) for part in expression.atoms(sp.Pow) if part.base == t and part.exp.is_Rational)
    )
    inner = sp.numer(sp.together(expression.subs(t, root**degree)))
    if not inner.is_polynomial(root) or sp.degree(inner, root) > LARGEST_DEGREE:
        return None
    return sp.Poly(inner, root), degree


def jump(parts: tuple[Part, ...], order: int) -> sp.Expr:
    """The largest jump, or steepest fall, of the derivative of that order between neighbours; infinite where it is."""
    jumps = [
        sp.N((sp.diff(after.expression, t, order) - sp.diff(before.expression, t, order)).subs(t, after.low), 40)
        for before, after in itertools.pairwise(parts)
    ]
    return max((found if found.is_finite else sp.oo for found in jumps), key=abs, default=sp.S.Zero)


def is_twice_differentiable(parts: tuple[Part, ...]) -> bool:
    """Whether neither f' nor f'' jumps between two parts."""
    return all(abs(jump(parts, order)) < SAME for order in (1, 2))
