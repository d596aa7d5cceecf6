"""The scale of a divergence, read off its values."""

import math

import pytest
import torch
from torch import Tensor

import fguidance as fg
from fguidance.testing.scale import ORDINARY, scale
from fguidance.testing.subject import as_subject


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1)


@pytest.mark.parametrize("factor", (1e-30, 1e-7, 1e7, 1e30))
def test_it_is_that_of_a_multiple(factor: float) -> None:
    found = scale(lambda log_p, log_q: factor * _kl(log_p, log_q), torch.float64)
    assert factor / 2 < found < 4 * factor


@pytest.mark.parametrize("name", fg.divergence_names())
def test_every_registered_one_is_ordinary(name: str) -> None:
    assert as_subject(name).scale == 1


def test_a_steep_one_is_not_large() -> None:
    """Its values run from f''(1) to 1e24."""
    found = as_subject("t**30 - 1").scale
    assert found < ORDINARY


@pytest.mark.parametrize("number", (0.0, math.nan, math.inf))
def test_values_that_tell_nothing(number: float) -> None:
    assert scale(lambda log_p, log_q: number * log_p.sum(-1), torch.float64) == 1


def test_a_value_that_raises_or_is_missing() -> None:
    def value(log_p: Tensor, log_q: Tensor) -> Tensor:
        raise RuntimeError

    assert scale(value, torch.float64) == scale(None, torch.float64) == 1


def test_the_sign_does_not_matter() -> None:
    assert scale(lambda log_p, log_q: -1e-9 * _kl(log_p, log_q), torch.float64) < 1e-8
