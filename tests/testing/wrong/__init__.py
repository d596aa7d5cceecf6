"""Wrong divergences and wrong programs, each with its mistake and the checks that must find it."""

from tests.testing.wrong import behaviour, declared, forces, formulas, numerics
from tests.testing.wrong.base import WRONG

__all__ = ["WRONG", "behaviour", "declared", "forces", "formulas", "numerics"]
