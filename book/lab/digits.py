"""The digits experiment: train, calibrate, sample under every guidance, measure. One call per section of the page."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from fguidance import Guidance
from fguidance.calibration import fit_temperature
from fguidance.diffusion import ImageGuidance, Schedule, sample
from lab.digits_data import load
from lab.digits_metrics import Metrics, as_row, jackknife_error, judge, measure
from lab.digits_networks import Denoiser, GuidingClassifier, JudgingClassifier
from lab.digits_training import (
    ClassifierTraining,
    DenoiserTraining,
    predicted_clean_images,
    train_classifier,
    train_denoiser,
)
from lab.parts import Parts


@dataclass(frozen=True)
class Config:
    """Every choice of the experiment. Scale, sine_gamma and the two taus are the published ones of Ma et al."""

    split_seed: int = 0
    calibration_images: int = 200
    test_images: int = 500
    timesteps: int = 1000
    denoiser: DenoiserTraining = field(default_factory=DenoiserTraining)
    guiding: ClassifierTraining = field(default_factory=lambda: ClassifierTraining(seed=1))
    judging: ClassifierTraining = field(default_factory=lambda: ClassifierTraining(seed=2))
    calibration_repeats: int = 20
    calibration_seed: int = 3
    sampling_steps: int = 50
    samples_per_class: int = 50
    first_sample_seed: int = 0
    guidance_scale: float = 1.0
    other_scales: tuple[float, ...] = (0.5, 1.5, 2.0, 3.0)
    sine_gamma: float = 0.3
    tau_joint: float = 1.0
    tau_marginal: float = 0.5
    alpha: float = 0.5
    epsilon: float = 0.9
    tilt: float = -0.2
    entropy: float = 0.5
    neighbours: int = 3
    jackknife_groups: int = 20


@dataclass(frozen=True)
class Variant:
    """One row of the results: what guides, how strongly, and what the guiding classifier's logits are divided by."""

    key: str
    name: str
    guidance: ImageGuidance | None
    temperature: float
    scale: float = 1.0


@dataclass(frozen=True)
class SignTurned:
    """A guidance whose divergence term acts with the opposite sign; the rest of its score is left alone."""

    guidance: Guidance
    without: Guidance

    def gradient(self, classifier: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor) -> Tensor:
        """Mirror the gradient at the one without the divergence; costs two passes through the classifier."""
        plain = self.without.gradient(classifier, x, labels)
        return 2 * plain - self.guidance.gradient(classifier, x, labels)


@dataclass(frozen=True)
class Trained:
    """The three networks and the denoiser's loss at every step."""

    denoiser: Denoiser
    losses: list[float]
    guiding: GuidingClassifier
    judging: JudgingClassifier


@dataclass(frozen=True)
class Calibration:
    """Logits of the guiding classifier on predicted clean images, and the temperatures that fit."""

    logits: Tensor
    labels: Tensor
    steps: Tensor
    temperature: float
    temperature_on_clean_images: float


@dataclass(frozen=True)
class Results:
    """Per row the four metrics, their jackknife errors and those of the difference to one row, ``(rows, 4)`` each."""

    keys: list[str]
    values: Tensor
    errors: Tensor
    differences: Tensor
    difference_errors: Tensor
    baseline: str
    floor: Metrics

    def row(self, key: str) -> Metrics:
        """The metrics of one variant."""
        return Metrics(*self.values[self.keys.index(key)].tolist())


@dataclass
class Clock:
    """Seconds spent in each part of the experiment."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Add the time of the block to ``part``."""
        start = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start


def load_data(config: Config) -> Parts:
    """The digits in their three parts."""
    return load(config.calibration_images, config.test_images, config.split_seed)


def train(digits: Parts, config: Config) -> Trained:
    """Train the denoiser and the two classifiers on the training part, each from its own seed."""
    denoiser, losses = train_denoiser(digits.train, Schedule.linear(config.timesteps), config.denoiser)
    torch.manual_seed(config.guiding.seed)
    guiding = train_classifier(GuidingClassifier(), digits.train, config.guiding, "guiding classifier")
    torch.manual_seed(config.judging.seed)
    judging = train_classifier(JudgingClassifier(), digits.train, config.judging, "judging classifier")
    return Trained(denoiser, losses, guiding, judging)


def sampling_schedule(config: Config) -> Schedule:
    """The steps that the sampler takes."""
    return Schedule.linear(config.timesteps).respace(config.sampling_steps)


@torch.no_grad()
def calibrate(trained: Trained, digits: Parts, config: Config) -> Calibration:
    """Fit the temperature where the guiding classifier works: on predicted clean images of every noise level."""
    images, labels, steps = predicted_clean_images(
        trained.denoiser,
        sampling_schedule(config),
        digits.calibration,
        config.calibration_repeats,
        config.calibration_seed,
    )
    logits, clean = trained.guiding(images), trained.guiding(digits.calibration.images)
    return Calibration(
        logits,
        labels,
        steps,
        fit_temperature(logits, labels).temperature,
        fit_temperature(clean, digits.calibration.labels).temperature,
    )


def variants(config: Config, temperature: float) -> list[Variant]:
    """The rows of the results; all but two use the calibrated classifier and the same settings."""
    taus = {"tau_joint": config.tau_joint, "tau_marginal": config.tau_marginal}
    strength = {"alpha": config.alpha, "epsilon": config.epsilon}
    ma = _ma(config)
    printed = Guidance(divergence="js_printed", **strength, **taus)
    guided: list[tuple[str, str, ImageGuidance]] = [
        ("ma", "Ma et al.", ma),
        ("tilted", "tilted", Guidance(alpha=0.0, tilt=config.tilt, **taus)),
        ("entropy", "entropy", Guidance(alpha=0.0, entropy=config.entropy, **taus)),
        *((key, key.upper(), Guidance(divergence=key, **strength, **taus)) for key in ("rkl", "fkl", "js")),
        ("js_printed", "JS as printed", printed),
        ("js_printed_turned", "JS printed (turned)", SignTurned(printed, ma)),
    ]
    return [
        Variant("unguided", "unguided", None, 1.0),
        Variant("ma_uncalibrated", "Ma et al. (T = 1)", ma, 1.0, config.guidance_scale),
        *(Variant(key, name, guidance, temperature, config.guidance_scale) for key, name, guidance in guided),
    ]


def other_strengths(config: Config, temperature: float) -> list[Variant]:
    """Ma et al.'s guidance with the calibrated classifier at other guidance scales."""
    return [
        Variant(f"ma_{scale:g}", f"Ma et al., s = {scale:g}", _ma(config), temperature, scale)
        for scale in config.other_scales
    ]


def requested_labels(config: Config) -> Tensor:
    """The classes asked for, ``(10 * samples_per_class,)``: all zeros first, all nines last."""
    return torch.arange(10).repeat_interleave(config.samples_per_class)


def draw(trained: Trained, rows: list[Variant], config: Config) -> dict[str, Tensor]:
    """Sample every variant from the same noise: image i of each starts alike and is shaken alike."""
    labels, schedule = requested_labels(config), sampling_schedule(config)
    seeds = range(config.first_sample_seed, config.first_sample_seed + len(labels))
    images = {}
    with tqdm(total=len(rows) * len(schedule)) as bar:
        for row in rows:
            bar.set_description(f"sampling {row.name}")
            images[row.key] = sample(
                trained.denoiser,
                schedule,
                labels,
                guidance=row.guidance,
                classifier=_at_temperature(trained.guiding, row.temperature) if row.guidance else None,
                guidance_scale=row.scale,
                sine_gamma=config.sine_gamma,
                shape=(1, 8, 8),
                seeds=seeds,
                progress=False,
                callback=lambda record: bar.update(),
            ).clamp(-1.0, 1.0)
    return images


def evaluate(
    trained: Trained, digits: Parts, images: dict[str, Tensor], config: Config, baseline: str = "ma"
) -> Results:
    """Measure every variant against the training images; leave-one-group-out errors, differences on equal noise."""
    reference = judge(trained.judging, digits.train.images, digits.train.labels)
    labels = requested_labels(config)
    judged = [judge(trained.judging, generated, labels) for generated in images.values()]
    base = list(images).index(baseline)

    def table(rows: Tensor) -> Tensor:
        values = torch.stack([as_row(measure(one.without(rows), reference, config.neighbours)) for one in judged])
        return torch.stack([values, values - values[base]])

    values, differences = table(torch.zeros(len(labels), dtype=torch.bool))
    errors, difference_errors = jackknife_error(table, len(labels), config.jackknife_groups)
    floor = measure(judge(trained.judging, digits.test.images, digits.test.labels), reference, config.neighbours)
    return Results(list(images), values, errors, differences, difference_errors, baseline, floor)


def settings(config: Config) -> dict[str, object]:
    """The configuration as one flat table, nested names joined by dots."""
    flat: dict[str, object] = {}
    for name, value in asdict(config).items():
        nested = value.items() if isinstance(value, dict) else [("", value)]
        flat.update({f"{name}.{inner}".rstrip("."): entry for inner, entry in nested})
    return flat


def _ma(config: Config) -> Guidance:
    return Guidance(alpha=0.0, tau_joint=config.tau_joint, tau_marginal=config.tau_marginal)


def _at_temperature(classifier: GuidingClassifier, temperature: float) -> Callable[[Tensor], Tensor]:
    return lambda x: classifier(x) / temperature
