"""The tree walker against SymPy's own evaluation."""

import dataclasses
import math

import mpmath
import pytest
import sympy as sp
import torch
from sympy.codegen.cfunctions import expm1, log1p

from fguidance.symbolic.evaluate import MPMATH, TORCH, evaluate

x = sp.Symbol("x", real=True)
POINTS = torch.tensor([-2.5, -0.3, 0.4, 1.7], dtype=torch.float64)
EXPRESSIONS = (
    x, sp.Integer(3), sp.pi, sp.E * x, x**2 - 2 * x + sp.Rational(1, 3), (x**2 + 1) ** -2, sp.sqrt(x**2 + 1),
    (x**2 + 1) ** sp.Rational(-3, 2), sp.exp(x), sp.log(x**2 + 1), expm1(x), log1p(x**2), sp.tanh(x), sp.atan(x),
    x * sp.exp(x) * sp.log(2) / 3, sp.exp(-sp.exp(x)), -x, x**-1, sp.log(3) * x,
)  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=str)
def test_agrees_with_sympy(expression: sp.Expr) -> None:
    expected = [float(expression.subs(x, sp.Float(point, 40)).evalf(30)) for point in POINTS.tolist()]
    found = evaluate(expression, x, POINTS)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float32, torch.float64), ids=str)
def test_keeps_dtype_and_shape(dtype: torch.dtype) -> None:
    argument = torch.ones(2, 3, dtype=dtype)
    for expression in (x, sp.Integer(2), sp.pi * x, sp.sqrt(x + 1), sp.Integer(0), 2 * sp.exp(1) - 1):
        found = evaluate(expression, x, argument)
        assert (found.dtype, found.shape) == (dtype, (2, 3))
        assert found[0, 0].item() == pytest.approx(float(expression.subs(x, 1)), rel=2 * torch.finfo(dtype).eps)


def test_expm1_and_log1p_keep_small_arguments() -> None:
    small = torch.tensor([1e-12], dtype=torch.float64)
    for function in (expm1(x), log1p(x)):
        torch.testing.assert_close(evaluate(function, x, small), small, rtol=1e-11, atol=0)


def test_is_differentiable() -> None:
    point = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    expression = sp.exp(x) * sp.log(x**2 + 1)
    (slope,) = torch.autograd.grad(evaluate(expression, x, point), point)
    assert math.isclose(float(slope), float(sp.diff(expression, x).subs(x, 0.7)), rel_tol=1e-12)


@pytest.mark.parametrize("expression", (sp.gamma(x), sp.Symbol("y") * x, 2**x * sp.Function("f")(x), x**x), ids=str)
def test_what_has_no_numerical_form_is_refused(expression: sp.Expr) -> None:
    with pytest.raises(ValueError, match="no numerical form"):
        evaluate(expression, x, POINTS)


class TestHighPrecision:
    @pytest.mark.parametrize("expression", EXPRESSIONS, ids=str)
    def test_agrees_with_sympy(self, expression: sp.Expr) -> None:
        with mpmath.workdps(60):
            for point in (sp.Rational(1, 3), sp.Rational(17, 10)):
                found = evaluate(expression, x, mpmath.mpf(point.p) / point.q, MPMATH)
                assert abs(found - expression.subs(x, point).evalf(60)._to_mpmath(220)) < mpmath.mpf(10) ** -55

    def test_whole_numbers_keep_their_digits(self) -> None:
        """An argument may be far beyond float64."""
        with mpmath.workdps(50):
            assert evaluate(x**-65, x, mpmath.mpf(10) ** 6, MPMATH) == mpmath.mpf(10) ** -390

    def test_exponentials_without_bounds_are_refused(self) -> None:
        huge = mpmath.mpf(10) ** 1300
        assert evaluate(sp.exp(-x), x, huge, MPMATH) == 0
        with pytest.raises(OverflowError, match="beyond exp"):
            evaluate(sp.exp(x), x, huge, MPMATH)


def test_a_number_beyond_the_dtype() -> None:
    expression = 10**40 * x
    assert evaluate(expression, x, POINTS)[0] == -2.5e40
    with pytest.raises(OverflowError, match=r"1e\+40 in it is beyond the range of torch.float32"):
        evaluate(expression, x, POINTS.float())


def test_a_part_that_occurs_twice_is_calculated_once() -> None:
    calls = []

    def exponential(argument: torch.Tensor) -> torch.Tensor:
        calls.append(argument)
        return torch.exp(argument)

    counting = dataclasses.replace(TORCH, functions={**TORCH.functions, sp.exp: exponential})
    expression = sp.exp(x) / (1 + sp.exp(x)) + sp.log(1 + sp.exp(x))
    torch.testing.assert_close(evaluate(expression, x, POINTS, counting), evaluate(expression, x, POINTS))
    assert len(calls) == 1
