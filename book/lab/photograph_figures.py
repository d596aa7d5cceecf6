"""The figures of photographs and the ImageNet classifier."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from fguidance.calibration import reliability_curve, reliability_diagram
from lab.photographs import PHOTOGRAPHS, Crops, Seen
from lab.style import COLOURS, WIDTH


def shown(given: Crops) -> Figure:
    """The first crop of every photograph."""
    figure, panels = plt.subplots(1, len(PHOTOGRAPHS), figsize=(WIDTH, WIDTH / len(PHOTOGRAPHS)))
    for row, panel in enumerate(panels):
        first = given.images[given.photograph == row][0]
        panel.imshow((first.permute(1, 2, 0) / 2 + 0.5).numpy())
        panel.axis("off")
    return figure


def by_noise(rows: Sequence[Seen]) -> Figure:
    """Confidence and accuracy, and the length of the gradient, against the timestep."""
    figure, (above, below) = plt.subplots(2, 1, figsize=(WIDTH, 4.6), sharex=True)
    steps = [row.step for row in rows]
    above.plot(steps, [row.answer.confidence.mean() for row in rows], "o-", color=COLOURS["fkl"], label="confidence")
    above.plot(steps, [row.correct.double().mean() for row in rows], "s:", color=COLOURS["fkl"], label="accuracy")
    above.set(ylabel="share", ylim=(0, 1))
    above.legend()
    low, middle, high = ([row.answer.gradient_norm.quantile(share) for row in rows] for share in (0.1, 0.5, 0.9))
    below.fill_between(steps, low, high, color=COLOURS["rkl"], alpha=0.2, linewidth=0, label="10 % to 90 %")
    below.plot(steps, middle, "o-", color=COLOURS["rkl"], label="median")
    below.set(xlabel="t", ylabel="gradient norm", yscale="log")
    below.legend()
    return figure


def diagrams(given: Mapping[str, Seen]) -> Figure:
    """Reliability diagrams side by side."""
    figure, panels = plt.subplots(1, len(given), figsize=(WIDTH, WIDTH / len(given) + 0.5), sharey=True)
    for panel, (title, seen) in zip(panels, given.items(), strict=True):
        reliability_diagram(reliability_curve(seen.answer.confidence, seen.correct, resamples=200), panel)
        panel.set_title(f"{title}\nsmECE {seen.smooth:.3f}", fontsize=9)
        panel.set(ylabel="" if panel is not panels[0] else "accuracy", xticks=(0, 0.5, 1))
    return figure


def ascent(missing: Tensor, norms: Tensor) -> Figure:
    """What each image lacks of certainty, and the gradient's length, on the way up; both ``(steps, batch)``."""
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharex=True)
    names = [photograph.name for photograph in PHOTOGRAPHS]
    shades = (COLOURS[name] for name in ("rkl", "fkl", "js", "ma", "entropy"))
    for column, (name, shade) in enumerate(zip(names, shades, strict=True)):
        for panel, values in zip(panels, (missing, norms), strict=True):
            panel.semilogy(values[:, column], color=shade, label=name)
    panels[0].set(title="1 − p(y|x)", xlabel="step")
    panels[1].set(title="gradient norm", xlabel="step")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
