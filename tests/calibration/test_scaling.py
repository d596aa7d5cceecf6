"""Temperatures, vectors and steps that are fitted afterwards, against SciPy and scikit-learn."""

import math
import sys

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from sklearn.isotonic import IsotonicRegression
from torch import Tensor, nn

from fguidance import Guidance
from fguidance.calibration import (
    TemperatureScaling,
    VectorScaling,
    fit_isotonic,
    fit_temperature,
    fit_vector_scaling,
)
from tests.calibration.plain import DOUBLE, random_problem
from tests.calibration.test_losses import DTYPES, random_batch

any_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def held_out(size: int = 500, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that are calibrated: labels drawn as they say."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(size, classes, generator=generator, dtype=DOUBLE)
    return logits, torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(-1)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    shifted = logits - logits.max(-1, keepdims=True)
    log_probs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -float(np.take_along_axis(log_probs, labels[..., None], -1).mean())


class TestTemperature:
    @pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
    def test_it_is_the_one_of_the_smallest_cross_entropy(self, scale: float) -> None:
        logits, labels = held_out()
        found = minimize_scalar(lambda log: cross_entropy(logits.numpy() / math.exp(log), labels.numpy()), (-1, 1))
        temperature = fit_temperature(scale * logits, labels).temperature
        assert temperature == pytest.approx(scale * math.exp(found.x), rel=1e-3)

    @any_dtype
    def test_it_divides_logits(self, dtype: torch.dtype) -> None:
        logits, _ = random_batch(2, 3)
        found = TemperatureScaling(2.5)(logits.to(dtype))
        assert found.dtype == dtype
        assert found.shape == logits.shape
        torch.testing.assert_close(found.double(), logits / 2.5, rtol=4 * torch.finfo(dtype).eps, atol=0)

    def test_a_temperature_is_kept(self) -> None:
        module = TemperatureScaling(0.3)
        assert module.temperature == pytest.approx(0.3, rel=1e-15)
        assert TemperatureScaling().temperature == 1
        other = TemperatureScaling()
        other.load_state_dict(module.state_dict())
        assert other.temperature == module.temperature

    def test_what_was_fitted_is_fixed_and_what_is_made_can_be_trained(self) -> None:
        fitted = fit_temperature(*held_out())
        assert not fitted.training
        assert not any(parameter.requires_grad for parameter in fitted.parameters())
        module = TemperatureScaling(2.0)
        (slope,) = torch.autograd.grad(module(torch.tensor([3.0], dtype=DOUBLE)).sum(), list(module.parameters()))
        assert slope.item() == pytest.approx(-1.5)

    def test_fitting_works_in_inference_mode_and_what_comes_of_it_may_be_differentiated_later(self) -> None:
        logits, labels = held_out(50)
        asked = logits.clone().requires_grad_()
        expected = fit_temperature(asked, labels).temperature, fit_vector_scaling(logits, labels).scale
        assert asked.grad is None
        with torch.inference_mode():
            inside = logits.clone(), labels.clone()
            fitted = [fit(*given) for fit in (fit_temperature, fit_vector_scaling) for given in (inside, held_out(50))]
        assert [one.temperature for one in fitted[:2]] == [expected[0]] * 2
        assert all(one.scale.equal(expected[1]) for one in fitted[2:])
        for scaling in fitted:
            at = logits.clone().requires_grad_()
            assert torch.autograd.grad(scaling(at).sum(), at)[0].isfinite().all()

    def test_where_every_label_has_the_largest_logit_no_temperature_is_the_best(self) -> None:
        logits, _ = held_out(50)
        with pytest.raises(ValueError, match="labels all have the largest logit: the smaller the temperature"):
            fit_temperature(logits, logits.argmax(-1))

    @pytest.mark.parametrize("worst", [True, False])
    def test_where_logits_tell_nothing_no_temperature_is_the_best(self, worst: bool) -> None:
        logits, _ = held_out(50)
        told = (logits, logits.argmin(-1)) if worst else (torch.tensor([[1.0, -1.0], [1.0, -1.0]]), torch.arange(2))
        with pytest.raises(ValueError, match="logits tell nothing of labels: the larger the temperature, the better"):
            fit_temperature(*told)


class TestVector:
    def test_it_is_the_smallest_cross_entropy_that_scipy_finds(self) -> None:
        logits, labels = held_out(200, 3)

        def plain(numbers: np.ndarray) -> float:
            return cross_entropy(logits.numpy() * numbers[:3] + numbers[3:], labels.numpy())

        expected = minimize(plain, np.array([1.0, 1, 1, 0, 0, 0])).fun
        fitted = fit_vector_scaling(logits, labels)
        found = plain(torch.cat((fitted.scale, fitted.shift)).numpy())
        assert found == pytest.approx(expected, abs=1e-6)
        assert found < cross_entropy(logits.numpy(), labels.numpy())
        temperature = fit_temperature(logits, labels)
        assert found <= cross_entropy(temperature(logits).numpy(), labels.numpy()) + 1e-7

    @any_dtype
    def test_it_begins_as_the_identity_in_any_dtype(self, dtype: torch.dtype) -> None:
        logits, _ = random_batch(2, 3)
        assert VectorScaling(5)(logits.to(dtype)).equal(logits.to(dtype))


class TestIsotonic:
    def test_it_is_scikit_learns(self) -> None:
        problem, fresh = random_problem(0, 300, over=3), np.linspace(0, 1, 101)
        regression = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        expected = regression.fit(problem.confidence, problem.correct).predict(fresh)
        found = fit_isotonic(*problem.tensors())(torch.from_numpy(fresh))
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-15)
        assert (found.diff() >= 0).all()

    @any_dtype
    @pytest.mark.parametrize("shape", [(), (6,), (2, 3)])
    def test_confidences_keep_shape_and_dtype(self, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        scaling = fit_isotonic(*random_problem(0, 50).tensors())
        fresh = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE).to(dtype)
        found = scaling(fresh.requires_grad_())
        assert found.dtype == dtype
        assert found.shape == shape
        assert not found.requires_grad
        assert (found >= 0).all()
        assert (found <= 1).all()

    def test_without_scikit_learn_it_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
        with pytest.raises(ImportError, match=r"pip install 'fguidance\[calibration\]'"):
            fit_isotonic(*random_problem(0, 5).tensors())


class TestGuidance:
    """A classifier with a temperature behind it guides as any other."""

    PLAIN = {"alpha": 0.0, "entropy": 0.0, "tilt": 0.0}  # noqa: RUF012

    @pytest.fixture
    def classifier(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4)).double()

    @pytest.fixture
    def x(self) -> Tensor:
        return torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)

    @pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
    @pytest.mark.parametrize(("joint", "marginal"), [(1.0, 1.0), (1.0, 0.5), (0.7, 2.0)])
    def test_a_temperature_is_both_taus_divided_by_it(self, classifier, x, temperature, joint, marginal) -> None:
        labels = torch.tensor([0, 1, 2, 3, 0])
        guidance = Guidance(tau_joint=joint, tau_marginal=marginal, **self.PLAIN)
        divided = Guidance(tau_joint=joint / temperature, tau_marginal=marginal / temperature, **self.PLAIN)
        scaling, logits = TemperatureScaling(temperature), classifier(x).detach()
        torch.testing.assert_close(guidance.score(scaling(logits), labels), divided.score(logits, labels))
        behind = guidance.logit_gradient(scaling(logits).detach(), labels) / temperature
        torch.testing.assert_close(behind, divided.logit_gradient(logits, labels))
        found = guidance.gradient(nn.Sequential(classifier, scaling), x, labels)
        torch.testing.assert_close(found, divided.gradient(classifier, x, labels))
