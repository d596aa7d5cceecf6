"""The figures and tables of the digits chapter."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from torch import Tensor

from fguidance.diffusion import Schedule
from lab.digits import Calibration, Results, Variant
from lab.parts import Part
from lab.style import COLOURS, WIDTH

METRICS = ("Fréchet\N{NO-BREAK SPACE}distance", "precision", "recall", "agreement")
STRENGTH_CHARTS = ((2, 1), (3, 0))  # recall and precision, agreement and Fréchet distance
MORE_COLOURS = {"ma_uncalibrated": COLOURS["ma"], "js_printed_turned": COLOURS["js_printed"]}


def colour(key: str) -> str:
    """The colour of a row of the results; a variation has its method's colour."""
    return MORE_COLOURS.get(key) or COLOURS[key]


def noising(part: Part, schedule: Schedule, timesteps: Sequence[int], seed: int = 0) -> Figure:
    """One digit of each of five classes, at growing timesteps, all from one noise per digit."""
    rows = torch.stack([(part.labels == digit).nonzero()[0, 0] for digit in (0, 2, 3, 5, 8)])
    noise = torch.randn(part.images[rows].shape, generator=torch.Generator().manual_seed(seed))
    figure, axes = plt.subplots(len(rows), len(timesteps), figsize=(WIDTH, 0.78 * WIDTH))
    for column, timestep in enumerate(timesteps):
        noisy = schedule.add_noise(part.images[rows], noise, torch.full((len(rows),), timestep))
        for row, image in enumerate(noisy):
            _show(axes[row, column], image[0])
        axes[0, column].set_title(f"t = {timestep}")
    return figure


def loss_curve(losses: Sequence[float], window: int = 50) -> Figure:
    """The training loss of each step and its running mean."""
    figure, axes = plt.subplots()
    axes.plot(losses, color="0.8", linewidth=0.5, label="each step")
    smooth = torch.tensor(losses).unfold(0, window, 1).mean(1)
    axes.plot(range(window - 1, len(losses)), smooth, color=COLOURS["rkl"], label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel="mean squared error", ylim=(0, min(1.0, max(losses))))
    axes.legend()
    return figure


def reliability(calibration: Calibration, bins: int = 10) -> Figure:
    """Confidence against accuracy on predicted clean images: by confidence, and by the noise they came from."""
    figure, (left, right) = plt.subplots(2, 1, figsize=(WIDTH, 1.25 * WIDTH))
    left.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
    styles = ((1.0, "T = 1", COLOURS["fkl"], "o--"), (calibration.temperature, "calibrated", COLOURS["rkl"], "s-"))
    for temperature, name, shade, style in styles:
        confidence, predicted = (calibration.logits / temperature).softmax(1).max(1)
        correct = (predicted == calibration.labels).double()
        left.plot(*_binned(confidence, correct, (confidence * bins).long().clamp(max=bins - 1)), style,
                  color=shade, label=f"{name} ({temperature:.2f})" if name != "T = 1" else name)  # fmt: skip
        right.plot(*_binned(calibration.steps.double(), confidence, calibration.steps), style, color=shade,
                   markevery=5, label=f"confidence, {name}")  # fmt: skip
    right.plot(*_binned(calibration.steps.double(), correct, calibration.steps), color="0.3", label="accuracy")
    left.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    right.set(xlabel="sampling step k (sampling runs from right to left)", ylim=(0, 1.02))
    left.legend()
    right.legend()
    return figure


def grids(panels: dict[str, Tensor], labels: Tensor, columns: int = 9) -> Figure:
    """The first images of each class, one row per class; four panels, two beside each other."""
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 1.2 * WIDTH), squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for panel, (name, images) in zip(axes.flat, panels.items(), strict=False):
        rows = [images[labels == digit][:columns, 0] for digit in range(10)]
        padded = torch.nn.functional.pad(torch.stack(rows), (1, 1, 1, 1), value=-0.6)
        _show(panel, padded.permute(0, 2, 1, 3).reshape(100, 10 * columns))
        panel.set_title(name)
    return figure


def metrics_chart(results: Results, rows: Sequence[Variant]) -> Figure:
    """Every metric of every variant, with two jackknife errors to either side, and the held-out images' value."""
    figure, axes = plt.subplots(4, 1, figsize=(WIDTH, 2.5 * WIDTH))
    floor = (results.floor.frechet_distance, results.floor.precision, results.floor.recall, results.floor.agreement)
    for column, (panel, metric) in enumerate(zip(axes, METRICS, strict=True)):
        panel.axvline(floor[column], color="0.5", linestyle=":", linewidth=1.2, label="real, held out")
        for place, row in enumerate(rows):
            index = results.keys.index(row.key)
            value, error = results.values[index, column].item(), results.errors[index, column].item()
            panel.errorbar(value, -place, xerr=2 * error, fmt="o", capsize=3, color=colour(row.key))
        panel.set_yticks([-place for place in range(len(rows))], [row.name for row in rows])
        panel.set_title(metric + (" (logarithmic; lower is better)" if column == 0 else ""))
        panel.grid(axis="x", linewidth=0.4)
    axes[0].set_xscale("log")
    axes[0].xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes[0].xaxis.set_major_formatter("{x:g}")
    axes[0].xaxis.set_minor_locator(NullLocator())
    axes[0].legend()
    return figure


def strength_chart(results: Results, rows: Sequence[Variant], scaled: Sequence[Variant]) -> Figure:
    """Each row's trade-offs against the line that Ma et al.'s guidance draws when only its scale is changed."""
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, 1.75 * WIDTH))
    line = [results.keys.index(row.key) for row in sorted(scaled, key=lambda row: row.scale)]
    for panel, (across, up) in zip(axes, STRENGTH_CHARTS, strict=True):
        panel.plot(results.values[line, across], results.values[line, up], "-", color=COLOURS["ma"], label="Ma et al.")
        for row in scaled:
            _cross(panel, results, row, across, up, COLOURS["ma"], "")
            at = results.values[results.keys.index(row.key)][[across, up]].tolist()
            panel.annotate(f"{row.scale:g}", at, xytext=(4, 5), textcoords="offset points", fontsize=8)
        for row in rows:
            _cross(panel, results, row, across, up, colour(row.key), row.name)
        panel.set(xlabel=METRICS[across], ylabel=METRICS[up])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def off_the_line(results: Results, rows: Sequence[Variant], scaled: Sequence[Variant]) -> str:
    """One sentence per panel of `strength_chart`: whose ellipse of two errors to each side misses the line."""
    line = [results.keys.index(row.key) for row in sorted(scaled, key=lambda row: row.scale)]
    sentences = []
    for across, up in STRENGTH_CHARTS:
        knots = results.values[line][:, [across, up]]
        missing = [row.name for row in rows if _misses(results, row, knots, [across, up])]
        found = ", ".join(missing) or "none"
        sentences.append(f"Off the line by more than its error, in {METRICS[across]} and {METRICS[up]}: {found}.")
    return " ".join(sentences)


def results_table(results: Results, rows: Sequence[Variant]) -> str:
    """Metrics and twice their jackknife errors as a Markdown table."""
    head = ["guidance", *METRICS]
    body = []
    for row in rows:
        index = results.keys.index(row.key)
        pairs = zip(results.values[index].tolist(), results.errors[index].tolist(), strict=True)
        body.append([row.name, *(_with_error(f"{value:.2f}", 2 * error) for value, error in pairs)])
    floor = results.floor
    real = (floor.frechet_distance, floor.precision, floor.recall, floor.agreement)
    body.append(["*real, held out*", *(f"*{value:.2f}*" for value in real)])
    return _markdown_table(head, body)


def differences_table(results: Results, rows: Sequence[Variant]) -> str:
    """Differences to the baseline with twice their errors; bold where the difference is the larger."""
    body = []
    for row in rows:
        if row.key == results.baseline or row.guidance is None:
            continue
        index = results.keys.index(row.key)
        pairs = zip(results.differences[index].tolist(), results.difference_errors[index].tolist(), strict=True)
        body.append([row.name, *(_difference(value, 2 * error) for value, error in pairs)])
    return _markdown_table(["guidance", *METRICS], body)


def compared_with_baseline(results: Results, rows: Sequence[Variant]) -> str:
    """One sentence per metric: which variants differ from the baseline by more than two errors, which do not."""
    names = {row.key: row.name for row in rows if row.guidance is not None and row.key != results.baseline}
    lines = []
    for column, metric in enumerate(METRICS):
        groups: dict[str, list[str]] = {"above": [], "below": [], "not to be told apart from it": []}
        for key, name in names.items():
            index = results.keys.index(key)
            value, error = results.differences[index, column], results.difference_errors[index, column]
            side = "above" if value > 0 else "below"
            groups[side if value.abs() > 2 * error else "not to be told apart from it"].append(name)
        parts = (f"*{side}*: {', '.join(found)}" for side, found in groups.items() if found)
        lines.append(f"* **{metric}**, compared with Ma et al.: {'; '.join(parts)}.")
    return "\n".join(lines)


def plain_table(cells: dict[str, object]) -> str:
    """Names and values as a Markdown table."""
    return _markdown_table(["what", "value"], [[name, str(value)] for name, value in cells.items()])


def _show(axes: Axes, image: Tensor) -> None:
    axes.imshow(image, cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.set_axis_off()


def _cross(panel: Axes, results: Results, row: Variant, across: int, up: int, shade: str, label: str) -> None:
    index = results.keys.index(row.key)
    value, error = results.values[index], 2 * results.errors[index]
    panel.errorbar(
        value[across], value[up], error[up], error[across], fmt="o", color=shade, elinewidth=0.8, label=label or None
    )


def _misses(results: Results, row: Variant, knots: Tensor, columns: list[int]) -> bool:
    index = results.keys.index(row.key)
    value, error = results.values[index, columns], 2 * results.errors[index, columns]
    shares = torch.linspace(0, 1, 200, dtype=knots.dtype)[:, None, None]
    points = knots[:-1] + shares * knots.diff(dim=0)
    return bool((((points - value) / error.clamp_min(1e-3)).norm(dim=-1) > 1).all())


def _binned(x: Tensor, y: Tensor, group: Tensor) -> tuple[list[float], list[float]]:
    present = group.unique().tolist()
    return [x[group == one].mean().item() for one in present], [y[group == one].mean().item() for one in present]


def _difference(value: float, spread: float) -> str:
    text = _with_error(f"{value:+.2f}".replace("-", "−"), spread)
    return f"**{text}**" if abs(value) > spread else text


def _with_error(value: str, spread: float) -> str:
    return f"{value}\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{spread:.2f}"


def _markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *body])
