"""The careful ways to write a slope give the slope, and keep the digits that the plain ones lose."""

import mpmath
import pytest
import sympy as sp
import torch
from mpmath import mpf

from fguidance import careful, symbolic
from fguidance.interpreter import MPMATH, evaluate
from fguidance.parsing import parse_generator, t
from fguidance.symbolic import log_ratio

TEXTS = (
    "sqrt((t-1)**2+1e-12)-1e-6", "(t-1)*atan(50*(t-1))", "1/log(1+t)-1/log(2)", "log(1+exp(t))-log(1+e)",
    "log(1+exp(-t))-log(1+exp(-1))", "log(cosh(t-1))", "(t-1)**4", "exp(t)/exp(1) - t", "exp(1/t) - e",
    "(t-1)*log((1+t)/2) + t*log(t)", "sqrt(log(t)**2 + 2)*t - sqrt(2)",
)  # fmt: skip
every_text = pytest.mark.parametrize("text", TEXTS)
DOUBLE = torch.float64


def exact_slopes(text: str, u: mpf) -> tuple[mpf, mpf]:
    """f' as it is anchored and t f'' at t = e^u, from the generator's own tree."""
    anchored = symbolic.anchored_slope(parse_generator(text))
    place = mpmath.exp(u)
    return evaluate(anchored, t, place, MPMATH), place * evaluate(sp.diff(anchored, t), t, place, MPMATH)


def in_double(expression: sp.Expr, u: float) -> mpf:
    return mpf(float(evaluate(expression, log_ratio, torch.tensor(u, dtype=DOUBLE))))


class TestAroundOne:
    @every_text
    @pytest.mark.parametrize("u", (-1.9, -0.3, -1e-3, 1e-6, 0.2, 1.5))
    def test_is_the_slope_and_its_derivative(self, text: str, u: float) -> None:
        with mpmath.workdps(60):
            for expression, correct in zip(
                careful.slope_around_one(parse_generator(text)), exact_slopes(text, mpf(u)), strict=True
            ):
                assert abs(in_double(expression, u) - correct) <= 1e-13 * (1 + abs(correct))

    @pytest.mark.parametrize("u", (-1e-3, -1e-7, 1e-9, 1e-6, 1e-2))
    def test_a_sharp_bend_keeps_its_digits(self, u: float) -> None:
        text = "sqrt((t-1)**2+1e-12)-1e-6"
        found = in_double(careful.slope_around_one(parse_generator(text))[1], u)
        with mpmath.workdps(60):
            correct = exact_slopes(text, mpf(u))[1]
            assert abs(found - correct) <= 1e-13 * correct

    def test_only_what_cancels_is_rewritten(self) -> None:
        """1 + t**64 has no small sum at t = 1, and 64 terms in t - 1."""
        assert careful.around_one((1 + t**64) ** 2) == (1 + sp.exp(64 * log_ratio)) ** 2
        assert not careful.around_one(sp.sqrt(t**2 - 2 * t + 1 + sp.Rational(1, 10**4))).has(sp.exp)


class TestFarOut:
    @every_text
    @pytest.mark.parametrize("u", (-700.0, -90.0, -3.0, 2.5, 7.0, 30.0, 700.0))
    def test_is_the_slope_over_its_growth(self, text: str, u: float) -> None:
        scaled = careful.slope_far_out(parse_generator(text))
        side = int(u > 0)
        with mpmath.workdps(400):
            growth = evaluate(scaled.growth[side], log_ratio, mpf(-abs(u)), MPMATH)
            if growth > 1e6:
                return  # no probability makes a number of such an exponential
            slopes = exact_slopes(text, mpf(u))
            for pair, slope in zip((scaled.value, scaled.derivative), slopes, strict=True):
                correct = slope * mpmath.exp(-growth)
                assert abs(in_double(pair[side], -abs(u)) - correct) <= 1e-12 * (1e-3 + abs(correct))

    def test_an_exponential_does_not_overflow_in_a_sum(self) -> None:
        scaled = careful.slope_far_out(parse_generator("log(1+exp(t))-log(1+e)"))
        assert in_double(scaled.derivative[1], -700.0) == 0

    def test_a_pole_is_taken_out(self) -> None:
        """1/log(1 + t) is 1/t at zero, of which float64 knows nothing at t = e^-800."""
        scaled = careful.slope_far_out(parse_generator("1/log(1+t)-1/log(2)"))
        assert in_double(scaled.value[0], -800.0) == -1
