"""The library of divergences as a page: a small block of facts for each, all computed from its generator."""

import functools

import mpmath
import sympy as sp

from derivations import regimes, tables
from derivations.divergences import DIVERGENCES, Family, Row
from fguidance import symbolic
from fguidance.describe import conjugate, slope_range
from fguidance.symbolic import t
from fguidance.symbolic.evaluate import MPMATH, evaluate

UNSOLVED = frozenset({"symmetric_chi_squared", "arithmetic_geometric", "osterreicher_vajda"})
"""Rows whose equation f'(t) = s is a quartic or has no closed solution: SymPy tries for minutes."""
MAXIMUM_OPERATIONS = 25

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


def _value(generator: sp.Expr, at: sp.Rational) -> mpmath.mpf:
    return evaluate(generator, t, mpmath.mpf(int(at.p)) / int(at.q), MPMATH)


def is_symmetric(generator: sp.Expr) -> bool:
    """Whether f is its own dual in the gauge, at five points to 40 digits."""
    fixed = symbolic.gauge_fixed(generator)
    with mpmath.workdps(50):
        points = [sp.Rational(*pair) for pair in ((1, 7), (1, 2), (9, 10), (3, 1), (11, 1))]
        gaps = [_value(fixed, x) - mpmath.mpf(int(x.p)) / int(x.q) * _value(fixed, 1 / x) for x in points]
        return all(abs(gap) < mpmath.mpf(10) ** -40 for gap in gaps)


def _dual(generator: sp.Expr) -> str:
    if is_symmetric(generator):
        return "$f$ itself: symmetric"
    fixed = symbolic.gauge_fixed(generator)
    plain = symbolic.dual(fixed)
    forms = [form for form in (sp.simplify(plain), sp.factor(plain)) if not _has_odd_powers(form)]
    return tables.math(min((plain, *forms), key=sp.count_ops))


def _has_odd_powers(expression: sp.Expr) -> bool:
    """Whether t stands in an exponent over a base that holds t, too, as SymPy likes to write t log t."""
    return any(part.exp.has(t) and part.base.has(t) for part in expression.atoms(sp.Pow))


@functools.cache
def conjugate_of(row: Row) -> sp.Expr | None:
    """sup over t > 0 of v t - f(t), where SymPy finds it in few terms, for the slopes v that f' takes."""
    if row.name in UNSOLVED or member(row).has(sp.Abs):
        return None
    generator, s, x = member(row), sp.Symbol("s", real=True), sp.Symbol("x", positive=True)
    found = conjugate(generator)
    if found is None:
        return None
    top = sp.limit(sp.diff(generator, t), t, sp.oo)
    forms = [found, sp.simplify(found)]
    if top.is_finite:
        forms.append(sp.simplify(sp.simplify(found.subs(s, top - x)).subs(x, top - s)))
    if top.is_finite and top != 0:  # a root of 1 - (v/top)^2 as a number of its own; the tests see the sign of v
        rooted = sp.simplify(found.subs(s, top * sp.sqrt(1 - x**2))).subs(sp.sqrt(1 - x**2), s / top)
        forms.append(rooted.subs(x, sp.sqrt(1 - (s / top) ** 2)))
    shortest = min(forms, key=sp.count_ops)
    return shortest.subs(s, sp.Symbol("v")) if sp.count_ops(shortest) <= MAXIMUM_OPERATIONS else None


def _conjugate(row: Row) -> str:
    found = conjugate_of(row)
    return "none found" if found is None else f"{tables.math(found)} for {_slopes(member(row))}"


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
    c, m = regimes.at_agreement(generator)
    return tables.math(2 * c) if m == 2 else "$0$" if m > 2 else "infinite" if m > 1 else "none: a kink"


def _exponent(generator: sp.Expr) -> str:
    return tables.math(symbolic.growth_powers(generator)[0])


def _formulas(row: Row) -> list[tuple[str, str]]:
    slope = tables.slope(row)
    weight = tables.weight(row)
    return [("$f(t)$", tables.math(row.generator)), ("$f'(t)$", tables.math(slope)), ("$w$", tables.math(weight))]


def _parameter(family: Family) -> list[tuple[str, str]]:
    name, closed = sp.latex(family.parameter, symbol_names=tables.WRITTEN), r"\le" if not family.is_open else "<"
    interval = rf"{sp.latex(family.low)} {closed} {name} {closed} {sp.latex(family.high)}"
    return [("parameter", f"${interval}$; what follows is at ${name} = {sp.latex(family.default)}$")]


def _limits(row: Row, family: Family) -> list[tuple[str, str]]:
    name = sp.latex(family.parameter, symbol_names=tables.WRITTEN)
    found = [(f"${name} = {sp.latex(at)}$", tables.math(tables.limit(row, at))) for at in family.specials]
    if family.as_alpha is not None and row.name != "alpha":
        factor, order = family.as_alpha
        times = "" if factor == 1 else f"{tables.math(factor)} times "
        found.append(("is", f"{times}the alpha family at {tables.math(order)}"))
    return found


def _facts(row: Row) -> list[tuple[str, str]]:
    generator = member(row)
    return [
        ("$f''(1)$", _curvature(generator)),
        ("dual", _dual(generator)),
        ("conjugate", _conjugate(row)),
        ("range", _range(generator)),
        ("$s$", _exponent(generator)),
        (r"$p \approx q$", regimes.agreement(generator)),
        ("sure of $y$", regimes.sure_of_label(generator)),
        ("sure of $k \\neq y$", regimes.sure_of_another(generator)),
        ("$f'(1/q_k)$", regimes.slope_on_the_wrong_class(generator)),
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


def page() -> str:
    """The blocks of all registered divergences: those without a parameter, then the families."""
    plain = [row for row in DIVERGENCES if row.family is None]
    families = [row for row in DIVERGENCES if row.family is not None]
    return "\n".join(_section("Without a parameter", plain) + _section("Families", families))
