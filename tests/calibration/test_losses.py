"""The two losses against mpmath, plain loops and differences, and what minimises them."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf
from scipy.optimize import minimize_scalar
from torch import Tensor

from fguidance.calibration import binned_smooth_ece_loss, smooth_ece_loss
from tests.calibration.plain import DOUBLE, slopes

FEW = settings(max_examples=max(1, settings().max_examples // 2))
DTYPES = (torch.float16, torch.bfloat16, torch.float32, DOUBLE)
any_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
BETAS = (0.0, 1e-300, 1e-12, 1e-4, 1e-2, 1.0, 100.0)


def random_batch(*shape: int, classes: int = 5, scale: float = 2.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(*shape, classes, generator=generator, dtype=DOUBLE)
    return logits, torch.randint(classes, shape, generator=generator)


def of_confidence(confidence: list[float], right: list[bool]) -> tuple[Tensor, Tensor]:
    """Two classes, the first of which is predicted with these confidences."""
    sure = torch.tensor(confidence, dtype=DOUBLE)
    return torch.stack((sure.log(), (1 - sure).log()), -1), (~torch.tensor(right)).long()


class Exact:
    """The loss of one sample and its gradient in the logits, to thirty digits and more."""

    def __init__(self, logits: list[float], label: int, beta: float) -> None:
        with mpmath.workdps(30):
            powers = [mpmath.exp(mpf(logit) - mpf(max(logits))) for logit in logits]
            top = logits.index(max(logits))
            total = mpmath.fsum(powers)
            rest = mpmath.fsum(powers[:top] + powers[top + 1 :]) / total
            confidence = powers[top] / total
            off = -rest if label == top else confidence
            size = mpmath.sqrt(off**2 + mpf(beta))
            slope = off / size if size else mpf(0)
            self.value = size
            self.gradient = [
                slope * confidence * (rest if j == top else -power / total) for j, power in enumerate(powers)
            ]


saturated = st.sampled_from((0.0, 1.0, 30.0, 88.0, 104.0, 750.0, 1e4))
rows = st.lists(st.one_of(saturated, st.floats(-5, 5), st.floats(-1e4, 1e4)), min_size=2, max_size=5)


@given(rows, st.integers(0, 4), st.sampled_from(BETAS), st.sampled_from((torch.float32, DOUBLE)))
def test_the_loss_of_a_sample_is_that_of_the_formula(row, label: int, beta: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([row], dtype=dtype)
    label = label % len(row)
    exact = Exact(logits[0].tolist(), label, beta)
    found = smooth_ece_loss(logits, torch.tensor([label]), beta)
    assert found.dtype == dtype
    # A probability of e^-d is as exact as d, and is nothing below the smallest number.
    tolerance = {"rel": 1e-5, "abs": 1e-37} if dtype == torch.float32 else {"rel": 1e-12, "abs": 1e-150}
    assert found.item() == pytest.approx(float(exact.value), **tolerance)


@given(rows, st.integers(0, 4), st.sampled_from(BETAS), st.sampled_from((torch.float32, DOUBLE)))
def test_the_gradient_of_a_sample_is_that_of_the_formula(row, label: int, beta: float, dtype: torch.dtype) -> None:
    logits = torch.tensor([row], dtype=dtype, requires_grad=True)
    label = label % len(row)
    exact = Exact(logits[0].tolist(), label, beta)
    (found,) = torch.autograd.grad(smooth_ece_loss(logits, torch.tensor([label]), beta), logits)
    # Where the slope of the root turns, within the smallest numbers, either of its sides may be taken.
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    np.testing.assert_allclose(found[0].numpy(), [float(one) for one in exact.gradient], rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("beta", BETAS)
def test_the_gradient_of_a_batch_is_that_of_differences(beta: float) -> None:
    logits, labels = random_batch(6)

    def plain(at: np.ndarray) -> float:
        probs = np.exp(at) / np.exp(at).sum(-1, keepdims=True)
        right = probs.argmax(-1) == labels.numpy()
        return float(np.sqrt((probs.max(-1) - right) ** 2 + beta).mean())

    at = logits.clone().requires_grad_()
    value = smooth_ece_loss(at, labels, beta)
    assert value.item() == pytest.approx(plain(logits.numpy()), rel=1e-12)
    (found,) = torch.autograd.grad(value, at)
    np.testing.assert_allclose(found.numpy(), slopes(plain, logits.numpy(), 1e-6), rtol=1e-5, atol=1e-8)


@any_dtype
@pytest.mark.parametrize("loss", [smooth_ece_loss, binned_smooth_ece_loss])
def test_value_and_gradient_are_finite_and_of_the_dtype(dtype: torch.dtype, loss) -> None:
    for beta, label, distance in itertools.product(BETAS, (0, 1), (0.0, 12.0, 90.0, 1e4)):
        logits = torch.tensor([[distance, 0.0, 0.0]], dtype=dtype, requires_grad=True)
        value = loss(logits, torch.tensor([label]), beta)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.dtype == gradient.dtype == dtype
        assert value.isfinite()
        assert gradient.isfinite().all()


@any_dtype
@pytest.mark.parametrize("loss", [smooth_ece_loss, binned_smooth_ece_loss])
def test_half_precision_is_as_good_as_rounding_allows(dtype: torch.dtype, loss) -> None:
    logits, labels = random_batch(64)
    rounded = logits.to(dtype)
    expected = loss(rounded.double(), labels).item()
    assert loss(rounded, labels).item() == pytest.approx(expected, rel=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3), (1, 2, 3)])
def test_reductions_and_leading_shapes(shape: tuple[int, ...]) -> None:
    logits, labels = random_batch(*shape)
    each = smooth_ece_loss(logits, labels, reduction="none")
    assert each.shape == shape
    one_by_one = [
        smooth_ece_loss(row, label).item()
        for row, label in zip(logits.reshape(-1, 1, 5), labels.reshape(-1, 1), strict=True)
    ]
    assert each.flatten().tolist() == pytest.approx(one_by_one, rel=1e-14)
    assert smooth_ece_loss(logits, labels, reduction="sum").item() == pytest.approx(sum(one_by_one), rel=1e-12)
    assert smooth_ece_loss(logits, labels).item() == pytest.approx(np.mean(one_by_one), rel=1e-12)
    flat = binned_smooth_ece_loss(logits.reshape(-1, 5), labels.flatten())
    assert binned_smooth_ece_loss(logits, labels).item() == pytest.approx(flat.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "beta", "expected"),
    [
        (smooth_ece_loss, 1e-4, 0.997), (smooth_ece_loss, 0.01, 0.974), (smooth_ece_loss, 100.0, 0.80),
        (binned_smooth_ece_loss, 1e-4, 0.8), (binned_smooth_ece_loss, 0.01, 0.8), (binned_smooth_ece_loss, 100.0, 0.8),
    ],
)  # fmt: skip
def test_what_minimises_the_loss_is_more_confident_than_right_and_in_bins_as_confident(loss, beta, expected) -> None:
    """A classifier with one confidence, which is right in 80 % of the cases."""
    right = [True] * 8 + [False] * 2
    found = minimize_scalar(
        lambda sure: loss(*of_confidence([sure] * 10, right), beta).item(),
        bounds=(0.7, 0.9) if loss is binned_smooth_ece_loss else (0.5, 1 - 1e-9),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert found.x == pytest.approx(expected, abs=1e-3)


def plain_binned(logits: np.ndarray, labels: np.ndarray, beta: float, bins: int) -> float:
    """Each sample is shared between the two bins whose centres are beside it."""
    probs = np.exp(logits - logits.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    excess, share = [0.0] * bins, [0.0] * bins
    for row, right in zip(probs, logits.argmax(-1) == labels, strict=True):
        sure = row.max()
        for one in range(bins):
            nearness = 1 - abs(sure * bins - (one + 0.5))
            if (one == 0 and nearness >= 0 and sure * bins < 0.5) or (one == bins - 1 and sure * bins > bins - 0.5):
                nearness = 1.0
            if nearness > 0:
                share[one] += nearness
                excess[one] += nearness * (sure - right)
    total = sum(math.sqrt((e / s) ** 2 + beta) * s for e, s in zip(excess, share, strict=True) if s > 0)
    return total / len(labels)


@FEW
@given(st.integers(0, 100), st.sampled_from((1, 2, 3, 15, 100)), st.sampled_from(BETAS), st.floats(0, 8))
def test_the_binned_loss_is_that_of_a_plain_loop(seed: int, bins: int, beta: float, scale: float) -> None:
    logits, labels = random_batch(20, classes=3, scale=scale, seed=seed)
    expected = plain_binned(logits.numpy(), labels.numpy(), beta, bins)
    assert binned_smooth_ece_loss(logits, labels, beta, bins).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("beta", [1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("bins", [1, 3, 15])
def test_the_gradient_of_the_binned_loss_is_that_of_differences(beta: float, bins: int) -> None:
    logits, labels = random_batch(6, classes=3)
    at = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(binned_smooth_ece_loss(at, labels, beta, bins), at)
    expected = slopes(lambda moved: plain_binned(moved, labels.numpy(), beta, bins), logits.numpy(), 1e-6)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("reduction", ["average", "", None])
def test_an_unknown_reduction_is_named(reduction) -> None:
    with pytest.raises(ValueError, match="reduction must be 'mean', 'sum' or 'none', not"):
        smooth_ece_loss(torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]), reduction=reduction)
