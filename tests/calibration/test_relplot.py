"""What convention="relplot" gives, against the package relplot itself."""

import numpy as np
import pytest
import relplot
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fguidance.calibration import smooth_ece
from tests.calibration.plain import Problem, problems, random_problem, slopes

FEW = settings(max_examples=max(1, settings().max_examples // 5))
REFUTED = np.arange(40) / 39 < 0.5
CASES = {
    "calibrated": random_problem(0, 400),
    "overconfident": random_problem(1, 400, over=3),
    "underconfident": random_problem(2, 100, over=0.3),
    "in the middle": random_problem(3, 200, 0.45, 0.55),
    "near one": random_problem(4, 200, 0.98, 1.0, over=5),
    "ties": Problem(np.repeat([0.2, 0.5, 0.9], 20), np.arange(60) % 3 == 0),
    "all wrong": Problem(random_problem(5, 50).confidence, np.full(50, False)),
    "all right": Problem(random_problem(6, 50).confidence, np.full(50, True)),
    "certain of all and wrong": Problem(np.ones(20), np.full(20, False)),
    "certain of none and right": Problem(np.zeros(20), np.full(20, True)),
    "certain and right": Problem(np.array([0.0, 1.0, 1.0]), np.array([False, True, True])),
    "both ends": Problem(np.repeat([0.0, 1.0], 10), np.arange(20) % 4 == 0),
    "one right": Problem(np.array([0.3]), np.array([True])),
    "one wrong": Problem(np.array([0.3]), np.array([False])),
    "one at an end": Problem(np.array([1.0]), np.array([False])),
    "nearly one": Problem(np.array([1 - 1e-12]), np.array([True])),
    "anti-calibrated": Problem(np.linspace(0, 1, 40), REFUTED),
    "tiny residuals": Problem(np.where(REFUTED, 1 - 1e-4, 1e-4), REFUTED),
    "tiny residuals that cancel": Problem(0.5 + 1e-5 * np.where(REFUTED, 1, -1), REFUTED),
    "just below a multiple": Problem(np.full(4, 0.25 - 1e-9), np.full(4, False)),
    "a multiple": Problem(np.full(4, 0.25), np.full(4, False)),
}
each_case = pytest.mark.parametrize("problem", CASES.values(), ids=CASES.keys())


def theirs(problem: Problem, bandwidth: float | None = None) -> float:
    outcome = problem.correct.astype(float)
    if bandwidth is None:
        return float(relplot.smECE(problem.confidence, outcome))
    return float(relplot.smECE_sigma(problem.confidence, outcome, bandwidth))


def ours(problem: Problem, bandwidth: float | None = None) -> float:
    return smooth_ece(*problem.tensors(), bandwidth, "relplot").item()


@each_case
@pytest.mark.parametrize("bandwidth", [None, 0.004, 0.1, 1.0])
def test_the_rule_and_a_bandwidth_give_relplots_number(problem: Problem, bandwidth: float | None) -> None:
    assert ours(problem, bandwidth) == pytest.approx(theirs(problem, bandwidth), abs=1e-9)


@pytest.mark.parametrize("bandwidth", [0.0007, 0.00999, 0.0301, 0.123, 5.0, 1e3])
def test_bandwidths_for_which_its_meshes_are_of_odd_sizes(bandwidth: float) -> None:
    problem = CASES["overconfident"]
    assert ours(problem, bandwidth) == pytest.approx(theirs(problem, bandwidth), abs=1e-9)


@FEW
@given(problems(), st.none() | st.floats(0.02, 2))
def test_any_samples_at_any_bandwidth_or_by_the_rule(problem: Problem, bandwidth: float | None) -> None:
    assert ours(problem, bandwidth) == pytest.approx(theirs(problem, bandwidth), abs=1e-9)


@pytest.mark.parametrize("bandwidth", [0.05, 0.5])
def test_the_gradient_at_a_bandwidth_is_that_of_relplots_number(bandwidth: float) -> None:
    problem = random_problem(7, 6, 0.1, 0.9)
    confidence, correct = problem.tensors()
    confidence.requires_grad_()
    (found,) = torch.autograd.grad(smooth_ece(confidence, correct, bandwidth, "relplot"), confidence)
    expected = slopes(lambda at: theirs(Problem(at, problem.correct), bandwidth), problem.confidence, 1e-7)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_rule_can_be_followed_by_a_gradient() -> None:
    confidence, correct = random_problem(8, 30, over=3).tensors()
    confidence.requires_grad_()
    (found,) = torch.autograd.grad(smooth_ece(confidence, correct, convention="relplot"), confidence)
    assert found.isfinite().all()
    assert found.abs().max() > 0
