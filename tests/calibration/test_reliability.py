"""The smooth reliability curve against its definition, its band against chance, and the diagram."""

import math
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from fguidance.calibration import ReliabilityCurve, reliability_curve, reliability_diagram
from tests.calibration.plain import DOUBLE, Problem, plain_rule, plain_smooth_ece, random_problem, smoothed_residual
from tests.calibration.test_losses import DTYPES


def curve_of(problem: Problem, bandwidth: float | None = None, **options) -> ReliabilityCurve:
    return reliability_curve(*problem.tensors(), bandwidth, **{"resamples": 20} | options)


def place(curve: ReliabilityCurve, confidence: float) -> int:
    """Which point of the curve is at a confidence."""
    return int((curve.confidence - confidence).abs().argmin())


@pytest.mark.parametrize(("bandwidth", "over"), [(0.02, 0.3), (0.1, 3.0), (1.0, 3.0)])
def test_accuracy_and_density_are_kernel_means(bandwidth: float, over: float) -> None:
    problem = random_problem(0, 60, over=over)
    curve = curve_of(problem, bandwidth)
    at = np.linspace(0, 1, len(curve.confidence))
    density, right = (smoothed_residual(at, *problem, bandwidth, one) for one in (np.ones(60), 1.0 * problem.correct))
    assert len(at) > 1000
    np.testing.assert_allclose(curve.confidence.numpy(), at, atol=1e-15)
    np.testing.assert_allclose(curve.density.numpy(), density, atol=2e-3 * density.max())
    np.testing.assert_allclose(curve.accuracy.numpy(), right / density, atol=2e-3)


@pytest.mark.parametrize("bandwidth", [None, 0.05, 0.5])
def test_the_error_and_its_bandwidth_are_told(bandwidth: float | None) -> None:
    problem = random_problem(1, 100, over=3)
    curve = curve_of(problem, bandwidth, level=0.8)
    assert curve.bandwidth == pytest.approx(plain_rule(*problem) if bandwidth is None else bandwidth, abs=1e-5)
    assert curve.error == pytest.approx(plain_smooth_ece(*problem, curve.bandwidth), abs=2e-5)
    assert curve.level == 0.8
    assert isinstance(curve.bandwidth, float)
    assert isinstance(curve.error, float)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_band_is_that_of_the_binomial(level: float) -> None:
    """In the middle of one confidence, where all samples weigh the same."""
    curve = curve_of(Problem(np.full(400, 0.5), np.arange(400) < 240), 0.05, level=level, resamples=200)
    middle = place(curve, 0.5)
    quantile = torch.distributions.Normal(0, 1).icdf(torch.tensor((1 + level) / 2)).item()
    half = quantile * math.sqrt(0.6 * 0.4 / 400)
    assert (curve.high - curve.low)[middle].item() == pytest.approx(2 * half, rel=0.15)
    assert ((curve.high + curve.low) / 2)[middle].item() == pytest.approx(0.6, abs=0.01)


def test_the_same_seed_gives_the_same_band_and_leaves_pytorchs_generator_alone() -> None:
    problem = random_problem(5, 100)
    state = torch.random.get_rng_state()
    first, again, other = (curve_of(problem, 0.1, seed=seed) for seed in (3, 3, 4))
    assert torch.random.get_rng_state().equal(state)
    for name in ("low", "high"):
        assert getattr(first, name).equal(getattr(again, name))
        assert not getattr(first, name).equal(getattr(other, name))
    assert first.accuracy.equal(other.accuracy)


@pytest.mark.parametrize("bandwidth", [0.005, 0.02])
def test_where_no_sample_is_near_nothing_is_known(bandwidth: float) -> None:
    confidence = np.concatenate([np.linspace(0.1, 0.2, 50), np.linspace(0.9, 1, 50)])
    curve = curve_of(Problem(confidence, np.arange(100) % 2 == 0), bandwidth)
    far = torch.from_numpy(np.abs(curve.confidence.numpy()[:, None] - confidence).min(1) > 9 * bandwidth)
    near = torch.from_numpy(np.abs(curve.confidence.numpy()[:, None] - confidence).min(1) < 3 * bandwidth)
    assert far.any()
    for values in (curve.accuracy, curve.low, curve.high):
        assert values[far].isnan().all()
    assert not curve.accuracy[near].isnan().any()


def test_of_very_many_samples_rounding_is_not_taken_for_knowledge() -> None:
    curve = curve_of(Problem(np.full(3_000_000, 0.9), np.arange(3_000_000) % 10 != 0), 0.01, resamples=2)
    assert curve.accuracy[curve.confidence < 0.7].isnan().all()


@pytest.mark.parametrize(("bandwidth", "confidence"), [(None, 0.5), (None, 1.0), (2e-3, 0.5)])
def test_with_little_smoothing_nothing_is_known_far_away_either(bandwidth: float | None, confidence: float) -> None:
    """As much right as was said, so that the rule smooths as little as it can."""
    curve = curve_of(Problem(np.full(1000, confidence), np.arange(1000) < 1000 * confidence), bandwidth)
    assert curve.bandwidth <= 2e-3
    assert curve.accuracy[place(curve, confidence)].item() == pytest.approx(confidence)
    assert curve.accuracy[(curve.confidence - confidence).abs() > 0.1].isnan().all()
    assert curve.density.min() >= -1e-6 * curve.density.max()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_gives_float64(dtype: torch.dtype) -> None:
    confidence, correct = random_problem(6, 50).tensors()
    rounded = confidence.to(dtype)
    curve = reliability_curve(rounded.clone().requires_grad_(), correct, 0.1, resamples=5)
    expected = reliability_curve(rounded.double(), correct, 0.1, resamples=5)
    for name in ("confidence", "accuracy", "low", "high", "density"):
        assert getattr(curve, name).shape == curve.confidence.shape
        assert getattr(curve, name).dtype == DOUBLE
        assert getattr(curve, name).equal(getattr(expected, name))
        assert not getattr(curve, name).requires_grad


def test_several_problems_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match=r"confidence must have shape \(n,\), not \(2, 3\)"):
        reliability_curve(torch.ones(2, 3), torch.ones(2, 3) > 0)


@pytest.mark.parametrize("sigma", (0.01, 0.1))
def test_neighbours_are_counted_by_their_nearness(sigma: float) -> None:
    problem = random_problem(7, 200)
    curve = curve_of(problem, sigma)
    at = curve.confidence.numpy()[:, None]
    mirrored = np.concatenate((problem.confidence, -problem.confidence, 2 - problem.confidence))
    expected = np.exp(-(((at - mirrored) / sigma) ** 2) / 2).sum(1)
    np.testing.assert_allclose(curve.neighbours.numpy(), expected, atol=2e-3 * expected.max())


class TestDiagram:
    @pytest.fixture(autouse=True)
    def _closed(self):
        previous = mpl.get_backend()
        plt.switch_backend("Agg")
        yield
        plt.close("all")
        plt.switch_backend(previous)

    def test_it_draws_where_it_is_told(self) -> None:
        curve = curve_of(random_problem(7, 200), 0.05)
        figure, axes = plt.subplots()
        assert reliability_diagram(curve, axes, label="mine") is axes
        assert plt.get_fignums() == [figure.number]
        figure.canvas.draw()
        assert axes.get_xlim() == axes.get_ylim() == (0, 1)
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("confidence", "accuracy")
        drawn = {line.get_label(): line for line in axes.lines}
        np.testing.assert_array_equal(drawn["mine"].get_xdata(), curve.confidence.numpy())
        shown = (curve.neighbours >= 0.5).numpy()
        np.testing.assert_array_equal(drawn["mine"].get_ydata(), np.where(shown, curve.accuracy.numpy(), np.nan))

    def test_nothing_is_drawn_across_a_gap(self) -> None:
        """A straight line from one group of samples to another would look like what is known."""
        places = np.repeat((0.05, 0.95), 200)
        curve = curve_of(Problem(places, np.arange(400) % 2 == 0), 0.02)
        axes = reliability_diagram(curve)
        (line,) = (line for line in axes.lines if line.get_label() == f"smECE {curve.error:.3f}")
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert np.isnan(y[(x > 0.15) & (x < 0.85)]).all()
        assert np.isfinite(y[np.abs(x - 0.05) < 0.02]).all()
        band = axes.collections[0].get_paths()
        assert len(band) == 2

    def test_without_matplotlib_it_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        curve = curve_of(random_problem(7, 50), 0.1)
        monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
        with pytest.raises(ImportError, match="matplotlib"):
            reliability_diagram(curve)
