"""The constants of the prelude are what they are called, and its helpers keep twice the working precision."""

import math

import mpmath
import pytest
import sympy as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from sympy.integrals.quadrature import gauss_legendre

from derivations import prelude


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
