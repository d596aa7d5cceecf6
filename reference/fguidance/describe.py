"""All that follows from a generator, in one record and as text: what `fguidance derive` prints."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sympy as sp

from fguidance.divergence import Divergence
from fguidance.symbolic import generator as symbolic
from fguidance.symbolic import t
from fguidance.symbolic.printed import ACCURACY, print_code

SECONDS, SECONDS_FOR_CODE, ALTOGETHER = 0.8, 1.2, 2.6
"""Processor time for each property that SymPy may not find, and for the whole description."""
MAXIMUM_DEGREE = 1000
"""Of polynomials in a root of t: their factors are found by one call into C that nothing interrupts."""

NOT_FOUND = "not found in the time allowed"
WIDTH = 22

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

    @property
    def latex(self) -> dict[str, str]:
        """f, f', w and what else has a formula, as LaTeX."""
        names = ("generator", "gauge_fixed", "slope", "weight", "dual", "conjugate")
        return {name: sp.latex(getattr(self, name)) for name in names if getattr(self, name) is not None}

    def as_dict(self) -> dict[str, Any]:
        """Everything as text, numbers and booleans, for JSON."""

        def plain(part: Any) -> Any:
            if isinstance(part, tuple):
                return [plain(entry) for entry in part]
            return str(part) if isinstance(part, sp.Expr) else part

        return {name: plain(part) for name, part in vars(self).items()} | {"accuracy": ACCURACY, "latex": self.latex}


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
    find = _budget(ALTOGETHER)
    if not isinstance(source, Divergence):
        generator = symbolic.as_generator(source, parameters, kinks=True)
    elif source.generator is not None:
        generator = source.generator
    else:
        raise ValueError(f"{source.name} is a printed weight that belongs to no f-divergence: it has no generator")
    fixed, slope = symbolic.understandable(
        generator, lambda: (symbolic.gauge_fixed(generator), symbolic.slope(generator))
    )  # fmt: skip
    simplify = find if degree_in_roots(generator) <= MAXIMUM_DEGREE else lambda _: None
    curvature = find(lambda: sp.simplify(sp.diff(generator, t, 2).subs(t, 1)))
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
        curvature=curvature if curvature is not None and curvature.is_comparable and curvature.is_finite else None,
        conjugate_range=find(lambda: slope_range(generator)),
        torch=find(lambda: print_code(generator, "torch"), SECONDS_FOR_CODE),
        numpy=find(lambda: print_code(generator, "numpy"), SECONDS_FOR_CODE),
        slope=simplify(lambda: symbolic.tidied_slope(generator)) or slope,
        weight=simplify(lambda: symbolic.weight(generator, p, q)) or p * slope.subs(t, p / q),
        dual=simplify(lambda: sp.simplify(symbolic.dual(fixed))) or t * fixed.subs(t, 1 / t),
        conjugate=simplify(lambda: conjugate(generator)),
    )


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


def _domain(ends: tuple[sp.Expr, sp.Expr] | None) -> str:
    """The ratios t that have a finite value; a class with p = 0 or q = 0 belongs to it where the limit is finite."""
    if ends is None:
        return "t > 0"
    zero = "t >= 0 (p = 0 allowed)" if ends[0].is_finite else "t > 0 (infinite at p = 0)"
    return f"{zero}, {'q = 0 allowed' if ends[1].is_finite else 'infinite at q = 0'}"


def _budget(seconds: float) -> Callable[..., Any]:
    """What SymPy derives, or None if it cannot or has no time left."""
    until = time.thread_time() + seconds

    def find(derive: Callable[[], Any], most: float | None = None) -> Any:
        left = min(until - time.thread_time(), most or SECONDS)
        try:
            return symbolic.understandable("derivation", derive, left) if left > 0 else None
        except ValueError:
            return None

    return find


def slope_range(generator: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """The limits of f', of f as it is written, at 0 and infinity: between them its conjugate has its formula.

    Raises:
        NotImplementedError: SymPy finds no limit.
    """
    slope = sp.diff(generator, t)
    return sp.limit(symbolic.near_zero(slope), t, 0, "+"), sp.limit(symbolic.far_out(slope), t, sp.oo)


def conjugate(generator: sp.Expr, seconds: float = 30.0) -> sp.Expr | None:
    """s t - f(t) at the t where f'(t) = s, in the symbol s, checked at t = 1/2 and 2.

    Args:
        generator: f(t), an expression in t.
        seconds: processor time for the search.

    Returns:
        None where SymPy finds none in that time.
    """
    derivative = sp.diff(generator, t)

    def search() -> sp.Expr | None:
        pairs = [(derivative.subs(t, at), derivative.subs(t, at) * at - generator.subs(t, at)) for at in (sp.S.Half, 2)]
        for solution in sp.solve(derivative - slope_symbol, t):
            found = sp.simplify(slope_symbol * solution - generator.subs(t, solution))
            if all(abs(sp.N(found.subs(slope_symbol, slope) - expected, 30)) < 1e-15 for slope, expected in pairs):
                return found
        return None

    try:
        return symbolic.understandable(generator, search, seconds)
    except ValueError:
        return None


def as_text(found: Description) -> str:
    """The whole description, a line for each fact, then the code and the formulas in LaTeX; no newline at the end."""
    zero, infinity = found.end_values or (None, None)
    facts = {
        "generator f(t)": found.generator, "gauge-fixed": found.gauge_fixed, "slope f'(t)": found.slope,
        "weight p f'(p/q)": found.weight, "dual t f(1/t)": found.dual, "conjugate f*(s)": found.conjugate,
        "which holds for": _slopes(found.conjugate_range), "domain": found.domain, "f(t) at 0": zero,
        "f(t)/t at infinity": infinity, "saturation exponent": found.saturation_exponent,
        "t f'(t) at 0": found.saturation_limit, "weight is bounded": found.weight_is_bounded,
        "largest value": found.largest_value, "curvature f''(1)": found.curvature,
    }  # fmt: skip
    if found.conjugate is None:
        del facts["which holds for"]
    words = {None: NOT_FOUND, True: "yes", False: "no"}
    shown = {name: words[fact] if isinstance(fact, bool | None) else str(fact) for name, fact in facts.items()}
    return "\n\n".join((
        "\n".join(f"{name:{WIDTH}}" + re.sub(r"\boo\b", "infinity", fact) for name, fact in shown.items()),
        f"PyTorch\n\n{(found.torch or NOT_FOUND).strip()}",
        f"NumPy\n\n{(found.numpy or NOT_FOUND).strip()}",
        f"Accuracy\n\n{ACCURACY}",
        "LaTeX\n\n" + "\n".join(f"{name.replace('_', ' '):{WIDTH}}{text}" for name, text in found.latex.items()),
    ))  # fmt: skip


def _slopes(ends: tuple[sp.Expr, sp.Expr] | None) -> str:
    """The slopes for which the formula of the conjugate holds, and what it is for the others."""
    if ends is None:
        return f"slopes s that f' takes; they were {NOT_FOUND}"
    low, high = ends
    smaller = "" if low == -sp.oo else "; for smaller s, f* is constant"
    if high == sp.oo:
        return "all s" if low == -sp.oo else f"s > {low}{smaller}"
    return f"{'' if low == -sp.oo else f'{low} < '}s < {high}{smaller}; for larger s, f* is infinite"
