"""The figures of the chapter on Proposition 3."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import fguidance as fg
from lab.mixture import Mixture
from lab.style import COLOURS, NAMES, WIDTH

VIEW = 4.2  # half the side of what the panels show


def draw_components(axes: Axes, mixture: Mixture, label: int) -> None:
    """Circles of one and two standard deviations around each mean; the label's are solid and dark."""
    for k, mean in enumerate(mixture.means.tolist()):
        for radius in (1.0, 2.0):
            colour, line = ("black", "-") if k == label else ("0.6", ":")
            axes.add_patch(plt.Circle(mean, radius, fill=False, edgecolor=colour, linestyle=line, linewidth=0.9))
    axes.set(xlim=(-VIEW, VIEW), ylim=(-VIEW, VIEW), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(True)


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """Square panels in two columns, wide enough for a telephone."""
    rows = (count + 1) // 2
    figure, grid = plt.subplots(rows, 2, figsize=(WIDTH, 2.62 * rows))
    for unused in grid.flat[count:]:
        unused.set_visible(False)
    return figure, list(grid.flat[:count])


def plot_forces(mixture: Mixture, label: int, names: tuple[str, ...], epsilon: float) -> Figure:
    """What each divergence adds to the guidance, as arrows, and where the label has its target probability."""
    side = torch.linspace(-VIEW, VIEW, 13, dtype=torch.float64)[1:-1]
    fine = torch.linspace(-VIEW, VIEW, 121, dtype=torch.float64)
    figure, all_axes = panels(len(names))
    q_y = epsilon + (1 - epsilon) / len(mixture.means)
    for axes, name in zip(all_axes, names, strict=True):
        points = torch.cartesian_prod(side, side)
        force = divergence_force(mixture, points, label, name, epsilon)
        draw_components(axes, mixture, label)
        longest = force.norm(dim=1).max().item()
        axes.quiver(*points.T, *force.T, color=COLOURS[name], scale=9 * longest, width=0.009)
        p_y = mixture.logits(torch.cartesian_prod(fine, fine)).softmax(-1)[:, label].view(121, 121).T
        axes.contour(fine, fine, p_y, levels=[q_y], colors="0.3", linestyles="--", linewidths=1)
        axes.set_title(f"{NAMES[name]}: longest arrow {longest:.2g}")
    return figure


def divergence_force(mixture: Mixture, points: Tensor, label: int, name: str, epsilon: float) -> Tensor:
    """Minus the gradient of the divergence alone at `points`, shape `(batch, 2)`."""
    labels = torch.full((len(points),), label)
    with_it, without = (
        fg.Guidance(divergence=name, alpha=alpha, epsilon=epsilon).gradient(mixture.logits, points, labels)
        for alpha in (1.0, 0.0)
    )
    return with_it - without


def plot_paths(paths: Mapping[str, Tensor], mixture: Mixture, label: int, titles: Mapping[str, str]) -> Figure:
    """Paths `(steps, batch, 2)` per method, one panel each; a dot where a path ends."""
    figure, all_axes = panels(len(paths))
    for axes, (name, path) in zip(all_axes, paths.items(), strict=True):
        draw_components(axes, mixture, label)
        axes.plot(path[..., 0], path[..., 1], color=_colour(name), linewidth=1.0, alpha=0.8)
        axes.plot(*path[-1].T, "o", color=_colour(name), markersize=3)
        axes.set_title(titles[name])
    return figure


def plot_samples(samples: Mapping[str, Tensor], mixture: Mixture, label: int, titles: Mapping[str, str]) -> Figure:
    """Final samples `(batch, 2)` per method; what lies outside the panel is counted in it."""
    figure, all_axes = panels(len(samples))
    for axes, (name, points) in zip(all_axes, samples.items(), strict=True):
        axes.plot(*points.T, ".", color=_colour(name), markersize=2.5, alpha=0.6, markeredgewidth=0)
        draw_components(axes, mixture, label)
        outside = (points.abs() > VIEW).any(-1).double().mean().item()
        if outside > 0.01:
            axes.text(0.97, 0.03, f"{outside:.0%} outside", transform=axes.transAxes, ha="right", fontsize=9)
        axes.set_title(titles[name])
    return figure


def plot_frontier(curves: Mapping[str, Tensor], own: tuple[float, float], titles: Mapping[str, str]) -> Figure:
    """Agreement against spread while a strength grows; curves `(strengths, 2)`, the label's own component a star."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.8))
    for name, curve in curves.items():
        agreement, spread = curve.T
        line = ":" if name == "log p" else "-"
        axes.plot(spread, agreement, line, marker="o", color=_colour(name), label=titles[name])
    axes.plot(own[1], own[0], "*", color="black", markersize=11, label="the component itself")
    axes.set(xlabel="spread", ylabel="agreement with the label", ylim=(0.75, 1.01))
    axes.legend(loc="lower left")
    return figure


def _colour(name: str) -> str:
    return COLOURS.get(name, "0.55")
