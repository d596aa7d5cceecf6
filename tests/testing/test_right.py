"""The suite passes what is right, in every style; with few examples here, and with many under `make test-deep`."""

import os

import pytest

from fguidance.testing import check_divergence
from tests.testing.right import RIGHT

FEW = 2

def _examples() -> int | None:
    """The profile's number in a nightly run, else a few."""
    return None if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else FEW


def _name(subject: object) -> str:
    parts = subject if isinstance(subject, tuple) else (subject,)
    return "-".join(str(getattr(part, "__name__", getattr(part, "label", type(part).__name__))) for part in parts)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("subject", RIGHT, ids=_name)
def test_a_right_divergence_passes(subject: object) -> None:
    report = check_divergence(subject, max_examples=_examples())
    report.raise_for_failures()
    assert report.examples > 20 * FEW
