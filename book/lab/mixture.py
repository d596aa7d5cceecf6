"""Diffusion of a Gaussian mixture, where score, denoised mean and classifier are all exact.

Points are images of shape `(batch, dim, 1, 1)`, so that `fguidance.diffusion.sample` draws them like any others.
The components have equal weights and unit covariance. The variance-preserving forward process keeps it: given its
component k, the noised point is normal with mean sqrt(alpha_cumprod) mu_k and unit covariance.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.stats import t as student_t
from torch import Tensor

from fguidance.diffusion import ImageGuidance, Schedule, StepRecord, sample
from fguidance.evaluation import frechet_distance


@dataclass(frozen=True)
class Mixture:
    """Equal-weight Gaussians of unit covariance around `means`, shape `(components, dim)`."""

    means: Tensor

    def logits(self, x: Tensor, alpha_cumprod: float = 1.0) -> Tensor:
        """f_k(x) = -|x - sqrt(alpha_cumprod) mu_k|^2 / 2, shape `(batch, components)`: the exact classifier's."""
        centres = math.sqrt(alpha_cumprod) * self.means
        return -(x.flatten(1)[:, None] - centres).square().sum(-1) / 2

    def log_density(self, x: Tensor, alpha_cumprod: float = 1.0) -> Tensor:
        """The log-density of the noised mixture, shape `(batch,)`."""
        components, dim = self.means.shape
        normaliser = math.log(components) + dim / 2 * math.log(2 * math.pi)
        return torch.logsumexp(self.logits(x, alpha_cumprod), -1) - normaliser

    def score(self, x: Tensor, alpha_cumprod: float, labels: Tensor | None = None) -> Tensor:
        """The gradient of `log_density` in x, or that of component `labels` alone; the shape of x."""
        centres = math.sqrt(alpha_cumprod) * self.means
        if labels is not None:
            return centres[labels].view_as(x) - x
        return (self.logits(x, alpha_cumprod).softmax(-1) @ centres).view_as(x) - x

    def denoised(self, x: Tensor, alpha_cumprod: float) -> Tensor:
        """The exact mean E[x_0 | x_t], by Tweedie's formula from the score."""
        return (x + (1 - alpha_cumprod) * self.score(x, alpha_cumprod)) / math.sqrt(alpha_cumprod)

    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """One clean point of each label's component, shape `(batch, dim, 1, 1)`."""
        noise = torch.randn(len(labels), self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return (self.means[labels] + noise)[..., None, None]


def exact_model(mixture: Mixture, schedule: Schedule, conditional: bool = False) -> Callable[..., Tensor]:
    """The noise that a perfectly trained network would predict, -sqrt(1 - alpha_cumprod) times the score.

    Args:
        mixture: what the clean points follow.
        schedule: the whole schedule, whose timesteps the sampler passes on.
        conditional: use the score of the label's own component, which no guidance can improve on.
    """

    def predict_noise(x: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        alpha_cumprod = schedule.alphas_cumprod[int(timesteps[0])].item()
        score = mixture.score(x, alpha_cumprod, labels if conditional else None)
        return -math.sqrt(1 - alpha_cumprod) * score

    return predict_noise


def guided_samples(
    mixture: Mixture,
    schedule: Schedule,
    labels: Tensor,
    seed: int,
    *,
    guidance: ImageGuidance | None = None,
    guidance_scale: float = 1.0,
    conditional: bool = False,
    steps: int = 100,
    callback: Callable[[StepRecord], None] | None = None,
) -> Tensor:
    """Draw one point per label; equal seeds give equal noise to every method.

    The step variance is beta, which is exact for data of unit covariance.

    Returns:
        Shape `(batch, dim)`.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (len(labels), mixture.means.shape[1], 1, 1)
    noise = torch.randn(steps + 1, *shape, generator=generator, dtype=mixture.means.dtype)
    points = sample(
        exact_model(mixture, schedule, conditional),
        schedule.respace(steps),
        labels,
        guidance=guidance,
        classifier=None if guidance is None else mixture.logits,
        guidance_scale=guidance_scale,
        initial_noise=noise[0],
        step_noise=noise[1:],
        clip_denoised=False,
        fixed_variance="beta",
        progress=False,
        callback=callback,
    )
    return points.flatten(1)


def saturated_moments(schedule: Schedule, pull: float, shift: float) -> tuple[float, float]:
    """What guidance makes of one component where the classifier is certain of it all along.

    There the guidance gradient at the predicted clean point is `pull` * (mu_y - x_0) plus a constant, and the
    deviation from mu_y follows a linear recursion.

    Args:
        schedule: the steps that the sampler takes.
        pull: tau_1 - tau_2.
        shift: length of the constant.

    Returns:
        The mean deviation along the constant and the variance per coordinate, 0 and about 1 without guidance.
    """
    mean, variance = 0.0, 1.0
    for step in range(len(schedule) - 1, -1, -1):
        beta, kept = schedule.betas[step].item(), schedule.alphas_cumprod[step].item()
        step_size = schedule.posterior_variance[1].item() if step == 0 else beta
        factor = math.sqrt(1 - beta) - step_size * pull * math.sqrt(kept)
        mean = factor * mean + step_size * shift
        variance = factor**2 * variance + (beta if step > 0 else 0.0)
    return mean, variance


@dataclass(frozen=True)
class SampleStatistics:
    """How samples for one label compare with the label's own component.

    Attributes:
        agreement: share of the samples whose most probable component is the label.
        confidence: mean probability that the exact classifier gives the label.
        spread: trace of the samples' covariance; the component's own is its dimension.
        displacement: component of (sample mean - mu_y) that points away from the other components' mean.
        distance: squared Fréchet distance between the samples' normal fit and the component; 0 if they agree.
    """

    agreement: float
    confidence: float
    spread: float
    displacement: float
    distance: float


def statistics_of(mixture: Mixture, points: Tensor, label: int) -> SampleStatistics:
    """The statistics of `points`, shape `(batch, dim)`, that were sampled for `label`."""
    probabilities = mixture.logits(points).softmax(-1)
    others = torch.cat([mixture.means[:label], mixture.means[label + 1 :]]).mean(0)
    outward = (mixture.means[label] - others) / (mixture.means[label] - others).norm()
    covariance = points.T.cov()
    return SampleStatistics(
        agreement=(probabilities.argmax(-1) == label).double().mean().item(),
        confidence=probabilities[:, label].mean().item(),
        spread=covariance.trace().item(),
        displacement=((points.mean(0) - mixture.means[label]) @ outward).item(),
        distance=frechet_distance(points.mean(0), covariance, mixture.means[label], torch.eye(len(covariance))),
    )


def ring(components: int, radius: float) -> Mixture:
    """Components evenly spread on a circle around the origin of the plane, the first one straight up."""
    angle = math.pi / 2 + 2 * math.pi * torch.arange(components, dtype=torch.float64) / components
    return Mixture(radius * torch.stack([angle.cos(), angle.sin()], dim=1))


def mean_and_half_width(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the seeds, axis 0, and the half-width of its 95 % interval by Student's t."""
    seeds = len(values)
    quantile = student_t.ppf(0.975, seeds - 1)
    return values.mean(0), quantile * values.std(0) / math.sqrt(seeds)
