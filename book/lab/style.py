"""One look for every figure: the colour of each method and sizes that stay readable on a telephone."""

import matplotlib.pyplot as plt

# Nearby methods in one chart differ in lightness as well as in hue, for readers who see fewer hues; after
# Okabe & Ito's, Paul Tol's and Matplotlib's palettes. Colour never stands alone: charts also name each method
# in words.
COLOURS = {
    "unguided": "#888888",
    "ma": "#000000",
    "tilted": "#E69F00",
    "entropy": "#CC79A7",
    "rkl": "#0072B2",
    "fkl": "#D55E00",
    "js": "#009E73",
    "js_printed": "#9467BD",
    "hellinger": "#56B4E9",
    "pearson": "#999933",
    "neyman": "#661100",
    "jeffreys": "#882255",
    "triangular": "#332288",
    "alpha": "#DDCC77",
}

NAMES = {
    "unguided": "unguided",
    "ma": "Ma et al.",
    "tilted": "tilted",
    "entropy": "entropy",
    "rkl": "RKL",
    "fkl": "FKL",
    "js": "JS",
    "js_printed": "JS as printed",
    "hellinger": "Hellinger",
    "pearson": "Pearson",
    "neyman": "Neyman",
    "jeffreys": "Jeffreys",
    "triangular": "triangular",
    "alpha": "alpha",
}

WIDTH = 5.0  # inches: shrunk to a screen of 390 pixels, 10 points are still about 10 pixels


def use_style() -> None:
    """Set Matplotlib's defaults for the book; call it once at the top of a chapter."""
    plt.rcParams.update({
        "figure.figsize": (WIDTH, 3.2),
        "figure.dpi": 160,
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "lines.linewidth": 1.6,
        "lines.markersize": 4,
    })  # fmt: skip
