"""One reverse step without guidance: from the network's output to the mean and variance of the next image."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from fguidance.diffusion.schedule import Schedule

FixedVariance = Literal["posterior", "beta"]


@dataclass(frozen=True)
class ReverseStep:
    """The Gaussian from which the next, less noisy image is drawn.

    Attributes:
        predicted_clean: ``(batch, C, H, W)`` the predicted clean image, clipped to [-1, 1] if that was asked
            for.
        mean: ``(batch, C, H, W)`` the mean.
        variance: the variance, elementwise; ``(batch, C, H, W)`` if learned, one number in ``(1, 1, 1, 1)``
            if fixed.
        log_variance: its logarithm in the same shape; finite also where a fixed variance is 0.
    """

    predicted_clean: Tensor
    mean: Tensor
    variance: Tensor
    log_variance: Tensor


def predict_clean(x_t: Tensor, noise: Tensor, alpha_cumprod: float) -> Tensor:
    r"""Solve the forward process for the clean image, equation :eq:`eq-predicted-clean`.

    Args:
        x_t: ``(batch, C, H, W)`` noisy images.
        noise: the predicted noise, same shape.
        alpha_cumprod: :math:`\bar\alpha_t`, in (0, 1].

    Returns:
        :math:`x_t / \sqrt{\bar\alpha_t} - \sqrt{1/\bar\alpha_t - 1}\, \varepsilon`, not clipped.

    Raises:
        ValueError: ``alpha_cumprod`` is outside (0, 1].
    """
    if not 0 < alpha_cumprod <= 1:
        raise ValueError(f"alpha_cumprod is {alpha_cumprod}; it must lie in (0, 1]")
    return math.sqrt(1.0 / alpha_cumprod) * x_t - math.sqrt(1.0 / alpha_cumprod - 1.0) * noise


def learned_log_variance(output: Tensor, schedule: Schedule, step: int) -> Tensor:
    r"""Interpolate between the two fixed log-variances, equation :eq:`eq-learned-variance`.

    Args:
        output: the network's variance channels, any shape; -1 means :math:`\tilde\beta`, 1 means
            :math:`\beta`.
        schedule: the schedule.
        step: step in ``0 .. len(schedule) - 1``.

    Returns:
        The log-variance, shape and dtype of ``output``.

    Source: Nichol & Dhariwal 2021, arXiv:2102.09672, equation 15.
    """
    share = (output + 1.0) / 2.0
    largest, smallest = schedule.betas[step].log().item(), schedule.posterior_log_variance_clipped[step].item()
    return share * largest + (1.0 - share) * smallest


def fixed_variance(kind: FixedVariance, schedule: Schedule, step: int) -> tuple[float, float]:
    r"""Return variance and log-variance of one step for a network that predicts the noise only.

    Args:
        kind: ``"posterior"`` for :math:`\tilde\beta` (exact if the data were one point; 0 at step 0, so
            guidance adds nothing there) or ``"beta"`` for :math:`\beta` (exact if the data were standard
            normal).
        schedule: the schedule.
        step: step in ``0 .. len(schedule) - 1``.

    Raises:
        ValueError: ``kind`` is none of the two.

    Source: Ho et al. 2020, arXiv:2006.11239, section 3.2. At step 0 ``"beta"`` uses :math:`\tilde\beta_1`, as
    the published program does.
    """
    if kind not in get_args(FixedVariance):
        raise ValueError(f"fixed_variance is {kind!r}; it must be one of {get_args(FixedVariance)}")
    if kind == "posterior":
        return schedule.posterior_variance[step].item(), schedule.posterior_log_variance_clipped[step].item()
    variance = schedule.betas[step] if step > 0 else schedule.posterior_variance[1]
    return variance.item(), variance.log().item()


def reverse_step(
    output: Tensor,
    x_t: Tensor,
    schedule: Schedule,
    step: int,
    *,
    clip_denoised: bool = True,
    variance: FixedVariance = "posterior",
) -> ReverseStep:
    r"""Turn the network's output into the next image's mean and variance, equation :eq:`eq-posterior`.

    Args:
        output: ``(batch, C, H, W)``, the predicted noise, or ``(batch, 2C, H, W)``, the predicted noise
            followed by the channels of :func:`learned_log_variance`.
        x_t: ``(batch, C, H, W)`` the current images.
        schedule: the schedule.
        step: step in ``0 .. len(schedule) - 1``.
        clip_denoised: clip the predicted clean image to [-1, 1] before the mean is formed from it.
        variance: the :func:`fixed_variance` to use when ``output`` has C channels; unused otherwise.

    Raises:
        ValueError: ``output`` has neither C nor 2C channels, or another shape than ``x_t`` elsewhere.
    """
    channels = x_t.shape[1]
    sizes = [(x_t.shape[0], factor * channels, *x_t.shape[2:]) for factor in (1, 2)]
    if tuple(output.shape) not in sizes:
        raise ValueError(f"the network's output has shape {tuple(output.shape)}; it must be {sizes[0]} or {sizes[1]}")
    clean = predict_clean(x_t, output[:, :channels], schedule.alphas_cumprod[step].item())
    if clip_denoised:
        clean = clean.clamp(-1.0, 1.0)
    clean_share, noisy_share = schedule.posterior_mean_clean[step], schedule.posterior_mean_noisy[step]
    mean = clean_share.item() * clean + noisy_share.item() * x_t
    if output.shape[1] == channels:
        values = [x_t.new_full((1,) * x_t.ndim, value) for value in fixed_variance(variance, schedule, step)]
        return ReverseStep(clean, mean, *values)
    log_variance = learned_log_variance(output[:, channels:], schedule, step)
    return ReverseStep(clean, mean, log_variance.exp(), log_variance)
