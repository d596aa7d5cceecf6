"""From a generator as somebody writes it to numbers and code: parsing, derivation, stable forms, evaluation."""

from fguidance.symbolic.generator import (
    as_generator,
    check_generator,
    dual,
    end_values,
    far_out,
    gauge_fixed,
    growth_powers,
    in_log_ratio,
    log_ratio,
    near_zero,
    on_one_side,
    saturation_limit,
    slope,
    tidied_slope,
    understandable,
    weight,
)
from fguidance.symbolic.parsing import parse_generator, t

__all__ = [
    "as_generator",
    "check_generator",
    "dual",
    "end_values",
    "far_out",
    "gauge_fixed",
    "growth_powers",
    "in_log_ratio",
    "log_ratio",
    "near_zero",
    "on_one_side",
    "parse_generator",
    "saturation_limit",
    "slope",
    "t",
    "tidied_slope",
    "understandable",
    "weight",
]
