"""The book's table of divergences, computed from their generators."""

import sympy as sp

from derivations.divergences import ALPHA_SLOPE, DIVERGENCES, Row, alpha
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


def _math(expression: sp.Expr) -> str:
    return f"${sp.latex(expression)}$"


def _force(limit: sp.Expr) -> str:
    if limit == 0:
        return "vanishes"
    return "stays" if limit.is_finite else "grows"


def _plain_row(row: Row) -> tuple[list[str], list[str]]:
    """The cells of a divergence in the table of formulas and in that of limits."""
    limit = symbolic.saturation_limit(row.generator)
    at_zero, at_infinity = symbolic.end_values(row.generator)
    curvature = sp.simplify(sp.diff(row.generator, t, 2).subs(t, 1))
    weight = symbolic.weight(row.generator, *sp.symbols("p q", positive=True))
    formulas = (row.generator, symbolic.tidied_slope(row.generator), weight)
    limits = [_math(curvature), _math(limit), _force(limit), _math(at_zero), _math(at_infinity)]
    return list(map(_math, formulas)), limits


def _saturation_by_sign() -> dict[str, sp.Expr]:
    """The limit of the alpha family's t f'(t) at 0 for negative, zero and positive alpha."""
    negative, positive = sp.Symbol("a", negative=True), sp.Symbol("a", positive=True)
    cases = {r"\alpha < 0": negative, r"\alpha = 0": sp.Integer(0), r"\alpha > 0": positive}
    return {
        case: sp.limit(sp.powsimp(sp.expand(t * ALPHA_SLOPE.subs(alpha, value))), t, 0, "+")
        for case, value in cases.items()
    }


def _family_row(row: Row) -> tuple[list[str], list[str]]:
    p, q = sp.symbols("p q", positive=True)
    limits = _saturation_by_sign()
    listed = "; ".join(f"${sp.latex(limit)}$ for ${case}$" for case, limit in limits.items())
    forces = "; ".join(f"{_force(limit)} for ${case}$" for case, limit in limits.items())
    ends = (r"$1/\alpha$ for $\alpha > 0$, else $\infty$", r"$1/(1 - \alpha)$ for $\alpha < 1$, else $\infty$")
    formulas = (row.generator, ALPHA_SLOPE, p * ALPHA_SLOPE.subs(t, p / q))
    curvature = sp.simplify(sp.diff(ALPHA_SLOPE, t).subs(t, 1))
    return list(map(_math, formulas)), [_math(curvature), listed, forces, *ends]


def divergence_table() -> str:
    """The registered divergences as two Markdown tables: their formulas, and their limits."""
    formulas, limits = [], []
    for row in DIVERGENCES:
        first, second = _plain_row(row) if row.parameter is None else _family_row(row)
        formulas.append("| " + " | ".join((f"`{row.name}`<br>{row.title}", *first)) + " |")
        limits.append("| " + " | ".join((f"`{row.name}`", *second, row.source)) + " |")
    return FORMULAS + "\n".join(formulas) + "\n\n" + LIMITS + "\n".join(limits) + "\n"
