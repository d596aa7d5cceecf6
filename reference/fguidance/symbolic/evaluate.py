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

LARGEST_EXPONENT = 1 << 4096


Function = Callable[[Any], Any]
"""Of one tensor or number, to one like it."""


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """What an expression is evaluated in: numbers like the argument, powers and functions.

    Attributes:
        number: an expression without symbols to the function of the argument that gives it, like the argument, or to
            None where its parts are to be evaluated.
        constant: the same inside an expression, where it may be anything to add to or multiply by.
        power: a rational exponent to the function of the base that gives the power.
        functions: SymPy classes to functions of numbers.
    """

    number: Callable[[sp.Expr], Function | None]
    constant: Callable[[sp.Expr], Function | None]
    power: Callable[[sp.Expr], Function]
    functions: Mapping[type, Callable[..., Any]]


def _torch_power(exponent: sp.Expr) -> Function:
    if exponent == sp.Rational(1, 2):
        return torch.sqrt
    number = int(exponent) if exponent.is_Integer else float(exponent)
    return lambda base: base**number


def _torch_constant(expression: sp.Expr) -> Callable[[Tensor], float]:
    number = float(expression)

    def constant(argument: Tensor) -> float:
        if abs(number) > torch.finfo(argument.dtype).max:
            raise OverflowError(f"the number {number:g} in it is beyond the range of {argument.dtype}")
        return number

    return constant


def _torch_number(expression: sp.Expr) -> Function:
    constant = _torch_constant(expression)
    return lambda argument: torch.full_like(argument, constant(argument))


TORCH = Arithmetic(
    number=_torch_number,
    constant=_torch_constant,
    power=_torch_power,
    functions={
        sp.exp: torch.exp, sp.log: torch.log, expm1: torch.expm1, log1p: torch.log1p, sp.tanh: torch.tanh,
        sp.atan: torch.atan, sp.Abs: torch.abs, sp.sign: torch.sign,
    },
)  # fmt: skip


def _mpmath_number(expression: sp.Expr) -> Function | None:
    """Anew for each argument, to the precision that holds then."""
    if expression.is_Rational:
        return lambda _: mpf(int(expression.p)) / int(expression.q)
    return None if expression.args else lambda _: expression._to_mpmath(mpmath.mp.prec + 10)


def _mpmath_power(exponent: sp.Expr) -> Function:
    if exponent.is_Integer:
        return lambda base: base ** int(exponent)
    return lambda base: base ** (mpf(int(exponent.p)) / int(exponent.q))


def _mpmath_exp(argument: mpf) -> mpf:
    """The exponential, refused where even its exponent would fill the memory."""
    if abs(argument.real) > LARGEST_EXPONENT:
        if argument.real > 0:
            raise OverflowError("an exponential is beyond exp(2**4096)")
        return mpf(0)
    return mpmath.exp(argument)


MPMATH = Arithmetic(
    number=_mpmath_number,
    constant=_mpmath_number,
    power=_mpmath_power,
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
    return compiled(expression, (symbol,), arithmetic)(argument)


@functools.lru_cache(maxsize=1024)
def compiled(expression: sp.Expr, symbols: tuple[sp.Symbol, ...], arithmetic: Arithmetic) -> Callable[..., Any]:
    """The expression as a function of its symbols, in which every part is calculated once.

    Args:
        expression: as in `evaluate`.
        symbols: the arguments of the function, in order.
        arithmetic: what the argument of the function is calculated with.

    Raises:
        ValueError: as in `evaluate`.
    """
    if expression.is_number and (number := arithmetic.number(expression)) is not None:
        return lambda *arguments: number(arguments[0])
    program = _Program(symbols, arithmetic)
    program.place(expression)
    return program.run


class _Program:
    """Steps in the order in which they are taken, each of the results of earlier ones; the first are the arguments."""

    def __init__(self, symbols: tuple[sp.Symbol, ...], arithmetic: Arithmetic) -> None:
        self._arithmetic = arithmetic
        self._steps: list[tuple[Callable[..., Any], tuple[int, ...]]] = []
        self._places: dict[sp.Expr, int] = {symbol: place for place, symbol in enumerate(symbols)}
        self._arguments = len(symbols)

    def place(self, expression: sp.Expr) -> int:
        """Where the value of the expression stands among the results."""
        if expression not in self._places:
            self._steps.append(self._step(expression))
            self._places[expression] = self._arguments + len(self._steps) - 1
        return self._places[expression]

    def _step(self, expression: sp.Expr) -> tuple[Callable[..., Any], tuple[int, ...]]:
        if expression.is_number and (number := self._arithmetic.constant(expression)) is not None:
            return number, (0,)
        if isinstance(expression, sp.Add | sp.Mul):
            return _SUM_OR_PRODUCT[expression.func], tuple(map(self.place, expression.args))
        if isinstance(expression, sp.Pow) and expression.exp.is_number:
            return self._arithmetic.power(expression.exp), (self.place(expression.base),)
        if expression.func in self._arithmetic.functions:
            return self._arithmetic.functions[expression.func], tuple(map(self.place, expression.args))
        raise ValueError(f"generator: no numerical form of {expression} is known")

    def run(self, *arguments: Any) -> Any:
        results = list(arguments)
        for step, operands in self._steps:
            results.append(step(*(results[operand] for operand in operands)))
        return results[-1]


def _sum(*terms: Any) -> Any:
    return functools.reduce(operator.add, terms)


def _product(*factors: Any) -> Any:
    return functools.reduce(operator.mul, factors)


_SUM_OR_PRODUCT = {sp.Add: _sum, sp.Mul: _product}
