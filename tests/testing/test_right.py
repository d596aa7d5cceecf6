"""The suite passes what is right, in every style; with few examples here, and with many under `make test-deep`."""

import os

import pytest

import fguidance as fg
from fguidance.testing import check_divergence
from fguidance.testing.check import CHECKS
from tests.testing.right import RIGHT

FEW = 2
COMPILED = {"js", "alpha"}
"""Of this library's own, which share their code, those that are compiled, which takes longer than all the rest."""


def _examples() -> int | None:
    """The profile's number in a nightly run, else a few."""
    return None if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else FEW


def _name(subject: object) -> str:
    parts = subject if isinstance(subject, tuple) else (subject,)
    return "-".join(str(getattr(part, "__name__", getattr(part, "label", type(part).__name__))) for part in parts)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("subject", RIGHT, ids=_name)
def test_a_right_divergence_passes(subject: object) -> None:
    own = isinstance(subject, fg.Divergence) and subject.name not in COMPILED
    checks = [name for name in CHECKS if not (own and name == "compiling_gives_the_same")]
    report = check_divergence(subject, checks=checks, max_examples=_examples())
    report.raise_for_failures()
    assert report.examples > 20 * FEW
