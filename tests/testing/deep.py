"""Ten thousand examples of every property on every registered divergence: `make test-deep`.

It takes hours, so it may be interrupted: what passed is noted under .make/deep for the source as it is, and is
skipped the next time. Checks with one case (`most_examples`) run that case.
"""

import hashlib
import os
from pathlib import Path

import pytest

import fguidance as fg
from fguidance.testing.check import CHECKS
from fguidance.testing.runner import run_check
from fguidance.testing.subject import as_subject

ROOT = Path(__file__).parents[2]
NAMES = [name for name in fg.divergence_names() if name != "js_printed"]

pytestmark = [
    pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "nightly", reason="takes hours: make test-deep"),
    pytest.mark.timeout(0),
]


def _noted(name: str, check: str) -> Path:
    """The file that says that a check passed on the source as it is now."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "reference").rglob("*.py")):
        digest.update(path.read_bytes())
    return ROOT / ".make" / "deep" / digest.hexdigest()[:16] / f"{name}-{check}"


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_deep(name: str, check: str) -> None:
    noted = _noted(name, check)
    if noted.exists():
        pytest.skip(f"passed before: {noted.read_text()}")
    record = run_check(CHECKS[check], as_subject(name))
    if record.status == "skipped":
        pytest.skip(record.reason)
    assert record.status == "passed", f"{record.reason}\n{record.counterexample}\n{record.reproduce}"
    noted.parent.mkdir(parents=True, exist_ok=True)
    noted.write_text(f"{record.examples} examples in {record.seconds:.0f} s")
