"""The report in a terminal: a table of the checks, and what shows each failure."""

from collections.abc import Iterable

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fguidance.testing.record import Record, Status
from fguidance.testing.report_text import details

STYLES: dict[Status, str] = {"passed": "green", "failed": "bold red", "expected": "yellow", "skipped": "dim"}


def table(title: str, records: Iterable[Record]) -> Table:
    """A row for each record; one that needs no more than a reason has it under its name."""
    found = Table("check", "status", title=Text(title, overflow="fold"))
    for column in ("examples", "seconds"):
        found.add_column(column, justify="right")
    for record in records:
        status = Text(record.status, STYLES[record.status])
        found.add_row(_name(record), status, str(record.examples), f"{record.seconds:.2f}")
    return found


def _name(record: Record) -> Text:
    reason = "" if record.status in ("failed", "expected") else "".join(f"\n  {part}" for part in details(record))
    return Text.assemble(record.check, (reason, "dim"), overflow="fold")


def shown(record: Record) -> Padding:
    """What shows a failure, under the name of its check."""
    name = (f"{record.check}: {record.status}\n", STYLES[record.status])
    return Padding(Text.assemble(name, "\n".join(details(record)), overflow="fold"), (1, 0, 0, 2))


def verdict(summary: str, passed: bool) -> Padding:
    """The last line."""
    return Padding(Text(summary, "bold green" if passed else "bold red", overflow="fold"), (1, 0, 0, 0))
