"""The figures and the table of the chapter on the design space."""

import itertools
import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import fguidance as fg
from lab import forces
from lab.design_space import FORCES, Design, force_length, weight_at, wrongly_sure
from lab.style import COLOURS, WIDTH

SHADES = {
    "grows": COLOURS["fkl"], "stays": COLOURS["rkl"], "fades": COLOURS["hellinger"], "vanishes": "0.45",
}  # fmt: skip
LINES = {0.0: "-", math.inf: ":"}
TOP = 4.4  # where an exponential's infinite power is drawn
CROWD = 5  # more names than this do not fit beside their point


def line(design: Design) -> dict[str, object]:
    """Colour by what the force does at one-hot, dashes by how the slope grows at infinity."""
    return {"color": SHADES[design.force], "linestyle": LINES.get(design.at_infinity, "--"), "linewidth": 1.2}


def key(axes: Axes, designs: Sequence[Design], **options: object) -> None:
    """The legend of `line`, for what there is."""
    forces_shown = [force for force in FORCES if any(one.force == force for one in designs)]
    shown = [Line2D([], [], color=SHADES[force], label=force) for force in forces_shown]
    ends = {"-": "no power of t at ∞", "--": "power of t at ∞", ":": "exponential at ∞"}
    drawn = {line(one)["linestyle"] for one in designs}
    shown += [Line2D([], [], color="black", linestyle=s, label=name) for s, name in ends.items() if s in drawn]
    axes.legend(handles=shown, **options)


def plane(designs: Sequence[Design]) -> Figure:
    """The power of f' at 0 against that at infinity: one point for each pair, with the names of all who share it."""
    figure, axes = plt.subplots(figsize=(WIDTH, 6.6))
    for left, right, force in ((-3, -1, "grows"), (-1, 0, "fades")):
        axes.axvspan(left, right, color=SHADES[force], alpha=0.10, linewidth=0)
    for at, force in ((-1, "stays"), (0, "vanishes")):
        axes.axvline(at, color=SHADES[force], alpha=0.5)
    axes.plot([-3, 0, 0], [0, 0, 4], color="black", linewidth=4, alpha=0.15, solid_capstyle="butt", zorder=1)
    for (s, r), sharing in _sharing(designs).items():
        axes.plot(s, min(r, TOP), "o", color=SHADES[sharing[0].force], markersize=6, zorder=3)
        _name(axes, (s, min(r, TOP)), [one.name for one in sharing])
    for x, force in ((-2.0, "grows"), (-1.0, "stays"), (-0.5, "fades"), (0.1, "vanishes")):
        axes.text(x, 5.05, force, color=SHADES[force], ha="center" if x < 0 else "left", weight="bold")
    axes.text(-0.06, 2.5, "alpha family", color="0.5", rotation=90, ha="right", va="center", fontsize=8)
    axes.set(xlabel="power of f' at t → 0", ylabel="power of f' at t → ∞", xlim=(-2.6, 1.3), ylim=(-0.35, 5.3))
    axes.set_xticks([-2, -1.5, -1, -0.5, 0])
    axes.set_yticks([0, 1, 2, 3, TOP], ["0", "1", "2", "3", "exp"])
    return figure


def _sharing(designs: Sequence[Design]) -> dict[tuple[float, float], list[Design]]:
    groups: dict[tuple[float, float], list[Design]] = {}
    for one in designs:
        groups.setdefault((one.at_zero, one.at_infinity), []).append(one)
    return groups


def _name(axes: Axes, at: tuple[float, float], names: Sequence[str]) -> None:
    """Names beside a point, below each other where there is room; a crowd in a box of its own."""
    if len(names) > CROWD:
        _name_crowd(axes, at, names)
        return
    place, offset = ("left", (6, 4)) if at[0] == 0 else ("right", (-5, 4)) if at[0] >= -1 else ("center", (0, 6))
    text = (", " if at[0] == 0 else "\n").join(names)
    axes.annotate(text, at, offset, textcoords="offset points", fontsize=7.5, va="bottom", ha=place, linespacing=1.05)


def _name_crowd(axes: Axes, at: tuple[float, float], names: Sequence[str]) -> None:
    """Many names below each other in the free space at the right, and beside the point where to find them."""
    axes.text(0.1, 2.68, "\n".join(names), fontsize=7.5, va="top", linespacing=1.05)
    axes.text(0.1, 2.7, f"at ({at[0]:g}, {at[1]:g}):", fontsize=7.5, va="bottom", weight="bold")
    axes.annotate(
        f"{len(names)}, named above", at, (6, 4), textcoords="offset points", fontsize=7.5, va="bottom", weight="bold"
    )


def in_two_lines(name: str, longest: int = 17) -> str:
    """A long name broken after its first underscore that leaves both lines short enough."""
    if len(name) <= longest:
        return name
    breaks = [place + 1 for place, sign in enumerate(name) if sign == "_"]
    best = min(breaks, key=lambda place: max(place, len(name) - place))
    return f"{name[:best]}\n{name[best:]}"


def gallery(designs: Sequence[Design], epsilon: float, classes: Sequence[int] = (2, 10)) -> Figure:
    """The push on the label's logit against the label's probability, one small panel per divergence."""
    columns, missing = 4, torch.linspace(0, 1, 241, dtype=torch.float64)[1:-1]
    rows = math.ceil(len(designs) / columns)
    figure, panels = plt.subplots(rows, columns, figsize=(WIDTH, 1.15 * rows + 0.5), sharex=True, sharey=True)
    for panel, one in itertools.zip_longest(panels.flat, designs):
        if one is None:
            panel.set_axis_off()
            continue
        panel.axhline(0, color="0.75", linewidth=0.6)
        for number, style in zip(classes, ("-", "--"), strict=True):
            panel.axvline(epsilon + (1 - epsilon) / number, color="0.85", linewidth=0.6)
            push = forces.push_on_label(one.divergence, forces.logits_at(missing, number, 0), epsilon) / one.scale
            panel.plot(1 - missing, push, style, color=SHADES[one.force], linewidth=1.2)
        panel.set_title(in_two_lines(one.name) + " *" * (not one.curvature), fontsize=7, pad=4, color=SHADES[one.force])
        panel.set(xlim=(0, 1), ylim=(-1.25, 1.75), xticks=[0, 1], yticks=[-1, 0, 1])
        panel.tick_params(labelsize=7.5)
    figure.supxlabel("p of the label", fontsize=10)
    figure.supylabel("push on its logit / f''(1)", fontsize=10)
    return figure


def kink() -> Figure:
    """The slopes of total variation and of the families around it, against t near 1."""
    t = torch.linspace(0, 2.5, 501, dtype=torch.float64)[1:]
    shown = [
        ("total_variation", {}, "black", "-"),
        ("softened_total_variation", {"width": 0.5}, COLOURS["rkl"], "-"),
        ("softened_total_variation", {"width": 0.1}, COLOURS["rkl"], "--"),
        ("osterreicher_vajda", {"beta": 4.0}, COLOURS["fkl"], "-"),
        ("osterreicher_vajda", {"beta": 20.0}, COLOURS["fkl"], "--"),
        ("puri_vincze", {"exponent": 1.5}, COLOURS["js"], "-"),
    ]
    figure, axes = plt.subplots(figsize=(WIDTH, 4.0))
    for name, parameters, colour, style in shown:
        divergence = fg.divergence(name, **parameters)
        axes.plot(t, weight_at(divergence, t) / t, style, color=colour, label=divergence.label, linewidth=1.3)
    axes.set(xlabel="t = p/q", ylabel="slope f'(t)", xlim=(0, 2.5), ylim=(-1.05, 0.75))
    axes.legend(loc="lower right", fontsize=7.5)
    return figure


def tails(designs: Sequence[Design]) -> Figure:
    """The weight in units of q where the classifier gives too little, and the slope where it gives too much."""
    figure, (left, right) = plt.subplots(2, 1, figsize=(WIDTH, 7.6))
    little, much = (torch.logspace(*ends, 161, dtype=torch.float64) for ends in ((-5, -0.02), (0.02, 5)))
    for one in designs:
        left.loglog(little, -weight_at(one.divergence, little) / one.scale, **line(one))
        slope = weight_at(one.divergence, much) / much / one.scale
        right.loglog(much[slope.isfinite()], slope[slope.isfinite()], **line(one))
    left.set(xlabel="t = p/q", ylabel="size of the weight, -t f'(t) / f''(1)", ylim=(1e-5, 1e4))
    right.set(xlabel="t = p/q", ylabel="slope f'(t) / f''(1)", ylim=(0.03, 1e6))
    key(right, designs, ncols=2, loc="upper left", fontsize=8)
    return figure


def wrongly_sure_chart(designs: Sequence[Design], epsilon: float, classes: Sequence[int] = (10, 1000)) -> Figure:
    """The length of the force against how far a wrong class is above the rest, one panel for each N."""
    spread = torch.linspace(0, 40, 161, dtype=torch.float64)
    figure, panels = plt.subplots(len(classes), 1, figsize=(WIDTH, 3.6 * len(classes)), sharex=True, sharey=True)
    for axes, number in zip(panels, classes, strict=True):
        for one in designs:
            length = force_length(one.divergence, wrongly_sure(spread, number), epsilon) / one.scale
            axes.semilogy(spread[length.isfinite()], length[length.isfinite()], **line(one))
        axes.set(title=f"N = {number}", ylabel="length of the force / f''(1)", xlim=(0, 40), ylim=(1e-10, 1e10))
    panels[-1].set(xlabel="how far a wrong class's logit is above the rest")
    key(panels[0], designs, loc="upper right", fontsize=8)
    return figure


def longest_force(design: Design, num_classes: int, epsilon: float) -> tuple[float, float]:
    """The longest force, over f''(1), while a wrong class rises to 40 above the rest, and where it is met."""
    spread = torch.linspace(0, 40, 401, dtype=torch.float64)
    length = force_length(design.divergence, wrongly_sure(spread, num_classes), epsilon) / design.scale
    return length.amax().item(), spread[length.argmax()].item()


def table(designs: Sequence[Design], epsilon: float) -> str:
    """The designs as a Markdown table."""
    rows = [
        "| name | $s$ | $r$ | alike | $N = 10$ | $N = 1000$ |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for one in designs:
        lengths = [longest_force(one, number, epsilon)[0] for number in (10, 1000)]
        alike = "none" if one.resembles is None else number(one.resembles)
        cells = [f"`{one.name}`", number(one.at_zero), number(one.at_infinity), alike]
        rows.append("| " + " | ".join([*cells, *map(number, lengths)]) + " |")
    return "\n".join(rows)


def number(value: float) -> str:
    """Three digits in LaTeX, from a thousand on with a power of ten."""
    if math.isinf(value):
        return "$\\infty$"
    if abs(value) < 1000:
        return f"${value + 0.0:.3g}$" if abs(value) < 10 else f"${value:.0f}$"
    power = math.floor(math.log10(abs(value)))
    return f"${value / 10**power:.1f} \\cdot 10^{{{power}}}$"
