"""The book's pages of divergences: two overview tables, and a block of facts for each, computed from its generator.

What a generator does in three regimes (p close to q, p sure of the label, p sure of another class) is read off two
leading terms of the slope f' in the gauge f'(1) = 0, one towards t = 0 and one towards infinity, and one of f at t = 1.
With k the class that p is sure of, the force is F_i = w_i - p_i sum(w), and of it only p_i (f'(t_i) - f'(1/q_k)) is
left for i != k.
"""

import functools
from dataclasses import dataclass
from typing import Literal

import sympy as sp

from derivations import emit
from derivations.divergences import (
    ALPHA_SLOPE,
    DIVERGENCES,
    SLOPE,
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
from fguidance.describe import slope_range
from fguidance.symbolic import t

LOGARITHM = r"\log (1/q_k)"
Kind = Literal["finite", "logarithm", "power", "exponential"]


@dataclass(frozen=True)
class Leading:
    """The slope at one end: it tends to `value`, or is like value log t, value t^power, or an exponential."""

    kind: Kind
    value: sp.Expr
    power: sp.Expr = sp.S.Zero


def _leading(slope: sp.Expr, power: sp.Expr, end: sp.Expr) -> Leading:
    if power.is_infinite:
        return Leading("exponential", slope, power)
    if power != 0:
        return Leading("power", sp.simplify(sp.limit(sp.expand(slope * t**-power), t, end)), power)
    limit = sp.limit(slope, t, end)
    if limit.is_finite:
        return Leading("finite", sp.simplify(limit))
    return Leading("logarithm", sp.limit(sp.expand(sp.expand_log(slope, force=True) / sp.log(t)), t, end))


def at_zero(generator: sp.Expr) -> Leading:
    """The slope in the gauge as t tends to 0."""
    return _leading(symbolic.near_zero(symbolic.slope(generator)), symbolic.growth_powers(generator)[0], sp.S.Zero)


def at_infinity(generator: sp.Expr) -> Leading:
    """The slope in the gauge as t tends to infinity."""
    return _leading(symbolic.far_out(symbolic.slope(generator)), symbolic.growth_powers(generator)[1], sp.oo)


def at_agreement(generator: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """c and m of f(t) ~ c |t - 1|^m in the gauge, for t close to 1."""
    fixed = symbolic.far_out(symbolic.gauge_fixed(generator))
    x = sp.Symbol("x", positive=True)
    for even in (2, 4):
        if not generator.has(sp.Abs) and (found := sp.simplify(sp.diff(fixed, t, even).subs(t, 1))) != 0:
            return found / sp.factorial(even), sp.Integer(even)
    above = fixed.subs(t, 1 + x)
    degree = sp.limit(sp.simplify(x * sp.diff(above, x) / above), x, 0, "+")
    return sp.limit(sp.simplify(above / x**degree), x, 0, "+"), degree


def fate(generator: sp.Expr) -> str:
    """What the force does as p becomes one-hot: stays, grows, fades (with a power of 1 - p below one) or vanishes."""
    end = at_zero(generator)
    if end.kind != "power":
        return "vanishes"
    return "stays" if end.power == -1 else "grows" if end.power < -1 else "fades"


def _times(number: sp.Expr, rest: str) -> str:
    """A number before a product, signs and ones written as one would."""
    if number in (1, -1):
        return ("-" if number == -1 else "") + rest
    text = sp.latex(number)
    return (rf"\left({text}\right)" if isinstance(number, sp.Add) else text) + rf"\, {rest}"


def _plus(number: sp.Expr) -> str:
    return "" if number == 0 else f"{'-' if number.is_negative else '+'} {sp.latex(abs(number))}"


def _raised(base: str, power: sp.Expr) -> str:
    return "" if power == 0 else base if power == 1 else f"{base}^{{{sp.latex(power)}}}"


def agreement(generator: sp.Expr) -> str:
    """The divergence where p is close to q, in LaTeX."""
    c, m = at_agreement(generator)
    gap = r"\lvert p_i - q_i \rvert"  # a plain bar would end the cell of a table
    rest = {1: gap, 2: r"\frac{(p_i - q_i)^2}{q_i}"}.get(m, rf"{gap}^{{{sp.latex(m)}}} q_i^{{{sp.latex(1 - m)}}}")
    total = _times(c, r"\sum_i " + rest)
    return rf"$D_f \approx {total}$"


def _shares(end: Leading, i: str) -> str:
    """The leading factor of -F_i for a class that p all but excludes, without the number."""
    if end.kind == "logarithm":
        return rf"p_{i} \log \frac{{q_{i}}}{{p_{i}}}"
    return r"\, ".join(filter(None, (_raised(f"q_{i}", -end.power), _raised(f"p_{i}", 1 + end.power))))


def sure_of_label(generator: sp.Expr) -> str:
    """The force on the label's logit as p becomes one-hot on the label: what guidance subtracts from it."""
    end = at_zero(generator)
    if end.kind == "finite":
        return rf"vanishes: $F_y \approx \left(f'(1/q_y) {_plus(-end.value)}\right) (1 - p_y)$"
    if end.power == -1:
        return rf"stays: $F_y \to {_times(-end.value, '(1 - q_y)')}$"
    number = end.value if end.kind == "logarithm" else -end.value
    total = _times(number, r"\sum_{i \neq y} " + _shares(end, "i"))
    return rf"{fate(generator)}: $F_y \approx {total}$"


def sure_of_another(generator: sp.Expr) -> str:
    """The force on the label's logit as p becomes one-hot on another class k."""
    end = at_zero(generator)
    if end.kind == "finite":
        return rf"vanishes: $F_y \approx -\left(f'(1/q_k) {_plus(-end.value)}\right) p_y$"
    if end.power == -1:
        return rf"stays: $F_y \to {_times(end.value, 'q_y')}$"
    number = -end.value if end.kind == "logarithm" else end.value
    return rf"{fate(generator)}: $F_y \approx {_times(number, _shares(end, 'y'))}$"


def slope_on_the_wrong_class(generator: sp.Expr) -> str:
    """How large f'(1/q_k) becomes if the target gives a small q_k to the class that p is sure of."""
    end = at_infinity(generator)
    if end.kind == "finite":
        return rf"below ${sp.latex(end.value)}$"
    if end.kind == "logarithm":
        return f"like ${_times(end.value, LOGARITHM)}$"
    if end.kind == "power":
        return f"like ${_times(end.value, _raised('q_k', -end.power))}$"
    return r"exponentially in $1/q_k$"


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


@functools.cache
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


def _curvature_of(row: Row) -> str:
    if row.family is None:
        c, m = at_agreement(row.generator)
        return math(2 * c) if m == 2 else "$0$" if m > 2 else "kink"
    if row.generator.has(sp.Abs):
        return "$0$ for $k > 2$, infinite for $k < 2$"
    return math(sp.factor(sp.simplify(sp.diff(slope(row), t).subs(t, 1))))


def divergence_table() -> str:
    """The registered divergences as two Markdown tables: their generators, and their limits."""
    formulas = [
        f"| {{ref}}`{row.name} <divergence-{row.name}>` | {math(row.generator)} | {_curvature_of(row)} |"
        for row in DIVERGENCES
    ]
    limits = [" | ".join((f"| `{row.name}`", *_limit_cells(row))) + " |" for row in DIVERGENCES]
    return FORMULAS + "\n".join(formulas) + "\n\n" + LIMITS + "\n".join(limits) + "\n"


CITED = {
    "arXiv:2511.05844": "javid2025", "Ali and Silvey 1966": "ali1966", "Amari 1985": "amari1985",
    "Charbonnier et al. 1997": "charbonnier1997", "Cressie and Read 1984": "cressie1984",
    "Csiszár 1967": "csiszar1967", "Dragomir, Šunde and Buşe 2000": "dragomir2000",
    "Goodfellow et al. 2014": "goodfellow2014", "Györfi and Vajda 2001": "gyorfi2001",
    "Hellinger 1909": "hellinger1909", "Jeffreys 1946": "jeffreys1946",
    "Kafka, Österreicher and Vincze 1991": "kafka1991", "Le Cam 1986": "lecam1986", "Lee 1999": "lee1999",
    "Lin 1991": "lin1991", "Lindsay 1994": "lindsay1994", "Neyman 1949": "neyman1949",
    "Nowozin, Cseke and Tomioka 2016": "nowozin2016", "Pearson 1900": "pearson1900",
    "Puri and Vincze 1990": "puri1990", "Taneja 1995": "taneja1995", "Tsallis 1998": "tsallis1998",
    "Vajda 1973": "vajda1973", "Vincze 1981": "vincze1981", "Österreicher 1996": "osterreicher1996",
    "Österreicher and Vajda 2003": "osterreicher2003",
}  # fmt: skip


def source(row: Row) -> str:
    """Where the row comes from, its works as citations."""
    text = row.source
    for number, work in enumerate(sorted(CITED, key=len, reverse=True)):
        text = text.replace(work, f"<{number}>")
    for number, work in enumerate(sorted(CITED, key=len, reverse=True)):
        text = text.replace(f"<{number}>", f"{{cite:t}}`{CITED[work]}`")
    return text


def member(row: Row) -> sp.Expr:
    """The generator, of a family at its default parameter."""
    return row.generator if row.family is None else row.generator.subs(row.family.parameter, row.family.default)


def is_symmetric(generator: sp.Expr) -> bool:
    """Whether f is its own dual in the gauge."""
    fixed = symbolic.gauge_fixed(generator)
    try:
        emit.require_equal("dual", symbolic.dual(fixed), fixed)
    except emit.EmissionFailed:
        return False
    return True


def _dual(generator: sp.Expr) -> str:
    if is_symmetric(generator):
        return "$f$ itself: symmetric"
    fixed = symbolic.gauge_fixed(generator)
    plain = symbolic.dual(fixed)
    forms = [form for form in (sp.simplify(plain), sp.factor(plain)) if not _has_odd_powers(form)]
    return math(min((plain, *forms), key=sp.count_ops))


def _has_odd_powers(expression: sp.Expr) -> bool:
    """Whether t stands in an exponent over a base that holds t, too, as SymPy likes to write t log t."""
    return any(part.exp.has(t) and part.base.has(t) for part in expression.atoms(sp.Pow))


def conjugate(row: Row) -> sp.Expr | None:
    """The stated sup over t > 0 of v t - f(t) for the slopes v that f' takes, proved: at v = f'(t) it is t f' - f."""
    if row.conjugate is None:
        return None
    parameters = {} if row.family is None else {row.family.parameter: row.family.default}
    found, generator = row.conjugate.subs(parameters), member(row)
    at = sp.diff(generator, t)
    reached = found.subs(SLOPE, at).replace(sp.LambertW, _inverse)
    emit.require_equal(row.name, reached, t * at - generator)
    return found


def _inverse(product: sp.Expr) -> sp.Expr:
    """Lambert's W of x e^x: x, where x > 0 is an exponent in the product."""
    inside = (part.args[0] for part in sp.powsimp(sp.expand(product)).atoms(sp.exp))
    return next(x for x in inside if sp.simplify(product - x * sp.exp(x)) == 0)


def _conjugate(row: Row) -> str:
    found = conjugate(row)
    return "none stated" if found is None else f"{math(found)} for {_slopes(member(row))}"


def _slopes(generator: sp.Expr) -> str:
    low, high = (sp.simplify(end) for end in slope_range(generator))
    if high == sp.oo:
        return "all $v$" if low == -sp.oo else f"$v > {sp.latex(low)}$"
    below = "" if low == -sp.oo else f"{sp.latex(low)} < "
    return f"${below}v < {sp.latex(high)}$"


def _range(generator: sp.Expr) -> str:
    ends = symbolic.end_values(generator)
    return "unbounded" if sp.oo in ends else rf"$0 \le D_f \le {sp.latex(sp.simplify(sum(ends)))}$"


def _curvature(generator: sp.Expr) -> str:
    c, m = at_agreement(generator)
    return math(2 * c) if m == 2 else "$0$" if m > 2 else "infinite" if m > 1 else "none: a kink"


def _exponent(generator: sp.Expr) -> str:
    return math(symbolic.growth_powers(generator)[0])


def _formulas(row: Row) -> list[tuple[str, str]]:
    return [("$f(t)$", math(row.generator)), ("$f'(t)$", math(slope(row))), ("$w$", math(weight(row)))]


def _parameter(family: Family) -> list[tuple[str, str]]:
    name, closed = sp.latex(family.parameter, symbol_names=WRITTEN), r"\le" if not family.is_open else "<"
    interval = rf"{sp.latex(family.low)} {closed} {name} {closed} {sp.latex(family.high)}"
    return [("parameter", f"${interval}$; what follows is at ${name} = {sp.latex(family.default)}$")]


def _limits(row: Row, family: Family) -> list[tuple[str, str]]:
    name = sp.latex(family.parameter, symbol_names=WRITTEN)
    found = [(f"${name} = {sp.latex(at)}$", math(limit(row, at))) for at in family.specials]
    if family.as_alpha is not None and row.name != "alpha":
        factor, order = family.as_alpha
        times = "" if factor == 1 else f"{math(factor)} times "
        found.append(("is", f"{times}the alpha family at {math(order)}"))
    return found


def _facts(row: Row) -> list[tuple[str, str]]:
    generator = member(row)
    return [
        ("$f''(1)$", _curvature(generator)),
        ("dual", _dual(generator)),
        ("conjugate", _conjugate(row)),
        ("range", _range(generator)),
        ("$s$", _exponent(generator)),
        (r"$p \approx q$", agreement(generator)),
        ("sure of $y$", sure_of_label(generator)),
        ("sure of $k \\neq y$", sure_of_another(generator)),
        ("$f'(1/q_k)$", slope_on_the_wrong_class(generator)),
        ("source", source(row)),
    ]


def block(row: Row) -> str:
    """One divergence: a heading with an anchor and a table of two columns."""
    lines = _formulas(row)
    if row.family is not None:
        lines += _limits(row, row.family) + _parameter(row.family)
    lines += _facts(row)
    head = f"(divergence-{row.name})=\n### `{row.name}`\n\n{row.title[0].upper()}{row.title[1:]}.\n"
    body = "\n".join(f"| {name} | {fact} |" for name, fact in lines)
    return f"{head}\n| | |\n|---|---|\n{body}\n"


def _section(title: str, rows: list[Row]) -> list[str]:
    """Links to the blocks, and the blocks."""
    links = ", ".join(f"{{ref}}`{row.name} <divergence-{row.name}>`" for row in rows)
    return [f"## {title}\n", f"{links}.\n", *map(block, rows)]


def library() -> str:
    """The blocks of all registered divergences: those without a parameter, then the families."""
    plain = [row for row in DIVERGENCES if row.family is None]
    families = [row for row in DIVERGENCES if row.family is not None]
    return "\n".join(_section("Without a parameter", plain) + _section("Families", families))
