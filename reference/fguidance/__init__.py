"""Classifier guidance of diffusion models regularised by f-divergences: a verified reference for arXiv:2511.05844."""

from fguidance.calibration import expected_calibration_error, smooth_ece, smooth_ece_loss
from fguidance.divergence import Divergence, divergence, divergence_names, divergence_parameters
from fguidance.guidance import Guidance, entropy_gradient, label_smoothed_log_target, tilted_mean

__version__ = "0.1.0"

__all__ = [
    "Divergence",
    "Guidance",
    "divergence",
    "divergence_names",
    "divergence_parameters",
    "entropy_gradient",
    "expected_calibration_error",
    "label_smoothed_log_target",
    "smooth_ece",
    "smooth_ece_loss",
    "tilted_mean",
]
