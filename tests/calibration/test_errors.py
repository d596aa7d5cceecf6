"""The usual measures against plain loops, SciPy and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import foldnorm

from fguidance.calibration import (
    brier_score,
    classwise,
    expected_calibration_error,
    negative_log_likelihood,
    smooth_ece,
    top_label,
)
from tests.calibration.plain import DOUBLE, Problem, problems, random_problem
from tests.calibration.test_losses import DTYPES, random_batch

FEW = settings(max_examples=max(1, settings().max_examples // 2))
some_bins = st.sampled_from((1, 2, 5, 15, 100))


def softmax(logits: torch.Tensor) -> np.ndarray:
    powers = np.exp(logits.numpy())
    return powers / powers.sum(-1, keepdims=True)


def members(problem: Problem, bins: int, equal_mass: bool) -> list[list[int]]:
    """Which samples each bin holds."""
    confidence = problem.confidence.tolist()
    places = range(len(confidence))
    if equal_mass:
        first = [sum(other < one for other in confidence) for one in confidence]  # equal ones have the same rank
        return [[index for index in places if first[index] * bins // len(confidence) == one] for one in range(bins)]
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


class TestTopLabel:
    @pytest.mark.parametrize("shape", [(), (6,), (2, 3)])
    def test_it_is_the_largest_probability_and_whether_it_is_the_labels(self, shape: tuple[int, ...]) -> None:
        logits, labels = random_batch(*shape)
        confidence, correct = top_label(logits, labels)
        probs = softmax(logits)
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

    def test_where_rounding_makes_probabilities_equal_the_largest_logit_counts_and_else_the_first(self) -> None:
        assert top_label(torch.tensor([[0.0, 1e-9]]), torch.tensor([1]))[1].item()
        assert top_label(torch.zeros(3, 3), torch.tensor([0, 1, 2]))[1].tolist() == [True, False, False]


def test_classwise_is_the_probability_of_each_class_and_whether_it_is_the_label() -> None:
    logits, labels = random_batch(7)
    confidence, correct = classwise(logits, labels)
    np.testing.assert_allclose(confidence.numpy(), softmax(logits).T, rtol=1e-12)
    np.testing.assert_array_equal(correct.numpy(), labels.numpy() == np.arange(5)[:, None])
    assert correct.dtype == torch.bool


class TestProperScores:
    @pytest.mark.parametrize("shape", [(), (6,), (2, 3)])
    def test_the_mean_squared_distance_and_the_likelihood_of_the_labels(self, shape: tuple[int, ...]) -> None:
        logits, labels = random_batch(*shape)
        probs = softmax(logits)
        expected = ((probs - np.eye(5)[labels.numpy()]) ** 2).sum(-1).mean()
        assert brier_score(logits, labels).item() == pytest.approx(expected, rel=1e-12)
        own = np.take_along_axis(probs, labels.numpy()[..., None], -1)
        assert negative_log_likelihood(logits, labels).item() == pytest.approx(-np.log(own).mean(), rel=1e-12)

    @pytest.mark.parametrize(("label", "expected"), [(0, 0), (1, 2)])
    def test_it_runs_from_nothing_to_two(self, label: int, expected: float) -> None:
        assert brier_score(torch.tensor([[1e4, 0, 0]]), torch.tensor([label])).item() == expected

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
