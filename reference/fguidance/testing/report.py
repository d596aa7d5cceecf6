"""The report of a run of the suite: its records, its verdict, and its forms for people and programs."""

import json
import math
import os
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from fguidance.testing.record import STATUSES, Record, Status
from fguidance.testing.report_text import details, printable

if TYPE_CHECKING:
    from rich.console import Group

SCHEMA = 1


def _line(record: Record) -> str:
    line = f"{record.status:8} {record.check} ({record.examples} examples, {record.seconds:.2f} s)"
    return "\n".join((line, *(f"         {part}" for part in details(record))))


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
    """What `check_divergence` found.

    Attributes:
        name: what was tested.
        records: one per check, in the order in which they ran.
        settings: date, device, versions, and the number of examples and the seed that were asked for.
        subject: what was tested, in the suite's own shape; None in a report that was made by hand.
    """

    name: str
    records: tuple[Record, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    subject: Any = field(default=None, repr=False, compare=False)

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
        return {status: found[status] for status in STATUSES}

    def with_status(self, status: Status) -> tuple[Record, ...]:
        """The records of that status."""
        return tuple(record for record in self.records if record.status == status)

    def summary(self) -> str:
        """One line: how many checks ended how, and on how many examples."""
        parts = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        return f"{printable(self.name)}: {len(self.records)} checks, {self.examples} examples: {parts}"

    def __str__(self) -> str:
        """A line for each check, what shows each failure, and the summary."""
        names = ", ".join(record.check for record in self.failures)
        last = (f"failed: {names}",) if len(self.failures) > 1 else ()
        return "\n".join((*(_line(record) for record in self.records), *last, self.summary()))

    def __rich__(self) -> "Group":
        """A table of the checks, what shows each failure, and the summary."""
        from rich.console import Group

        from fguidance.testing.report_table import shown, table, verdict

        title = printable(self.name)
        told = [shown(record) for record in self.records if record.status in ("failed", "expected")]
        return Group(table(title, self.records), *told, verdict(self.summary(), self.passed))

    def show(self, file: TextIO | None = None) -> None:
        """Print the report: a table in a terminal, the same in plain lines anywhere else.

        Args:
            file: where to; None is the standard output.
        """
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
        from fguidance.testing.html_report import render

        return render([self])

    def write_html(self, path: str | os.PathLike[str]) -> Path:
        """Write `to_html` to a file, over one that is there.

        Args:
            path: the file.

        Returns:
            The path.

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
