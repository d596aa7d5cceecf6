"""A divergence of one's own, written by hand as its author would: once right, and three times not; and its tests."""

import contextlib
import inspect
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from fguidance.testing import Declaration, Report
from fguidance.testing.check import CHECKS, Check

FORMULA = "(t - 1)**2/(t + 1) - log(t)/10"


class Floored:
    """The triangular discrimination with a tenth of RKL, which keeps a force where the classifier is sure."""

    generator = FORMULA
    declaration = Declaration(full_support=True)

    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """The definition, sum_i q_i f(p_i / q_i)."""
        p, q = log_p.exp(), log_q.exp()
        return ((p - q) ** 2 / (p + q) - q * (log_p - log_q) / 10).sum(-1)

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """The weight p f'(p/q), less a multiple of p so that it is 0 where p = q."""
        p, q = log_p.exp(), log_q.exp()
        return p * (p - q) * (p + 3 * q) / (p + q) ** 2 + (p - q) / 10


class NotInGauge(Floored):
    """The derivative as it comes: f'(1) is not 0."""

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """The weight p f'(p/q) of the formula as it stands."""
        p, q = log_p.exp(), log_q.exp()
        return p * (p - q) * (p + 3 * q) / (p + q) ** 2 - q / 10


class WrongSign(Floored):
    """The logarithm's part of the weight with the wrong sign."""

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """Pushes where it should pull."""
        p, q = log_p.exp(), log_q.exp()
        return p * (p - q) * (p + 3 * q) / (p + q) ** 2 - (p - q) / 10


class SharpOnly(Floored):
    """Right almost everywhere, but it forgets the tenth of RKL where p is tiny."""

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """The weight, cut off where t is below a thousandth."""
        return super().weight(log_p, log_q) * (log_p - log_q > -6.9)


@contextlib.contextmanager
def fresh_folder() -> Iterator[Path]:
    """An empty folder that is gone afterwards; commands run in it."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def command(*arguments: str, folder: Path | None = None, most_lines: int = 60) -> None:
    """Run a command of this Python's environment, and print what it prints and how it ends.

    Args:
        arguments: ``"fguidance"`` or ``"pytest"`` and its arguments.
        folder: where it runs; a fresh one if None.
        most_lines: no more than the last so many lines are printed.
    """
    program, *rest = arguments
    start = {"fguidance": ["-c", "from fguidance.cli import main; main()"], "pytest": ["-m", "pytest"]}[program]
    paths = os.pathsep.join(path for path in sys.path if path)
    settings = os.environ | {"PYTHONPATH": paths, "COLUMNS": "78", "NO_COLOR": "1", "TERM": "dumb"}
    with fresh_folder() if folder is None else contextlib.nullcontext(folder) as place:
        done = subprocess.run(
            [sys.executable, *start, *rest], cwd=place, env=settings, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    shown = io.StringIO()
    lines = done.stdout.rstrip().splitlines()
    if len(lines) > most_lines:
        shown.write(f"... {len(lines) - most_lines} lines above\n")
    shown.write("\n".join(lines[-most_lines:]))
    print(shown.getvalue())
    print(f"exit status {done.returncode}")


def shortened(value: object) -> str:
    """The value as text, its floating-point numbers to six digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"[{', '.join(map(shortened, value))}]"
    return str(value)


def records_table(report: Report) -> str:
    """What became of each check, as a Markdown table."""
    rows = ["| check | status | examples |", "| --- | --- | --: |"]
    for record in report.records:
        status = f"{record.status}: {record.reason}" if record.reason else record.status
        rows.append(f"| `{record.check}` | {_in_a_cell(status)} | {record.examples} |")
    return "\n".join(rows)


def checks_table() -> str:
    """Every check of the suite with the property that it asks for, as a Markdown table."""
    rows = ["| check | property |", "| --- | --- |"]
    rows += [f"| `{check.name}` | {_in_a_cell(_description(check))} |" for check in CHECKS.values()]
    return "\n".join(rows)


def _description(check: Check) -> str:
    """The docstring of a check, as one paragraph."""
    return " ".join((inspect.getdoc(check.body) or "").split())


def _in_a_cell(text: str) -> str:
    """Text with its signs escaped, but for those within backticks."""
    parts = text.replace("|", "\\|").split("`")
    parts[::2] = [re.sub(r"([*_$])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)
