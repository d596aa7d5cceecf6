"""The prelude's constants are what they are called, and its helpers keep twice the working precision.

It is tested where it is emitted to; `make check-generated` says that this is derivations/prelude.py, word for word.
"""

import math
from fractions import Fraction

import mpmath
import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from sympy.integrals.quadrature import gauss_legendre

from fguidance import _generated as prelude


def test_nodes_are_those_of_gauss_and_legendre() -> None:
    positions, weights = gauss_legendre(len(prelude.NODES), 30)
    expected = [(float((x + 1) / 2), float(w / 2)) for x, w in zip(positions, weights, strict=True)]
    assert list(prelude.NODES) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (prelude.AT_ONCE + 1,)], ids=str)
@pytest.mark.parametrize("power", [0, 1, 7, 31])
def test_a_quadrature_integrates_powers_in_one_batch_and_node_by_node(
    shape: tuple[int, ...], dtype: torch.dtype, power: int
) -> None:
    like = torch.linspace(1, 2, torch.Size(shape).numel(), dtype=dtype).reshape(shape)
    found = prelude._quadrature(lambda x: like * x**power, like)
    torch.testing.assert_close(found, like / (power + 1), rtol=16 * torch.finfo(dtype).eps, atol=0)


def test_a_quadrature_of_small_tensors_calls_its_function_once() -> None:
    calls: list[object] = []
    for size in (10, prelude.AT_ONCE + 1):
        like = torch.ones(size)
        prelude._quadrature(lambda x, like=like: calls.append(x) or like * x, like)
    assert len(calls) == 1 + len(prelude.NODES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_quadrature_does_not_depend_on_the_batch(dtype: torch.dtype) -> None:
    like = torch.linspace(1, 2, prelude.AT_ONCE + 5, dtype=dtype)
    whole = prelude._quadrature(lambda x: torch.exp(x * like), like)
    part = prelude._quadrature(lambda x: torch.exp(x * like[:7]), like[:7])
    assert torch.equal(whole[:7], part)


def test_log_2_is_split_into_a_short_head_and_its_rest() -> None:
    head, rest = map(sp.Rational, prelude.LOG_2)
    assert (head * 2**16).is_integer
    assert abs(sp.N(sp.log(2) - head - rest, 30)) < 1e-21


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(x=st.floats(0, 1e6, width=32))
def test_log1p_keeps_more_than_the_working_precision(dtype: torch.dtype, x: float) -> None:
    at = torch.tensor([x], dtype=dtype)
    found = prelude._log1p(prelude.Double(at, torch.zeros_like(at)))
    with mpmath.workdps(50):
        error = mpmath.log1p(x) - mpmath.mpf(found.high.item()) - mpmath.mpf(found.low.item())
        assert abs(error) <= torch.finfo(dtype).eps / 2 * min(1, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(factor=st.floats(-64, 64), x=st.floats(-300, 300))
def test_scale_is_a_product_without_rounding(dtype: torch.dtype, factor: float, x: float) -> None:
    at = torch.tensor([x], dtype=dtype)
    found = prelude._scale(factor, prelude.Double(at, torch.zeros_like(at)))
    exact = sp.Rational(factor) * sp.Rational(at.item())
    error = abs(exact - sp.Rational(found.high.item()) - sp.Rational(found.low.item()))
    assert error <= sp.Rational(torch.finfo(dtype).eps) ** 2 * abs(exact) * 4 + sp.Rational(torch.finfo(dtype).tiny)


def exact(number: torch.Tensor) -> Fraction:
    return Fraction(number.item())


def of(double: prelude.Double, *place: int) -> Fraction:
    return exact(double.high[place]) + exact(double.low[place])


def drawn(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def doubles(scale: float, dtype: torch.dtype, seed: int, count: int = 50) -> prelude.Double:
    """Numbers with a low half of up to half a unit in the last place of the high one."""
    high = scale * drawn(count, dtype=dtype, seed=seed)
    return prelude.Double(high, high * torch.finfo(dtype).eps / 4 * drawn(count, dtype=dtype, seed=seed + 1).tanh())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
class TestDoubled:
    """Two halves that together have twice the digits, in exact fractions."""

    @pytest.mark.parametrize("scale", (1e-6, 1.0, 1e6))
    def test_a_sum_of_two_numbers_is_exact(self, dtype: torch.dtype, scale: float) -> None:
        x, y = drawn(50, dtype=dtype), scale * drawn(50, dtype=dtype, seed=1)
        found = prelude._two_sum(x, y)
        assert torch.equal(found.high, x + y)
        assert all(of(found, k) == exact(x[k]) + exact(y[k]) for k in range(50))

    @pytest.mark.parametrize("scale", (1e-6, 1.0, 1e6))
    def test_a_sum_of_two_doubles(self, dtype: torch.dtype, scale: float) -> None:
        x, y = doubles(1.0, dtype, 0), doubles(scale, dtype, 5)
        found = prelude._add(x, y)
        for k in range(50):
            size = abs(of(x, k)) + abs(of(y, k))
            assert abs(of(found, k) - of(x, k) - of(y, k)) <= 2 * Fraction(torch.finfo(dtype).eps) ** 2 * size

    def test_negative_double_and_where(self, dtype: torch.dtype) -> None:
        x, y = doubles(1.0, dtype, 0, 4), doubles(1.0, dtype, 5, 4)
        condition = torch.tensor([True, False, False, True])
        negative, chosen, plain = prelude._negative(x), prelude._where(condition, x, y), prelude._double(x.high)
        for k in range(4):
            assert of(negative, k) == -of(x, k)
            assert of(chosen, k) == of(x if condition[k] else y, k)
            assert of(plain, k) == exact(x.high[k])

    @pytest.mark.parametrize("scale", (1e-3, 1.0, 30.0))
    def test_an_exponential_has_the_low_half_in_it(self, dtype: torch.dtype, scale: float) -> None:
        x = doubles(scale, dtype, 3)
        found = prelude._exp(x)
        with mpmath.workdps(50):
            for k in range(50):
                value = mpmath.exp(mpmath.mpf(x.high[k].item()) + mpmath.mpf(x.low[k].item()))
                assert abs(found[k].item() / value - 1) <= 2.5 * torch.finfo(dtype).eps

    def test_an_exponential_of_nearly_nothing_is_no_nan(self, dtype: torch.dtype) -> None:
        huge = torch.tensor([-1e30, -1e5], dtype=dtype)
        assert prelude._exp(prelude.Double(huge, -huge / 2**20)).tolist() == [0, 0]

    @pytest.mark.parametrize("factor", (0.0, 0.5, -4.0, 1 / 3, -2 / 7, 5.3))
    def test_scale_of_a_double(self, dtype: torch.dtype, factor: float) -> None:
        x = doubles(20.0, dtype, 8)
        found = prelude._scale(factor, x)
        for k in range(50):
            correct = Fraction(factor) * of(x, k)
            assert abs(of(found, k) - correct) <= 6 * Fraction(torch.finfo(dtype).eps) ** 2 * abs(correct)

    @pytest.mark.parametrize(("classes", "low"), [(3, 0), (1000, 0), (1000, -30)])
    def test_the_sum_over_classes(self, dtype: torch.dtype, classes: int, low: int) -> None:
        given = torch.exp2(low * torch.rand(2, classes, generator=torch.Generator().manual_seed(0))).to(dtype)
        found = prelude._sum(given)
        assert found.high.shape == found.low.shape == (2, 1)
        for row in range(2):
            correct = sum(map(exact, given[row]), Fraction(0))
            assert abs(of(found, row, 0) - correct) <= torch.finfo(dtype).eps * classes * 2.0**-11

    def test_a_sum_of_thousands_is_better_than_its_dtype(self, dtype: torch.dtype) -> None:
        """Of any size between 0 and 1, so that plain sums round at every step."""
        generator = torch.Generator().manual_seed(0)
        for _ in range(10):
            given = torch.rand(3000, generator=generator, dtype=torch.float64).to(dtype)
            correct = sum(map(exact, given), Fraction(0))
            found, plain = of(prelude._sum(given), 0), exact(given.sum())
            assert abs(found - correct) <= torch.finfo(dtype).eps * 2.0**-5
            assert abs(plain - correct) > torch.finfo(dtype).eps

    @pytest.mark.parametrize("size", (1e-9, 1e-3, 0.3, 0.5, 3.0, 1e4))
    def test_log1p_of_a_double(self, dtype: torch.dtype, size: float) -> None:
        high = torch.tensor([size, size], dtype=dtype)
        x = prelude.Double(high, high * torch.finfo(dtype).eps * torch.tensor([0.49, -0.49], dtype=dtype))
        found = prelude._log1p(x)
        with mpmath.workdps(50):
            for k in range(2):
                correct = mpmath.log1p(mpmath.mpf(x.high[k].item()) + mpmath.mpf(x.low[k].item()))
                error = abs(mpmath.mpf(found.high[k].item()) + mpmath.mpf(found.low[k].item()) - correct)
                assert error <= 0.9 * torch.finfo(dtype).eps * min(1, size)

    def test_centred_is_exact_and_ends_at_the_widest(self, dtype: torch.dtype) -> None:
        logits = torch.stack((10 * drawn(5, dtype=dtype), drawn(5, dtype=dtype, seed=1)))
        logits[1, 2] = -1e30
        top = logits.amax(-1, keepdim=True)
        found = prelude._centred(logits, top)
        for row, column in torch.cartesian_prod(torch.arange(2), torch.arange(5)).tolist():
            far = (row, column) == (1, 2)
            correct = -Fraction(prelude.WIDEST) if far else exact(logits[row, column]) - exact(top[row, 0])
            assert of(found, row, column) == correct


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("spread", (1e-3, 1.0, 10.0, 60.0))
def test_the_contrast_with_the_pivot(dtype: torch.dtype, spread: float) -> None:
    """Every part of it against 60 digits, to what the sum of the other classes is rounded by."""
    logits, log_q = spread * drawn(2, 6, dtype=dtype), torch.log_softmax(drawn(2, 6, dtype=dtype, seed=1), -1)
    at = prelude._at_pivot(logits, log_q)
    epsilon = torch.finfo(dtype).eps
    with mpmath.workdps(60):
        for row in range(2):
            given, target = ([mpmath.mpf(number.item()) for number in tensor[row]] for tensor in (logits, log_q))
            pivot = given.index(max(given))
            others = mpmath.fsum(mpmath.exp(x - given[pivot]) for x in given) - 1
            log_p = [x - given[pivot] - mpmath.log1p(others) for x in given]
            for column in range(6):
                ratio = log_p[column] - target[column]
                parts = {
                    at.log_p: log_p[column],
                    at.ratio: ratio,
                    at.base: log_p[pivot] - target[pivot],
                }
                for found, correct in parts.items():
                    high, low = (half[row, min(column, half.shape[-1] - 1)].item() for half in found)
                    error = abs(mpmath.mpf(high) + mpmath.mpf(low) - correct)
                    assert error <= epsilon * min(1, others) + 4 * epsilon**2 * (1 + abs(correct))
                difference = ratio - log_p[pivot] + target[pivot]
                assert abs(at.difference[row, column].item() - difference) <= epsilon * abs(difference)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
class TestScaledExponentials:
    """mantissa * exp(exponent) overflows and underflows only where the product does."""

    def test_a_product_in_range_of_parts_that_are_not(self, dtype: torch.dtype) -> None:
        wide = dtype == torch.float64
        mantissa = torch.tensor([1e-300, 1e-200, 1.0] if wide else [1e-37, 1e-20, 1.0], dtype=dtype)
        exponent = torch.tensor([1380.0, 700.0, -3.25] if wide else [170.0, 80.0, -3.25], dtype=dtype)
        found = prelude._product(mantissa, exponent)
        for k in range(3):
            correct = mpmath.mpf(mantissa[k].item()) * mpmath.exp(exponent[k].item())
            assert abs(found[k].item() / correct - 1) <= 4 * torch.finfo(dtype).eps

    def test_nothing_times_anything_is_nothing(self, dtype: torch.dtype) -> None:
        nothing, large = torch.zeros(2, dtype=dtype), torch.tensor([3.0, 1e5], dtype=dtype)
        assert prelude._product(nothing, large).tolist() == [0, 0]
        assert prelude._times_exp(nothing, prelude._double(large)).tolist() == [0, 0]

    def test_a_subnormal_exponential_costs_no_digits(self, dtype: torch.dtype) -> None:
        exponent = -740.0 if dtype == torch.float64 else -100.0
        term = prelude.Term(torch.tensor(1e30, dtype=dtype), prelude._double(torch.tensor(exponent, dtype=dtype)))
        correct = mpmath.mpf(term.mantissa.item()) * mpmath.exp(exponent)
        assert abs(prelude._evaluate(term).item() / correct - 1) <= 6 * torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ("dtypes", "wide", "expected"),
    [
        ((torch.float16, torch.bfloat16), False, torch.float32),
        ((torch.float32, torch.float32), False, torch.float32),
        ((torch.float64, torch.float32), False, torch.float64),
        ((torch.float16, torch.float64), False, torch.float64),
        ((torch.float32, torch.float16), True, torch.float64),
    ],
)  # fmt: skip
def test_what_it_is_computed_in(
    dtypes: tuple[torch.dtype, torch.dtype], wide: bool, expected: torch.dtype
) -> None:
    given = [torch.tensor([1.5, -2.0], dtype=dtype) for dtype in dtypes]
    found = prelude._working(*given, wide)
    assert [tensor.dtype for tensor in found] == [expected] * 2
    assert [tensor.tolist() for tensor in found] == [[1.5, -2.0]] * 2


class TestCrowdedNodes:
    """The double exponential rule, against integrals that are known."""

    def test_shares_add_up_to_one(self) -> None:
        places, shares = zip(*prelude.CROWDED_NODES, strict=True)
        assert math.isclose(sum(shares), 1, rel_tol=1e-15)
        assert list(places) == sorted(places)
        assert places[0] > 0

    @pytest.mark.parametrize("rate", (1e-3, 1.0, 30.0, 300.0))
    def test_a_steep_end(self, rate: float) -> None:
        like = torch.ones((), dtype=torch.float64)
        for sign in (1, -1):
            found = prelude._quadrature(lambda x, sign=sign: torch.exp(sign * rate * x), like, prelude.CROWDED_NODES)
            assert math.isclose(float(found), math.expm1(sign * rate) / (sign * rate), rel_tol=1e-14)

    @pytest.mark.parametrize("width", (1.0, 1e-3, 1e-8))
    def test_a_sharp_bend_at_the_start(self, width: float) -> None:
        like = torch.ones((), dtype=torch.float64)
        found = prelude._quadrature(lambda x: x / (x**2 + width**2) ** 0.5, like, prelude.CROWDED_NODES)
        assert math.isclose(float(found), 1 / (math.hypot(1, width) + width), rel_tol=1e-13)


def _bent(width: float, middle: float = 0.0, guarded: bool = True) -> prelude.Slope:
    """A slope in u that rises from -1 to 1 around `middle`, in a step of this width."""
    return prelude.Slope(
        lambda u: torch.tanh((u - middle) / width),
        lambda u: 1 / width / torch.cosh(((u - middle) / width).clamp(-300, 300)) ** 2,
        torch.zeros_like,
        guarded,
    )


def _contrast(ratio: float, base: float) -> prelude.Contrast:
    numbers = [torch.tensor([number], dtype=torch.float64) for number in (0.0, ratio, base, ratio - base)]
    return prelude.Contrast(*(prelude._double(number) for number in numbers[:3]), numbers[3])


class TestGuarded:
    """A bend between the nodes of a quadrature is not overlooked."""

    @pytest.mark.parametrize("width", (1e-3, 1e-5, 1e-8))
    def test_a_bend_between(self, width: float) -> None:
        at, exact = _contrast(0.2, -0.2), 2 * math.tanh(0.2 / width)
        assert prelude._evaluate(prelude.general_difference(at, _bent(width))).item() == pytest.approx(exact, rel=1e-14)
        overlooked = prelude._evaluate(prelude.general_difference(at, _bent(width, guarded=False))).item()
        assert abs(overlooked - exact) > 0.01

    @pytest.mark.parametrize("gap", (1e-9, 1e-6, 1e-3, 0.1))
    def test_a_close_base_keeps_its_digits(self, gap: float) -> None:
        at = _contrast(1 + gap, 1.0)
        found = prelude._evaluate(prelude.general_difference(at, _bent(1.0))).item()
        with mpmath.workdps(40):
            exact = mpmath.tanh(mpmath.mpf(1) + at.difference.item()) - mpmath.tanh(1)
        assert found == pytest.approx(float(exact), rel=1e-13)


class TestIntegratedValue:
    """The value from slopes alone, in parts that end at the breaks."""

    @staticmethod
    def definition(breaks: tuple[float, ...], wide: bool = False) -> prelude.Definition:
        def slope_difference(at: prelude.Contrast) -> prelude.Term:
            return prelude.power_difference(at, 2.0, 1.0)  # f = (t - 1)**2

        def no_tails(log_ratio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            raise AssertionError

        return prelude.Definition(slope_difference, no_tails, (1.0, math.inf), False, breaks=breaks, wide=wide)

    @pytest.mark.parametrize("breaks", ((1.0,), (1.0, 8.0, 64.0), (0.3, 0.7, 2.0)), ids=str)
    @pytest.mark.parametrize("ratio", (-300.0, -9.0, -0.7, -1e-8, 0.0, 1e-8, 0.5, 1.0, 3.0, 20.0, 100.0))
    def test_value(self, breaks: tuple[float, ...], ratio: float) -> None:
        log_p = torch.tensor([min(ratio, 0.0)], dtype=torch.float64)
        found = prelude.value(self.definition(breaks), log_p, log_p - ratio).item()
        with mpmath.workdps(60):
            p, q = mpmath.exp(log_p.item()), mpmath.exp((log_p - ratio).item())
            assert found == pytest.approx(float((p - q) ** 2 / q), rel=1e-13)

    def test_where_one_probability_is_zero(self) -> None:
        log_p, log_q = torch.tensor([[-math.inf], [-1.0]]), torch.tensor([[-1.0], [-math.inf]])
        found = prelude.value(self.definition((1.0,)), log_p, log_q)
        assert found.tolist() == [pytest.approx(math.exp(-1)), math.inf]

    def test_nothing_overflows_but_the_value(self) -> None:
        log_p, log_q = torch.tensor([[-1.0], [-40.0]]), torch.tensor([[-95.0], [-90.0]])
        found = prelude.value(self.definition((1.0, 8.0, 64.0)), log_p, log_q)
        assert found.tolist() == [math.inf, pytest.approx(math.exp(10), rel=1e-4)]

    @pytest.mark.parametrize("dtype", (torch.float16, torch.float32, torch.float64), ids=str)
    def test_wide_is_computed_in_float64(self, dtype: torch.dtype) -> None:
        seen: list[torch.dtype] = []
        plain = self.definition((1.0,), wide=True)

        def slope_difference(at: prelude.Contrast) -> prelude.Term:
            seen.append(at.difference.dtype)
            return plain.slope_difference(at)

        definition = plain._replace(slope_difference=slope_difference)
        log_p = torch.log_softmax(torch.tensor([0.1, 0.3], dtype=dtype), -1)
        for function in (prelude.value, prelude.weight, prelude.logit_gradient):
            assert function(definition, log_p, log_p.flip(-1)).dtype == dtype
        assert set(seen) == {torch.float64}
