"""Who tests the tests: every wrong divergence fails the check made for its mistake, and shows a counterexample."""

import pytest

from fguidance.testing import check_divergence
from fguidance.testing.check import CHECKS
from tests.testing.wrong import WRONG

FOUND_BY = {
    "WeightSign": "a_step_against_the_force_lowers_the_value",
    "WeightFactor": "weight_is_gradient_of_value",
    "ValueFactor": "dual_swaps_the_arguments",
    "BothFactor": "value_matches_high_precision",
    "SwappedInValue": "weight_is_gradient_of_value",
    "SwappedInWeight": "a_step_against_the_force_lowers_the_value",
    "SwappedThroughout": "dual_swaps_the_arguments",
    "NotCentred": "force_sums_to_zero",
    "CentredByTheMean": "force_is_that_of_the_weights",
    "CentredByTheTarget": "force_is_gradient_of_value",
    "NotInGauge": "weight_is_zero_at_equality",
    "OtherGaugeAtSaturation": "weight_matches_high_precision",
    "SingleInside": "dual_swaps_the_arguments",
    "SingleInForce": "force_matches_high_precision",
    "CancellingValue": "value_is_right_near_equality",
    "NearlyFKL": "value_is_right_near_equality",
    "WrongLimit": "saturation_is_as_declared",
    "StaleSoftmax": "force_matches_high_precision",
    "CachedByIdentity": "calls_do_not_depend_on_earlier_calls",
    "BatchAxisInValue": "a_batch_is_its_members",
    "BatchAxisInForce": "a_batch_is_its_members",
    "SoftmaxOverTheBatch": "a_batch_is_its_members",
    "MeanOverTheBatch": "a_batch_is_its_members",
    "HidesNan": "nan_is_not_hidden",
    "ModifiesItsInput": "inputs_are_not_modified",
    "ModifiesTheTarget": "inputs_are_not_modified",
    "ModifiesTheLogits": "inputs_are_not_modified",
    "AddsEpsilon": "value_matches_high_precision",
    "AddsEpsilonThroughout": "weight_is_homogeneous",
    "ClampsProbabilities": "saturation_is_as_declared",
    "LogarithmToBaseTwo": "weight_is_gradient_of_value",
    "MeanOverClasses": "merging_classes_never_raises_the_value",
    "ForgetsTheLastClass": "classes_may_be_permuted",
    "OnlyTheLabel": "classes_may_be_permuted",
    "WeightOfTheDual": "force_is_gradient_in_the_image",
    "WeightWithoutP": "weight_is_homogeneous",
    "WeightTimesQ": "weight_is_gradient_of_value",
    "DetachedValue": "weight_is_gradient_of_value",
    "TemperatureForgotten": "force_is_that_of_the_weights",
    "NotConvex": "merging_classes_never_raises_the_value",
    "Negative": "value_is_not_negative",
    "NotZeroAtEquality": "value_is_zero_only_at_equality",
    "Euclidean": "splitting_a_class_changes_nothing",
    "WassersteinOnIndices": "weight_depends_on_its_class_alone",
    "Bhattacharyya": "weight_depends_on_its_class_alone",
    "ItakuraSaito": "curvature_is_that_of_the_generator",
    "DeclaredSymmetric": "symmetry_is_as_declared",
    "DeclaredBounded": "value_is_bounded_as_declared",
    "DeclaredToStay": "saturation_is_as_declared",
    "Noisy": "calls_do_not_depend_on_earlier_calls",
    "AlwaysDouble": "dtype_and_shape_are_kept",
    "KeepsTheClassAxis": "dtype_and_shape_are_kept",
    "PythonFloat": "finite_input_gives_no_nan",
    "BreaksUnderVmap": "vmap_gives_the_same",
    "WrongBeyondTwenty": "weight_is_right_at_the_ends",
    "WrongBelowAThousandth": "value_is_zero_only_at_equality",
    "Overflows": "weight_is_right_at_the_ends",
    "OffByOneClass": "classes_may_be_permuted",
    "WrongForTwoClasses": "value_matches_high_precision",
    "WrongForTies": "force_is_that_of_the_weights",
    "WrongForZeros": "zeros_in_the_target_are_handled",
    "InNumpyWithASign": "weight_is_gradient_of_value",
    "InNumpyInPlace": "inputs_are_not_modified",
    "Raises": "dtype_and_shape_are_kept",
    "ReturnsNone": "dtypes_agree",
    "PaperWeightForJS": "weight_is_homogeneous",
}
NEVER_FAILED_HERE = {
    "devices_agree": "needs a GPU",
    "generator_is_convex": "a generator that is not convex is refused before any check runs",
    "compiling_gives_the_same": "",
    "value_is_jointly_convex": "",
    "force_ignores_a_shift": "",
    "force_is_right_at_saturation": "",
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_the_suite_fails_it_with_a_counterexample(wrong):
    report = check_divergence(wrong(), checks=[FOUND_BY[wrong.__name__]], max_examples=60)
    (record,) = report.records
    assert record.status == "failed", f"{wrong.__name__} survived {record.check}"
    assert record.reason
    assert record.examples > 0
    assert record.counterexample or record.check in ("value_is_bounded_as_declared", "saturation_is_as_declared")
    assert not report.passed


def test_all_wrong_ones_are_listed_and_are_at_least_forty():
    assert {wrong.__name__ for wrong in WRONG} == set(FOUND_BY)
    assert len(WRONG) >= 40


def test_every_check_fails_something_or_says_why_not():
    assert set(CHECKS) - set(FOUND_BY.values()) - set(NEVER_FAILED_HERE) <= {
        "force_is_gradient_of_value", "force_is_gradient_in_the_image",
    }  # fmt: skip
