"""Settings that every test runs under: Hypothesis profiles and one thread for PyTorch."""

import os

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

# Wall-clock limits say more about a busy machine than about the code, so pytest-timeout is the only one.
_common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("ci", max_examples=50, derandomize=True, database=None, **_common)
settings.register_profile("nightly", max_examples=2000, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
