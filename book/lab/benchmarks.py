"""Tables and the figure of the page on speed, from the record of `make bench`."""

from typing import Any

import matplotlib.pyplot as plt

Rows = dict[str, dict[str, Any]]
SIZES = (10, 100, 1000, 10_000, 100_000)


def by_name(run: dict[str, Any]) -> Rows:
    """The rows of a record by the name of their benchmark, less its `test_`."""
    return {row["name"].removeprefix("test_"): row for row in run["rows"]}


def _milliseconds(rows: Rows, name: str) -> str:
    return f"{1000 * rows[name]['median']:.2f}"


def ratio_table(rows: Rows) -> str:
    """Median times and ratios of the closed form and autograd, eager and compiled."""
    lines = [
        "| | autograd | closed form | times as fast | compiled autograd | compiled | times as fast as eager autograd "
        "| peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ("js", "rkl", "fkl"):
        autograd, closed = (f"{kind}[eager-{name}]" for kind in ("autograd", "closed_form"))
        both, compiled = (f"{kind}[compiled-{name}]" for kind in ("autograd", "closed_form"))
        eager = rows[autograd]["median"]
        cells = (
            name.upper(),
            f"{_milliseconds(rows, autograd)} ms",
            f"{_milliseconds(rows, closed)} ms",
            f"**{eager / rows[closed]['median']:.2f}**",
            f"{_milliseconds(rows, both)} ms",
            f"{_milliseconds(rows, compiled)} ms",
            f"**{eager / rows[compiled]['median']:.2f}**",
            f"{rows[closed]['peak_memory_in_logits']:.1f} × the logits",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"A copy of the logits: {_milliseconds(rows, 'copy')} ms. All times are medians."])


def alone_table(rows: Rows) -> str:
    """The force of JS alone, and autograd of its value; what a record does not hold is left out."""
    lines = ["| JS alone, eager | time |", "|---|---|"]
    for name, title in (("divergence_alone", "closed form"), ("divergence_autograd", "autograd of its value")):
        if name in rows:
            lines.append(f"| {title} | {_milliseconds(rows, name)} ms |")
    return "\n".join(lines)


def growth_figure(rows: Rows) -> None:
    """Time against the number of classes."""
    _, axes = plt.subplots()
    for kind, label in (("growth", "closed form"), ("growth_of_autograd", "autograd")):
        times = [1000 * rows[f"{kind}[{size}]"]["median"] for size in SIZES]
        axes.loglog(SIZES, times, marker="o", label=label)
    last = 1000 * rows[f"growth[{SIZES[-1]}]"]["median"]
    axes.loglog(SIZES[2:], [last * size / SIZES[-1] for size in SIZES[2:]], "k:", label="proportional")
    axes.set(xlabel="classes", ylabel="milliseconds")
    axes.legend()


def suite_summary(rows: Rows) -> str:
    """How long the suite takes on a registered divergence, and what an import adds."""
    timed = {name: row for name, row in rows.items() if name.startswith("check_divergence[")}
    slowest = max(timed, key=lambda name: timed[name]["median"])
    short = slowest.removeprefix("check_divergence[").removesuffix("]")
    added = rows["import[fguidance]"]["median"] - rows["import[torch]"]["median"]
    seconds = sorted(row["median"] for row in timed.values())
    return (
        f"`check_divergence` with Hypothesis' default profile took {seconds[0]:.1f} to {seconds[-1]:.1f} s on the "
        f"{len(timed)} registered names, longest on `{short}`. `import fguidance` adds {added:.2f} s to "
        "`import torch`, and leaves SymPy for when it is needed."
    )
