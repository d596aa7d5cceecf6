"""Where on t > 0 a generator may bend quickly: near the zeros of what its roots and functions are taken of."""

import functools
from collections.abc import Iterator

import mpmath
import sympy as sp

from fguidance.parsing import t

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
    found = {place for inner in _inner_parts(generator) for place in _near_axis(inner)}
    return tuple(sorted(found))


def _inner_parts(generator: sp.Expr) -> Iterator[sp.Poly]:
    for part in generator.atoms(sp.Pow, sp.Function) - generator.atoms(sp.exp):
        if isinstance(part, sp.Pow) and part.exp.is_Integer and part.exp > 0:
            continue
        inner = part.args[0]
        if inner != t and inner.has(t) and inner.is_polynomial(t):
            polynomial = sp.Poly(inner, t)
            if polynomial.degree() <= LARGEST_DEGREE:
                yield polynomial


def _near_axis(polynomial: sp.Poly) -> Iterator[tuple[float, float]]:
    with mpmath.workdps(40):
        coefficients = [sp.N(c, 50)._to_mpmath(mpmath.mp.prec) for c in polynomial.all_coeffs()]
        try:
            zeros = mpmath.polyroots(coefficients, maxsteps=100, extraprec=200)
        except mpmath.NoConvergence:
            return
        for zero in zeros:
            if zero.real > 0 and abs(zero.imag) < CLOSE * zero.real:
                yield float(zero.real), float(abs(zero.imag))
