"""Calibration: the paper's loss, the measure it is named after, the usual measures, and what makes them smaller."""

from fguidance.calibration.errors import (
    brier_score,
    classwise,
    expected_calibration_error,
    negative_log_likelihood,
    top_label,
)
from fguidance.calibration.finetuning import Epoch, Finetuned, finetune
from fguidance.calibration.losses import binned_smooth_ece_loss, smooth_ece_loss
from fguidance.calibration.reliability import ReliabilityCurve, reliability_curve, reliability_diagram
from fguidance.calibration.scaling import (
    IsotonicScaling,
    TemperatureScaling,
    VectorScaling,
    fit_isotonic,
    fit_temperature,
    fit_vector_scaling,
)
from fguidance.calibration.smooth import smooth_ece

__all__ = [
    "Epoch",
    "Finetuned",
    "IsotonicScaling",
    "ReliabilityCurve",
    "TemperatureScaling",
    "VectorScaling",
    "binned_smooth_ece_loss",
    "brier_score",
    "classwise",
    "expected_calibration_error",
    "finetune",
    "fit_isotonic",
    "fit_temperature",
    "fit_vector_scaling",
    "negative_log_likelihood",
    "reliability_curve",
    "reliability_diagram",
    "smooth_ece",
    "smooth_ece_loss",
    "top_label",
]
