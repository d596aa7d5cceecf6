"""How far the mean moves along the guidance gradient at each step."""

import math

from torch import Tensor


class GuidanceStepSize:
    r"""The factor :math:`\Sigma_t + b_t` of equation :eq:`eq-guided-mean`, for the steps of one run in order.

    :math:`b_t = \max(0, \sin(\pi k / K))\, \gamma\, v_{\max}` helps the middle of the run along. As in the published
    program, :math:`v_{\max}` is the largest *first element* of the variance (first sample, channel, row and column)
    seen so far in the run, this step included.

    Args:
        steps: K, the number of steps of the run.
        gamma: :math:`\gamma`, finite and at least 0; 0 leaves :math:`\Sigma_t` alone.

    Raises:
        ValueError: ``steps`` or ``gamma`` is out of range.

    Source: Ma et al. 2024 (EluCD), arXiv:2310.11311, and its published program.
    """

    def __init__(self, steps: int, gamma: float) -> None:
        if steps < 1:
            raise ValueError(f"steps is {steps}; it must be at least 1")
        if not (math.isfinite(gamma) and gamma >= 0):
            raise ValueError(f"gamma is {gamma}; it must be finite and at least 0")
        self.steps = steps
        self.gamma = gamma
        self.largest_variance: Tensor | None = None

    def __call__(self, variance: Tensor, step: int) -> Tensor:
        """Return the step size, shaped like ``variance``, for step k from ``steps - 1`` down to 0."""
        if self.gamma == 0:
            return variance
        first = variance.flatten()[0]  # stays where it is: reading it would make a GPU wait
        self.largest_variance = first if self.largest_variance is None else first.maximum(self.largest_variance)
        sine = max(0.0, math.sin(math.pi * step / self.steps))
        return variance + sine * self.gamma * self.largest_variance
