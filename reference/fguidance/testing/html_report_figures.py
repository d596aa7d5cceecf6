"""The figures of a report, as pictures that a page holds inside itself.

Matplotlib is imported when a figure is drawn. `pyplot` is not, and the reader's settings are left as they were.
"""

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from fguidance.testing.html_report_curves import LOG_ODDS, TARGETS, Curve, force_curve, weight_curve
from fguidance.testing.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#007a5a", "#8a4a9e")
PLACES = (-12.0, -6.0, 0.0, 6.0, 12.0)
PLACE_NAMES = ("6e-6", "0.002", "0.5", "0.998", "1 - 6e-6")
LINEAR_UP_TO = 20.0
SMALLEST_ERROR = 0.01


@dataclass(frozen=True)
class Picture:
    """A figure in a page.

    Attributes:
        title: its heading.
        caption: what it shows.
        alternative: what a reader who cannot see it is told.
        source: a ``data:`` address with the SVG in it.
    """

    title: str
    caption: str
    alternative: str
    source: str


def pictures(subject: Subject) -> Iterator[Picture]:
    """The figures of a subject: weight, force and, where it has a generator, the errors of both.

    Raises:
        ImportError: Matplotlib is missing.
    """
    import matplotlib as mpl

    dtype = max(subject.dtypes, key=lambda one: -torch.finfo(one).eps)
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["svg.hashsalt"] = "fguidance"
        weights = [weight_curve(subject, target, dtype) for target in TARGETS]
        forces = [force_curve(subject, target, dtype) for target in TARGETS]
        yield _along_p("Weight", "weight of the first class", weights)
        yield _along_p("Force", "first component of the force", forces)
        if subject.generator is not None:
            yield _errors(subject)


def _figure() -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xticks(PLACES, PLACE_NAMES)
    axes.set_xlabel("p of the first of two classes")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _source(figure: "Figure") -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _along_p(title: str, quantity: str, curves: Sequence[Curve]) -> Picture:
    figure, axes = _figure()
    for curve, colour in zip(curves, COLOURS, strict=False):
        axes.plot(LOG_ODDS, _finite(curve.found), color=colour, linewidth=2, label=f"q = {curve.target:g}")
    exact = [curve.expected for curve in curves if curve.expected is not None]
    for numbers in exact:
        label = "the generator's" if numbers is exact[0] else None
        axes.plot(LOG_ODDS, _finite(numbers), "--", color="black", linewidth=1, label=label)
    if _largest(curves) > LINEAR_UP_TO:
        axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylabel(quantity)
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    reference = " The dashed lines are the generator's, in high precision." if exact else ""
    caption = f"The {quantity} of two, for three targets q, against p.{reference}"
    return Picture(title, caption, f"{caption} {_ranges(curves)}", _source(figure))


def _finite(numbers: Sequence[float]) -> list[float]:
    return [number if abs(number) < 1e300 else math.nan for number in numbers]


def _largest(curves: Sequence[Curve]) -> float:
    numbers = [abs(number) for curve in curves for number in (*curve.found, *(curve.expected or ()))]
    return max((number for number in numbers if number < 1e300), default=0.0)


def _ranges(curves: Sequence[Curve]) -> str:
    parts = []
    for curve in curves:
        numbers = [number for number in curve.found if math.isfinite(number)]
        ends = f"from {min(numbers):.3g} to {max(numbers):.3g}" if numbers else "nowhere finite"
        parts.append(f"q = {curve.target:g}: {ends}")
    return "; ".join(parts) + "."


def _errors(subject: Subject) -> Picture:
    figure, axes = _figure()
    worst: dict[str, float] = {}
    for dtype, colour in zip(subject.dtypes, COLOURS, strict=False):
        name = str(dtype).removeprefix("torch.")
        for curves, style, what in ((weight_curve, "-", "weight"), (force_curve, ":", "force")):
            errors = _worst([curves(subject, target, dtype) for target in TARGETS])
            label = f"{what}, {name}"
            axes.plot(LOG_ODDS, _clamped(errors), style, color=colour, label=label)
            worst[label] = max((error for error in errors if math.isfinite(error)), default=math.nan)
    axes.set_yscale("log")
    axes.set_ylabel("error in ulps")
    axes.legend(frameon=False, fontsize="small", ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    caption = (
        "The largest error of the three targets against the generator in high precision, in units in the last place "
        "of the larger of the exact number and p. What is below 0.01 is drawn at 0.01."
    )
    told = ", ".join(f"{label} at most {error:.3g}" for label, error in worst.items())
    return Picture("Error", caption, f"{caption} {told}.", _source(figure))


def _worst(curves: Sequence[Curve]) -> list[float]:
    columns: Any = zip(*(curve.error or () for curve in curves), strict=True)
    return [max((error for error in column if math.isfinite(error)), default=math.nan) for column in columns]


def _clamped(errors: Sequence[float]) -> list[float]:
    return [max(error, SMALLEST_ERROR) for error in errors]
