"""What is forgiven, and what is not; and the scale of a divergence, read off its values."""

import math

import pytest
import torch
from torch import Tensor

import fguidance as fg
from fguidance.testing.subject import as_subject
from fguidance.testing.tolerance import ORDINARY, Violation, further, require_close, require_close_if_steep, scale


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


class TestRequireClose:
    def test_the_smallest_numbers_of_a_dtype_are_forgiven(self) -> None:
        require_close("it", torch.tensor(3e-7, dtype=torch.float16), _number(5e-7), 0.0)
        with pytest.raises(Violation, match="off by"):
            require_close("it", torch.tensor(1e-4, dtype=torch.float16), _number(2e-4), 0.0)

    @pytest.mark.parametrize("found", (2.0, float("-inf")))
    def test_what_is_off(self, found: float) -> None:
        with pytest.raises(Violation, match="off by"):
            require_close("it", _number(found), _number(1.0), 0.5)

    def test_nan_is_named(self) -> None:
        with pytest.raises(Violation, match=r"^it holds NaN$"):
            require_close("it", _number(float("nan")), _number(1.0), 0.5)
        with pytest.raises(Violation, match="what it should be equal to holds NaN itself"):
            require_close("it", _number(float("nan")), _number(float("nan")), 0.5)

    def test_shapes(self) -> None:
        with pytest.raises(Violation, match="shape"):
            require_close("it", torch.zeros(2), torch.zeros(1), 1.0)


class TestSteep:
    def test_what_moves_it_is_forgiven_twice(self) -> None:
        require_close_if_steep("it", _number(1.19), _number(1.0), 0.0, lambda: _number(1.1))
        with pytest.raises(Violation, match="off by"):
            require_close_if_steep("it", _number(1.21), _number(1.0), 0.0, lambda: _number(1.1))

    @pytest.mark.parametrize("moved", (float("nan"), float("inf")))
    def test_what_moves_it_beyond_all_range_excuses_nothing(self, moved: float) -> None:
        with pytest.raises(Violation, match="off by"):
            require_close_if_steep("it", _number(1.1), _number(1.0), 0.0, lambda: _number(moved))

    def test_it_is_asked_for_only_where_it_is_needed(self) -> None:
        require_close_if_steep("it", _number(1.0), _number(1.0), 0.0, lambda: pytest.fail("asked"))

    def test_half_precision_is_not_moved(self) -> None:
        log_p, log_q = (torch.tensor(row).log() for row in ([0.9, 0.1], [0.4, 0.6]))
        for dtype in (torch.float16, torch.bfloat16):
            assert torch.equal(further(log_p.to(dtype), log_q.to(dtype)), log_q.to(dtype).double())
        change = further(log_p, log_q) - log_q
        assert bool(((change < 0) & (change > -1e-5)).all())


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1)


@pytest.mark.parametrize("factor", (1e-30, -1e-7, 1e7, 1e30))
def test_the_scale_is_that_of_a_multiple(factor: float) -> None:
    found = scale(lambda log_p, log_q: factor * _kl(log_p, log_q), torch.float64)
    assert abs(factor) / 2 < found < 4 * abs(factor)


def test_registered_ones_are_ordinary_and_a_steep_one_is_not_large() -> None:
    """The values of the last run from f''(1) to 1e24."""
    assert {as_subject(name).scale for name in fg.divergence_names()} == {1}
    assert as_subject("t**30 - 1").scale < ORDINARY


@pytest.mark.parametrize("number", (0.0, math.nan, math.inf))
def test_values_that_tell_nothing(number: float) -> None:
    assert scale(lambda log_p, log_q: number * log_p.sum(-1), torch.float64) == 1


def test_a_value_that_raises_or_is_missing() -> None:
    def value(log_p: Tensor, log_q: Tensor) -> Tensor:
        raise RuntimeError

    assert scale(value, torch.float64) == scale(None, torch.float64) == 1
