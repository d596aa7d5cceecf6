"""Precision and recall against plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fguidance.evaluation import precision_recall


def brute_share_inside(points: np.ndarray, support: np.ndarray, k: int) -> float:
    radii = []
    for index, centre in enumerate(support):
        others = np.delete(support, index, axis=0)
        radii.append(sorted(((others - centre) ** 2).sum(1))[k - 1])
    inside = [any(((p - c) ** 2).sum() <= r for c, r in zip(support, radii, strict=True)) for p in points]
    return sum(inside) / len(points)


@pytest.mark.parametrize(("k", "chunk_size"), [(1, 7), (3, 1024), (5, 1)])
def test_precision_and_recall_agree_with_a_plain_loop(k: int, chunk_size: int) -> None:
    rng = np.random.default_rng(k)
    reference, samples = rng.standard_normal((40, 8)), 1.1 * rng.standard_normal((30, 8)) + 0.8
    expected = brute_share_inside(samples, reference, k), brute_share_inside(reference, samples, k)
    assert 0 < expected[0] < 1
    assert 0 < expected[1] < 1
    assert expected[0] != expected[1]
    actual = precision_recall(torch.from_numpy(reference), torch.from_numpy(samples), k=k, chunk_size=chunk_size)
    assert actual == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 3), st.sampled_from([0.0, 1000.0]))
def test_ties_and_duplicates_count_as_the_definition_says(seed: int, k: int, offset: float) -> None:
    """On a small grid many distances are equal and many points coincide; the origin must not matter."""
    rng = np.random.default_rng(seed)
    reference, samples = (rng.integers(0, 4, (n, 2)) + offset for n in (9, 7))
    expected = brute_share_inside(samples, reference, k), brute_share_inside(reference, samples, k)
    assert precision_recall(torch.from_numpy(reference), torch.from_numpy(samples), k=k) == pytest.approx(expected)


POINTS = torch.randn(5, 2)


@pytest.mark.parametrize(
    ("reference", "samples", "options", "error", "match"),
    [
        (POINTS, POINTS, {"k": 5}, ValueError, "reference_features must have shape .* n at least 6"),
        (POINTS, POINTS[:3], {}, ValueError, "sample_features must have shape .* at least 4"),
        (POINTS, POINTS[:, :1], {}, ValueError, "2 and 1 columns"),
    ],
)
def test_bad_features_are_named(reference, samples, options, error, match) -> None:
    with pytest.raises(error, match=match):
        precision_recall(reference, samples, **options)
