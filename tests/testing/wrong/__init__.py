"""Wrong divergences and wrong programs, each with its mistake and the checks that must find it."""

from tests.testing.wrong import batches, behaviour, declared, forces, formulas, many, narrow, numerics, scaled, zeros
from tests.testing.wrong.base import WRONG

__all__ = [
    "WRONG", "batches", "behaviour", "declared", "forces", "formulas", "many", "narrow", "numerics", "scaled", "zeros",
]  # fmt: skip
