"""The guided sampler: noise in, images out; the classifier sees the predicted clean image, or the noisy one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

import torch
from torch import Tensor

from fguidance.diffusion.schedule import Schedule
from fguidance.diffusion.steps import AncestralStep, DDIMStep, FixedVariance, reverse_step
from fguidance.inputs import require_number, without_reading

Model = Callable[[Tensor, Tensor, Tensor], Tensor]
Classifier = Callable[[Tensor], Tensor]
NoiseAwareClassifier = Callable[[Tensor, Tensor], Tensor]
Sampler = Literal["ancestral", "ddim"]
ClassifierInput = Literal["clean", "noisy"]
WATCHED = 32
"""How many results on a GPU are looked at together."""


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
        TypeError: ``labels`` or ``initial_noise`` has the wrong dtype, or a number is none.
        FloatingPointError: the output of the model or the classifier, or the guidance gradient, contains NaN or
            infinity.

    Source: Ma et al. 2024 (EluCD), arXiv:2310.11311, and its published program, on which arXiv:2511.05844 builds.
    """
    if (guidance is None) != (classifier is None):
        raise ValueError("guidance and classifier must be given together")
    if classifier_input not in get_args(ClassifierInput):
        raise ValueError(f"classifier_input is {classifier_input!r}; it must be one of {get_args(ClassifierInput)}")
    guidance_scale = require_number("guidance_scale", guidance_scale)
    advance = _stepping(sampler, schedule, guidance_scale, require_number("sine_gamma", sine_gamma, 0), eta)
    x, noises = _noises(labels, len(schedule), shape, initial_noise, step_noise, seeds)
    watch = FiniteWatch()
    for step in _countdown(len(schedule), progress):
        watch.step = step
        watch.timestep = timestep = int(schedule.timestep_map[step])
        t = torch.full((len(x),), timestep, device=x.device)
        with torch.no_grad():
            output = model(x, t, labels)
            watch.look("the model's output", output)
            reverse = reverse_step(
                output.to(x.dtype), x, schedule, step, clip_denoised=clip_denoised, variance=fixed_variance
            )
        gradient = None
        if guidance is not None and classifier is not None:
            seen = reverse.predicted_clean if classifier_input == "clean" else x
            # The first step has seen that the labels are right, and the watch sees NaN.
            quick = x.device.type != "cpu" and step < len(schedule) - 1
            with without_reading() if quick else nullcontext():
                gradient = guidance.gradient(_watched(classifier, classifier_input, t, watch), seen, labels)
            watch.look("the guidance gradient", gradient)
        mean, deviation = advance(reverse, x, gradient, step)
        x = mean if step == 0 else mean + deviation * next(noises)
        if callback is not None:
            callback(StepRecord(step, timestep, x, reverse.predicted_clean))
    watch.settle()
    return x


class FiniteWatch:
    """A look-out for NaN and infinity: at once on a CPU, elsewhere some steps later, since reading a number waits.

    Attributes:
        step: of the run, for messages.
        timestep: of the original schedule, for messages.
    """

    def __init__(self) -> None:
        self.step = self.timestep = 0
        self._counts: list[tuple[str, Tensor]] = []

    def look(self, what: str, value: Tensor) -> None:
        """Note a result of this step.

        Raises:
            FloatingPointError: it, or an earlier one, contains NaN or infinity; the first is named.
        """
        place = f"of {value.numel()} values that are NaN or infinite at step {self.step} (timestep {self.timestep})"
        self._counts.append((f"{what} has {{}} {place}; sampling stops here", (~value.isfinite()).sum()))
        if value.device.type == "cpu" or len(self._counts) >= WATCHED:
            self.settle()

    def settle(self) -> None:
        """Look at what was noted and not looked at yet.

        Raises:
            FloatingPointError: as `look`.
        """
        if not self._counts:
            return
        messages, counts = zip(*self._counts, strict=True)
        self._counts.clear()
        for message, count in zip(messages, torch.stack(counts).tolist(), strict=True):
            if count:
                raise FloatingPointError(message.format(count))


def _countdown(steps: int, visible: bool) -> Iterable[int]:
    """``steps - 1, ..., 0`` behind a bar on standard error: a comfort that needs tqdm and is left out without it."""
    remaining = range(steps - 1, -1, -1)
    if not visible:
        return remaining
    try:
        from tqdm import tqdm
    except ImportError:
        return remaining
    bar: Iterable[int] = tqdm(remaining, desc="sampling")
    return bar


def _stepping(
    sampler: str, schedule: Schedule, guidance_scale: float, sine_gamma: float, eta: float
) -> AncestralStep | DDIMStep:
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
    classifier: Classifier | NoiseAwareClassifier, classifier_input: ClassifierInput, t: Tensor, watch: FiniteWatch
) -> Classifier:
    """Return the classifier as a function of the image alone, whose logits are looked at for NaN."""

    def called(image: Tensor) -> Tensor:
        if classifier_input == "clean":
            logits = cast(Classifier, classifier)(image)
        else:
            logits = cast(NoiseAwareClassifier, classifier)(image, t)
        if isinstance(logits, Tensor):  # what else it may be is the guidance's to refuse
            watch.look("the classifier's output", logits.detach())
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
    if labels.dtype != torch.int64:
        raise TypeError(f"labels has dtype {labels.dtype}; it must be torch.int64")
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"labels has shape {tuple(labels.shape)}; it must be (batch,) with at least one sample")
    if (shape is None) == (initial_noise is None):
        raise ValueError("exactly one of shape and initial_noise must be given")
    batch = len(labels)
    if initial_noise is not None:
        if not initial_noise.is_floating_point():
            raise TypeError(f"initial_noise has dtype {initial_noise.dtype}; it must be a floating dtype")
        if initial_noise.ndim != 4 or len(initial_noise) != batch:
            raise ValueError(f"initial_noise has shape {tuple(initial_noise.shape)}; it must be ({batch}, C, H, W)")
        shape, like = initial_noise.shape[1:], initial_noise
    else:
        like = torch.empty(0, device=labels.device)
    if shape is None or len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape is {shape}; it must be (channels, height, width), each at least 1, without the batch")
    drawing = initial_noise is None or step_noise is None
    if seeds is None:
        seeds = torch.randint(2**62, (batch if drawing else 0,)).tolist()
    elif not drawing:
        raise ValueError("seeds has no use when initial_noise and step_noise are both given")
    elif len(seeds) != batch:
        raise ValueError(f"seeds has {len(seeds)} entries; it must have one per label, {batch}")
    drawn = _drawn(seeds, shape, like)
    first = next(drawn) if initial_noise is None else initial_noise
    if step_noise is None:
        return first, drawn
    if step_noise.shape != (steps, *first.shape):
        raise ValueError(f"step_noise has shape {tuple(step_noise.shape)}; it must be {(steps, *first.shape)}")
    return first, iter(step_noise.to(first))


def _drawn(seeds: Sequence[int], shape: Sequence[int], like: Tensor) -> Iterator[Tensor]:
    """Standard normal noise ``(batch, *shape)``, drawn on the CPU from one generator per sample.

    So what a sample receives depends on its seed alone: not on the other samples, the batch's size or the device.
    """
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    while True:
        noise = torch.stack([torch.randn(tuple(shape), generator=one, dtype=like.dtype) for one in generators])
        if like.device.type == "cuda":
            noise = noise.pin_memory()  # without it the copy would wait for all that was asked of the GPU before
        yield noise.to(like.device, non_blocking=True)
