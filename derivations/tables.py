"""The book's two overview tables of divergences, computed from their generators."""

import sympy as sp

from derivations import emit, regimes
from derivations.divergences import (
    ALPHA_SLOPE,
    DIVERGENCES,
    Family,
    Row,
    alpha,
    beta,
    blend,
    exponent,
    order,
    power,
    skew,
    width,
)
from fguidance import symbolic
from fguidance.symbolic import t

FORMULAS = """\
| name | $f(t)$ | $f''(1)$ |
|---|---|---|
"""
LIMITS = """\
| name | $L$ | force at one-hot $p$ | $f(0)$ | $f^*(0)$ |
|---|---|---|---|---|
"""

WRITTEN = {power: r"\lambda", order: "r", skew: "s", blend: "b", width: "h", exponent: "k", beta: r"\beta"}


def math(expression: sp.Expr) -> str:
    """An expression between dollars, for a cell of a table."""
    written = sp.latex(expression, symbol_names=WRITTEN).replace(r"\left|{", r"\left\lvert{")
    return f"${written.replace('}' + chr(92) + 'right|', '}' + chr(92) + 'right' + chr(92) + 'rvert')}$"


def slope(row: Row) -> sp.Expr:
    """f'(t) in the gauge f'(1) = 0, for a reader."""
    if row.family is None:
        return symbolic.tidied_slope(row.generator)
    if row.family.as_alpha is not None:
        factor, at = row.family.as_alpha
        return factor * ALPHA_SLOPE.subs(alpha, at)
    if row.slope is not None:
        return row.slope
    simple = sp.simplify(symbolic.slope(row.generator))
    return min(simple, sp.factor(simple), key=sp.count_ops)


def weight(row: Row) -> sp.Expr:
    """w = p f'(p/q), for a reader."""
    p, q = sp.symbols("p q", positive=True)
    if row.family is None:
        return symbolic.weight(row.generator, p, q)
    return p * slope(row).subs(t, p / q)


def limit(row: Row, at: sp.Expr) -> sp.Expr:
    """The generator of a family in the limit of a parameter."""
    assert row.family is not None
    return emit.limit_of_family(row, at)


def _saturation_by_sign() -> dict[str, sp.Expr]:
    """The limit of the alpha family's t f'(t) at 0 for negative, zero and positive alpha."""
    negative, positive = sp.Symbol("a", negative=True), sp.Symbol("a", positive=True)
    cases = {"<": negative, "=": sp.Integer(0), ">": positive}
    return {
        case: sp.limit(sp.powsimp(sp.expand(t * ALPHA_SLOPE.subs(alpha, value))), t, 0, "+")
        for case, value in cases.items()
    }


def _alpha_cells(family: Family, member: tuple[sp.Expr, sp.Expr]) -> list[str]:
    """The limits of a multiple of the alpha family."""
    factor, at = member
    anywhere = sp.Symbol("x", real=True)
    zero, one = (sp.solve(at.subs(family.parameter, anywhere) - end, anywhere)[0] for end in (0, 1))
    name = sp.latex(family.parameter, symbol_names=WRITTEN)
    cases = _saturation_by_sign()
    if family.low >= zero:
        cases = {">": cases[">"]}
    at_order_zero = factor.subs(family.parameter, zero)
    limits = {f"{name} {sign} {zero}": at_order_zero * found if sign == "=" else found for sign, found in cases.items()}
    listed = "; ".join(f"${sp.latex(found)}$ for ${case}$" for case, found in limits.items())
    forces = "; ".join(f"{_force(found)} for ${case}$" for case, found in limits.items())
    at_zero, at_infinity = (math(sp.factor(factor / part)) for part in (at, 1 - at))
    within = f"{at_zero} for ${name} > {zero}$, else $\\infty$", f"{at_infinity} for ${name} < {one}$, else $\\infty$"
    return [listed, forces, *within]


def _force(limit: sp.Expr) -> str:
    if limit == 0:
        return "vanishes"
    return "stays" if limit.is_finite else "grows"


def _ranges(row: Row, family: Family) -> list[sp.Expr]:
    """The parameter in terms of a > 0, in as many ranges as its special values make."""
    a = sp.Symbol("a", positive=True)
    if family.specials:
        (special,) = family.specials
        return [special * a / (1 + a), special + a]
    return [a / (1 + a) if family.high == 1 else family.low + a if family.low.is_integer else a]


def _form_cells(row: Row, family: Family) -> list[str]:
    """The limits of a family with a form of its own; L must be the same for all its parameters."""
    bare = sp.expand(t * symbolic.near_zero(slope(row)))
    limits = {sp.limit(sp.expand(bare.subs(family.parameter, inside)), t, 0, "+") for inside in _ranges(row, family)}
    if len(limits) != 1:
        raise ValueError(f"{row.name}: t f'(t) tends to {limits} at 0, depending on {family.parameter}")
    (found,) = limits
    return [math(found), _force(found), *map(math, emit.limits(row))]


def _limit_cells(row: Row) -> list[str]:
    if row.family is None:
        found = symbolic.saturation_limit(row.generator)
        return [math(found), _force(found), *map(math, symbolic.end_values(row.generator))]
    return (
        _form_cells(row, row.family) if row.family.as_alpha is None else _alpha_cells(row.family, row.family.as_alpha)
    )


def _curvature(row: Row) -> str:
    if row.family is None:
        c, m = regimes.at_agreement(row.generator)
        return math(2 * c) if m == 2 else "$0$" if m > 2 else "kink"
    if row.generator.has(sp.Abs):
        return "$0$ for $k > 2$, infinite for $k < 2$"
    return math(sp.factor(sp.simplify(sp.diff(slope(row), t).subs(t, 1))))


def divergence_table() -> str:
    """The registered divergences as two Markdown tables: their generators, and their limits."""
    formulas = [
        f"| {{ref}}`{row.name} <divergence-{row.name}>` | {math(row.generator)} | {_curvature(row)} |"
        for row in DIVERGENCES
    ]
    limits = [" | ".join((f"| `{row.name}`", *_limit_cells(row))) + " |" for row in DIVERGENCES]
    return FORMULAS + "\n".join(formulas) + "\n\n" + LIMITS + "\n".join(limits) + "\n"
