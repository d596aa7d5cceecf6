"""The figures of the Fine-tuning chapter."""

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lab.finetuning import BEFORE, GUIDED, SEES, Found, Kind, difference
from lab.style import COLOURS, WIDTH

SHADES = {"": COLOURS["unguided"], "clean": COLOURS["rkl"], "predicted": COLOURS["fkl"]}


def _labels(kinds: list[Kind]) -> list[str]:
    return [kind.title for kind in kinds]


def known(found: Found) -> Figure:
    """The smooth calibration error of every kind, on clean and on predicted images."""
    figure, panels = plt.subplots(1, 2, figsize=(WIDTH, 3.6), sharey=True)
    kinds = list(found)[::-1]
    for panel, name in zip(panels, ("smECE", "predicted smECE"), strict=True):
        for place, kind in enumerate(kinds):
            values = torch.tensor([row[name] for row in found[kind]], dtype=torch.float64)
            panel.plot(values, torch.full_like(values, place), "o", color=SHADES[kind.sees], alpha=0.6)
        panel.set(title=f"on {'predicted' if 'predicted' in name else 'clean'} images", xlabel="smECE")
        panel.set_xlim(left=0)
    panels[0].set_yticks(range(len(kinds)), _labels(kinds))
    _name_shades(figure)
    return figure


def guided(found: Found) -> Figure:
    """By how much what each kind guided differs from what the classifier guided as it was, with 95 % intervals."""
    figure, grid = plt.subplots(2, 2, figsize=(WIDTH, 6.0), sharey=True)
    kinds = [kind for kind in found if kind != BEFORE][::-1]
    for panel, name in zip(grid.flat, GUIDED, strict=True):
        for place, kind in enumerate(kinds):
            change = difference(found, kind, BEFORE, name)
            panel.plot((change.low, change.high), (place, place), color=SHADES[kind.sees], linewidth=1)
            panel.plot(change.mean, place, "o", color=SHADES[kind.sees])
        panel.axvline(0, color="0.6", linestyle=":", linewidth=1)
        panel.set_title(name)
        panel.xaxis.set_major_locator(MaxNLocator(4))
    grid[0, 0].set_yticks(range(len(kinds)), _labels(kinds))
    for panel in grid[1]:
        panel.set_xlabel("change")
    _name_shades(figure)
    return figure


def _name_shades(figure: Figure) -> None:
    marks = [plt.Line2D([], [], marker="o", linestyle="", color=SHADES[sees]) for sees in SEES]
    names = [f"calibrated on {sees} images" for sees in SEES]
    figure.legend(marks, names, loc="outside lower center", ncols=2)
