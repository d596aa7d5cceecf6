"""The weight and the value of a generator as a few lines of PyTorch or NumPy, to paste into a program of one's own.

The text stands alone. It is printed for a reader and is never executed here.
"""

import sympy as sp
from sympy.printing.numpy import NumPyPrinter

from fguidance import symbolic
from fguidance._generated import NODES, quadrature_radius
from fguidance.symbolic import Piece, log_ratio, print_torch, t

ACCURACY = (
    "Relative error of each weight, and of each share in the value, below (128 + 8 |u|) units in the last place "
    "of float64 and float32, u = log p - log q, for |u| up to 300, log-probabilities above -320, and results inside "
    "the range of the dtype. Where f holds an exponential of t, |u| up to 3. "
    "A generator that turns within less than |u| = 0.4 of t = 1 may lose digits of the value there."
)
_GROWN = """
def _grown(log_p, x):
    \"\"\"exp(log_p) * expm1(x), where expm1 alone would overflow.\"\"\"
    small = {m}.exp(log_p) * {m}.expm1({m}.where(x < 1, x, 0 * x))
    return {m}.where(x < 1, small, {m}.exp({m}.where(x < 1, 0 * x, log_p + x)) - {m}.exp(log_p))
"""
_RISE = """
def _rise(x, share):
    \"\"\"log(1 - share + share * exp(x)), accurate near x = 0.\"\"\"
    near = {m}.log1p(share * {m}.expm1({m}.where(x < 30, x, 0 * x)))
    return {m}.where(x < 30, near, x + {m}.log1p((1 - share) * {m}.expm1(-abs(x))))
"""
_NODES = """
NODES = (  # Gauss-Legendre quadrature on [0, 1]: positions and weights
{nodes}
)
"""
_WEIGHT = """
def weight(log_p, log_q):
    \"\"\"p f'(p/q) for f(t) = {generator}, in the gauge f'(1) = 0; log_p and log_q finite, shape (..., classes).\"\"\"
    return _weight(log_p, log_p - log_q)
"""
_PIECES = """
def _weight(log_p, u):
    return {terms}
"""
_GENERAL = """
def _weight(log_p, u):
    y = -abs(u)
    slope = {m}.where(u < 0, {left}, {right})
    growth = {m}.where(u < 0, {growth_left}, {growth_right})
    far = {m}.exp(log_p + growth) * slope - {m}.exp(log_p) * {tangent}
    close = {m}.where(y > -0.5, u, 0 * u)
    near = close * sum(share * _bend(node * close) for node, share in NODES)
    return {m}.where(y > -0.5, {m}.exp(log_p) * near, far)


def _bend(u):
    \"\"\"t f''(t) at t = exp(u).\"\"\"
    return {bend} + 0 * u
"""
_VALUE = """
def value(log_p, log_q):
    \"\"\"The divergence sum_i q_i f(p_i / q_i), shape (...).\"\"\"
    u = log_p - log_q
    y = {m}.where(abs(u) < {radius}, 0 * u - {radius}, -abs(u))
    zero = {m}.exp(log_q + {growth_left}) * ({left})
    infinity = {m}.exp(log_p + {growth_right}) * ({right})
    far = {m}.where(u < 0, zero, infinity)
    close = {m}.where(abs(u) < {radius}, u, 0 * u)
    near = close * sum(share * _weight(log_q + node * close, node * close) for node, share in NODES)
    return {m}.where(abs(u) < {radius}, near, far).sum(-1)
"""


class _PlainNumPyPrinter(NumPyPrinter):  # type: ignore[misc]
    """SymPy's printer with plain float literals, which leave float32 as it is."""

    def _print(self, expression: sp.Basic, **settings: object) -> str:
        if isinstance(expression, sp.Expr) and expression.is_number and not expression.is_Integer:
            return repr(float(expression))
        return str(super()._print(expression, **settings))


def _print_expression(expression: sp.Expr, module: str, name: str) -> str:
    named = expression.subs(log_ratio, sp.Symbol(name))
    return print_torch(named) if module == "torch" else str(_PlainNumPyPrinter().doprint(named))


def _array(expression: sp.Expr, module: str, name: str = "y") -> str:
    """An expression that is an array even where it is constant."""
    text = _print_expression(expression, module, name)
    return text if expression.has(log_ratio) else f"{text} + 0 * {name}"


def _term(piece: Piece, module: str) -> str:
    """One increasing piece of f' less its value at u = 0, times p (the kernels of :eq:`eq-weight`)."""
    numbers = [float(argument) for argument in piece.arguments]
    coefficient = numbers[0]
    if piece.kernel == "log_difference":
        return f"{coefficient} * {module}.exp(log_p) * u"
    if piece.kernel == "power_difference":
        return f"{coefficient} * _grown(log_p, {numbers[1]} * u)"
    if piece.kernel == "softplus_difference":
        share = float(1 / (1 + sp.exp(-piece.arguments[1] * piece.arguments[2])))
        return f"{coefficient} * {module}.exp(log_p) * _rise({numbers[2]} * u, {share})"
    share = float(1 / (1 + sp.exp(-piece.arguments[2])))
    scale = float(piece.arguments[0] / (1 + sp.exp(piece.arguments[2])) ** piece.arguments[1])
    return f"{scale} * {module}.exp(log_p) * {module}.expm1({-numbers[1]} * _rise(u, {share}))"


def _general(generator: sp.Expr, module: str) -> str:
    scaled = symbolic.scaled_slope(generator)
    bend = symbolic.in_log_ratio(t * sp.diff(generator, t, 2))
    return _GENERAL.format(
        m=module,
        left=_array(scaled.value[0], module),
        right=_array(scaled.value[1], module),
        growth_left=_array(scaled.growth[0], module),
        growth_right=_array(scaled.growth[1], module),
        tangent=float(scaled.value[0].subs(log_ratio, 0) * sp.exp(scaled.growth[0].subs(log_ratio, 0))),
        bend=_print_expression(bend, module, "u"),
    )


def print_code(generator: sp.Expr, module: str) -> str:
    """The functions `weight(log_p, log_q)` and `value(log_p, log_q)` as source text.

    Args:
        generator: f(t), an expression in t that `as_generator` accepted.
        module: ``"torch"`` or ``"numpy"``.

    Returns:
        Text that imports nothing but the module. Its accuracy is stated in `ACCURACY`.

    Raises:
        ValueError: `module` is neither, or f' jumps, so that there is no stable form.
    """
    if module not in ("torch", "numpy"):
        raise ValueError(f"module must be 'torch' or 'numpy', not {module!r}")
    if sp.diff(generator, t, 2).has(sp.DiracDelta, sp.sign, sp.Derivative, sp.Subs):
        raise ValueError(f"generator {generator} must be twice differentiable to be printed")
    found = symbolic.pieces(generator)
    if found is None:
        body = _general(generator, module)
    else:
        body = _PIECES.format(terms=" + ".join(_term(piece, module) for piece in found))
    tails, growth = symbolic.scaled_tails(generator)
    value = _VALUE.format(
        m=module,
        radius=1.0 if found is None else quadrature_radius(symbolic.steepest_power(found)),
        left=_array(tails[0], module),
        right=_array(tails[1], module),
        growth_left=_array(growth[0], module),
        growth_right=_array(growth[1], module),
    )
    weight = _WEIGHT.format(generator=generator)
    helpers = [text.format(m=module) for name, text in (("_grown(", _GROWN), ("_rise(", _RISE)) if name in body]
    nodes = _NODES.format(nodes="\n".join(f"    ({node!r}, {share!r})," for node, share in NODES))
    return "\n".join([f"import {module}\n", nodes, *helpers, weight, body, value]).strip() + "\n"
