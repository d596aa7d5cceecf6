"""The usual measures against plain loops, SciPy and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import foldnorm
from sklearn.metrics import brier_score_loss, log_loss
from torch import Tensor

import fguidance as fg
from fguidance.calibration import (
    brier_score,
    classwise,
    expected_calibration_error,
    negative_log_likelihood,
    smooth_ece,
    top_label,
)
from fguidance.calibration.errors import _folded_mean
from tests.calibration.plain import DOUBLE, Problem, problems, random_problem
from tests.calibration.test_losses import DTYPES, WRONG_LOGITS, random_batch
from tests.calibration.test_smooth import ONES, RIGHT, WRONG_CONFIDENCES

FEW = settings(max_examples=max(1, settings().max_examples // 2))
some_bins = st.sampled_from((1, 2, 5, 15, 100))


def members(problem: Problem, bins: int, equal_mass: bool) -> list[list[int]]:
    """Which samples each bin holds."""
    confidence = problem.confidence.tolist()
    places = range(len(confidence))
    if equal_mass:
        order = sorted(places, key=lambda index: confidence[index])
        return [[order[rank] for rank in places if rank * bins // len(confidence) == one] for one in range(bins)]
    inside = [[index for index in places if one <= confidence[index] * bins < one + 1] for one in range(bins)]
    inside[-1] += [index for index in places if confidence[index] == 1]
    return inside


def plain_ece(problem: Problem, bins: int, equal_mass: bool = False, debiased: bool = False) -> float:
    total = 0.0
    for inside in members(problem, bins, equal_mass):
        if inside:
            accuracy = problem.correct[inside].mean()
            gap = abs(accuracy - problem.confidence[inside].mean())
            deviation = math.sqrt(accuracy * (1 - accuracy) / len(inside))
            if debiased and deviation > 0:
                gap -= foldnorm.mean(gap / deviation, scale=deviation) - gap
            total += len(inside) * gap
    return total / len(problem.confidence)


@FEW
@given(problems(), some_bins, st.booleans(), st.booleans())
def test_the_error_is_that_of_a_plain_loop(problem: Problem, bins: int, equal_mass: bool, debiased: bool) -> None:
    found = expected_calibration_error(*problem.tensors(), bins, equal_mass=equal_mass, debiased=debiased)
    assert found.item() == pytest.approx(plain_ece(problem, bins, equal_mass, debiased), abs=1e-9)


@pytest.mark.parametrize("bins", [1, 7, 15, 1000])
@pytest.mark.parametrize("equal_mass", [False, True])
@pytest.mark.parametrize("debiased", [False, True])
def test_the_error_of_many_samples(bins: int, equal_mass: bool, debiased: bool) -> None:
    problem = random_problem(1, 300, over=2)
    found = expected_calibration_error(*problem.tensors(), bins, equal_mass=equal_mass, debiased=debiased)
    assert found.item() == pytest.approx(plain_ece(problem, bins, equal_mass, debiased), abs=1e-9)


def test_there_are_fifteen_bins_of_equal_width() -> None:
    problem = random_problem(1, 300, over=2)
    expected = plain_ece(problem, 15)
    assert expected_calibration_error(*problem.tensors()).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_a_confidence_of_one_is_in_the_last_bin(bins: int) -> None:
    """There it cancels what is just below it; in a bin of its own it could not."""
    confidence = torch.tensor([1.0, 1.0, 1 - 1e-9, 1 - 1e-9], dtype=DOUBLE)
    correct = torch.tensor([False, False, True, True])
    found = expected_calibration_error(confidence, correct, bins)
    assert found.item() == pytest.approx(0.5, abs=1e-6)
    assert plain_ece(Problem(confidence.numpy(), correct.numpy()), bins) == pytest.approx(0.5, abs=1e-6)


def test_a_confidence_at_a_border_is_in_the_upper_bin() -> None:
    confidence, correct = torch.tensor([0.5, 0.75]), torch.tensor([True, False])
    assert expected_calibration_error(confidence, correct, 2).item() == pytest.approx(abs(0.5 - 0.75) / 2)


@pytest.mark.parametrize("bins", [1, 3, 7, 20, 50])
def test_bins_of_equal_mass_differ_by_one_sample_at_most(bins: int) -> None:
    """Seen from outside: where the outcomes are those of alternate bins, nothing cancels."""
    problem = random_problem(2, 20)
    sizes = [len(inside) for inside in members(problem, bins, True)]
    assert max(sizes) - min(sizes) <= 1
    correct = np.zeros(20, bool)
    for inside in members(problem, bins, True)[::2]:
        correct[inside] = True
    found = expected_calibration_error(*Problem(problem.confidence, correct).tensors(), bins, equal_mass=True)
    assert found.item() == pytest.approx(np.abs(correct - problem.confidence).mean(), abs=1e-12)


@FEW
@given(problems(), some_bins, st.booleans())
def test_a_bin_for_each_sample_tells_no_accuracy(problem: Problem, bins: int, equal_mass: bool) -> None:
    """One bin has the least error, and none more than the mean absolute residual."""
    found = expected_calibration_error(*problem.tensors(), bins, equal_mass=equal_mass).item()
    residual = problem.correct - problem.confidence
    assert abs(residual.mean()) - 1e-12 <= found <= np.abs(residual).mean() + 1e-12


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
@pytest.mark.parametrize("equal_mass", [False, True])
def test_rows_are_independent(shape: tuple[int, ...], equal_mass: bool) -> None:
    confidence = torch.rand(*shape, 20, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    correct = torch.rand(*shape, 20, generator=torch.Generator().manual_seed(1)) < 0.5
    found = expected_calibration_error(confidence, correct, equal_mass=equal_mass)
    assert found.shape == shape
    rows = zip(confidence.view(-1, 20).numpy(), correct.view(-1, 20).numpy(), strict=True)
    expected = [plain_ece(Problem(*row), 15, equal_mass) for row in rows]
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype: torch.dtype) -> None:
    problem = random_problem(3, 50)
    confidence, correct = problem.tensors()
    rounded = confidence.to(dtype)
    found = expected_calibration_error(rounded, correct)
    assert found.dtype == (DOUBLE if dtype == DOUBLE else torch.float32)
    expected = plain_ece(Problem(rounded.double().numpy(), problem.correct), 15)
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("equal_mass", [False, True])
def test_of_calibrated_samples_the_debiased_error_is_nearer_to_nothing(equal_mass: bool) -> None:
    rng = np.random.default_rng(0)
    confidence = torch.from_numpy(rng.uniform(size=(300, 500)))
    correct = torch.from_numpy(rng.random((300, 500))) < confidence
    plain = expected_calibration_error(confidence, correct, equal_mass=equal_mass).mean().item()
    debiased = expected_calibration_error(confidence, correct, equal_mass=equal_mass, debiased=True).mean().item()
    assert plain > 0.04
    # A gap of chance alone is |Z|; 2 |Z| - |Z + Z'| has the mean (2 - sqrt(2)) E|Z|.
    assert debiased == pytest.approx((2 - math.sqrt(2)) * plain, rel=0.1)


def test_where_the_gap_is_wide_the_correction_is_small() -> None:
    correct = torch.arange(1000) % 2 == 0
    confidence = torch.full((1000,), 0.9, dtype=DOUBLE)
    debiased = expected_calibration_error(confidence, correct, debiased=True).item()
    assert debiased == pytest.approx(0.4, abs=1e-6)


@FEW
@given(st.floats(0, 3), st.floats(1e-3, 2))
def test_the_mean_of_the_folded_normal_is_scipys(mean: float, deviation: float) -> None:
    found = _folded_mean(torch.tensor(mean, dtype=DOUBLE), torch.tensor(deviation, dtype=DOUBLE))
    assert found.item() == pytest.approx(foldnorm.mean(mean / deviation, scale=deviation), rel=1e-9)


def test_without_variance_the_folded_normal_is_a_point() -> None:
    assert _folded_mean(torch.tensor(0.3), torch.tensor(0.0)) == 0.3


class TestTopLabel:
    """What the measures take, from logits."""

    @pytest.mark.parametrize("shape", [(), (6,), (2, 3)])
    def test_it_is_the_largest_probability_and_whether_it_is_the_labels(self, shape: tuple[int, ...]) -> None:
        logits, labels = random_batch(*shape)
        confidence, correct = top_label(logits, labels)
        probs = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
        np.testing.assert_allclose(confidence.numpy(), probs.max(-1), rtol=1e-12)
        np.testing.assert_array_equal(correct.numpy(), probs.argmax(-1) == labels.numpy())
        assert correct.dtype == torch.bool

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("scale", [1.0, 1e4])
    def test_it_is_what_the_measures_take(self, dtype: torch.dtype, scale: float) -> None:
        logits, labels = random_batch(200, classes=3, scale=scale)
        logits = logits.clamp(-6e4, 6e4).to(dtype)
        confidence, correct = top_label(logits, labels)
        assert confidence.dtype == (DOUBLE if dtype == DOUBLE else torch.float32)
        assert confidence.max() <= 1
        assert smooth_ece(confidence, correct).isfinite()

    def test_of_equal_logits_the_first_is_the_prediction(self) -> None:
        _, correct = top_label(torch.zeros(3, 3), torch.tensor([0, 1, 2]))
        assert correct.tolist() == [True, False, False]

    def test_the_prediction_is_the_largest_logit_where_rounding_makes_probabilities_equal(self) -> None:
        logits = torch.tensor([[0.0, 1e-9]])
        assert logits.argmax() == 1
        assert top_label(logits, torch.tensor([1]))[1].item()


class TestClasswise:
    """One problem for each class."""

    def test_it_is_the_probability_of_each_class_and_whether_it_is_the_label(self) -> None:
        logits, labels = random_batch(7)
        confidence, correct = classwise(logits, labels)
        probs = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
        np.testing.assert_allclose(confidence.numpy(), probs.T, rtol=1e-12)
        np.testing.assert_array_equal(correct.numpy(), labels.numpy() == np.arange(5)[:, None])
        assert correct.dtype == torch.bool

    def test_the_measures_give_one_number_for_each_class(self) -> None:
        logits, labels = random_batch(50, classes=3)
        confidence, correct = classwise(logits, labels)
        found = expected_calibration_error(confidence, correct, 4)
        probs = logits.softmax(-1).numpy()
        expected = [plain_ece(Problem(probs[:, one], labels.numpy() == one), 4) for one in range(3)]
        assert found.tolist() == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("shape", [(), (2, 3)])
    def test_it_takes_samples_and_classes_only(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"logits must have shape \(samples, classes\), not"):
            classwise(*random_batch(*shape))


class TestProperScores:
    """The Brier score and the negative log-likelihood."""

    @pytest.mark.parametrize("shape", [(), (6,), (2, 3)])
    def test_the_brier_score_is_the_mean_squared_distance(self, shape: tuple[int, ...]) -> None:
        logits, labels = random_batch(*shape)
        probs = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
        expected = ((probs - np.eye(5)[labels.numpy()]) ** 2).sum(-1).mean()
        assert brier_score(logits, labels).item() == pytest.approx(expected, rel=1e-12)

    def test_of_two_classes_it_is_twice_scikit_learns(self) -> None:
        logits, labels = random_batch(40, classes=2)
        expected = 2 * brier_score_loss(labels.numpy(), logits.softmax(-1)[:, 1].numpy())
        assert brier_score(logits, labels).item() == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(("label", "expected"), [(0, 0), (1, 2)])
    def test_it_runs_from_nothing_to_two(self, label: int, expected: float) -> None:
        assert brier_score(torch.tensor([[1e4, 0, 0]]), torch.tensor([label])).item() == expected

    @pytest.mark.parametrize("shape", [(), (6,), (2, 3)])
    def test_the_likelihood_is_that_of_the_labels(self, shape: tuple[int, ...]) -> None:
        logits, labels = random_batch(*shape)
        probs = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
        own = np.take_along_axis(probs, labels.numpy()[..., None], -1)
        assert negative_log_likelihood(logits, labels).item() == pytest.approx(-np.log(own).mean(), rel=1e-12)

    def test_it_is_scikit_learns(self) -> None:
        logits, labels = random_batch(40)
        expected = log_loss(labels.numpy(), logits.softmax(-1).numpy(), labels=range(5))
        assert negative_log_likelihood(logits, labels).item() == pytest.approx(expected, rel=1e-9)

    def test_it_is_finite_where_the_probability_is_not_to_be_told_from_nothing(self) -> None:
        assert negative_log_likelihood(torch.tensor([[1e4, 0.0]]), torch.tensor([1])).item() == 1e4

    @pytest.mark.parametrize("score", [brier_score, negative_log_likelihood])
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_every_dtype(self, score, dtype: torch.dtype) -> None:
        logits, labels = random_batch(20)
        rounded = logits.to(dtype)
        found = score(rounded, labels)
        assert found.shape == ()
        assert found.dtype == (DOUBLE if dtype == DOUBLE else torch.float32)
        assert found.item() == pytest.approx(score(rounded.double(), labels).item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32], ids=str)
@pytest.mark.parametrize("function", [top_label, classwise, brier_score, negative_log_likelihood])
def test_labels_may_be_any_integers(function, dtype: torch.dtype) -> None:
    logits, labels = random_batch(20)
    found, expected = function(logits, labels.to(dtype)), function(logits, labels)
    for one, other in zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]:
        assert one.equal(other)


@pytest.mark.parametrize(("confidence", "correct", "wrong", "match"), WRONG_CONFIDENCES)
def test_wrong_confidences_are_named(confidence: Tensor, correct: Tensor, wrong: type[Exception], match: str) -> None:
    with pytest.raises(wrong, match=match):
        expected_calibration_error(confidence, correct)


@pytest.mark.parametrize("bins", [0, -1, 15.0, True, None, "15"])
def test_a_wrong_number_of_bins_is_named(bins) -> None:
    with pytest.raises(ValueError, match="bins must be a whole number of at least 1, not"):
        expected_calibration_error(ONES, RIGHT, bins)


@pytest.mark.parametrize("function", [top_label, classwise, brier_score, negative_log_likelihood])
@pytest.mark.parametrize(("logits", "labels", "wrong", "match"), WRONG_LOGITS)
def test_wrong_logits_and_labels_are_named(function, logits, labels, wrong: type[Exception], match: str) -> None:
    with pytest.raises(wrong, match=match):
        function(logits, labels)


def test_it_is_at_the_top_of_the_package() -> None:
    assert fg.expected_calibration_error is expected_calibration_error
