"""The weight and the value of a generator as a few lines of PyTorch or NumPy, to paste into a program of one's own.

The text stands alone. It is printed for a reader and is never executed here.
"""

import sympy as sp
from sympy.codegen.cfunctions import expm1, log1p
from sympy.printing.numpy import NumPyPrinter
from sympy.printing.precedence import PRECEDENCE

from fguidance.closed_forms import NODES
from fguidance.symbolic import forms, generator
from fguidance.symbolic.generator import log_ratio
from fguidance.symbolic.parsing import t

ACCURACY = (
    "Measured on 28 generators against 300 digits, for u = log p - log q up to 300 in size and log-probabilities above "
    "-320 in float64, -80 in float32: each weight is within 32 units in the last place of max(|weight|, p), and each "
    "share in the value within 64 of itself. Where f holds an exponential of t, |u| up to 3. "
    "A generator that turns within less than |u| = 0.4 of t = 1 may lose digits of the value there."
)
_NODES = """
NODES = (  # Gauss-Legendre quadrature on [0, 1]: positions and weights
{nodes}
)
"""
_POWER = """
def _power(p, q, u, a):
    \"\"\"q (p/q)^a; from u, whose rounding the power enlarges, only where the other way leaves the range.\"\"\"
    half = {m}.exp({m}.where(u > 0, (a - 1) * u, a * u) / 2)
    far = {m}.where(u > 0, p, q) * half * half
    info = {m}.finfo(p.dtype)
    inside = ({m}.minimum(p, q) > info.tiny) & (abs(a * u) < {m}.log(p * 0 + info.max))
    return {m}.where(inside, q * {m}.where(inside, p / q, 1 + 0 * p) ** a, far)
"""
_SOFTPLUS = """
def _softplus(x):
    \"\"\"log(1 + e^x).\"\"\"
    return {m}.where(x > 0, x, 0 * x) + {m}.log1p({m}.exp(-abs(x)))
"""
_TERMWISE = """
def _weight(p, q, u):
    return {weight} + {gauge!r} * p


def _value(p, q, u):
    return {value}
"""
_GENERAL = """
def _weight(p, q, u):
    y = -abs(u)
    slope = {m}.where(u < 0, {left}, {right})
    half = {m}.exp({m}.where(u < 0, {growth_left}, {growth_right}) / 2)
    close = {m}.where(y > -0.5, u, 0 * u)
    near = close * sum(share * _bend(node * close) for node, share in NODES)
    return {m}.where(y > -0.5, p * near, p * half * half * slope - p * {tangent})


def _value(p, q, u):
    y = {m}.where(abs(u) < 1, 0 * u - 1, -abs(u))
    below, above = {m}.exp(({below}) / 2), {m}.exp(({above}) / 2)
    return {m}.where(u < 0, q * below * below * ({at_zero}), p * above * above * ({at_infinity}))
"""
_TEXT = """
def weight(log_p, log_q):
    \"\"\"p f'(p/q) for f(t) = {generator}, in the gauge f'(1) = 0; log_p and log_q finite, shape (..., classes).\"\"\"
    return _weight({m}.exp(log_p), {m}.exp(log_q), log_p - log_q)


def value(log_p, log_q):
    \"\"\"The divergence sum_i q_i f(p_i / q_i), shape (...).\"\"\"
    p, q, u = {m}.exp(log_p), {m}.exp(log_q), log_p - log_q
    close = {m}.where(abs(u) < {radius}, u, 0 * u)
    near = close * sum(
        share * _bend(node * close) * {m}.exp(node * close) * {m}.expm1((1 - node) * close) for node, share in NODES
    )
    return {m}.where(abs(u) < {radius}, q * near, _value(p, q, u)).sum(-1)


def _bend(u):
    \"\"\"t f''(t) at t = exp(u).\"\"\"
    return {bend} + 0 * u
"""


class _Printer(NumPyPrinter):  # type: ignore[misc]
    """SymPy's printer with plain float literals, which leave float32 as it is, and the functions of a form."""

    def _print(self, expression: sp.Basic, **settings: object) -> str:
        if isinstance(expression, sp.Expr) and expression.is_number and not expression.is_Integer:
            return repr(float(expression))
        if isinstance(expression, expm1 | log1p):
            return f"numpy.{type(expression).__name__}({self._print(expression.args[0])})"
        if isinstance(expression, forms.Power | forms.Softplus):
            return f"_{type(expression).__name__.lower()}({', '.join(map(self._print, expression.args))})"
        if isinstance(expression, forms.Over):
            return "({}/{})".format(*(self.parenthesize(part, PRECEDENCE["Pow"]) for part in expression.args))
        if isinstance(expression, forms.Sigmoid):
            return f"(1/(1 + numpy.exp({self._print(-expression.args[0])})))"
        return str(super()._print(expression, **settings))


def _print(expression: sp.Expr, module: str, symbol: sp.Symbol = forms.u, name: str = "u") -> str:
    return str(_Printer().doprint(expression.subs(symbol, sp.Symbol(name)))).replace("numpy.", f"{module}.")


def _array(expression: sp.Expr, module: str) -> str:
    """An expression in y that is an array even where it is constant."""
    text = _print(forms.with_softplus(expression), module, log_ratio, "y")
    return text if expression.has(log_ratio) else f"{text} + 0 * y"


def _general(source: sp.Expr, module: str) -> str:
    (slope, slope_growth), (tails, growth) = generator.scaled_slope(source), generator.scaled_tails(source)
    sides = (*slope, *slope_growth, *growth, *tails)
    names = ("left", "right", "growth_left", "growth_right", "below", "above", "at_zero", "at_infinity")
    tangent = float(slope[0].subs(log_ratio, 0) * sp.exp(slope_growth[0].subs(log_ratio, 0)))
    printed = {name: _array(side, module) for name, side in zip(names, sides, strict=True)}
    return _GENERAL.format(m=module, tangent=tangent, **printed)


def print_code(source: sp.Expr, module: str) -> str:
    """The functions `weight(log_p, log_q)` and `value(log_p, log_q)` as source text.

    Args:
        source: f(t), an expression in t that `as_generator` accepted.
        module: ``"torch"`` or ``"numpy"``.

    Returns:
        Text that imports nothing but the module. Its accuracy is stated in `ACCURACY`.

    Raises:
        ValueError: `module` is neither, or f' jumps, so that there is no stable form.
    """
    if module not in ("torch", "numpy"):
        raise ValueError(f"module must be 'torch' or 'numpy', not {module!r}")
    if sp.diff(source, t, 2).has(sp.DiracDelta, sp.sign, sp.Derivative, sp.Subs):
        raise ValueError(f"generator {source} must be twice differentiable to be printed")
    form = forms.termwise(source)
    if form is None:
        body = _general(source, module)
    else:
        weight, value = _print(form.weight, module), _print(form.value, module)
        body = _TERMWISE.format(weight=weight, gauge=float(form.gauge), value=value)
    helpers = {"_power(": _POWER, "_softplus(": _SOFTPLUS}
    helper = "\n".join(text.format(m=module) for name, text in helpers.items() if name in body)
    radius = 1.0 if form is None else float(form.radius)
    bend = _print(forms.bend_of(source), module)
    text = _TEXT.format(m=module, generator=source, radius=radius, bend=bend)
    nodes = ((node, share) for x, share in NODES for node in (x, 1 - x))
    table = _NODES.format(nodes="\n".join(f"    ({node!r}, {share!r})," for node, share in nodes))
    return "\n".join([f"import {module}\n", table, helper, body, text]).strip() + "\n"
