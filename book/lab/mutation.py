"""Tables of the page on the tests, from the record of `make mutation`."""

from typing import Any


def score(counts: dict[str, int]) -> float:
    """The share of the tried mutants that some test killed."""
    tried = counts["killed"] + counts["survived"]
    return counts["killed"] / tried if tried else float("nan")


def score_table(run: dict[str, Any]) -> str:
    """Mutants of each module: how many were made and tried, killed, survived, and the score."""
    lines = ["| module | mutants | tried | killed | survived | score |", "|---|---|---|---|---|---|"]
    for name, counts in run["modules"].items():
        made, killed, survived = counts["made"], counts["killed"], counts["survived"]
        cells = (made, killed + survived, killed, survived, f"{100 * score(counts):.1f} %")
        lines.append(f"| `{name}` | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def reasons_table(run: dict[str, Any]) -> str:
    """Why the survivors are no mistakes, and how many each reason explains."""
    rows = sorted(run["explained_survivors"].items(), key=lambda row: -row[1])
    lines = ["| survivors | why they are no mistakes |", "|---|---|", *(f"| {count} | {why} |" for why, count in rows)]
    return "\n".join([*lines, f"| {run['unexplained_survivors']} | not explained |"])


def deep_table(runs: dict[str, dict[str, Any]]) -> str:
    """The divergences that were run with ten thousand examples: checks, examples and time."""
    heads = ("divergence", "checks passed", "do not apply", "examples", "minutes", "date", "source")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, run in runs.items():
        cells = (run["passed"], run["skipped"], f"{run['examples']:,}", f"{run['seconds'] / 60:.0f}", run["date"])
        lines.append(f"| `{name}` | " + " | ".join(map(str, cells)) + f" | `{run['source'][:8]}` |")
    return "\n".join(lines)


def wrong_table(run: dict[str, Any]) -> str:
    """The wrong programs by what is wrong with them."""
    rows = (f"| {row['title']} | {row['number']} | {row['example']} |" for row in run["wrong_programs"])
    return "\n".join(["| | programs | an example |", "|---|---|---|", *rows])
