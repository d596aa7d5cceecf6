"""The step of DDIM: noise is predicted, moved along the guidance gradient, and put back at the next level."""

import math

from torch import Tensor

from fguidance.diffusion.reverse import ReverseStep, predict_clean
from fguidance.diffusion.schedule import Schedule


def predict_noise(x_t: Tensor, clean: Tensor, alpha_cumprod: float) -> Tensor:
    r"""Solve the forward process for the noise, the inverse of :func:`~fguidance.diffusion.predict_clean`.

    Args:
        x_t: ``(batch, C, H, W)`` noisy images.
        clean: the predicted clean images, same shape.
        alpha_cumprod: :math:`\bar\alpha_t`, in the open interval (0, 1).

    Returns:
        :math:`(x_t / \sqrt{\bar\alpha_t} - \hat x_0) / \sqrt{1/\bar\alpha_t - 1}`.

    Raises:
        ValueError: ``alpha_cumprod`` is outside (0, 1).
    """
    if not 0 < alpha_cumprod < 1:
        raise ValueError(f"alpha_cumprod is {alpha_cumprod}; it must lie between 0 and 1")
    return (math.sqrt(1.0 / alpha_cumprod) * x_t - clean) / math.sqrt(1.0 / alpha_cumprod - 1.0)


class DDIMStep:
    r"""The steps of one run in order, equation :eq:`eq-ddim`.

    Guidance moves the predicted noise by :math:`-\sqrt{1 - \bar\alpha_t}\, s\, \nabla S`. As in the published program,
    the noise that is moved is the one that belongs to the clipped clean image; what results is not clipped again.

    Args:
        schedule: the steps to take.
        guidance_scale: s, finite.
        eta: how much of the ancestral noise is added, from 0 (none: the run is deterministic) to 1.

    Raises:
        ValueError: ``eta`` is outside [0, 1].

    Source: Song et al. 2021, arXiv:2010.02502, equations 12 and 16; Dhariwal & Nichol 2021, arXiv:2105.05233,
    algorithm 2.
    """

    def __init__(self, schedule: Schedule, guidance_scale: float, eta: float) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta is {eta}; it must lie from 0 to 1")
        self.schedule, self.guidance_scale, self.eta = schedule, guidance_scale, eta

    def __call__(self, reverse: ReverseStep, x_t: Tensor, gradient: Tensor | None, step: int) -> tuple[Tensor, Tensor]:
        """Return the mean of the next images, and the standard deviation of their noise in ``(1, 1, 1, 1)``."""
        share = self.schedule.alphas_cumprod[step].item()
        left = self.schedule.alphas_cumprod_previous[step].item()
        clean = reverse.predicted_clean
        noise = predict_noise(x_t, clean, share)
        if gradient is not None:
            noise = noise - math.sqrt(1.0 - share) * self.guidance_scale * gradient
            clean = predict_clean(x_t, noise, share)
        deviation = self.eta * math.sqrt(self.schedule.posterior_variance[step].item())
        mean = math.sqrt(left) * clean + math.sqrt(max(1.0 - left - deviation**2, 0.0)) * noise
        return mean, x_t.new_full((1,) * x_t.ndim, deviation)
