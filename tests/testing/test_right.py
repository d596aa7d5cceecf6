from fguidance.testing import parametrize_with_checks
from tests.testing.right import RIGHT


@parametrize_with_checks(RIGHT, max_examples=4)
def test_a_right_divergence_passes(divergence, check):
    check(divergence)
