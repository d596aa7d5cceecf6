"""A SymPy expression as a function of a tensor, by walking its tree: no source text is printed or executed."""

import functools
import operator
from collections.abc import Callable

import sympy as sp
import torch
from sympy.codegen.cfunctions import expm1, log1p
from torch import Tensor

_FUNCTIONS: dict[type, Callable[[Tensor], Tensor]] = {
    sp.exp: torch.exp,
    sp.log: torch.log,
    expm1: torch.expm1,
    log1p: torch.log1p,
    sp.tanh: torch.tanh,
    sp.atan: torch.atan,
    sp.Abs: torch.abs,
    sp.sign: torch.sign,
}


def _tensor(number: float, like: Tensor) -> Tensor:
    return torch.full_like(like, number)


def _power(base: Tensor, exponent: sp.Expr) -> Tensor:
    if exponent == sp.Rational(1, 2):
        return torch.sqrt(base)
    return base ** (int(exponent) if exponent.is_Integer else float(exponent))


def evaluate(expression: sp.Expr, symbol: sp.Symbol, argument: Tensor) -> Tensor:
    """The value of `expression` with `symbol` at `argument`, elementwise, in the argument's dtype and device.

    Raises:
        ValueError: the expression holds a function that has no counterpart here.
    """
    if expression == symbol:
        return argument
    if expression.is_number:
        return _tensor(float(expression), argument)
    if isinstance(expression, sp.Add | sp.Mul):
        combine = operator.add if isinstance(expression, sp.Add) else operator.mul
        return functools.reduce(combine, (evaluate(part, symbol, argument) for part in expression.args))
    if isinstance(expression, sp.Pow) and expression.exp.is_number:
        return _power(evaluate(expression.base, symbol, argument), expression.exp)
    if type(expression) in _FUNCTIONS:
        return _FUNCTIONS[type(expression)](evaluate(expression.args[0], symbol, argument))
    raise ValueError(f"generator: no numerical form of {expression} is known")
