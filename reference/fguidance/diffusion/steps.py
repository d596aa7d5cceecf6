"""Reverse steps: from the network's output to the next image, by the posterior or by DDIM, moved by a guidance."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from fguidance.diffusion.schedule import Schedule
from fguidance.inputs import require_number, require_whole

FixedVariance = Literal["posterior", "beta"]


@dataclass(frozen=True)
class ReverseStep:
    """The Gaussian from which the next, less noisy image is drawn.

    Attributes:
        predicted_clean: ``(batch, C, H, W)`` the predicted clean image, clipped to [-1, 1] if that was asked for.
        mean: ``(batch, C, H, W)`` the mean.
        variance: the variance, elementwise; ``(batch, C, H, W)`` if learned, one number in ``(1, 1, 1, 1)`` if fixed.
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


def learned_log_variance(output: Tensor, schedule: Schedule, step: int) -> Tensor:
    r"""Interpolate between the two fixed log-variances, equation :eq:`eq-learned-variance`.

    Args:
        output: the network's variance channels, any shape; -1 means :math:`\tilde\beta`, 1 means :math:`\beta`.
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
        kind: ``"posterior"`` for :math:`\tilde\beta` (exact if the data were one point; 0 at step 0, so guidance adds
            nothing there) or ``"beta"`` for :math:`\beta` (exact if the data were standard normal).
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


class GuidanceStepSize:
    r"""The factor :math:`\Sigma_t + b_t` of equation :eq:`eq-guided-mean`, for the steps of one run in order.

    :math:`b_t = \max(0, \sin(\pi k / K))\, \gamma\, v_{\max}` helps the middle of the run along. As in the published
    program, :math:`v_{\max}` is the largest *first element* of the variance (first sample, channel, row and column)
    seen so far in the run, this step included.

    Args:
        steps: K, the number of steps of the run.
        gamma: :math:`\gamma`, finite and at least 0; 0 leaves :math:`\Sigma_t` alone.

    Raises:
        TypeError: ``steps`` is no integer, or ``gamma`` no number.
        ValueError: ``steps`` or ``gamma`` is out of range.

    Source: Ma et al. 2024 (EluCD), arXiv:2310.11311, and its published program.
    """

    def __init__(self, steps: int, gamma: float) -> None:
        self.steps, self.gamma = require_whole("steps", steps), require_number("gamma", gamma, 0)
        self.largest_variance: Tensor | None = None

    def __call__(self, variance: Tensor, step: int) -> Tensor:
        """Return the step size, shaped like ``variance``, for step k from ``steps - 1`` down to 0."""
        if self.gamma == 0:
            return variance
        first = variance.flatten()[0]  # stays where it is: reading it would make a GPU wait
        self.largest_variance = first if self.largest_variance is None else first.maximum(self.largest_variance)
        sine = max(0.0, math.sin(math.pi * step / self.steps))
        return variance + sine * self.gamma * self.largest_variance


class AncestralStep:
    r"""The ancestral steps of one run in order, equation :eq:`eq-guided-mean`.

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


class DDIMStep:
    r"""The DDIM steps of one run in order, equation :eq:`eq-ddim`.

    Guidance moves the predicted noise by :math:`-\sqrt{1 - \bar\alpha_t}\, s\, \nabla S`. As in the published program,
    the noise that is moved is the one that belongs to the clipped clean image; what results is not clipped again.

    Args:
        schedule: the steps to take.
        guidance_scale: s, finite.
        eta: how much of the ancestral noise is added, from 0 (none: the run is deterministic) to 1.

    Raises:
        TypeError: ``eta`` is no number.
        ValueError: ``eta`` is outside [0, 1].

    Source: Song et al. 2021, arXiv:2010.02502, equations 12 and 16; Dhariwal & Nichol 2021, arXiv:2105.05233,
    algorithm 2.
    """

    def __init__(self, schedule: Schedule, guidance_scale: float, eta: float) -> None:
        self.schedule, self.guidance_scale, self.eta = schedule, guidance_scale, require_number("eta", eta, 0, 1)

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
