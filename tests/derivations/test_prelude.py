"""The constants of the prelude are what they are called, and its helpers keep twice the working precision."""

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
