"""The report as one page of HTML that needs nothing else: no script, no style sheet and no picture from elsewhere."""

from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any


def page(sections: Sequence[dict[str, Any]], printable: Callable[[str], str]) -> str:
    """One page. Text that a user wrote is escaped.

    Args:
        sections: one per divergence: `Report.as_dict`, with each record's `reproduce` as the call that brings a failure
            back, and `pictures`, each with title, caption, alternative and source.
        printable: writes out the control characters of a text.

    Returns:
        The page.

    Raises:
        ImportError: Jinja2 is missing.
    """
    from jinja2 import Environment, StrictUndefined

    def finalize(value: Any) -> Any:
        return printable(value) if type(value) is str else value

    text = files("fguidance.testing").joinpath("templates", "report.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=finalize
    )
    return environment.from_string(text).render(sections=[{**one, "facts": _facts(one)} for one in sections])


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
