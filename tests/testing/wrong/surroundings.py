"""Right divergences that change something behind their caller's back."""

import decimal
import gc
import logging
import os
import random
import warnings

import mpmath
import numpy as np
import torch

from tests.testing.wrong.base import Undeclared, changes, doing

change = changes(__name__)

CARELESS = {
    "SeedsTheGenerator": lambda: torch.manual_seed(0),
    "DrawsFromTheGenerator": lambda: torch.rand(()),
    "SeedsNumpy": lambda: np.random.seed(0),  # noqa: NPY002
    "SeedsPython": lambda: random.seed(0),
    "LeavesGradientsOff": lambda: torch.set_grad_enabled(False),
    "ChangesTheDefaultDtype": lambda: torch.set_default_dtype(torch.float64),
    "SetsTheNumberOfThreads": lambda: torch.set_num_threads(2 if torch.get_num_threads() == 1 else 1),
    "SetsDeterministicMode": lambda: torch.use_deterministic_algorithms(True),
    "DetectsAnomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "PrintsOtherwise": lambda: torch.set_printoptions(precision=2),
    "PrintsOtherwiseInNumpy": lambda: np.set_printoptions(precision=2),
    "FlushesDenormals": lambda: torch.set_flush_denormal(True),
    "SilencesWarnings": lambda: warnings.filterwarnings("ignore"),
    "SetsThePrecisionOfMpmath": lambda: setattr(mpmath.mp, "dps", 30),
    "SetsThePrecisionOfDecimals": lambda: setattr(decimal.getcontext(), "prec", 50),
    "SetsAnEnvironmentVariable": lambda: os.environ.update(FGUIDANCE_WRONG="1"),
    "TurnsOffTheCollection": gc.disable,
    "TurnsOffLogging": lambda: logging.disable(logging.CRITICAL),
    "TurnsOffABackend": lambda: setattr(torch.backends.mkldnn, "enabled", False),
}

for number, (name, action) in enumerate(CARELESS.items()):
    part = ("value", "weight")[number % 2]
    change(Undeclared, name, "surroundings_are_left_alone", **{part: doing(action)})
