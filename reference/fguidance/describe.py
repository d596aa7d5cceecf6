"""All that follows from a generator, in one record: what `fguidance derive` prints."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from fguidance import symbolic
from fguidance.divergence import Divergence
from fguidance.printed_code import ACCURACY, print_code
from fguidance.symbolic import t
from fguidance.timed import within

SECONDS, SECONDS_FOR_CODE, ALTOGETHER = 0.8, 1.2, 2.6
"""Processor time for each property that SymPy may not find, and for the whole description."""
MAXIMUM_DEGREE = 1000
"""Of polynomials in a root of t: their factors are found by one call into C that nothing interrupts."""

slope_symbol = sp.Symbol("s", real=True)
p, q = sp.symbols("p q", positive=True)


@dataclass(frozen=True)
class Description:
    """A generator and what was derived from it; None stands for what SymPy did not find in its time.

    Attributes:
        generator: f(t), as it was given, in `fguidance.symbolic.t`.
        gauge_fixed: f(t) - f'(1)(t - 1), the same divergence.
        slope: f'(t) in the gauge f'(1) = 0.
        weight: p f'(p/q) in that gauge, in `p` and `q`.
        dual: t f(1/t) of the gauge-fixed generator.
        domain: the ratios t = p/q at which f is finite.
        end_values: the limits of f(t) at 0 and of f(t)/t at infinity, in the gauge.
        saturation_exponent: the power s <= 0 of t with which f' grows at 0.
        saturation_limit: the limit of t f'(t) at 0; unless it is 0 the force survives a one-hot classifier.
        weight_is_bounded: whether |w| is bounded over all p and q.
        largest_value: the supremum of D over all distributions (its smallest value is 0).
        curvature: f''(1), the divergence's scale near p = q; 1 for both KLs.
        conjugate: sup over t > 0 of s t - f(t), in s, for slopes s that f' takes.
        conjugate_range: the ends of those slopes, the limits of f' at 0 and infinity. Below, the supremum is -f(0) for
            every s; above, it is infinite.
        torch: source of `weight(log_p, log_q)` and `value(log_p, log_q)` in PyTorch.
        numpy: the same in NumPy.
        accuracy: what is stated about that code.
    """

    generator: sp.Expr
    gauge_fixed: sp.Expr
    slope: sp.Expr
    weight: sp.Expr
    dual: sp.Expr
    domain: str
    end_values: tuple[sp.Expr, sp.Expr] | None
    saturation_exponent: sp.Expr | None
    saturation_limit: sp.Expr | None
    weight_is_bounded: bool | None
    largest_value: sp.Expr | None
    curvature: sp.Expr | None
    conjugate: sp.Expr | None
    conjugate_range: tuple[sp.Expr, sp.Expr] | None
    torch: str | None
    numpy: str | None
    accuracy: str

    @property
    def latex(self) -> dict[str, str]:
        """f, f', w and what else has a formula, as LaTeX."""
        names = ("generator", "gauge_fixed", "slope", "weight", "dual", "conjugate")
        return {name: sp.latex(getattr(self, name)) for name in names if getattr(self, name) is not None}

    def as_dict(self) -> dict[str, Any]:
        """Everything as text, numbers and booleans, for JSON."""
        found = {name: _plain(part) for name, part in vars(self).items()}
        return {**found, "latex": self.latex}


def _plain(part: Any) -> Any:
    if isinstance(part, tuple):
        return [_plain(entry) for entry in part]
    return str(part) if isinstance(part, sp.Expr) else part


def describe(source: "str | sp.Expr | Divergence", parameters: Mapping[str, float] | None = None) -> Description:
    """Derive everything that is known to follow from a generator.

    Args:
        source: text for `parse_generator`, a SymPy expression in one symbol, or a `Divergence`.
        parameters: values of further names that the text may use.

    Returns:
        The description. What takes over 0.8 s of processor time (1.2 s for the code), or is not reached within 2.6 s
        altogether, is None; slope, weight and dual are then written as they are, without a simplification.

    Raises:
        TypeError: none of these.
        ValueError: no generator, as for `Divergence.from_generator`, or a divergence that has none.
    """
    find = _Budget(ALTOGETHER)
    generator = _generator_of(source, parameters)
    fixed, slope = symbolic.understandable(
        generator, lambda: (symbolic.gauge_fixed(generator), symbolic.slope(generator))
    )  # fmt: skip
    simplify = find if degree_in_roots(generator) <= MAXIMUM_DEGREE else _nothing
    curvature = find(lambda: _curvature(generator))
    ends = find(lambda: symbolic.end_values(generator))
    saturation = find(lambda: symbolic.saturation_limit(generator))
    exponent = find(lambda: symbolic.growth_powers(generator)[0])
    known = ends is not None and saturation is not None
    return Description(
        generator=generator,
        gauge_fixed=fixed,
        domain=_domain(ends),
        end_values=ends,
        saturation_limit=saturation,
        weight_is_bounded=bool(ends[1].is_finite and saturation.is_finite) if known else None,
        saturation_exponent=exponent,
        largest_value=None if ends is None else sp.oo if sp.oo in ends else find(lambda: sp.simplify(sum(ends))),
        curvature=curvature,
        conjugate_range=find(lambda: slope_range(generator)),
        torch=find(lambda: print_code(generator, "torch"), SECONDS_FOR_CODE),
        numpy=find(lambda: print_code(generator, "numpy"), SECONDS_FOR_CODE),
        accuracy=ACCURACY,
        slope=simplify(lambda: symbolic.tidied_slope(generator)) or slope,
        weight=simplify(lambda: symbolic.weight(generator, p, q)) or p * slope.subs(t, p / q),
        dual=simplify(lambda: sp.simplify(symbolic.dual(fixed))) or t * fixed.subs(t, 1 / t),
        conjugate=simplify(lambda: conjugate(generator)),
    )


def _nothing(_: Callable[[], Any]) -> None:
    """In place of a search that could not be ended."""


def degree_in_roots(expression: sp.Expr) -> int:
    """The degree of the polynomial in a root of t, or in a power of e^t, that SymPy would make of an expression.

    Of t**(97/50) it is 97: SymPy takes t**(1/50) for the unknown.
    """
    if isinstance(expression, sp.Pow) and expression.exp.is_Rational:
        return abs(int(expression.exp.p)) * degree_in_roots(expression.base)
    degrees = [degree_in_roots(part) for part in expression.args]
    if isinstance(expression, sp.exp):
        rates = (term.as_coeff_Mul()[0] for term in sp.Add.make_args(expression.args[0]))
        return max(abs(int(rate.p)) for rate in rates) * max(degrees)
    return sum(degrees) if isinstance(expression, sp.Mul) else max(degrees, default=int(expression == t))


def _generator_of(source: "str | sp.Expr | Divergence", parameters: Mapping[str, float] | None) -> sp.Expr:
    if not isinstance(source, Divergence):
        return symbolic.as_generator(source, parameters)
    if source.generator is None:
        raise ValueError(f"{source.name} is a printed weight that belongs to no f-divergence: it has no generator")
    return source.generator


def _curvature(generator: sp.Expr) -> sp.Expr | None:
    found = sp.simplify(sp.diff(generator, t, 2).subs(t, 1))
    return found if found.is_finite and not found.has(sp.DiracDelta) else None


def _domain(ends: tuple[sp.Expr, sp.Expr] | None) -> str:
    """The ratios t that have a finite value; a class with p = 0 or q = 0 belongs to it where the limit is finite."""
    if ends is None:
        return "t > 0"
    zero = "t >= 0 (p = 0 allowed)" if ends[0].is_finite else "t > 0 (infinite at p = 0)"
    return f"{zero}, {'q = 0 allowed' if ends[1].is_finite else 'infinite at q = 0'}"


class _Budget:
    """What SymPy derives, or None if it cannot or has no time left."""

    def __init__(self, seconds: float) -> None:
        self._until = time.thread_time() + seconds

    def __call__(self, derive: Callable[[], Any], most: float | None = None) -> Any:
        left = min(self._until - time.thread_time(), most or SECONDS)
        if left <= 0:
            return None
        try:
            return symbolic.understandable("generator", lambda: within(left, "derivation", derive))
        except ValueError:
            return None


def slope_range(generator: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """The limits of f', of f as it is written, at 0 and infinity: between them its conjugate has its formula.

    Raises:
        NotImplementedError: SymPy finds no limit.
    """
    derivative = sp.diff(generator, t)
    return (
        sp.limit(symbolic.near_zero(derivative), t, 0, "+"),
        sp.limit(symbolic.far_out(derivative), t, sp.oo),
    )


def conjugate(generator: sp.Expr) -> sp.Expr | None:
    """s t - f(t) at the t where f'(t) = s, in the symbol s, checked at t = 1/2 and 2; None where none is found.

    Raises:
        NotImplementedError: SymPy cannot solve for t.
    """
    derivative = sp.diff(generator, t)
    for solution in sp.solve(derivative - slope_symbol, t):
        found = sp.simplify(slope_symbol * solution - generator.subs(t, solution))
        pairs = [(derivative.subs(t, at), derivative.subs(t, at) * at - generator.subs(t, at)) for at in (sp.S.Half, 2)]
        if all(abs(sp.N(found.subs(slope_symbol, slope) - expected, 30)) < 1e-15 for slope, expected in pairs):
            return found
    return None
