"""Wrong divergences and wrong programs, each with its mistake and the checks that must find it."""

from tests.testing.wrong import (
    batches,
    behaviour,
    declared,
    far,
    forces,
    formulas,
    many,
    narrow,
    numerics,
    recorded,
    scaled,
    single,
    zeros,
)
from tests.testing.wrong.base import WRONG

__all__ = [
    "WRONG", "batches", "behaviour", "declared", "far", "forces", "formulas", "many", "narrow", "numerics", "recorded",
    "scaled", "single", "zeros",
]  # fmt: skip
