"""The property suite: test a divergence of one's own in one line, now and in every CI run."""

from fguidance.testing.declaration import Declaration
from fguidance.testing.parametrize import parametrize_with_checks
from fguidance.testing.record import Record
from fguidance.testing.report import DivergenceFailed, Report
from fguidance.testing.suite import check_divergence

__all__ = ["Declaration", "DivergenceFailed", "Record", "Report", "check_divergence", "parametrize_with_checks"]
