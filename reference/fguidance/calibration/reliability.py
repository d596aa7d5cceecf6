"""The reliability diagram with a smooth curve, a band, and how many samples speak at each confidence.

Source: Błasiok & Nakkiran 2023, arXiv:2309.12236, for the curve.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fguidance.calibration import grid
from fguidance.calibration.smooth import smooth_ece
from fguidance.inputs import require_confidence, require_number, require_positive, require_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELLS = 2**12
SMALLEST_BANDWIDTH = 4 / CELLS
NEAR = 0.5
"""A diagram shows the curve where there are so many samples near, each counted by its nearness."""
ALONE = 1e-9
"""Where there is less than this share of a sample, nothing is known."""


@dataclass(frozen=True)
class ReliabilityCurve:
    """Accuracy against confidence.

    Attributes:
        confidence: ``(m,)`` from 0 to 1.
        accuracy: ``(m,)`` smoothed share that was correct; NaN where no sample is near.
        low: ``(m,)`` lower end of the band.
        high: ``(m,)`` upper end.
        density: ``(m,)`` of the confidences, with integral 1.
        bandwidth: of the smoothing.
        error: smECE at that bandwidth.
        level: of the band.
        samples: how many there are.
    """

    confidence: Tensor
    accuracy: Tensor
    low: Tensor
    high: Tensor
    density: Tensor
    bandwidth: float
    error: float
    level: float
    samples: int

    @property
    def neighbours(self) -> Tensor:
        """``(m,)`` how many samples speak at each confidence, each counted by its nearness, from 0 to 1."""
        return self.samples * self.density * self.bandwidth * math.sqrt(2 * math.pi)


def reliability_curve(
    confidence: Tensor,
    correct: Tensor,
    bandwidth: float | None = None,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> ReliabilityCurve:
    """The smoothed accuracy at each confidence (:eq:`eq-reliability`), with a band from the bootstrap.

    The samples of each cell of a grid are drawn anew, as many as chance will have it (a Poisson bootstrap), so the time
    does not grow with their number. The band is for each confidence alone, and not for the curve as a whole.

    Args:
        confidence: shape (n,), floating point in [0, 1].
        correct: boolean, shape (n,).
        bandwidth: sigma of the reflected Gaussian, at least 1/1024; None for that of `smooth_ece` where it is larger.
        level: of the band, above 0 and below 1.
        resamples: how often the samples are drawn anew.
        seed: of the draws.

    Raises:
        TypeError: `confidence` is not floating point, or `correct` not boolean.
        ValueError: a value outside [0, 1], shapes that disagree, no samples, or a number out of range.
    """
    require_confidence(confidence, correct)
    resamples = require_whole("resamples", resamples)
    if confidence.ndim != 1:
        raise ValueError(f"confidence must have shape (n,), not {tuple(confidence.shape)}")
    if require_positive("level", level) >= 1:
        raise ValueError(f"level must be above 0 and below 1, not {level!r}")
    if bandwidth is not None:
        bandwidth = require_number("bandwidth", bandwidth, SMALLEST_BANDWIDTH)
    place = confidence.detach().double()
    chosen = max(smooth_ece(place, correct).item(), SMALLEST_BANDWIDTH) if bandwidth is None else bandwidth
    error, width = smooth_ece(place, correct, chosen), place.new_tensor(chosen)
    right = correct.double()
    masses = torch.stack((right, 1 - right))
    counts = grid.deposit(place.expand_as(masses), masses, CELLS)
    drawn = torch.poisson(counts.cpu().expand(resamples, *counts.shape), torch.Generator().manual_seed(seed))
    ends = drawn.new_tensor([(1 - level) / 2, (1 + level) / 2])
    low, high = torch.nanquantile(_accuracy_and_density(drawn, width.cpu())[0], ends, 0)
    accuracy, density = _accuracy_and_density(counts, width)
    points = torch.linspace(0, 1, CELLS + 1, dtype=torch.float64)
    shown = density.cpu() / len(place) * CELLS
    return ReliabilityCurve(points, accuracy.cpu(), low, high, shown, width.item(), error.item(), level, len(place))


def _accuracy_and_density(counts: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Of counts ``(..., 2, cells + 1)``, right and wrong."""
    smooth = grid.smoothed(grid.spectrum(counts), width.expand(counts.shape[:-1]))
    density = smooth.sum(-2)
    known = density > ALONE
    accuracy = (smooth[..., 0, :] / torch.where(known, density, 1)).clamp(0, 1)
    return torch.where(known, accuracy, torch.nan), density


def reliability_diagram(curve: ReliabilityCurve, axes: "Axes | None" = None, label: str = "") -> "Axes":
    """Draw a curve where there is a sample near, its band, and at the bottom how the confidences are distributed.

    Args:
        curve: of `reliability_curve`.
        axes: where to; None for a new figure.
        label: for the legend.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib.pyplot as plt

    if axes is None:
        _, axes = plt.subplots(figsize=(4, 4))
    axes.plot((0, 1), (0, 1), color="0.6", linewidth=1, linestyle="--", zorder=1)
    shown = curve.neighbours >= NEAR
    place, accuracy = curve.confidence.numpy(), curve.accuracy.where(shown, torch.nan).numpy()
    (line,) = axes.plot(place, accuracy, linewidth=1.5, label=label or f"smECE {curve.error:.3f}")
    ends = curve.low.numpy(), curve.high.numpy()
    axes.fill_between(place, *ends, where=shown.tolist(), color=line.get_color(), alpha=0.2)
    height = 0.15 * (curve.density / curve.density.max()).numpy()
    axes.fill_between(place, 0, height, color=line.get_color(), alpha=0.3, linewidth=0)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    return axes
