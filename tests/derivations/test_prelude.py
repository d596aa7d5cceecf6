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
