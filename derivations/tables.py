"""The book's table of divergences, computed from their generators."""

import sympy as sp

from derivations import emit
from derivations.divergences import ALPHA_SLOPE, DIVERGENCES, Family, Row, alpha, blend, order, power, skew
from fguidance import symbolic
from fguidance.symbolic import t

FORMULAS = """\
| name | $f(t)$ | $f'(t)$, gauge $f'(1) = 0$ | weight $w$ |
|---|---|---|---|
"""
LIMITS = """\
| name | $f''(1)$ | $t f'(t)$ as $t \\to 0$ | force at one-hot $p$ | $f(0)$ | $f(t)/t$ as $t \\to \\infty$ | source |
|---|---|---|---|---|---|---|
"""

WRITTEN = {power: r"\lambda", order: "r", skew: "s", blend: "b"}


def _math(expression: sp.Expr) -> str:
    return f"${sp.latex(expression, symbol_names=WRITTEN)}$"


def _force(limit: sp.Expr) -> str:
    if limit == 0:
        return "vanishes"
    return "stays" if limit.is_finite else "grows"


def _plain_row(row: Row) -> tuple[list[str], list[str]]:
    """The cells of a divergence in the table of formulas and in that of limits."""
    limit = symbolic.saturation_limit(row.generator)
    at_zero, at_infinity = symbolic.end_values(row.generator)
    curvature = sp.simplify(sp.diff(row.generator, t, 2).subs(t, 1))
    weight = emit.readable_weight(row.generator, *sp.symbols("p q", positive=True))
    formulas = (row.generator, symbolic.tidied_slope(row.generator), weight)
    limits = [_math(curvature), _math(limit), _force(limit), _math(at_zero), _math(at_infinity)]
    return list(map(_math, formulas)), limits


def _saturation_by_sign() -> dict[str, sp.Expr]:
    """The limit of the alpha family's t f'(t) at 0 for negative, zero and positive alpha."""
    negative, positive = sp.Symbol("a", negative=True), sp.Symbol("a", positive=True)
    cases = {"<": negative, "=": sp.Integer(0), ">": positive}
    return {
        case: sp.limit(sp.powsimp(sp.expand(t * ALPHA_SLOPE.subs(alpha, value))), t, 0, "+")
        for case, value in cases.items()
    }


def _alpha_cells(family: Family, member: tuple[sp.Expr, sp.Expr]) -> tuple[sp.Expr, list[str]]:
    """The slope and the limits of a multiple of the alpha family."""
    factor, at = member
    anywhere = sp.Symbol("x", real=True)
    zero, one = (sp.solve(at.subs(family.parameter, anywhere) - end, anywhere)[0] for end in (0, 1))
    name = sp.latex(family.parameter, symbol_names=WRITTEN)
    cases = _saturation_by_sign()
    if family.low >= zero:
        cases = {">": cases[">"]}
    at_order_zero = factor.subs(family.parameter, zero)
    limits = {f"{name} {sign} {zero}": at_order_zero * limit if sign == "=" else limit for sign, limit in cases.items()}
    listed = "; ".join(f"${sp.latex(limit)}$ for ${case}$" for case, limit in limits.items())
    forces = "; ".join(f"{_force(limit)} for ${case}$" for case, limit in limits.items())
    at_zero, at_infinity = (_math(sp.factor(factor / part)) for part in (at, 1 - at))
    within = f"{at_zero} for ${name} > {zero}$, else $\\infty$", f"{at_infinity} for ${name} < {one}$, else $\\infty$"
    slope = factor * ALPHA_SLOPE.subs(alpha, at)
    curvature = sp.simplify(sp.diff(slope, t).subs(t, 1))
    return slope, [_math(curvature), listed, forces, *within]


def _piece_cells(row: Row, family: Family) -> tuple[sp.Expr, list[str]]:
    """The slope and the limits of a family with a parameter between 0 and 1."""
    inner = emit.within(family, row.generator)
    limit = symbolic.saturation_limit(inner)
    slope = sp.simplify(symbolic.slope(row.generator))
    curvature = sp.factor(sp.diff(row.generator, t, 2).subs(t, 1))
    return slope, [_math(curvature), _math(limit), _force(limit), *map(_math, emit.family_ends(row))]


def _family_row(row: Row, family: Family) -> tuple[list[str], list[str]]:
    p, q = sp.symbols("p q", positive=True)
    member = family.as_alpha
    slope, limits = _piece_cells(row, family) if member is None else _alpha_cells(family, member)
    return [_math(expression) for expression in (row.generator, slope, p * slope.subs(t, p / q))], limits


def divergence_table() -> str:
    """The registered divergences as two Markdown tables: their formulas, and their limits."""
    formulas, limits = [], []
    for row in DIVERGENCES:
        first, second = _plain_row(row) if row.family is None else _family_row(row, row.family)
        formulas.append("| " + " | ".join((f"`{row.name}`<br>{row.title}", *first)) + " |")
        limits.append("| " + " | ".join((f"`{row.name}`", *second, row.source)) + " |")
    return FORMULAS + "\n".join(formulas) + "\n\n" + LIMITS + "\n".join(limits) + "\n"
