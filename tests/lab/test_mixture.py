"""The Gaussian mixture of the book: every exact formula against another way to compute it."""

import math

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import fguidance as fg
from fguidance.diffusion import Schedule
from lab.mixture import (
    Mixture,
    guided_samples,
    mean_and_half_width,
    saturated_moments,
    statistics_of,
)

FEW = settings(max_examples=25)
SCHEDULE = Schedule.linear(1000)
TRIANGLE = Mixture(torch.tensor([[0.0, 1.5], [-1.3, -0.75], [1.3, -0.75]], dtype=torch.float64))


@st.composite
def noised_points(draw: st.DrawFn) -> tuple[Mixture, torch.Tensor, float]:
    """A mixture, points and the share of the signal's variance that is left."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    components, dim, batch = draw(st.integers(2, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    means = 3 * torch.randn(components, dim, generator=generator, dtype=torch.float64)
    x = 3 * torch.randn(batch, dim, 1, 1, generator=generator, dtype=torch.float64)
    return Mixture(means), x, draw(st.floats(1e-4, 1.0))


def by_torch(mixture: Mixture, alpha_cumprod: float) -> MixtureSameFamily:
    components = Independent(Normal(math.sqrt(alpha_cumprod) * mixture.means, 1.0), 1)
    return MixtureSameFamily(Categorical(logits=torch.zeros(len(mixture.means)).double()), components)


@FEW
@given(noised_points())
def test_log_density_is_that_of_the_noised_mixture(case):
    mixture, x, alpha_cumprod = case
    expected = by_torch(mixture, alpha_cumprod).log_prob(x.flatten(1))
    torch.testing.assert_close(mixture.log_density(x, alpha_cumprod), expected)


@FEW
@given(noised_points())
def test_score_is_the_gradient_of_the_log_density(case):
    mixture, x, alpha_cumprod = case
    x = x.requires_grad_()
    (expected,) = torch.autograd.grad(mixture.log_density(x, alpha_cumprod).sum(), x)
    torch.testing.assert_close(mixture.score(x.detach(), alpha_cumprod), expected)


@FEW
@given(noised_points())
def test_logits_give_bayes_rule(case):
    mixture, x, _ = case
    densities = Independent(Normal(mixture.means, 1.0), 1).log_prob(x.flatten(1)[:, None]).exp()
    torch.testing.assert_close(mixture.logits(x).softmax(-1), densities / densities.sum(-1, keepdim=True))


@pytest.mark.parametrize("alpha_cumprod", [0.05, 0.5, 0.99])
def test_denoised_is_the_posterior_mean(alpha_cumprod):
    mixture = Mixture(torch.tensor([[-1.5], [0.2], [2.0]], dtype=torch.float64))
    clean = torch.linspace(-20, 20, 100_001, dtype=torch.float64)
    x = torch.tensor([-2.0, 0.0, 0.7, 3.0], dtype=torch.float64).view(-1, 1, 1, 1)
    noise_variance = 1 - alpha_cumprod
    log_joint = mixture.log_density(clean[:, None, None, None]) - (
        (x.flatten(1) - math.sqrt(alpha_cumprod) * clean) ** 2 / (2 * noise_variance)
    )
    expected = log_joint.softmax(-1) @ clean
    torch.testing.assert_close(mixture.denoised(x, alpha_cumprod).flatten(), expected)


def test_unguided_samples_have_the_moments_of_the_mixture():
    x = guided_samples(TRIANGLE, SCHEDULE, torch.zeros(10_000, dtype=torch.int64), seed=0)
    covariance = torch.eye(2).double() + TRIANGLE.means.T.cov(correction=0)
    torch.testing.assert_close(x.mean(0), TRIANGLE.means.mean(0), atol=0.05, rtol=0)
    torch.testing.assert_close(x.T.cov(), covariance, atol=0.08, rtol=0)
    shares = torch.bincount(TRIANGLE.logits(x).argmax(-1), minlength=3) / len(x)
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.02, rtol=0)


@pytest.mark.parametrize("tau_marginal, epsilon", [(0.5, 0.0), (1.0, 0.5)])
def test_far_components_give_the_moments_of_a_certain_classifier(tau_marginal, epsilon):
    # The other component is far away: the classifier is certain all along.
    mixture = Mixture(torch.tensor([[0.0, 0.0], [30.0, 0.0]], dtype=torch.float64))
    labels = torch.zeros(5_000, dtype=torch.int64)
    alpha = 0.1
    guidance = fg.Guidance(divergence="rkl", alpha=alpha, epsilon=epsilon, tau_joint=1.0, tau_marginal=tau_marginal)
    x = guided_samples(mixture, SCHEDULE, labels, 0, guidance=guidance, conditional=True)
    shift = alpha * (1 - epsilon) * 15.0
    mean, variance = saturated_moments(SCHEDULE.respace(100), 1.0 - tau_marginal, shift)
    torch.testing.assert_close(x.mean(0), torch.tensor([mean, 0.0]).double(), atol=0.06, rtol=0)
    torch.testing.assert_close(x.var(0), torch.full((2,), variance).double(), atol=0.06, rtol=0)


def test_statistics_of_points_that_are_known():
    points = TRIANGLE.means[0] + torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 2.0], [-1.0, 0.0]]).double()
    found = statistics_of(TRIANGLE, points, label=0)
    assert found.agreement == 1.0
    assert found.confidence == pytest.approx(TRIANGLE.logits(points).softmax(-1)[:, 0].mean().item())
    assert found.spread == pytest.approx(2 / 3 + 4 / 3)
    assert found.displacement == pytest.approx(1.0)
    # The covariance is [[2/3, 2/3], [2/3, 4/3]]; W2 to a standard normal is 1 + sum (sqrt(eigenvalue) - 1)^2.
    roots = [math.sqrt(1 - math.sqrt(5) / 3), math.sqrt(1 + math.sqrt(5) / 3)]
    assert found.distance == pytest.approx(1 + sum((root - 1) ** 2 for root in roots))
    inward = statistics_of(TRIANGLE, points - torch.tensor([0.0, 5.0]), label=0)
    assert inward.agreement == 0.0
    assert inward.displacement == pytest.approx(-4.0)


def test_interval_is_that_of_student():
    values = torch.randn(7, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, half_width = mean_and_half_width(values)
    for column, centre, half in zip(values.T, mean.tolist(), half_width.tolist(), strict=True):
        low, high = scipy.stats.ttest_1samp(column, 0.0).confidence_interval(0.95)
        assert (centre - half, centre + half) == pytest.approx((low, high))
