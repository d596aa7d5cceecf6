"""Ways to write a slope where the plain ones lose digits or overflow: around t = 1, at a pole at zero, far out."""

import sympy as sp
from sympy.codegen.cfunctions import expm1, log1p
from sympy.codegen.rewriting import log1p_opt, optimize

from fguidance import symbolic
from fguidance.interpreter import held, log_quotient
from fguidance.parsing import t
from fguidance.symbolic import ENDS, ScaledSlope, log_ratio

CANCELLING = 8
"""How many times the sum of a polynomial's terms at t = 1 their sizes may add up to, before it is written in t - 1."""


def slope_around_one(generator: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """f' as `symbolic.scaled_slope` anchors it, and its derivative in u, both in u = `log_ratio` around 0."""
    derivative = symbolic.factored(t * sp.diff(generator, t, 2))
    return around_one(symbolic.anchored_slope(generator)), around_one(derivative)


def around_one(expression: sp.Expr) -> sp.Expr:
    """The expression at t = e^u, in u = `log_ratio`, its polynomials that cancel near t = 1 in powers of expm1(u).

    Args:
        expression: in t.

    Returns:
        The same function of u. (t - 1)**2 + c, multiplied out, would lose all that is smaller than a rounding of 1.
    """
    return _recentred(expression).subs(t, sp.exp(log_ratio))


def _recentred(expression: sp.Expr) -> sp.Expr:
    if isinstance(expression, sp.log) and expression.args[0].is_polynomial(t) and expression.args[0].subs(t, 1) == 1:
        return log1p(_in_powers_of_change(expression.args[0] - 1)) if expression.args[0] != t else log_ratio
    if isinstance(expression, sp.Add) and expression.is_polynomial(t) and _cancels(expression):
        return _in_powers_of_change(expression)
    return expression.func(*map(_recentred, expression.args)) if expression.args else expression


def _cancels(polynomial: sp.Expr) -> bool:
    sizes = sum(abs(coefficient) for coefficient in sp.Poly(polynomial, t).all_coeffs())
    return bool(sp.N(sizes) > CANCELLING * abs(sp.N(polynomial.subs(t, 1))))


def _in_powers_of_change(polynomial: sp.Expr) -> sp.Expr:
    change = sp.Dummy()
    return sp.Poly(polynomial.subs(t, 1 + change), change).as_expr().subs(change, expm1(log_ratio))


def slope_far_out(generator: sp.Expr) -> ScaledSlope:
    """The slope as `symbolic.scaled_slope` gives it, written so that no exponential and no pole overflows."""
    anchored = symbolic.factored(symbolic.anchored_slope(generator))
    at_zero, at_infinity = (symbolic.exponential_growth(_bounded(anchored, end), end) for end in ENDS)
    return symbolic.slope_over_growth(generator, (at_zero, at_infinity), _divided, _in_log_ratio)


def _divided(expression: sp.Expr, power: sp.Expr, exponent: sp.Expr, end: sp.Expr) -> sp.Expr:
    """The expression over t^power e^exponent, term by term: multiplied out, a denominator would hold the pole again."""
    bounded = _bounded(expression, end)
    terms = sp.Add.make_args(without_small_logarithms(bounded) if end == 0 else bounded)
    return symbolic.tidied(sp.Add(*(sp.powsimp(term * t**-power * sp.exp(-exponent)) for term in terms)))


def _in_log_ratio(expression: sp.Expr) -> sp.Expr:
    """Without expm1: SymPy would take an exponential out again that was divided by."""
    return optimize(sp.expand_log(sp.powsimp(expression.subs(t, sp.exp(log_ratio))), force=True), (log1p_opt,))


def _bounded(expression: sp.Expr, end: sp.Expr) -> sp.Expr:
    """The expression with the fastest exponential taken out of each sum.

    log(1 + e^t) is t + log(1 + e^-t), in which nothing overflows as t goes to infinity.
    """
    if not expression.has(sp.exp) or not expression.args:
        return expression
    inner = expression.func(*(_bounded(part, end) for part in expression.args))
    base, power = (inner.args[0], None) if isinstance(inner, sp.log) else inner.as_base_exp()
    if not isinstance(base, sp.Add) or not (exponent := symbolic.exponential_growth(base, end)):
        return inner
    rest = sp.expand(base * sp.exp(-exponent))
    return exponent + sp.log(rest) if power is None else sp.exp(power * exponent) * held(rest) ** power


def without_small_logarithms(expression: sp.Expr) -> sp.Expr:
    """The expression with log(1 + x) as x times a quotient where x vanishes with t, so that its power can be taken out.

    Args:
        expression: in t.
    """

    def written(argument: sp.Expr) -> sp.Expr:
        small = sp.expand(argument - 1)
        if not small.is_polynomial(t) or small.subs(t, 0) != 0:
            return sp.log(argument)
        return sp.factor(small) * log_quotient(small)

    return expression.replace(sp.log, written)
