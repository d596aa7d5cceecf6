"""A SymPy expression as a function of a number, by walking its tree: no source text is printed or executed."""

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mpmath
import sympy as sp
import torch
from mpmath import mpf
from sympy.codegen.cfunctions import expm1, log1p
from torch import Tensor

LARGEST_EXPONENT = 1 << 64


class held(sp.Function):  # type: ignore[misc]
    """A sum that SymPy shall not multiply out: the identity."""


class log_quotient(sp.Function):  # type: ignore[misc]
    """log(1 + x)/x, which stays 1 where x is so small that neither could be told from 0."""


@dataclass(frozen=True)
class Arithmetic:
    """What an expression is evaluated in: numbers like the argument, powers and functions.

    Attributes:
        number: (expression without symbols, argument) to a number like the argument, or None to evaluate its parts.
        power: (base, rational exponent) to the power.
        functions: SymPy classes to functions of one number.
    """

    number: Callable[[sp.Expr, Any], Any]
    power: Callable[[Any, sp.Expr], Any]
    functions: Mapping[type, Callable[[Any], Any]]


def _torch_power(base: Tensor, exponent: sp.Expr) -> Tensor:
    if exponent == sp.Rational(1, 2):
        return torch.sqrt(base)
    return base ** (int(exponent) if exponent.is_Integer else float(exponent))


def _torch_number(expression: sp.Expr, like: Tensor) -> Tensor:
    number = float(expression)
    if abs(number) > torch.finfo(like.dtype).max:
        raise OverflowError(f"the number {number:g} in it is beyond the range of {like.dtype}")
    return torch.full_like(like, number)


def _torch_log_quotient(x: Tensor) -> Tensor:
    small = x.abs() < torch.finfo(x.dtype).tiny
    divisor = torch.where(small, 1.0, x)
    return torch.where(small, 1.0, torch.log1p(divisor) / divisor)


TORCH = Arithmetic(
    number=_torch_number,
    power=_torch_power,
    functions={
        sp.exp: torch.exp, sp.log: torch.log, expm1: torch.expm1, log1p: torch.log1p, sp.tanh: torch.tanh,
        sp.atan: torch.atan, sp.Abs: torch.abs, sp.sign: torch.sign, log_quotient: _torch_log_quotient,
        held: torch.clone,
    },
)  # fmt: skip


def _mpmath_number(expression: sp.Expr, _: mpf) -> mpf | None:
    if expression.is_Rational:
        return mpf(int(expression.p)) / int(expression.q)
    return None if expression.args else expression._to_mpmath(mpmath.mp.prec + 10)


def _mpmath_exp(argument: mpf) -> mpf:
    """The exponential, refused where even its exponent would fill the memory."""
    if abs(argument.real) > LARGEST_EXPONENT:
        if argument.real > 0:
            raise OverflowError("an exponential is beyond exp(2**64)")
        return mpf(0)
    return mpmath.exp(argument)


MPMATH = Arithmetic(
    number=_mpmath_number,
    power=lambda base, exponent: base ** (int(exponent) if exponent.is_Integer else _mpmath_number(exponent, base)),
    functions={
        sp.exp: _mpmath_exp, sp.log: mpmath.log, expm1: mpmath.expm1, log1p: mpmath.log1p, sp.tanh: mpmath.tanh,
        sp.atan: mpmath.atan, sp.Abs: abs, sp.sign: mpmath.sign,
    },
)  # fmt: skip


def evaluate(expression: sp.Expr, symbol: sp.Symbol, argument: Any, arithmetic: Arithmetic = TORCH) -> Any:
    """The value of `expression` with `symbol` at `argument`; of tensors elementwise, in their dtype and device.

    Args:
        expression: numbers, `symbol`, sums, products, powers with a rational exponent, and known functions.
        symbol: the only symbol in it.
        argument: a tensor, or a number of `arithmetic`.
        arithmetic: what the argument is calculated with.

    Raises:
        ValueError: the expression holds a function that has no counterpart here.
    """
    if expression == symbol:
        return argument
    if expression.is_number and (number := arithmetic.number(expression, argument)) is not None:
        return number
    if isinstance(expression, sp.Add | sp.Mul):
        combine = operator.add if isinstance(expression, sp.Add) else operator.mul
        return functools.reduce(combine, (evaluate(part, symbol, argument, arithmetic) for part in expression.args))
    if isinstance(expression, sp.Pow) and expression.exp.is_number:
        base = evaluate(expression.base, symbol, argument, arithmetic)
        return arithmetic.power(base, expression.exp)
    if type(expression) in arithmetic.functions:
        return arithmetic.functions[type(expression)](evaluate(expression.args[0], symbol, argument, arithmetic))
    raise ValueError(f"generator: no numerical form of {expression} is known")
