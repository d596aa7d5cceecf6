"""Tables of the page on the tests, from the record of `make mutation` and the collection of wrong programs."""

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

KINDS = ("formulas", "numerics", "forces", "behaviour", "declared")
KILLED = ("killed", "caught by type check", "timeout")


def score(counts: dict[str, int]) -> float:
    """The share of the tried mutants that some test killed."""
    tried = sum(count for status, count in counts.items() if status != "not checked")
    return sum(counts.get(status, 0) for status in KILLED) / tried if tried else float("nan")


def _survived(counts: dict[str, int]) -> int:
    return sum(counts.get(status, 0) for status in ("survived", "no tests", "suspicious"))


def score_table(run: dict[str, Any]) -> str:
    """Mutants of each module: how many were made and tried, killed, survived, and the score."""
    lines = ["| module | mutants | tried | killed | survived | score |", "|---|---|---|---|---|---|"]
    for name, counts in run["modules"].items():
        made = sum(counts.values())
        killed = sum(counts.get(status, 0) for status in KILLED)
        cells = (made, made - counts.get("not checked", 0), killed, _survived(counts), f"{100 * score(counts):.1f} %")
        lines.append(f"| `{name}` | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def reasons_table(run: dict[str, Any]) -> str:
    """Why the survivors are no mistakes, and how many each reason explains."""
    rows = sorted(run["explained_survivors"].items(), key=lambda row: -row[1])
    lines = ["| survivors | why they are no mistakes |", "|---|---|", *(f"| {count} | {why} |" for why, count in rows)]
    return "\n".join([*lines, f"| {run['unexplained_survivors']} | not explained |"])


def wrong_table() -> str:
    """The wrong programs by what is wrong with them."""
    lines = ["| | programs | an example |", "|---|---|---|"]
    for kind in KINDS:
        module = importlib.import_module(f"tests.testing.wrong.{kind}")
        own = _made_in(module.__name__)
        title = (module.__doc__ or "").partition("\n")[0].rstrip(".")
        lines.append(f"| {title} | {len(own)} | {_example(own)} |")
    return "\n".join(lines)


def _made_in(module: str) -> list[Any]:
    wrong = importlib.import_module("tests.testing.wrong")
    return [make for make, _ in wrong.WRONG if make.__module__ == module]


def _example(made: Sequence[Any]) -> str:
    documented = (inspect.getdoc(make) for make in made if make.__doc__)
    return next((text.partition("\n")[0] for text in documented if text), "")
