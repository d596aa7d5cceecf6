"""The records of a run of the suite, its verdict, and its forms for people and programs."""

import ast
import json
import math
import os
import platform
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

import torch

import fguidance

if TYPE_CHECKING:
    from rich.console import Group

    from fguidance.testing.subject import Subject

SCHEMA = 1
LIBRARIES = ("torch", "numpy", "sympy", "mpmath", "hypothesis")
Status = Literal["passed", "failed", "expected", "skipped"]
STYLES: dict[Status, str] = {"passed": "green", "failed": "bold red", "expected": "yellow", "skipped": "dim"}
_ARGUMENTS = re.compile(r"@reproduce_failure(\(.*\))", re.DOTALL)


def arguments_of(line: str) -> tuple[str, bytes]:
    """The two arguments of Hypothesis' line, which is read and not evaluated; a ValueError if it is no such line."""
    found = _ARGUMENTS.fullmatch(line.strip())
    try:
        version, blob = ast.literal_eval(found.group(1) if found else "")
    except (ValueError, SyntaxError, TypeError):
        example = "@reproduce_failure('6.0', b'...')"
        raise ValueError(f"reproduce_failure must be a line like {example}, not {line!r}") from None
    return version, blob


def versions() -> dict[str, str]:
    """The versions of this library, of what it computes with, and of Python."""
    others = {name: version(name) for name in LIBRARIES}
    return {"fguidance": fguidance.__version__, **others, "python": platform.python_version()}


def environment() -> dict[str, str]:
    """The conditions that a result depends on besides the code: date in UTC, device, platform and versions."""
    device = f"cpu ({platform.machine() or 'unknown'})"
    if torch.cuda.is_available():
        device += f", cuda ({torch.cuda.get_device_name()})"
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": date, "device": device, "platform": platform.platform(), **versions()}


def printable(text: object) -> str:
    """The text with its control characters written out, so that no terminal and no page obeys them."""
    return "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in str(text))


@dataclass(frozen=True)
class Record:
    """The outcome of one check.

    Attributes:
        check: the check's name.
        title: the property, as a sentence.
        status: ``expected`` is a failure that was declared, ``skipped`` a check that does not apply.
        reason: why it failed or was skipped; empty where it passed, unless there is something to add.
        counterexample: the smallest input that shows the failure, name to value in plain Python numbers and lists.
        examples: how many examples were really run.
        seconds: wall time.
        reproduce: Hypothesis' line that brings the failing example back, where there is one.
    """

    check: str
    title: str
    status: Status
    reason: str = ""
    counterexample: dict[str, Any] = field(default_factory=dict)
    examples: int = 0
    seconds: float = 0.0
    reproduce: str = ""

    @property
    def reproduce_failure(self) -> tuple[str, bytes] | None:
        """Hypothesis' version and blob, for `check_divergence(..., checks=[check], reproduce_failure=...)`."""
        return arguments_of(self.reproduce) if self.reproduce else None

    @property
    def reproduce_call(self) -> str:
        """The call that runs the failing example alone; empty where there is none."""
        found = self.reproduce_failure
        return f"check_divergence(..., checks=[{self.check!r}], reproduce_failure={found!r})" if found else ""

    @property
    def details(self) -> tuple[str, ...]:
        """Reason, counterexample and how to bring it back, as text that is safe to print."""
        counterexample = f"counterexample: {self.counterexample}" if self.counterexample else ""
        reproduce = f"reproduce: {self.reproduce_call}" if self.reproduce_call else ""
        return tuple(printable(part) for part in (self.reason, counterexample, reproduce) if part)

    @property
    def line(self) -> str:
        """The outcome on one line, and the details below it."""
        outcome = f"{self.status:8} {self.check} ({self.examples} examples, {self.seconds:.2f} s)"
        return "\n".join((outcome, *(f"         {part}" for part in self.details)))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value


class DivergenceFailed(AssertionError):
    """A divergence fails its checks; the message names each with its counterexample."""


@dataclass(frozen=True)
class Report:
    """The findings of `check_divergence`.

    Attributes:
        name: what was tested.
        records: one per check, in the order in which they ran.
        settings: date, device, versions, and the number of examples and the seed that were asked for.
        subject: what was tested, in the suite's own shape; None in a report that was made by hand.
    """

    name: str
    records: tuple[Record, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    subject: "Subject | None" = field(default=None, repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether something was checked and nothing failed."""
        return any(record.status == "passed" for record in self.records) and not self.failures

    @property
    def failures(self) -> tuple[Record, ...]:
        """The records of the checks that failed without having been declared to."""
        return self.with_status("failed")

    @property
    def examples(self) -> int:
        """How many examples were really run, over all checks."""
        return sum(record.examples for record in self.records)

    @property
    def counts(self) -> dict[Status, int]:
        """How many checks ended how."""
        found = Counter(record.status for record in self.records)
        return {status: found[status] for status in STYLES}

    def with_status(self, *status: Status) -> tuple[Record, ...]:
        """The records of that status, or of one of several."""
        return tuple(record for record in self.records if record.status in status)

    def summary(self) -> str:
        """One line: how many checks ended how, and on how many examples."""
        parts = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        return f"{printable(self.name)}: {len(self.records)} checks, {self.examples} examples: {parts}"

    def __str__(self) -> str:
        """A line for each check, what shows each failure, and the summary."""
        names = ", ".join(record.check for record in self.failures)
        last = (f"failed: {names}",) if len(self.failures) > 1 else ()
        return "\n".join((*(record.line for record in self.records), *last, self.summary()))

    def __rich__(self) -> "Group":
        """A table of the checks, what shows each failure, and the summary."""
        from rich.console import Group
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        table = Table("check", "status", title=Text(printable(self.name), overflow="fold"))
        for column in ("examples", "seconds"):
            table.add_column(column, justify="right")
        for record in self.records:
            told = record.status in ("failed", "expected")  # below the table
            reason = "" if told else "".join(f"\n  {part}" for part in record.details)
            name = Text.assemble(record.check, (reason, "dim"), overflow="fold")
            status = Text(record.status, STYLES[record.status])
            table.add_row(name, status, str(record.examples), f"{record.seconds:.2f}")
        shown = []
        for record in self.with_status("failed", "expected"):
            heading = (f"{record.check}: {record.status}\n", STYLES[record.status])
            shown.append(Padding(Text.assemble(heading, "\n".join(record.details), overflow="fold"), (1, 0, 0, 2)))
        verdict = Text(self.summary(), "bold green" if self.passed else "bold red", overflow="fold")
        return Group(table, *shown, Padding(verdict, (1, 0, 0, 0)))

    def show(self, file: TextIO | None = None) -> None:
        """Print the report: a table in a terminal, plain lines anywhere else; None is the standard output."""
        from rich.console import Console

        console = Console(file=file)
        if console.is_terminal and not console.is_dumb_terminal:
            console.print(self)
        else:
            print(self, file=file or sys.stdout)

    def as_dict(self) -> dict[str, Any]:
        """The report in plain types for JSON; infinities and NaN are written as text."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "passed": self.passed,
            "checks": len(self.records),
            "examples": self.examples,
            "counts": self.counts,
            "settings": self.settings,
            "subject": None if self.subject is None else self.subject.as_dict(),
            "records": [_finite(asdict(record)) for record in self.records],
        }

    def to_json(self) -> str:
        """`as_dict` as JSON text."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False)

    def to_html(self) -> str:
        """One page that needs nothing else: verdict, settings, figures and every record.

        Raises:
            ImportError: Jinja2 or Matplotlib is missing.
        """
        return as_page([self])

    def write_html(self, path: str | os.PathLike[str]) -> Path:
        """Write `to_html` to a file, over one that is there, and return its path.

        Raises:
            ImportError: Jinja2 or Matplotlib is missing.
            OSError: the file cannot be written.
        """
        place, page = Path(path), self.to_html()
        place.write_text(page, encoding="utf-8")
        return place

    def raise_for_failures(self) -> None:
        """Raise `DivergenceFailed` naming every failed check; do nothing where there is none."""
        if not self.passed:
            lines = [f"  {record.check}: {record.reason}\n    {record.counterexample}" for record in self.failures]
            raise DivergenceFailed("\n".join((self.summary(), *lines)))


def as_page(reports: Sequence[Report]) -> str:
    """One page of HTML for some reports, as `Report.to_html` makes it for one."""
    from fguidance.testing.html_report import render

    sections = []
    for report in reports:
        records = [{**asdict(record), "reproduce": record.reproduce_call} for record in report.records]
        sections.append((report.as_dict() | {"records": records}, report.subject))
    return render(sections, printable)
