"""The Calibration chapter: what each measure sees, and classifiers on clean, noisy and predicted clean images."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from relplot.metrics import smECE
from safetensors import safe_open
from torch import Tensor, nn

import fguidance as fg
from fguidance.calibration import binned_smooth_ece_loss, classwise, reliability_curve, top_label
from fguidance.calibration.reliability import ReliabilityCurve
from fguidance.diffusion import Schedule
from fguidance.run import load_config
from fguidance.run.assets import file_and_part, locate
from fguidance.run.networks import load_classifier, load_model
from lab import quiet  # noqa: F401
from lab.checkpoint import predicted_images
from lab.parts import Part
from lab.vanishing import Answer, ask

Loss = Callable[[Tensor, Tensor], Tensor]


def logits_of(confidence: Tensor) -> Tensor:
    """Two logits, the first the larger, whose softmax is a confidence above 1/2."""
    return torch.stack((confidence.logit(), torch.zeros_like(confidence)), -1)


def expected_loss(loss: Loss, accuracy: float, confidence: Tensor) -> Tensor:
    """The loss of a classifier that always has the same confidence and is right with probability ``accuracy``.

    Args:
        loss: of logits ``(n, 2)`` and labels ``(n,)``, a mean over samples.
        accuracy: from 0 to 1.
        confidence: ``(m,)`` above 1/2.

    Returns:
        ``(m,)``.
    """
    right, wrong = (torch.full((1,), label) for label in (0, 1))
    values = [
        accuracy * loss(logits[None], right) + (1 - accuracy) * loss(logits[None], wrong)
        for logits in logits_of(confidence)
    ]  # fmt: skip
    return torch.stack(values)


def minimiser(accuracy: float, beta: float) -> float:
    """The confidence at which the paper's expected loss is smallest: the root of its slope, which autograd gives."""
    low, high = torch.tensor(accuracy, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)
    for _ in range(35):
        middle = ((low + high) / 2).requires_grad_()
        value = expected_loss(lambda logits, labels: fg.smooth_ece_loss(logits, labels, beta), accuracy, middle[None])
        (slope,) = torch.autograd.grad(value.sum(), middle)
        low, high = (middle.detach(), high) if slope < 0 else (low, middle.detach())
    return float((low + high) / 2)


@dataclass(frozen=True)
class Networks:
    """A diffusion model and the classifier of clean images that comes with it, as it was before it was calibrated."""

    model: nn.Module
    classifier: nn.Module
    temperature: float
    schedule: Schedule


class _Hotter(nn.Module):
    def __init__(self, classifier: nn.Module, temperature: float) -> None:
        super().__init__()
        self.classifier, self.temperature = classifier, temperature

    def forward(self, images: Tensor) -> Tensor:
        return self.temperature * self.classifier(images)


def networks(name_or_path: str) -> Networks:
    """The networks of a small configuration; the temperature that was divided out is multiplied back."""
    config = load_config(name_or_path)
    with safe_open(locate(file_and_part(config.classifier.weights)[0]), framework="pt") as file:
        temperature = json.loads(file.metadata()["made"])["temperature"]
    classifier = _Hotter(load_classifier(config.classifier), temperature)
    return Networks(load_model(config.model), classifier, temperature, Schedule.linear(config.sampling.timesteps))


@dataclass(frozen=True)
class View:
    """What a classifier gets to see: images of a noise level, and whether they are noisy or predicted clean."""

    step: int
    kind: str
    images: Tensor


NO_LABEL = 10
"""What the small models are given in place of a label, of the digits 0 to 9 or of ten kinds of clothes."""


@torch.no_grad()
def predicted_without_label(given: Networks, x_t: Tensor, steps: Tensor, chunk: int = 250) -> Tensor:
    """The predicted clean images of noisy ones ``(n, C, H, W)`` at ``steps`` ``(n,)``; the model is told no label."""
    none = torch.full_like(steps, NO_LABEL)
    clean = [
        predicted_images(given.model, given.schedule, x_t[rows], steps[rows], none[rows])
        for rows in torch.arange(len(steps)).split(chunk)
    ]
    return torch.cat(clean)


def views(given: Networks, part: Part, steps: Sequence[int], seed: int = 0, chunk: int = 250) -> list[View]:
    """Noisy images and predicted clean ones of each step."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(part.images.shape, generator=generator)
    found = []
    for step in steps:
        at = torch.full_like(part.labels, step)
        x_t = given.schedule.add_noise(part.images, noise, at)
        clean = predicted_without_label(given, x_t, at, chunk)
        found += [View(step, "noisy", x_t), View(step, "predicted", clean)]
    return found


@dataclass(frozen=True)
class Seen:
    """A view, what the classifier answers of it, and how well it knows itself."""

    view: View
    answer: Answer
    logits: Tensor
    accuracy: float
    smooth: float
    loss: float


def look(classifier: nn.Module, view: View, labels: Tensor, beta: float = 1e-2) -> Seen:
    """Measure a classifier on a view."""
    with torch.no_grad():
        logits = classifier(view.images)
    confidence, correct = top_label(logits, labels)
    return Seen(
        view,
        ask(classifier, view.images, labels),
        logits,
        correct.double().mean().item(),
        fg.smooth_ece(confidence, correct).item(),
        fg.smooth_ece_loss(logits, labels, beta).item(),
    )


def table(rows: Sequence[Seen]) -> str:
    """The measures of every view, as a Markdown table."""
    titles = "accuracy | confidence | entropy | gradient norm | smECE | paper's loss"
    lines = [f"| t | sees | {titles} |", "| --- | --- |" + " --- |" * 6]
    for row in rows:
        answer = row.answer
        numbers = (
            f"{row.accuracy:.3f}", f"{answer.confidence.mean():.3f}", f"{answer.entropy.mean():.2f}",
            f"{answer.gradient_norm.median():.1e}", f"{row.smooth:.3f}", f"{row.loss:.3f}",
        )  # fmt: skip
        lines.append(f"| {row.view.step} | {row.view.kind} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def curve(seen: Seen, labels: Tensor) -> ReliabilityCurve:
    """The reliability curve of a view."""
    return reliability_curve(*top_label(seen.logits, labels), resamples=200)


def errors_by_class(seen: Seen, labels: Tensor) -> Tensor:
    """smECE of the probability of each class, whichever is the largest, ``(classes,)``."""
    return fg.smooth_ece(*classwise(seen.logits, labels))


def binned(beta: float, bins: int) -> Loss:
    """The binned loss as a function of logits and labels."""
    return lambda logits, labels: binned_smooth_ece_loss(logits, labels, beta, bins)


def group_loss(loss: Loss, confidence: Tensor) -> Tensor:
    """The loss of five samples of the same confidence, four of them right, at each confidence ``(m,)``."""
    labels = torch.tensor([0, 0, 0, 0, 1])
    return torch.stack([loss(logits.expand(5, 2), labels) for logits in logits_of(confidence)])


def problems(size: int = 10_000, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Confidences and whether they were correct, of five kinds."""
    generator = torch.Generator().manual_seed(seed)
    drawn, chance = (torch.rand(size, generator=generator, dtype=torch.float64) for _ in range(2))
    ends = (drawn * 5).floor() / 4
    return {
        "calibrated": (drawn, chance < drawn),
        "always 0.1 too sure": ((drawn + 0.1).clamp(max=1), chance < drawn),
        "only 0, 1/4, 1/2, 3/4, 1, calibrated": (ends, chance < ends),
        "of no use: right half of the time": (drawn, chance < 0.5),
        "reversed": (drawn, chance < 1 - drawn),
    }


def conventions(given: dict[str, tuple[Tensor, Tensor]]) -> str:
    """smECE by its definition and as relplot computes it, beside the binned error, as a Markdown table."""
    lines = ["| problem | ECE, 15 bins | debiased | smECE | as relplot has it |", "| --- | --- | --- | --- | --- |"]
    for name, problem in given.items():
        values = (
            fg.expected_calibration_error(*problem),
            fg.expected_calibration_error(*problem, debiased=True),
            fg.smooth_ece(*problem),
            fg.smooth_ece(*problem, convention="relplot"),
        )
        lines.append(f"| {name} | " + " | ".join(f"{value:.4f}" for value in values) + " |")
    return "\n".join(lines)


def timing(size: int, rounds: int = 3) -> dict[str, float]:
    """Seconds that smECE takes by us and by relplot on the same samples, the best of some rounds."""
    confidence, correct = problems(size)["calibrated"]
    arrays = confidence.numpy(), correct.double().numpy()
    runs = {"fguidance": lambda: fg.smooth_ece(confidence, correct), "relplot": lambda: smECE(*arrays)}
    return {name: min(_seconds(run) for _ in range(rounds)) for name, run in runs.items()}


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun
