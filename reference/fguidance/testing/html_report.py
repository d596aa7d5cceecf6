"""The report as one page of HTML that needs nothing else: no script, no style sheet and no picture from elsewhere."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from fguidance.testing.record import STATUSES, Record
from fguidance.testing.report import Report
from fguidance.testing.report_text import printable


def render(reports: Sequence[Report]) -> str:
    """One page for some reports. What a user named is escaped, and its control characters are written out.

    Args:
        reports: one per divergence.

    Returns:
        The page.

    Raises:
        ImportError: Jinja2 or Matplotlib is missing.
    """
    from jinja2 import Environment, StrictUndefined

    text = files("fguidance.testing").joinpath("templates", "report.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finalize
    )
    return environment.from_string(text).render(sections=[_section(report) for report in reports], statuses=STATUSES)


def _finalize(value: Any) -> Any:
    return printable(value) if type(value) is str else value


def _section(report: Report) -> dict[str, Any]:
    from fguidance.testing.html_report_figures import pictures

    return {
        "report": report,
        "facts": _facts(report),
        "pictures": [] if report.subject is None else list(pictures(report.subject)),
        "told": [record for record in report.records if record.status in ("failed", "expected")],
        "numbers": _numbers,
    }


def _facts(report: Report) -> dict[str, str]:
    """What the page says of the subject and of the run, name to text."""
    found: dict[str, Any] = {}
    if report.subject is not None:
        known = report.subject.as_dict()
        declared = {name: entry for name, entry in known.pop("declaration").items() if entry not in (None, {}, [])}
        found = {**known, **{f"declared {name}": entry for name, entry in declared.items()}}
    return {name.replace("_", " "): _text(entry) for name, entry in {**found, **report.settings}.items()}


def _text(entry: object) -> str:
    if isinstance(entry, bool):
        return "yes" if entry else "no"
    if isinstance(entry, list | tuple):
        return ", ".join(map(str, entry))
    if isinstance(entry, dict):
        return ", ".join(f"{name}: {value}" for name, value in entry.items())
    return "none" if entry is None else str(entry)


def _numbers(record: Record) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in record.counterexample.items()]
