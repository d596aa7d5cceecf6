"""What a run of the suite leaves behind: one record per check."""

import ast
import re
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["passed", "failed", "expected", "skipped"]
STATUSES: tuple[Status, ...] = ("passed", "failed", "expected", "skipped")
_ARGUMENTS = re.compile(r"@reproduce_failure(\(.*\))", re.DOTALL)


def arguments_of(line: str) -> tuple[str, bytes]:
    """The two arguments of Hypothesis' line, which is read and not evaluated.

    Raises:
        ValueError: it is no such line.
    """
    found = _ARGUMENTS.fullmatch(line.strip())
    try:
        version, blob = ast.literal_eval(found.group(1) if found else "")
    except (ValueError, SyntaxError, TypeError):
        example = "@reproduce_failure('6.0', b'...')"
        raise ValueError(f"reproduce_failure must be a line like {example}, not {line!r}") from None
    return version, blob


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
        if found is None:
            return ""
        return f"check_divergence(..., checks=[{self.check!r}], reproduce_failure={found!r})"
