"""The Inception score where it is known, and against SciPy."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr

from fguidance.evaluation import inception_score


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


@pytest.mark.parametrize("given", [torch.zeros(9, 4), torch.eye(4)[:1].expand(9, 4)])
def test_answers_that_are_all_alike_score_one(given) -> None:
    assert inception_score(given) == pytest.approx((1.0, 0.0))


@pytest.mark.parametrize(
    ("given", "split_size", "error", "match"),
    [
        (torch.zeros(3, 2).long(), 5, TypeError, "logits must be a floating tensor, not torch.int64"),
        ([[0.0]], 5, TypeError, "logits must be a floating tensor, not list"),
        (torch.zeros(3), 5, ValueError, r"logits has shape \(3,\)"),
        (torch.zeros(0, 3), 5, ValueError, "n at least 1"),
        (torch.full((3, 2), math.nan), 5, ValueError, "finite"),
        (torch.zeros(3, 2), 0, ValueError, "split_size is 0"),
    ],
)
def test_bad_arguments_are_named(given, split_size, error, match) -> None:
    with pytest.raises(error, match=match):
        inception_score(given, split_size)
