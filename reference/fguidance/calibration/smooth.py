"""The smooth calibration error smECE of Błasiok & Nakkiran 2023, arXiv:2309.12236."""

import torch
from torch import Tensor

from fguidance.calibration import grid
from fguidance.calibration.relplot import relplot_bandwidth, relplot_error
from fguidance.inputs import holds, require_confidence, require_number

COARSEST, FINEST = 2**13, 2**17
CELLS_PER_BANDWIDTH = 8  # where the error is as small as the bandwidth
CELLS_PER_GIVEN_BANDWIDTH = 64
ROWS = 16
FIRST, STEPS, TOLERANCE = 0.05, 60, 1e-12
SMALLEST_BANDWIDTH = 4 / FINEST


def smooth_ece(
    confidence: Tensor, correct: Tensor, bandwidth: float | None = None, convention: str = "definition"
) -> Tensor:
    """smECE: the mean absolute residual after smoothing (:eq:`eq-smooth-ece`).

    The residuals correct - confidence are smoothed by a Gaussian that is reflected at 0 and 1. Without a `bandwidth`
    it is the one that equals the error, sigma = smECE_sigma. Differentiable in `confidence`, also through that rule.

    Args:
        confidence: shape (..., n), floating point in [0, 1]; every row is a problem of its own.
        correct: boolean, the shape of `confidence`.
        bandwidth: sigma, at least 2^-15; None for the rule.
        convention: "definition", or "relplot" for the numbers of the package relplot: it cuts the kernel off at a
            distance of 1/2, counts what lies at an end half, and takes a bandwidth that is a multiple of 1/1024.

    Returns:
        Shape (...), the dtype of `confidence`, float32 at least. It is done in float64: O(n), and a transform of a grid
        of 8,192 cells, or of more where the bandwidth is small.

    Raises:
        TypeError: `confidence` is not floating point, or `correct` not boolean.
        ValueError: a value outside [0, 1], shapes that disagree, no samples, a negative or too small bandwidth, or an
            unknown convention.

    Source: Błasiok & Nakkiran 2023, arXiv:2309.12236.
    """
    require_confidence(confidence, correct)
    if bandwidth is not None:
        bandwidth = require_number("bandwidth", bandwidth, SMALLEST_BANDWIDTH)
    place = confidence.double()
    residual = correct.double() - place
    if convention not in ("definition", "relplot"):
        raise ValueError(f"convention must be 'definition' or 'relplot', not {convention!r}")
    if convention == "relplot":
        found = relplot_error(place, residual, relplot_bandwidth(place, residual) if bandwidth is None else bandwidth)
    else:  # a few rows at a time, for the grids of thousands of classes take memory
        places, residuals = (torch.split(one.reshape(-1, one.shape[-1]), ROWS) for one in (place, residual))
        rows = zip(places, residuals, strict=True)
        errors = [_error(p, r) if bandwidth is None else _error_at(p, r, bandwidth) for p, r in rows]
        found = torch.cat(errors).view(place.shape[:-1])
    return found.to(torch.promote_types(confidence.dtype, torch.float32))


def _error_at(place: Tensor, residual: Tensor, bandwidth: float) -> Tensor:
    cells = COARSEST
    while cells < FINEST and cells * bandwidth < CELLS_PER_GIVEN_BANDWIDTH:
        cells *= 2
    coefficients = grid.spectrum(grid.deposit(place, residual, cells)) / place.shape[-1]
    return _total(coefficients, place.new_full(place.shape[:-1], bandwidth))


def _error(place: Tensor, residual: Tensor, cells: int = COARSEST) -> Tensor:
    """The bandwidth that equals its error, found without a gradient; then a step of Newton, which has one."""
    coefficients = grid.spectrum(grid.deposit(place, residual, cells)) / place.shape[-1]
    bandwidth = _fixed_point(coefficients.detach())
    if cells < FINEST and not holds(cells * bandwidth >= CELLS_PER_BANDWIDTH):
        return _error(place, residual, FINEST)
    # The step is a constant plus the error over a constant, so its gradient is that of the implicit function.
    slope = _slope(coefficients.detach(), bandwidth)
    return bandwidth - (bandwidth - _total(coefficients, bandwidth)) / (1 - slope)


def _fixed_point(coefficients: Tensor) -> Tensor:
    """Newton's steps, or halves of what is left where one leads out of it.

    The error does not grow with the bandwidth, so what it exceeds the bandwidth by bounds how far the bandwidth is off.
    """
    low = coefficients.real.new_zeros(coefficients.shape[:-1])
    high, bandwidth = torch.ones_like(low), torch.full_like(low, FIRST)
    for _ in range(STEPS):
        excess = _total(coefficients, bandwidth) - bandwidth
        low = torch.where(excess > 0, bandwidth, torch.maximum(low, bandwidth + excess))
        high = torch.where(excess > 0, torch.minimum(high, bandwidth + excess), bandwidth)
        if holds(high - low < TOLERANCE):
            break
        step = bandwidth + excess / (1 - _slope(coefficients, bandwidth))
        bandwidth = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
    return bandwidth


def _total(coefficients: Tensor, bandwidth: Tensor) -> Tensor:
    return grid.integral(grid.smoothed(coefficients, bandwidth).abs())


def _slope(coefficients: Tensor, bandwidth: Tensor) -> Tensor:
    sign = grid.smoothed(coefficients, bandwidth).sign()
    return grid.integral(sign * grid.smoothed_slope(coefficients, bandwidth))
