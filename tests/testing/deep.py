"""Ten thousand examples of every property on every registered divergence: `make test-deep`.

It takes hours, or less than one with DEEP_EXAMPLES=400, which is still ten thousand for most properties in all. It may
be interrupted: what passed is noted under .make/deep for the source as it is, and is skipped the next time. Checks with
one case (`most_examples`) run that case. What was run on which day is recorded in book/results/deep.json, divergence by
divergence, for the source as it was.
"""

import datetime
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

import fguidance as fg
from fguidance.testing import Record
from fguidance.testing.check import CHECKS
from fguidance.testing.runner import run_check
from fguidance.testing.subject import as_subject

ROOT = Path(__file__).parents[2]
NAMES = [name for name in fg.divergence_names() if name != "js_printed"]

pytestmark = [
    pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "nightly", reason="takes hours: make test-deep"),
    pytest.mark.timeout(0),
]


EXAMPLES = int(os.environ.get("DEEP_EXAMPLES", "10000"))
RECORD = ROOT / "book" / "results" / "deep.json"


def _source() -> str:
    """A digest of the source as it is now, but for the sampler, which no check calls."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "reference").rglob("*.py")):
        if "diffusion" not in path.parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


SOURCE = _source()


def _noted(name: str, check: str) -> Path:
    """The file that says that a check passed on the source as it is now."""
    return ROOT / ".make" / "deep" / f"{SOURCE}-{EXAMPLES}" / f"{name}-{check}"


def _record(name: str, record: Record) -> None:
    """Add a check to what is recorded of a divergence: its examples, or why it does not apply or failed."""
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    row = known.get(name, {})
    if row.get("source") != SOURCE:
        row = {"source": SOURCE, "torch": torch.__version__, "seconds": 0, "examples": {}}
    row |= {"date": datetime.date.today().isoformat(), "seconds": round(row["seconds"] + record.seconds, 1)}
    passed = record.status == "passed"
    row["examples"][record.check] = record.examples if passed else f"{record.status}: {record.reason}"
    known[name] = row
    RECORD.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_deep(name: str, check: str) -> None:
    noted = _noted(name, check)
    if noted.exists():
        pytest.skip(f"passed before: {noted.read_text()}")
    record = run_check(CHECKS[check], as_subject(name), max_examples=EXAMPLES)
    _record(name, record)
    assert record.status in ("passed", "skipped"), f"{record.reason}\n{record.counterexample}\n{record.reproduce}"
    noted.parent.mkdir(parents=True, exist_ok=True)
    noted.write_text(record.reason or f"{record.examples} examples in {record.seconds:.0f} s")
    if record.status == "skipped":
        pytest.skip(record.reason)
