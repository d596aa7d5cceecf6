"""What a generator does in three regimes: p close to q, p sure of the label, and p sure of another class.

Everything is read off two leading terms of the slope f' in the gauge f'(1) = 0, one towards t = 0 and one towards
infinity, and one of f at t = 1. With k the class that p is sure of, the force is F_i = w_i - p_i sum(w), and of it only
p_i (f'(t_i) - f'(1/q_k)) is left for i != k.
"""

from dataclasses import dataclass
from typing import Literal

import sympy as sp

from fguidance import symbolic
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
    for order in (2, 4):
        if not generator.has(sp.Abs) and (found := sp.simplify(sp.diff(fixed, t, order).subs(t, 1))) != 0:
            return found / sp.factorial(order), sp.Integer(order)
    above = fixed.subs(t, 1 + x)
    order = sp.limit(sp.simplify(x * sp.diff(above, x) / above), x, 0, "+")
    return sp.limit(sp.simplify(above / x**order), x, 0, "+"), order


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
