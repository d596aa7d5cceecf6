"""smECE as the package relplot 1.0.3 computes it, so that numbers can be compared with those of its users.

It departs from the definition in three ways. Its kernel is cut off at a distance of 1/2, which shows where the
bandwidth is above 0.12; the mirror image of what lies at an end is left out, so that a confidence of exactly 0 or 1
counts half; and the bandwidth is the smallest multiple of 1/1024 that is not below its error. We take over what its
numbers are, and no line of it.
"""

import torch
from torch import Tensor

from fguidance.calibration import grid

HALVINGS = 10
SMALLEST = 0.001
FLOOR = 1e-4
"""What it adds to the density at each point."""


@torch.no_grad()
def relplot_bandwidth(place: Tensor, residual: Tensor) -> Tensor:
    """The bandwidth of each problem, ``(..., n)`` to ``(...)``."""
    found = []
    for row in zip(*_rows(place, residual), strict=True):
        above, below = 1.0, 0.0
        for _ in range(HALVINGS):
            middle = (above + below) / 2
            if middle < SMALLEST or middle < _row_error(*row, middle):
                below = middle
            else:
                above = middle
        found.append(above)
    return place.new_tensor(found).view(place.shape[:-1])


def relplot_error(place: Tensor, residual: Tensor, bandwidth: Tensor | float) -> Tensor:
    """The error of each problem at a bandwidth: ``(..., n)`` places and residuals, to ``(...)``."""
    widths = torch.as_tensor(bandwidth, dtype=place.dtype).broadcast_to(place.shape[:-1]).flatten().tolist()
    rows = zip(*_rows(place, residual), widths, strict=True)
    return torch.stack([_row_error(*row) for row in rows]).view(place.shape[:-1])


def _rows(place: Tensor, residual: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    size = place.shape[-1]
    return place.reshape(-1, size).unbind(), residual.reshape(-1, size).unbind()


def _row_error(place: Tensor, residual: Tensor, bandwidth: float) -> Tensor:
    points = max(2000, round(20 / bandwidth)) // 2 + 1
    mesh = torch.linspace(0, 1, max(round(10 / bandwidth), 200), dtype=place.dtype, device=place.device)
    masses = torch.stack((residual, torch.ones_like(residual)))
    values = grid.deposit(place.expand_as(masses), masses, points - 1)
    smooth, density = _interpolated(_cut_off(values, bandwidth), mesh)
    found: Tensor = smooth.abs().sum() / (density + FLOOR).sum()
    return found


def _cut_off(values: Tensor, bandwidth: float) -> Tensor:
    """Smoothing by a Gaussian that ends at distances of 1/2; mirror images share the ends with what they mirror."""
    points = values.shape[-1]
    mirrored = torch.cat((values.flip(-1)[:, :-1], values, values.flip(-1)[:, 1:]), -1)
    distance = torch.linspace(-0.5, 0.5, points, dtype=values.dtype, device=values.device)
    kernel = (-0.5 * (distance / bandwidth).square()).exp() / (bandwidth * (2 * torch.pi) ** 0.5)
    size = mirrored.shape[-1] + points
    product = torch.fft.rfft(mirrored, size) * torch.fft.rfft(kernel, size)
    first = points - 1 + points // 2
    found: Tensor = torch.fft.irfft(product, size)[:, first : first + points]
    return found


def _interpolated(values: Tensor, at: Tensor) -> Tensor:
    cells = values.shape[-1] - 1
    left = (at * cells).long().clamp(max=cells - 1)
    share = at * cells - left
    return values[:, left] * (1 - share) + values[:, left + 1] * share
