"""Settings that every test runs under: Hypothesis profiles and one thread for PyTorch."""

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

from fguidance import cli, describe
from fguidance.symbolic import generator as symbolic
from fguidance.time_limit import OutOfTime

torch.set_num_threads(1)

# Wall-clock limits say more about a busy machine than about the code, so pytest-timeout is the only one.
_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("ci", max_examples=50, derandomize=True, database=None, **_common)
settings.register_profile("nightly", max_examples=10_000, **_common)
# A mutation run calls each test several times in one process, and needs no shrinking: one failure kills the mutant.
_quick = _common | {"suppress_health_check": list(HealthCheck), "phases": [Phase.explicit, Phase.generate]}
settings.register_profile("mutation", max_examples=8, derandomize=True, database=None, **_quick)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(trylast=True)
def pytest_configure() -> None:
    """An interruption that arrives in a destructor is ignored there by Python, and comes again: it is no failure."""
    report = sys.unraisablehook

    def unless_interrupted(found: Any) -> None:
        if found.exc_type is None or not issubclass(found.exc_type, OutOfTime):
            report(found)

    sys.unraisablehook = unless_interrupted


PATIENCE = 4
"""How many times as long SymPy may take in a test that is not about that limit: machines are of many speeds."""
LIMITS = [
    (symbolic, "SECONDS"), (cli, "SECONDS"),
    (describe, "SECONDS"), (describe, "SECONDS_FOR_CODE"), (describe, "ALTOGETHER"),
]  # fmt: skip
for _module, _name in LIMITS:
    setattr(_module, _name, PATIENCE * getattr(_module, _name))


@pytest.fixture(scope="class")
def limits_of_users() -> Iterator[None]:
    """The limits on SymPy's time that hold outside the tests, for tests of what happens there."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in LIMITS:
            now = getattr(module, name)
            patch.setattr(module, name, now // PATIENCE if isinstance(now, int) else now / PATIENCE)
        yield
