"""What a run of the suite leaves behind: one record per check."""

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["passed", "failed", "expected", "skipped"]


@dataclass(frozen=True)
class Record:
    """The outcome of one check.

    Attributes:
        check: the check's name.
        title: the property, as a sentence.
        status: ``expected`` is a failure that was declared, ``skipped`` a check that does not apply.
        reason: why it failed or was skipped; empty where it passed.
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
