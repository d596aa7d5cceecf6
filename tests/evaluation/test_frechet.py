"""The Fréchet distance, the statistics that it compares, and the Inception score, against SciPy and NumPy."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr
from torch import Tensor

from fguidance.evaluation import feature_statistics, frechet_distance, inception_score


def random_covariance(seed: int, size: int, rank: int, scale: float = 1.0) -> Tensor:
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((size, rank)) * np.sqrt(scale)
    return torch.from_numpy(factor @ factor.T)


def scipy_distance(mu1: Tensor, sigma1: Tensor, mu2: Tensor, sigma2: Tensor) -> float:
    root = scipy.linalg.sqrtm(sigma1.numpy() @ sigma2.numpy())
    difference = (mu1 - mu2).numpy()
    return float(difference @ difference + np.trace(sigma1.numpy() + sigma2.numpy() - 2 * np.real(root)))


@pytest.mark.parametrize(("size", "scale"), [(1, 1.0), (8, 1e-6), (64, 1e6)])
def test_frechet_distance_agrees_with_scipy(size: int, scale: float) -> None:
    sigma1 = random_covariance(1, size, 2 * size, scale)
    sigma2 = random_covariance(2, size, 3 * size, scale)
    mu1, mu2 = torch.zeros(size).double(), torch.linspace(-1, 1, size).double() * scale**0.5
    expected = scipy_distance(mu1, sigma1, mu2, sigma2)
    assert frechet_distance(mu1, sigma1, mu2, sigma2) == pytest.approx(expected, rel=1e-6)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.floats(-5, 5)), min_size=1, max_size=6))
def test_frechet_distance_of_independent_coordinates(rows: list[tuple[float, float, float]]) -> None:
    """With diagonal covariances the distance is a sum over coordinates; zero variances included."""
    first, second, mean = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    expected = (mean.square() + (first.sqrt() - second.sqrt()).square()).sum().item()
    actual = frechet_distance(torch.zeros(len(rows)), first.diag(), mean, second.diag())
    # A variance below the rounding of the largest one counts as 0, and the root of rounding is about 1e-7.
    assert actual == pytest.approx(expected, rel=1e-9, abs=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 20])
def test_frechet_distance_of_singular_covariances(rank: int) -> None:
    """40 features of low rank, in the same and in orthogonal subspaces, where the answers are known."""
    basis = torch.linalg.qr(torch.from_numpy(np.random.default_rng(0).standard_normal((40, 40))))[0]
    variances = torch.linspace(0.5, 2, rank, dtype=torch.float64)
    one = basis[:, :rank] * variances @ basis[:, :rank].T
    other = basis[:, -rank:] * variances @ basis[:, -rank:].T
    zero = torch.zeros(40, dtype=torch.float64)
    assert frechet_distance(zero, one, zero, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(zero, one, zero, 4 * one) == pytest.approx(variances.sum().item(), rel=1e-9)
    apart = 2 * variances.sum().item() if rank <= 20 else None
    assert frechet_distance(zero, one, zero, other) == pytest.approx(apart, rel=1e-9)
    assert frechet_distance(zero, one, zero, 0 * one) == pytest.approx(variances.sum().item(), rel=1e-9)


@pytest.mark.parametrize(("size", "rank"), [(64, 8), (300, 20)])
def test_a_covariance_in_float32_may_be_as_far_from_semidefinite_as_its_rounding(size: int, rank: int) -> None:
    sigma, mu, eye = random_covariance(3, size, rank).float(), torch.zeros(size), torch.eye(size)
    rounding = size * torch.finfo(torch.float32).eps * float(sigma.abs().max())
    near = sigma - rounding / 2 * eye
    assert frechet_distance(mu, near, mu, near) == pytest.approx(0, abs=2 * size * rounding)
    for far in (sigma - 3 * rounding * eye, near.double()):
        with pytest.raises(ValueError, match="sigma1 must be positive semidefinite"):
            frechet_distance(mu, far, mu, sigma)


def test_feature_statistics_are_numpys() -> None:
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)) + 100
    mean, covariance = feature_statistics(features)
    assert mean.dtype == covariance.dtype == torch.float64
    np.testing.assert_allclose(mean.numpy(), features.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance.numpy(), np.cov(features.double().numpy(), rowvar=False), rtol=1e-9)


EYE, ZERO = torch.eye(2), torch.zeros(2)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((ZERO, EYE, torch.zeros(3), EYE), "mu2 has shape"),
        ((torch.tensor([0.0, torch.nan]), EYE, ZERO, EYE), "mu1 has shape .* finite"),
        ((ZERO, torch.eye(3), ZERO, EYE), "sigma1 has shape"),
        ((ZERO, EYE, ZERO, EYE * torch.inf), "sigma2 has shape .* finite"),
        ((ZERO, EYE, ZERO, torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "sigma2 must be symmetric"),
        ((ZERO, EYE, ZERO, -EYE), "sigma2 must be positive semidefinite"),
    ],
)
def test_bad_gaussians_are_named(arguments: tuple[Tensor, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        frechet_distance(*arguments)


def logits(count: int, classes: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(3 * np.random.default_rng(seed).standard_normal((count, classes)))


@pytest.mark.parametrize(("count", "split_size"), [(30, 30), (30, 7), (5, 5000)])
def test_it_is_the_exponential_of_the_mean_divergence_from_the_mean(count, split_size) -> None:
    given, scores = logits(count, 6), []
    p = np.exp(log_softmax(given.numpy(), 1))
    for start in range(0, count, split_size):
        part = p[start : start + split_size]
        scores.append(math.exp(rel_entr(part, part.mean(0)).sum(1).mean()))
    assert inception_score(given, split_size) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-12)


def test_sure_answers_evenly_spread_score_the_number_of_classes() -> None:
    sure = torch.full((40, 8), -1e4)
    sure[torch.arange(40), torch.arange(40) % 8] = 1e4
    assert inception_score(sure) == pytest.approx((8.0, 0.0))
