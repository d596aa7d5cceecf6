"""The ancestral step: the posterior's mean, moved along the guidance gradient, and noise of its variance."""

from torch import Tensor

from fguidance.diffusion.reverse import ReverseStep
from fguidance.diffusion.schedule import Schedule
from fguidance.diffusion.step_size import GuidanceStepSize


class AncestralStep:
    r"""The steps of one run in order, equation :eq:`eq-guided-mean`.

    Args:
        schedule: the steps to take.
        guidance_scale: s, finite.
        sine_gamma: :math:`\gamma`, see :class:`~fguidance.diffusion.GuidanceStepSize`.

    Source: Ho et al. 2020, arXiv:2006.11239; the guided mean of Dhariwal & Nichol 2021, arXiv:2105.05233, algorithm 1.
    """

    def __init__(self, schedule: Schedule, guidance_scale: float, sine_gamma: float) -> None:
        self.guidance_scale = guidance_scale
        self.step_size = GuidanceStepSize(len(schedule), sine_gamma)

    def __call__(self, reverse: ReverseStep, x_t: Tensor, gradient: Tensor | None, step: int) -> tuple[Tensor, Tensor]:
        """Return the mean of the next images, and the standard deviation of their noise."""
        mean = reverse.mean
        if gradient is not None:
            mean = mean + self.step_size(reverse.variance, step) * self.guidance_scale * gradient
        return mean, (0.5 * reverse.log_variance).exp()
