"""The guided sampler: noise in, images out; the classifier sees the predicted clean image, or the noisy one."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

import torch
from torch import Tensor

from fguidance.diffusion.ancestral import AncestralStep
from fguidance.diffusion.ddim import DDIMStep
from fguidance.diffusion.finite import FiniteWatch
from fguidance.diffusion.noise import SeededNoise
from fguidance.diffusion.progress import countdown
from fguidance.diffusion.reverse import FixedVariance, ReverseStep, reverse_step
from fguidance.diffusion.schedule import Schedule
from fguidance.divergence import without_reading

Model = Callable[[Tensor, Tensor, Tensor], Tensor]
Classifier = Callable[[Tensor], Tensor]
NoiseAwareClassifier = Callable[[Tensor, Tensor], Tensor]
Sampler = Literal["ancestral", "ddim"]
ClassifierInput = Literal["clean", "noisy"]


class ImageGuidance(Protocol):
    """What the sampler needs of a guidance; :class:`fguidance.Guidance` is one."""

    def gradient(self, classifier: Classifier, x: Tensor, labels: Tensor) -> Tensor:
        """Return the direction, shaped like ``x``, in which the score of ``x`` rises."""
        ...


@dataclass(frozen=True)
class StepRecord:
    """What a callback sees after each step.

    Attributes:
        step: index of the step just taken, from ``len(schedule) - 1`` down to 0.
        timestep: the original schedule's timestep that the network was given.
        sample: ``(batch, C, H, W)`` the images after the step.
        predicted_clean: ``(batch, C, H, W)`` the predicted clean images, before guidance.
    """

    step: int
    timestep: int
    sample: Tensor
    predicted_clean: Tensor


def sample(
    model: Model,
    schedule: Schedule,
    labels: Tensor,
    *,
    guidance: ImageGuidance | None = None,
    classifier: Classifier | NoiseAwareClassifier | None = None,
    classifier_input: ClassifierInput = "clean",
    guidance_scale: float = 1.0,
    sine_gamma: float = 0.0,
    sampler: Sampler = "ancestral",
    eta: float = 0.0,
    shape: Sequence[int] | None = None,
    initial_noise: Tensor | None = None,
    step_noise: Tensor | None = None,
    seeds: Sequence[int] | None = None,
    clip_denoised: bool = True,
    fixed_variance: FixedVariance = "posterior",
    progress: bool = True,
    callback: Callable[[StepRecord], None] | None = None,
) -> Tensor:
    r"""Draw one image per label by the reverse process, its mean shifted as in equation :eq:`eq-guided-mean`.

    At each step the model predicts a clean image, equation :eq:`eq-predicted-clean`; ``guidance``
    differentiates its score of that image through ``classifier`` alone, not through the model; the mean of
    equation :eq:`eq-posterior` moves along the gradient; noise is added, except at the last step. With
    ``sampler="ddim"`` the predicted noise moves instead, equation :eq:`eq-ddim`.

    Args:
        model: called as ``model(x_t, t, labels)`` with ``x_t`` of shape ``(batch, C, H, W)`` and ``t`` of
            shape ``(batch,)``, int64, in the timesteps of the *original* schedule. Returns the noise,
            ``(batch, C, H, W)``, or noise and variance channels, ``(batch, 2C, H, W)``; see
            :func:`~fguidance.diffusion.reverse_step`. An unconditional model ignores the labels.
        schedule: the steps to take, usually ``Schedule.linear(1000).respace(steps)``.
        labels: ``(batch,)`` int64 class labels, for ``guidance`` and for a class-conditional model.
        guidance: a :class:`fguidance.Guidance`, the gradient of whose score guides; needs ``classifier``.
            With ``tilt`` it couples the batch's samples.
        classifier: maps predicted clean images to logits ``(batch, classes)``; where ``classifier_input`` is
            ``"noisy"``, called ``classifier(x_t, t)`` with the noisy images and the timesteps that the model gets.
        classifier_input: ``"clean"`` or ``"noisy"``: what the classifier sees, and the gradient is taken at.
        guidance_scale: factor s of the gradient, finite.
        sine_gamma: factor :math:`\gamma \ge 0` of the sine-shaped extra step size, see
            :class:`~fguidance.diffusion.GuidanceStepSize`. With a learned variance and ``sine_gamma > 0`` the
            samples depend on the first one of their batch. 0 for DDIM, which knows no such step size.
        sampler: ``"ancestral"`` or ``"ddim"``.
        eta: noise of DDIM, from 0 (none) to 1; 0 for the ancestral sampler, whose noise is that of its variance.
        shape: ``(C, H, W)``, needed exactly when ``initial_noise`` is not given.
        initial_noise: ``(batch, C, H, W)`` floating, standard normal; its dtype and device are the run's.
        step_noise: ``(steps, batch, C, H, W)`` in the order of use; the last one is not used.
        seeds: one integer per sample; a sample's noise depends on its own seed only. Drawn from PyTorch's
            global generator if missing. Not allowed when both noises are given.
        clip_denoised: clip the predicted clean image to [-1, 1].
        fixed_variance: ``"posterior"`` or ``"beta"``, for a model that returns the noise only.
        progress: show a progress bar on standard error, if tqdm is installed.
        callback: called with a :class:`~fguidance.diffusion.StepRecord` after each step.

    Returns:
        ``(batch, C, H, W)`` images on the data's scale, nominally [-1, 1]; the last step's images are not
        clipped.

    Raises:
        ValueError: an argument breaks a rule above; the message names it.
        TypeError: ``labels`` or ``initial_noise`` has the wrong dtype.
        FloatingPointError: the output of the model or the classifier, or the guidance gradient, contains NaN or
            infinity.

    Source: Ma et al. 2024 (EluCD), arXiv:2310.11311, and its published program, on which arXiv:2511.05844 builds.
    """
    _check_guidance(guidance, classifier, classifier_input, guidance_scale, sine_gamma)
    advance = _stepping(sampler, schedule, guidance_scale, sine_gamma, eta)
    x, noises = _noises(labels, len(schedule), shape, initial_noise, step_noise, seeds)
    watch = FiniteWatch()
    for step in countdown(len(schedule), progress):
        timestep = int(schedule.timestep_map[step])
        t = torch.full((len(x),), timestep, device=x.device)
        look = functools.partial(watch.look, step=step, timestep=timestep)
        with torch.no_grad():
            output = model(x, t, labels)
            look("the model's output", output)
            reverse = reverse_step(
                output.to(x.dtype), x, schedule, step, clip_denoised=clip_denoised, variance=fixed_variance
            )
        gradient = None
        if guidance is not None and classifier is not None:
            seen = reverse.predicted_clean if classifier_input == "clean" else x
            # The first step has seen that the labels are right, and the watch sees NaN.
            quick = x.device.type != "cpu" and step < len(schedule) - 1
            with without_reading() if quick else nullcontext():
                gradient = guidance.gradient(_watched(classifier, classifier_input, t, look), seen, labels)
            look("the guidance gradient", gradient)
        mean, deviation = advance(reverse, x, gradient, step)
        x = mean if step == 0 else mean + deviation * next(noises)
        if callback is not None:
            callback(StepRecord(step, timestep, x, reverse.predicted_clean))
    watch.settle()
    return x


def _stepping(
    sampler: str, schedule: Schedule, guidance_scale: float, sine_gamma: float, eta: float
) -> Callable[[ReverseStep, Tensor, Tensor | None, int], tuple[Tensor, Tensor]]:
    """Return what makes a mean and a standard deviation of each step."""
    if sampler not in get_args(Sampler):
        raise ValueError(f"sampler is {sampler!r}; it must be one of {get_args(Sampler)}")
    if sampler == "ancestral":
        if eta != 0:
            raise ValueError(f"eta is {eta}; it must be 0 for the ancestral sampler")
        return AncestralStep(schedule, guidance_scale, sine_gamma)
    if sine_gamma != 0:
        raise ValueError(f"sine_gamma is {sine_gamma}; it must be 0 for DDIM")
    return DDIMStep(schedule, guidance_scale, eta)


def _watched(
    classifier: Classifier | NoiseAwareClassifier,
    classifier_input: ClassifierInput,
    t: Tensor,
    look: Callable[[str, Tensor], None],
) -> Classifier:
    """Return the classifier as a function of the image alone, whose logits are looked at for NaN."""

    def called(image: Tensor) -> Tensor:
        if classifier_input == "clean":
            logits = cast(Classifier, classifier)(image)
        else:
            logits = cast(NoiseAwareClassifier, classifier)(image, t)
        if isinstance(logits, Tensor):  # what else it may be is the guidance's to refuse
            look("the classifier's output", logits.detach())
        return logits

    return called


def _noises(
    labels: Tensor,
    steps: int,
    shape: Sequence[int] | None,
    initial_noise: Tensor | None,
    step_noise: Tensor | None,
    seeds: Sequence[int] | None,
) -> tuple[Tensor, Iterator[Tensor]]:
    """Return the initial noise and an iterator over the steps' noise, given or drawn."""
    _check_labels(labels)
    if (shape is None) == (initial_noise is None):
        raise ValueError("exactly one of shape and initial_noise must be given")
    if initial_noise is not None:
        _check_initial_noise(initial_noise, len(labels))
        like, image_shape = initial_noise, tuple(initial_noise.shape[1:])
    else:
        like, image_shape = torch.empty(0, device=labels.device), _checked_shape(shape)
    seeded = SeededNoise(_checked_seeds(seeds, len(labels), initial_noise, step_noise), image_shape, like)
    first = seeded.draw() if initial_noise is None else initial_noise
    if step_noise is None:
        return first, (seeded.draw() for _ in range(steps))
    if step_noise.shape != (steps, *first.shape):
        raise ValueError(f"step_noise has shape {tuple(step_noise.shape)}; it must be {(steps, *first.shape)}")
    return first, iter(step_noise.to(first))


def _checked_seeds(
    seeds: Sequence[int] | None, batch: int, initial_noise: Tensor | None, step_noise: Tensor | None
) -> Sequence[int]:
    if initial_noise is not None and step_noise is not None:
        if seeds is not None:
            raise ValueError("seeds has no use when initial_noise and step_noise are both given")
        return []
    if seeds is None:
        drawn: list[int] = torch.randint(2**62, (batch,)).tolist()
        return drawn
    if len(seeds) != batch:
        raise ValueError(f"seeds has {len(seeds)} entries; it must have one per label, {batch}")
    return seeds


def _checked_shape(shape: Sequence[int] | None) -> tuple[int, ...]:
    if shape is None or len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape is {shape}; it must be (channels, height, width), each at least 1, without the batch")
    return tuple(shape)


def _check_labels(labels: Tensor) -> None:
    if labels.dtype != torch.int64:
        raise TypeError(f"labels has dtype {labels.dtype}; it must be torch.int64")
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels has shape {tuple(labels.shape)}; it must be (batch,) with at least one sample")


def _check_initial_noise(initial_noise: Tensor, batch: int) -> None:
    if not initial_noise.is_floating_point():
        raise TypeError(f"initial_noise has dtype {initial_noise.dtype}; it must be a floating dtype")
    if initial_noise.ndim != 4 or len(initial_noise) != batch:
        raise ValueError(f"initial_noise has shape {tuple(initial_noise.shape)}; it must be ({batch}, C, H, W)")


def _check_guidance(
    guidance: ImageGuidance | None,
    classifier: Classifier | NoiseAwareClassifier | None,
    classifier_input: str,
    guidance_scale: float,
    sine_gamma: float,
) -> None:
    if (guidance is None) != (classifier is None):
        raise ValueError("guidance and classifier must be given together")
    if classifier_input not in get_args(ClassifierInput):
        raise ValueError(f"classifier_input is {classifier_input!r}; it must be one of {get_args(ClassifierInput)}")
    if not math.isfinite(guidance_scale):
        raise ValueError(f"guidance_scale is {guidance_scale}; it must be finite")
    if not (math.isfinite(sine_gamma) and sine_gamma >= 0):
        raise ValueError(f"sine_gamma is {sine_gamma}; it must be finite and at least 0")
