"""Reports as one page of HTML that needs nothing else: no script, and no style sheet or picture from elsewhere.

Its figures show weight and force of two classes along p, what they should be, and the errors. Jinja2 and Matplotlib are
imported when a page is made; `pyplot` is not, and the reader's settings are left as they were.
"""

import base64
import contextlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import torch

from fguidance.testing import exact
from fguidance.testing.subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TARGETS = (0.1, 0.5, 0.9)
LOG_ODDS = tuple(step / 2 for step in range(-28, 29))
"""log(p/(1 - p)) at the points of a curve: p from 8e-7 to 1 - 8e-7."""
COLOURS = ("#0072b2", "#d55e00", "#007a5a", "#8a4a9e")
PLACES = {-12.0: "6e-6", -6.0: "0.002", 0.0: "0.5", 6.0: "0.998", 12.0: "1 - 6e-6"}
LINEAR_UP_TO, SMALLEST_ERROR = 20.0, 0.01


def render(sections: Sequence[tuple[dict[str, Any], Subject | None]], printable: Callable[[str], str]) -> str:
    """One page for (`Report.as_dict` with calls in `reproduce`, subject) pairs; text that a user wrote is escaped."""
    from jinja2 import Environment, StrictUndefined

    def finalize(value: Any) -> Any:
        return printable(value) if type(value) is str else value

    text = files("fguidance.testing").joinpath("templates", "report.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=finalize
    )
    shown = [
        {**section, "facts": _facts(section), "pictures": [] if subject is None else list(pictures(subject))}
        for section, subject in sections
    ]
    return environment.from_string(text).render(sections=shown)


def _facts(section: dict[str, Any]) -> dict[str, str]:
    """The subject and the settings of the run, name to text."""
    known = dict(section["subject"] or {})
    declared = {name: entry for name, entry in known.pop("declaration", {}).items() if entry not in (None, {}, [])}
    facts = {**known, **{f"declared {name}": entry for name, entry in declared.items()}, **section["settings"]}
    return {name.replace("_", " "): _text(entry) for name, entry in facts.items()}


def _text(entry: object) -> str:
    if isinstance(entry, bool):
        return "yes" if entry else "no"
    if isinstance(entry, list | tuple):
        return ", ".join(map(str, entry))
    if isinstance(entry, dict):
        return ", ".join(f"{name}: {value}" for name, value in entry.items())
    return "none" if entry is None else str(entry)


@dataclass(frozen=True)
class Curve:
    """One quantity of the first of two classes, whose target is q, at each of `LOG_ODDS`.

    What is found is NaN where the subject raised, what is expected empty where it has no generator; the error is in
    units in the last place of the larger of |expected| and p.
    """

    target: float
    found: list[float] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)


def curve(subject: Subject, what: str, target: float, dtype: torch.dtype) -> Curve:
    """The first component of ``"weight"`` or ``"force"`` along p, for one target."""
    found, generator, gauge = Curve(target), subject.generator, subject.declaration.gauge
    log_q = torch.tensor([target, 1 - target], dtype=torch.float64).log().to(dtype)
    for log_odds in LOG_ODDS:
        logits = torch.tensor([log_odds, 0.0], dtype=torch.float64).to(dtype)
        log_p = torch.log_softmax(logits.double(), -1).to(dtype)
        first = log_p if what == "weight" else logits
        number = wanted = math.nan
        with contextlib.suppress(Exception):  # whatever a user's code raises: the records say so
            number = float(getattr(subject, what)(first.clone(), log_q.clone()).detach()[0])
        found.found.append(number)
        if generator is not None:
            with contextlib.suppress(Exception):  # at a kink
                if what == "weight":
                    wanted = float(exact.weights(generator, log_p, log_q, gauge)[0])
                else:
                    wanted = float(exact.force(generator, logits, log_q)[0][0])
            size = torch.finfo(dtype).eps * max(abs(wanted), math.exp(float(log_p[0])))
            found.expected.append(wanted)
            found.error.append(abs(number - wanted) / size if math.isfinite(number) else math.nan)
    return found


@dataclass(frozen=True)
class Picture:
    """A figure in a page: what it shows, what a reader who cannot see it is told, and a ``data:`` address with it."""

    title: str
    caption: str
    alternative: str
    source: str


def pictures(subject: Subject) -> Iterator[Picture]:
    """The figures of a subject: weight, force and, where it has a generator, the errors of both."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["svg.hashsalt"] = "fguidance"
        for what, quantity in {"weight": "weight of the first class", "force": "first component of the force"}.items():
            curves = [curve(subject, what, target, subject.widest) for target in TARGETS]
            yield _along_p(what.capitalize(), quantity, curves)
        if subject.generator is not None:
            yield _errors(subject)


def _figure(label: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xticks([*PLACES], [*PLACES.values()])
    axes.set_xlabel("p of the first of two classes")
    axes.set_ylabel(label)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _picture(title: str, caption: str, told: str, figure: "Figure") -> Picture:
    figure.axes[0].legend(frameon=False, fontsize="small", ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    source = "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return Picture(title, caption, f"{caption} {told}", source)


def _along_p(title: str, quantity: str, curves: Sequence[Curve]) -> Picture:
    figure, axes = _figure(quantity)
    ranges, largest = [], 0.0
    for one, colour in zip(curves, COLOURS, strict=False):
        drawn = [number if abs(number) < 1e300 else math.nan for number in one.found]
        axes.plot(LOG_ODDS, drawn, color=colour, linewidth=2, label=f"q = {one.target:g}")
        if one.expected:
            label = "the generator's" if one is curves[0] else None
            axes.plot(LOG_ODDS, one.expected, "--", color="black", linewidth=1, label=label)
        finite = [number for number in drawn if math.isfinite(number)]
        largest = max([largest, *map(abs, finite)])
        ends = f"from {min(finite):.3g} to {max(finite):.3g}" if finite else "nowhere finite"
        ranges.append(f"q = {one.target:g}: {ends}")
    if largest > LINEAR_UP_TO:
        axes.set_yscale("symlog", linthresh=1.0)
    reference = " The dashed lines are the generator's, in high precision." if curves[0].expected else ""
    caption = f"The {quantity} of two, for three targets q, against p.{reference}"
    return _picture(title, caption, "; ".join(ranges) + ".", figure)


def _errors(subject: Subject) -> Picture:
    figure, axes = _figure("error in ulps")
    told = []
    for dtype, colour in zip(subject.dtypes, COLOURS, strict=False):
        for what, style in {"weight": "-", "force": ":"}.items():
            columns = zip(*(curve(subject, what, target, dtype).error for target in TARGETS), strict=True)
            errors = [max(filter(math.isfinite, column), default=math.nan) for column in columns]
            label = f"{what}, {str(dtype).removeprefix('torch.')}"
            axes.plot(LOG_ODDS, [max(error, SMALLEST_ERROR) for error in errors], style, color=colour, label=label)
            told.append(f"{label} at most {max(filter(math.isfinite, errors), default=math.nan):.3g}")
    axes.set_yscale("log")
    caption = (
        "The largest error of the three targets against the generator in high precision, in units in the last place "
        "of the larger of the exact number and p. What is below 0.01 is drawn at 0.01."
    )
    return _picture("Error", caption, ", ".join(told) + ".", figure)
