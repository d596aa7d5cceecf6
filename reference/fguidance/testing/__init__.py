"""The property suite: test a divergence of one's own in one line, now and in every CI run.

`strategies` holds the Hypothesis strategies that the checks draw from, for properties of one's own::

    from hypothesis import given
    from fguidance.testing import strategies

    @given(strategies.cases())
    def test_the_force_sums_to_zero(case):
        assert abs(my_force(case.logits, case.log_q).sum()) < 1e-12
"""

from fguidance.testing import strategies
from fguidance.testing.declaration import Declaration
from fguidance.testing.plugin import parametrize_with_checks
from fguidance.testing.report import DivergenceFailed, Record, Report
from fguidance.testing.runner import check_divergence
from fguidance.testing.strategies import Case, Pair, cases, log_ratios, logits, pairs, targets

__all__ = [
    "Case", "Declaration", "DivergenceFailed", "Pair", "Record", "Report", "cases", "check_divergence", "log_ratios",
    "logits", "pairs", "parametrize_with_checks", "strategies", "targets",
]  # fmt: skip
