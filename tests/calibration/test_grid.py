"""Masses on a grid: what is kept when they are put there, and what smoothing does to them."""


import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fguidance.calibration import grid
from tests.calibration.plain import DOUBLE, slopes, smoothed_residual

FEW = settings(max_examples=max(1, settings().max_examples // 2))
masses_at_places = st.lists(
    st.tuples(st.one_of(st.sampled_from((0.0, 0.25, 1.0)), st.floats(0, 1)), st.floats(-10, 10)), min_size=1, max_size=9
).map(lambda rows: torch.tensor(rows, dtype=DOUBLE).unbind(-1))
bandwidths = pytest.mark.parametrize("bandwidth", [0.05, 0.3, 1.5])


def random_grid(cells: int, *shape: int) -> Tensor:
    return torch.randn(*shape, cells + 1, generator=torch.Generator().manual_seed(cells), dtype=DOUBLE)


def smoothed(values: Tensor, bandwidth: float) -> Tensor:
    return grid.smoothed(grid.spectrum(values), values.new_full(values.shape[:-1], bandwidth))


@FEW
@given(masses_at_places, st.sampled_from((1, 2, 7, 64)))
def test_a_deposit_reaches_no_further_than_one_cell(rows: tuple[Tensor, Tensor], cells: int) -> None:
    place, mass = rows
    points = np.linspace(0, 1, cells + 1)
    share = np.clip(1 - np.abs(points[:, None] - place.numpy()) * cells, 0, None)
    found = grid.deposit(place, mass, cells)
    np.testing.assert_allclose(found.numpy(), share @ mass.numpy(), rtol=0, atol=1e-10)


def test_a_deposit_is_differentiable_in_place_and_mass() -> None:
    place = torch.tensor([0.0, 0.13, 0.55, 1.0], dtype=DOUBLE, requires_grad=True)
    mass = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=DOUBLE, requires_grad=True)
    weight = random_grid(5)
    in_place, in_mass = torch.autograd.grad((grid.deposit(place, mass, 5) * weight).sum(), (place, mass))
    # Of masses at a place the deposit asks for what runs straight between the weights.
    cell = np.array([0, 0, 2, 4])
    rise = 5 * np.diff(weight.numpy())[cell]
    np.testing.assert_allclose(in_place.numpy(), mass.detach().numpy() * rise, rtol=1e-12)
    between = np.interp(place.detach().numpy(), np.linspace(0, 1, 6), weight.numpy())
    np.testing.assert_allclose(in_mass.numpy(), between, rtol=1e-12)


@bandwidths
def test_smoothing_is_by_the_reflected_gaussian(bandwidth: float) -> None:
    """At the grid points, where the Gaussian is many cells wide."""
    values, points = random_grid(128), np.linspace(0, 1, 129)
    expected = 129 / 128 * smoothed_residual(points, points, np.zeros(129), bandwidth, values.numpy())
    np.testing.assert_allclose(smoothed(values, bandwidth).numpy(), expected, rtol=0, atol=1e-10)


@bandwidths
def test_the_slope_is_that_of_smoothing(bandwidth: float) -> None:
    values, points = random_grid(64), np.linspace(0, 1, 65)

    def plain(width: np.ndarray) -> float:
        mixed = smoothed_residual(points, points, np.zeros(65), width.item(), values.numpy())
        return float((65 / 64 * weight.numpy() * mixed).sum())

    weight = random_grid(65)[:65]
    slope = grid.smoothed_slope(grid.spectrum(values), torch.tensor(bandwidth, dtype=DOUBLE))
    expected = slopes(plain, np.array([bandwidth]), 1e-5)
    assert (weight * slope).sum().item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-7)
