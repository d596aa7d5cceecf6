"""The Fine-tuning chapter: a classifier calibrated in several ways; how it knows itself then, and how it guides."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import t as student
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

import fguidance as fg
from fguidance.calibration import finetune, fit_temperature, negative_log_likelihood, top_label
from fguidance.diffusion import sample
from fguidance.evaluation import Reference, to_uint8
from fguidance.run import load_config
from fguidance.run.evaluate import digits_images, measure
from fguidance.run.networks import Judge, load_judge
from fguidance.run.tables import load_table
from lab.calibration import NO_LABEL, Networks, predicted_without_label
from lab.parts import Part, Parts
from lab.vanishing import LOG_PROBABILITY

METHODS = {
    "cross_entropy": "cross-entropy alone",
    "smooth_ece": "+ the paper's loss",
    "binned_smooth_ece": "+ the binned loss",
    "temperature": "one temperature",
    "unguided": "(no guidance)",
}
SEES = ("clean", "predicted")


@dataclass(frozen=True)
class Kind:
    """A way to calibrate: its method, and which images it sees, both empty for a classifier as it was."""

    method: str = ""
    sees: str = ""

    @property
    def title(self) -> str:
        """What a table calls it."""
        return METHODS.get(self.method, "as it was")


BEFORE, UNGUIDED = Kind(), Kind("unguided")
WAYS = ("cross_entropy", "smooth_ece", "binned_smooth_ece", "temperature")
KINDS = (BEFORE, *(Kind(method, sees) for sees in SEES for method in WAYS))


@dataclass(frozen=True)
class Config:
    """Every choice of the experiment."""

    seeds: tuple[int, ...] = (0, 1, 2, 3)
    epochs: int = 10
    learning_rate: float = 3e-4
    batch_size: int = 128
    weight: float = 1.0
    beta: float = 1e-2
    samples: int = 200
    steps: int = 50
    guidance_scale: float = 3.0


OWN = ("accuracy", "ECE", "smECE", "NLL")
GUIDED = ("Fréchet distance", "precision", "recall", "agreement")
Measured = dict[str, float]
Found = Mapping[Kind, Sequence[Measured]]


class WithoutLabels(nn.Module):
    """A diffusion model that is told the label for none, whatever label is asked for: only the classifier guides."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The model's output."""
        return self.model(x_t, t, torch.full_like(y, NO_LABEL))


def predicted(networks: Networks, part: Part, seed: int) -> Part:
    """What a sampler shows instead of the images: each predicted, without its label, at a timestep of its own."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(part.images.shape, generator=generator)
    steps = torch.randint(len(networks.schedule), (len(part),), generator=generator)
    x_t = networks.schedule.add_noise(part.images, noise, steps)
    return Part(predicted_without_label(networks, x_t, steps), part.labels)


def seen(networks: Networks, parts: Parts, seed: int) -> dict[str, Parts]:
    """The three parts as they are, and as they are predicted."""
    each = enumerate((parts.train, parts.calibration, parts.test))
    again = (predicted(networks, part, 3 * seed + number) for number, part in each)
    return {"clean": parts, "predicted": Parts(*again)}


def calibrated(kind: Kind, classifier: nn.Module, parts: Mapping[str, Parts], seed: int, config: Config) -> nn.Module:
    """The classifier after fine-tuning on the training images, or with the temperature of the calibration images."""
    if kind == BEFORE:
        return classifier
    given = parts[kind.sees]
    if kind.method == "temperature":
        with torch.no_grad():
            logits = classifier(given.calibration.images)
        return nn.Sequential(classifier, fit_temperature(logits, given.calibration.labels))
    trainable = copy.deepcopy(classifier).requires_grad_()
    shuffled = torch.Generator().manual_seed(seed)
    data = TensorDataset(given.train.images, given.train.labels)
    made = finetune(
        trainable, DataLoader(data, config.batch_size, shuffle=True, generator=shuffled), kind.method, config.weight,
        beta=config.beta, epochs=config.epochs, learning_rate=config.learning_rate, seed=seed, progress=False,
    )  # fmt: skip
    return made.classifier.requires_grad_(False)


@torch.no_grad()
def own_numbers(classifier: nn.Module, part: Part) -> Measured:
    """How well it knows itself on held-out images."""
    logits = classifier(part.images)
    confidence, correct = top_label(logits, part.labels)
    found = (
        correct.double().mean(),
        fg.expected_calibration_error(confidence, correct),
        fg.smooth_ece(confidence, correct),
        negative_log_likelihood(logits, part.labels),
    )
    return {name: value.item() for name, value in zip(OWN, found, strict=True)}


def guided_numbers(
    classifier: nn.Module | None, networks: Networks, judge: Judge, reference: Tensor, seed: int, config: Config
) -> Measured:
    """The measures of images that the classifier alone guided, by the gradient of its log-probability, or nothing."""
    labels = torch.arange(config.samples) % NO_LABEL
    images = sample(
        WithoutLabels(networks.model), networks.schedule.respace(config.steps), labels,
        guidance=None if classifier is None else LOG_PROBABILITY, classifier=classifier,
        guidance_scale=config.guidance_scale, shape=(1, *reference.shape[1:3]),
        seeds=range(seed * config.samples, (seed + 1) * config.samples), progress=False,
    )  # fmt: skip
    found = measure(judge, to_uint8(images), labels, Reference(None, None, reference), 200, torch.device("cpu"))
    values = (found.frechet_distance, found.precision, found.recall, found.agreement)
    return {name: float(value) for name, value in zip(GUIDED, values, strict=True)}


def run(networks: Networks, parts: Parts, config: Config, kinds: Iterable[Kind] = KINDS) -> dict[Kind, list[Measured]]:
    """Every kind with every seed, which is of the fine-tuning's order, of the noise and of the sampler.

    Returns:
        For each kind a row per seed: its own numbers, on clean images and, as "predicted accuracy" and so on, on
        predicted ones, and those of the images that it guided.
    """
    judge, reference = _judge()
    found: dict[Kind, list[Measured]] = {kind: [] for kind in kinds}
    views = {seed: seen(networks, parts, seed) for seed in config.seeds}
    for kind, seed in tqdm([(kind, seed) for kind in found for seed in config.seeds], "classifiers"):
        classifier = calibrated(kind, networks.classifier, views[seed], seed, config)
        again = own_numbers(classifier, views[seed]["predicted"].test)
        found[kind].append(
            own_numbers(classifier, parts.test)
            | {f"predicted {name}": value for name, value in again.items()}
            | guided_numbers(classifier, networks, judge, reference, seed, config)
        )
    return found


def unguided(networks: Networks, config: Config) -> list[Measured]:
    """The measures of images that nothing guided, a row per seed."""
    judge, reference = _judge()
    return [guided_numbers(None, networks, judge, reference, seed, config) for seed in config.seeds]


def _judge() -> tuple[Judge, Tensor]:
    return load_judge(load_config("digits").features), digits_images()


def table(found: Found, names: Sequence[str]) -> str:
    """Means over the seeds, and the standard errors of those that vary, as a Markdown table."""
    titles = (name.removeprefix("predicted ") for name in names)
    lines = ["| calibrated by | on images | " + " | ".join(titles) + " |", "| --- | --- |" + " --- |" * len(names)]
    for kind, rows in found.items():
        cells = (_cell(torch.tensor([row[name] for row in rows], dtype=torch.float64)) for name in names)
        lines.append(f"| {kind.title} | {kind.sees} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: Tensor) -> str:
    error = values.std() / len(values) ** 0.5
    return f"{values.mean():.3f}" + (f" ±\N{NO-BREAK SPACE}{error:.3f}" if error > 0 else "")


@dataclass(frozen=True)
class Difference:
    """The mean over the seeds of a difference, and its 95 % interval by Student's t."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f}  [{self.low:+.3f}, {self.high:+.3f}]"


def difference(found: Found, first: Kind, second: Kind, name: str) -> Difference:
    """By how much a measure of one kind is above that of another with the same seed and the same noise."""
    pairs = zip(found[first], found[second], strict=True)
    values = torch.tensor([one[name] - other[name] for one, other in pairs], dtype=torch.float64)
    mean, error = values.mean().item(), (values.std() / len(values) ** 0.5).item()
    reach = error * float(student.ppf(0.975, len(values) - 1))
    return Difference(mean, mean - reach, mean + reach)


def misses(found: Found) -> str:
    """How many intervals of the differences to the classifier as it was leave out zero, of how many, and which."""
    kinds = [kind for kind in found if kind != BEFORE]
    changes = {(kind, name): difference(found, kind, BEFORE, name) for kind in kinds for name in GUIDED}
    clear = [f"{kind.title}, {kind.sees}: {name} {change}" for (kind, name), change in changes.items()
             if change.low > 0 or change.high < 0]  # fmt: skip
    return "\n".join((f"{len(clear)} of {len(changes)} intervals leave out zero:", *clear))


def published() -> str:
    """What the paper states of fine-tuning, on ImageNet at 128 x 128 pixels, as a Markdown table."""
    lines = ["| classifier | Fréchet distance | precision | recall |", "| --- | --- | --- | --- |"]
    for row in load_table("imagenet128", 1).rows:
        stated = row.stated
        lines.append(f"| {row.config.title} | {stated.frechet_distance} | {stated.precision} | {stated.recall} |")
    return "\n".join(lines)
