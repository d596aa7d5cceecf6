"""Masses on [0, 1] put on a grid, and smoothed there by a reflected Gaussian kernel.

Source: Błasiok & Nakkiran 2023, arXiv:2309.12236, section 2; that the kernel is diagonal in cosines is the ledger's
claim *The reflected Gaussian kernel in cosines*.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def deposit(place: Tensor, mass: Tensor, cells: int) -> Tensor:
    """Masses on the grid points 0, 1/cells, ..., 1: each on the two beside its place, more on the nearer.

    Differentiable in both. Total mass and centre of mass are kept.

    Args:
        place: ``(..., n)`` in [0, 1].
        mass: ``(..., n)``.
        cells: of the grid.

    Returns:
        ``(..., cells + 1)``.
    """
    position = place * cells
    left = position.detach().long().clamp_(max=cells - 1)
    empty = mass.new_zeros(*mass.shape[:-1], cells)
    all_of_it, right = (empty.scatter_add(-1, left, one) for one in (mass, mass * (position - left)))
    return F.pad(all_of_it - right, (0, 1)) + F.pad(right, (1, 0))


def spectrum(grid: Tensor) -> Tensor:
    """The cosine coefficients of masses on a grid, ``(..., cells + 1)`` complex: the transform of their even extension.

    What lies at an end meets its own mirror image, and counts twice there.
    """
    inner = grid[..., 1:-1]
    found: Tensor = torch.fft.rfft(torch.cat((2 * grid[..., :1], inner, 2 * grid[..., -1:], inner.flip(-1)), -1))
    return found


def smoothed(coefficients: Tensor, bandwidth: Tensor) -> Tensor:
    """Masses per cell after smoothing (:eq:`eq-cosine-kernel`), ``(..., cells + 1)``.

    Args:
        coefficients: of `spectrum`.
        bandwidth: ``(...)``, the standard deviation of the Gaussian, at least 0.
    """
    return _values(coefficients * _damping(bandwidth, coefficients.shape[-1] - 1))


def smoothed_slope(coefficients: Tensor, bandwidth: Tensor) -> Tensor:
    """The derivative of `smoothed` in the bandwidth."""
    cells = coefficients.shape[-1] - 1
    frequency = torch.pi * torch.arange(cells + 1, device=bandwidth.device, dtype=bandwidth.dtype)
    factor = -bandwidth[..., None] * frequency.square() * _damping(bandwidth, cells)
    return _values(coefficients * factor)


def _values(coefficients: Tensor) -> Tensor:
    cells = coefficients.shape[-1] - 1
    found: Tensor = torch.fft.irfft(coefficients, n=2 * cells)[..., : cells + 1]
    return found


def _damping(bandwidth: Tensor, cells: int) -> Tensor:
    frequency = torch.pi * torch.arange(cells + 1, device=bandwidth.device, dtype=bandwidth.dtype)
    return (-0.5 * (bandwidth[..., None] * frequency).square()).exp()


def integral(values: Tensor) -> Tensor:
    """The sum over a grid of masses per cell, of which the ends have half: ``(..., cells + 1)`` to ``(...)``."""
    return values.sum(-1) - (values[..., 0] + values[..., -1]) / 2
