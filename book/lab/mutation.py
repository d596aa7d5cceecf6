"""Tables of the page on the tests, from the record of `make mutation`."""

from collections import Counter
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
    """What each divergence passed in the nightly runs: checks, examples and time."""
    heads = ("divergence", "checks passed", "failed", "do not apply", "examples", "minutes")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, run in runs.items():
        passed = [number for number in run["examples"].values() if isinstance(number, int)]
        failed = _failed(run)
        counts = (len(passed), failed, len(run["examples"]) - len(passed) - failed, f"{sum(passed):,}")
        cells = (f"`{name}`", *counts, f"{run['seconds'] / 60:.0f}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def deep_sentence(runs: dict[str, dict[str, Any]], many: int = 100) -> str:
    """How many examples each property met over all divergences, but for those that have fewer cases than `many`."""
    totals: Counter[str] = Counter()
    largest: Counter[str] = Counter()
    for run in runs.values():
        passed = {name: number for name, number in run["examples"].items() if isinstance(number, int)}
        totals.update(passed)
        largest |= Counter(passed)
    least = min(number for name, number in totals.items() if largest[name] >= many)
    failed = sum(map(_failed, runs.values()))
    return (
        f"In all {sum(totals.values()):,} examples of {len(totals)} properties on {len(runs)} divergences passed, "
        f"and {failed or 'no'} checks failed; each property that has {many} cases or more met at least {least:,}. "
        f"{_sources(runs)}"
    )


def _sources(runs: dict[str, dict[str, Any]]) -> str:
    """When and from which source each of the runs was."""
    counted = Counter((run["date"], run["source"][:8]) for run in runs.values())
    told = [f"{count} on {date} (`{source}`)" for (date, source), count in counted.items()]
    return f"Divergences by date and source: {', '.join(told)}."


def _failed(run: dict[str, Any]) -> int:
    return sum(str(ended).startswith("failed") for ended in run["examples"].values())


def wrong_table(run: dict[str, Any]) -> str:
    """The wrong programs by what is wrong with them."""
    rows = (f"| {row['title']} | {row['number']} | {row['example']} |" for row in run["wrong_programs"])
    return "\n".join(["| | programs | an example |", "|---|---|---|", *rows])


def alterations_table(run: dict[str, Any]) -> str:
    """How many alterations of the ledger's objects were refused, and why the others are harmless."""
    survivors = Counter((row["claim"], row["object"], row["reason"]) for row in run["survivors"])
    killed = run["alterations"] - survivors.total()
    lines = ["| claim | object | survive | why |", "|---|---|---|---|"]
    lines += [
        f"| {{ref}}`{claim} <ledger-{claim}>` | `{name}` | {number} | {reason} |"
        for (claim, name, reason), number in survivors.items()
    ]
    altered = run["claims"] - len(run["claims_without"])
    text = f"{killed} of {run['alterations']} alterations of {altered} claims are refused."
    return text + "\n\n" + "\n".join(lines)
