"""The smooth calibration error against its definition by quadrature, and against relplot where the two agree."""

import math

import numpy as np
import pytest
import relplot
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fguidance.calibration import smooth_ece
from tests.calibration.plain import (
    DOUBLE,
    Problem,
    plain_rule,
    plain_smooth_ece,
    problems,
    random_problem,
    slopes,
)

FEW = settings(max_examples=max(1, settings().max_examples // 7))
BANDWIDTHS = (0.01, 0.1, 0.5, 2.0)
each_bandwidth = pytest.mark.parametrize("bandwidth", BANDWIDTHS)
with_and_without_rule = pytest.mark.parametrize("bandwidth", [None, 0.05, 0.4])


def error(problem: Problem, bandwidth: float | None = None) -> float:
    return smooth_ece(*problem.tensors(), bandwidth).item()


@FEW
@given(problems(), st.sampled_from(BANDWIDTHS))
def test_a_bandwidth_gives_the_error_of_the_definition(problem: Problem, bandwidth: float) -> None:
    assert error(problem, bandwidth) == pytest.approx(plain_smooth_ece(*problem, bandwidth), abs=1e-5)


@pytest.mark.parametrize("bandwidth", [4 / 2**17, 1e-4, 1e-3])
def test_a_small_bandwidth_tells_apart_what_is_far_from_another_and_cancels_what_is_not(bandwidth: float) -> None:
    apart = Problem(np.array([0.3, 0.5, 0.5 + 20 * bandwidth]), np.array([True, True, False]))
    assert error(apart, bandwidth) == pytest.approx((0.7 + 0.5 + 0.5 + 20 * bandwidth) / 3, abs=1e-5)
    together = Problem(np.array([0.3, 0.5, 0.5]), np.array([True, True, False]))
    assert error(together, bandwidth) == pytest.approx(0.7 / 3, abs=1e-5)
    # Two Gaussians that are one deviation apart, of which |erf| says how much is left.
    beside = Problem(np.array([0.5 - bandwidth / 2, 0.5 + bandwidth / 2]), np.array([True, False]))
    assert error(beside, bandwidth) == pytest.approx(math.erf(0.5 / math.sqrt(2)) * (1 + bandwidth) / 2, abs=2e-3)


@FEW
@given(problems())
def test_the_rule_takes_the_bandwidth_that_equals_its_error(problem: Problem) -> None:
    found = error(problem)
    if found > 2e-3:
        assert plain_smooth_ece(*problem, found) == pytest.approx(found, abs=2e-5)


@pytest.mark.parametrize(("size", "over"), [(1, 1.0), (2, 0.2), (30, 4.0), (200, 0.2)])
def test_the_rule_finds_what_a_search_finds(size: int, over: float) -> None:
    problem = random_problem(size, size, over=over)
    assert error(problem) == pytest.approx(plain_rule(*problem), abs=1e-5)


def test_the_rule_finds_a_bandwidth_that_is_small_to_its_leading_digits() -> None:
    """Two samples a millionth apart, in the middle of a cell of a coarse grid."""
    problem = Problem(0.5 + 2**-14 + np.array([-5e-7, 5e-7]), np.array([True, False]))
    found = error(problem)
    assert found < 1e-3
    assert plain_smooth_ece(*problem, found) == pytest.approx(found, rel=1e-3)


def test_a_huge_bandwidth_leaves_the_mean_residual() -> None:
    problem = random_problem(1, 40, over=3)
    assert error(problem, 1e6) == pytest.approx(abs((problem.correct - problem.confidence).mean()), abs=1e-12)


@pytest.mark.parametrize("bandwidth", [None, 0.001, 0.3, 2.0])
@pytest.mark.parametrize("convention", ["definition", "relplot"])
@pytest.mark.parametrize("outcomes", [[True], [False], [True, False, False]])
def test_certainty_that_is_right_has_no_error(bandwidth: float | None, convention: str, outcomes: list[bool]) -> None:
    correct = torch.tensor(outcomes)
    assert smooth_ece(correct.double(), correct, bandwidth, convention).item() == 0


@pytest.mark.parametrize("bandwidth", [None, *BANDWIDTHS])
@pytest.mark.parametrize(("confidence", "right"), [(0.0, 3), (0.0, 10), (0.3, 3), (0.3, 10), (1.0, 0), (1.0, 9)])
def test_of_one_confidence_the_error_is_how_far_off_it_is(bandwidth, confidence: float, right: int) -> None:
    problem = Problem(np.full(10, confidence), np.arange(10) < right)
    assert error(problem, bandwidth) == pytest.approx(abs(right / 10 - confidence), abs=1e-9)


class TestBatches:
    @pytest.mark.parametrize("convention", ["definition", "relplot"])
    @pytest.mark.parametrize("bandwidth", [None, 0.03])
    @pytest.mark.parametrize("shape", [(3,), (2, 1, 9)])
    def test_rows_are_independent(self, shape: tuple[int, ...], bandwidth: float | None, convention: str) -> None:
        rows = [random_problem(seed, 20, over=3) for seed in range(math.prod(shape))]
        confidence = torch.tensor(np.stack([row.confidence for row in rows])).view(*shape, 20)
        correct = torch.tensor(np.stack([row.correct for row in rows])).view(*shape, 20)
        found = smooth_ece(confidence, correct, bandwidth, convention)
        assert found.shape == shape
        expected = [smooth_ece(*row.tensors(), bandwidth, convention) for row in rows]
        torch.testing.assert_close(found.flatten(), torch.stack(expected), rtol=0, atol=1e-9)

    def test_a_row_that_needs_a_finer_grid_changes_its_neighbours_hardly(self) -> None:
        rows = [random_problem(0, 20), Problem(np.full(20, 1e-4), np.full(20, False))]
        confidence, correct = (torch.tensor(np.stack(part)) for part in zip(*rows, strict=True))
        expected = torch.tensor([plain_rule(*rows[0]), 1e-4], dtype=DOUBLE)
        torch.testing.assert_close(smooth_ece(confidence, correct), expected, rtol=0, atol=1e-6)


class TestDtypes:
    @pytest.mark.parametrize("convention", ["definition", "relplot"])
    @pytest.mark.parametrize("bandwidth", [None, 0.1])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, DOUBLE], ids=str)
    def test_every_dtype(self, dtype: torch.dtype, bandwidth: float | None, convention: str) -> None:
        confidence, correct = random_problem(2, 50).tensors()
        rounded = confidence.to(dtype).requires_grad_()
        found = smooth_ece(rounded, correct, bandwidth, convention)
        assert found.dtype == (DOUBLE if dtype == DOUBLE else torch.float32)
        (gradient,) = torch.autograd.grad(found, rounded)
        assert gradient.dtype == dtype
        assert gradient.isfinite().all()
        expected = smooth_ece(rounded.double(), correct, bandwidth, convention)
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)


class TestGradient:
    @with_and_without_rule
    @pytest.mark.parametrize(("seed", "over"), [(0, 1.0), (2, 2.0)])
    def test_it_is_that_of_the_definition(self, seed: int, over: float, bandwidth: float | None) -> None:
        confidence, correct = random_problem(seed, 8, 0.02, 0.98, over=over)

        def plain(at: np.ndarray) -> float:
            return plain_rule(at, correct) if bandwidth is None else plain_smooth_ece(at, correct, bandwidth)

        at = torch.from_numpy(confidence).requires_grad_()
        value = smooth_ece(at, torch.from_numpy(correct), bandwidth)
        (found,) = torch.autograd.grad(value, at)
        steepest = (1 + math.sqrt(2 / math.pi) / (bandwidth or value.item())) / len(confidence)
        np.testing.assert_allclose(found.numpy(), slopes(plain, confidence), rtol=0, atol=2e-3 * steepest)

    @with_and_without_rule
    @pytest.mark.parametrize(("end", "inward"), [(0.0, 1e-6), (1.0, -1e-6)])
    def test_it_is_that_of_the_definition_at_the_ends(self, bandwidth: float | None, end: float, inward: float) -> None:
        confidence, correct = np.array([end, 0.3, 0.7]), np.array([end == 0.0, False, True])

        def plain(at: float) -> float:
            moved = np.array([at, *confidence[1:]])
            return plain_rule(moved, correct) if bandwidth is None else plain_smooth_ece(moved, correct, bandwidth)

        at = torch.from_numpy(confidence).requires_grad_()
        (found,) = torch.autograd.grad(smooth_ece(at, torch.from_numpy(correct), bandwidth), at)
        expected = (plain(end + 100 * inward) - plain(end)) / (100 * inward)
        assert found[0].item() == pytest.approx(expected, rel=5e-3, abs=2e-3)

    @pytest.mark.parametrize("bandwidth", [None, 0.3])
    def test_it_is_finite_where_there_is_no_error(self, bandwidth: float | None) -> None:
        at = torch.tensor([0.0, 1.0, 1.0], dtype=DOUBLE, requires_grad=True)
        (found,) = torch.autograd.grad(smooth_ece(at, torch.tensor([False, True, True]), bandwidth), at)
        assert found.isfinite().all()


@pytest.mark.parametrize(("size", "over"), [(300, 0.85), (3000, 1.0)])
def test_it_agrees_with_relplot_where_that_keeps_to_the_definition(size: int, over: float) -> None:
    """At relplot's bandwidth, if that is small, and nothing lies near the ends."""
    problem = random_problem(size, size, 0.2, 0.8, over)
    expected, bandwidth = relplot.smECE(problem.confidence, problem.correct.astype(float), return_width=True)
    assert bandwidth < 0.12
    assert error(problem, bandwidth) == pytest.approx(expected, abs=1e-4)
    assert error(problem) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("convention", ["relplots", "", None])
def test_an_unknown_convention_is_named(convention) -> None:
    with pytest.raises(ValueError, match="convention must be 'definition' or 'relplot', not"):
        smooth_ece(torch.ones(3), torch.ones(3) > 0, convention=convention)
