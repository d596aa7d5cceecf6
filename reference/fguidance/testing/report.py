"""The report of a run of the suite: its records, its verdict, and its forms for people and programs."""

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from fguidance.testing.record import Record, Status

SCHEMA = 1


def _line(record: Record) -> str:
    line = f"{record.status:8} {record.check} ({record.examples} examples, {record.seconds:.2f} s)"
    if record.status == "passed":
        return line
    details = (record.reason, f"counterexample: {record.counterexample}" if record.counterexample else "")
    return "\n         ".join((line, *filter(None, (*details, record.reproduce))))


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
        settings: profile, examples asked for, seed, versions and device.
        subject: what was tested, in the suite's own shape; None in a report that was read from a file.
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

    def with_status(self, status: Status) -> tuple[Record, ...]:
        """The records of that status."""
        return tuple(record for record in self.records if record.status == status)

    def summary(self) -> str:
        """One line: how many checks ended how, and on how many examples."""
        counts = Counter(record.status for record in self.records)
        parts = [f"{counts[status]} {status}" for status in ("passed", "failed", "expected", "skipped")]
        return f"{self.name}: {len(self.records)} checks, {self.examples} examples: {', '.join(parts)}"

    def __str__(self) -> str:
        """A line for each check, what shows each failure, and the summary."""
        return "\n".join((*(_line(record) for record in self.records), self.summary()))

    def as_dict(self) -> dict[str, Any]:
        """The report in plain types for JSON; infinities and NaN are written as text."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "passed": self.passed,
            "examples": self.examples,
            "settings": self.settings,
            "records": [_finite(asdict(record)) for record in self.records],
        }

    def to_json(self) -> str:
        """`as_dict` as JSON text."""
        return json.dumps(self.as_dict(), indent=2, allow_nan=False)

    def raise_for_failures(self) -> None:
        """Raise `DivergenceFailed` naming every failed check; do nothing where there is none."""
        if not self.passed:
            lines = [f"  {record.check}: {record.reason}\n    {record.counterexample}" for record in self.failures]
            raise DivergenceFailed("\n".join((self.summary(), *lines)))
