"""The figures of the Calibration chapter."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

import fguidance as fg
from fguidance.calibration import classwise, reliability_curve, reliability_diagram
from lab import calibration
from lab.calibration import Seen
from lab.style import COLOURS, WIDTH

BETAS = (1e-4, 1e-2, 1e-1, 1.0, 100.0)
SHADES = ("#08306b", "#2171b5", "#4292c6", "#6baed6", "#9ecae1")


def minimisers() -> Figure:
    """The confidence that the paper's loss asks for, against the accuracy."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.6))
    accuracies = torch.linspace(0.505, 0.995, 30).tolist()
    for beta, shade in zip(BETAS, SHADES, strict=True):
        found = [calibration.minimiser(accuracy, beta) for accuracy in accuracies]
        axes.plot(accuracies, found, color=shade, label=f"β = {beta:g}")
    axes.plot((0.5, 1), (0.5, 1), color="0.5", linestyle="--", linewidth=1, label="calibrated")
    axes.set(xlabel="accuracy c", ylabel="minimising confidence", xlim=(0.5, 1), ylim=(0.5, 1.01))
    axes.legend(loc="lower right")
    return figure


def losses(beta: float) -> Figure:
    """Three losses of five samples, four of them right, against their common confidence."""
    figure, axes = plt.subplots()
    confidence = torch.linspace(0.52, 0.999, 200, dtype=torch.float64)
    kinds = {
        "paper's": (lambda logits, labels: fg.smooth_ece_loss(logits, labels, beta), COLOURS["fkl"]),
        "binned": (calibration.binned(beta, 15), COLOURS["js"]),
        "cross-entropy": (F.cross_entropy, COLOURS["ma"]),
    }
    for name, (loss, colour) in kinds.items():
        values = calibration.group_loss(loss, confidence)
        axes.plot(confidence, values - values.min(), color=colour, label=name)
        axes.plot(confidence[values.argmin()], 0, "o", color=colour)
    axes.axvline(0.8, color="0.6", linestyle=":", linewidth=1)
    axes.set(xlabel="confidence of all five", ylabel="loss above its smallest", ylim=(-0.01, 0.3))
    axes.legend()
    return figure


def diagrams(given: Mapping[str, Seen], labels: Tensor) -> Figure:
    """Reliability diagrams side by side."""
    figure, panels = plt.subplots(1, len(given), figsize=(WIDTH, WIDTH / len(given) + 0.5), sharey=True)
    for panel, (title, seen) in zip(panels, given.items(), strict=True):
        reliability_diagram(calibration.curve(seen, labels), panel)
        panel.set_title(f"{title}\nsmECE {seen.smooth:.3f}", fontsize=9)
        panel.set(ylabel="" if panel is not panels[0] else "accuracy", xticks=(0, 0.5, 1))
    return figure


def by_class(given: Mapping[str, Seen], labels: Tensor, names: Sequence[str]) -> Figure:
    """The error of every class in each view, and the reliability diagram of the worst in the first view."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.6))
    for (title, seen), name, mark in zip(given.items(), ("js", "fkl", "rkl"), "os^", strict=False):
        errors = calibration.errors_by_class(seen, labels)
        left.plot(errors, range(len(names)), mark, color=COLOURS[name], label=title, linestyle="")
    left.set_yticks(range(len(names)), names)
    left.set(xlabel="smECE of the class")
    left.set_xlim(left=0)
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    first = next(iter(given.values()))
    worst = int(calibration.errors_by_class(first, labels).argmax())
    confidence, correct = (values[worst] for values in classwise(first.logits, labels))
    reliability_diagram(reliability_curve(confidence, correct, resamples=200), right)
    right.set(title=f"{names[worst]}, {next(iter(given))}", xlabel="its probability", ylabel="share that are one")
    return figure


def by_noise(given: Mapping[str, Sequence[Seen]]) -> Figure:
    """Confidence and accuracy against the timestep, for what is noisy and for what is predicted clean."""
    figure, panels = plt.subplots(1, len(given), figsize=(WIDTH, 3.3), sharey=True)
    for panel, (title, rows) in zip(panels, given.items(), strict=True):
        for kind, colour in (("noisy", COLOURS["fkl"]), ("predicted", COLOURS["rkl"])):
            chosen = [row for row in rows if row.view.kind in (kind, "clean")]
            steps = [row.view.step for row in chosen]
            confidence = [row.answer.confidence.mean() for row in chosen]
            panel.plot(steps, confidence, color=colour, label=f"{kind}: confidence")
            panel.plot(steps, [row.accuracy for row in chosen], color=colour, linestyle=":", label=f"{kind}: accuracy")
        panel.set(title=title, xlabel="t", ylim=(0, 1.02))
    panels[0].set_ylabel("mean confidence, accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
