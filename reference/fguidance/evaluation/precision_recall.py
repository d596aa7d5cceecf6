"""Improved precision and recall: how much of the samples looks like the data, and of the data like the samples."""

import torch
from torch import Tensor

from fguidance.inputs import require_features, require_whole


def precision_recall(
    reference_features: Tensor, sample_features: Tensor, k: int = 3, chunk_size: int = 1024
) -> tuple[float, float]:
    r"""Return improved precision and recall, equation :eq:`eq-precision-recall`.

    Around every reference point lies a ball that reaches to its k-th nearest other reference point. Precision
    is the share of samples inside at least one such ball. Recall swaps the roles: the share of reference
    points inside a ball of the samples. A point on a ball's surface counts as inside; distances that differ
    by rounding count as equal.

    Args:
        reference_features: ``(n, d)`` floating, n greater than k.
        sample_features: ``(m, d)``, same dtype and device, m greater than k.
        k: which neighbour sets the radius, at least 1; the point itself is not a neighbour, its duplicates
            are.
        chunk_size: rows whose distances are held in memory at once.

    Returns:
        precision and recall, each in [0, 1]; distances are computed in float64.

    Raises:
        ValueError: shapes disagree, too few points for k, k or chunk_size below 1, or a value that is not
            finite.
        TypeError: features that are not floating tensors.

    Source: Kynkäänniemi et al. 2019, arXiv:1904.06991.
    """
    k, chunk_size = require_whole("k", k), require_whole("chunk_size", chunk_size)
    require_features("reference_features", reference_features, at_least=k + 1)
    require_features("sample_features", sample_features, at_least=k + 1)
    if reference_features.shape[1] != sample_features.shape[1]:
        widths = reference_features.shape[1], sample_features.shape[1]
        raise ValueError(f"reference_features and sample_features have {widths[0]} and {widths[1]} columns; must agree")
    # Distances do not depend on the origin, but the rounding of |a|^2 - 2ab + |b|^2 does.
    origin = reference_features.mean(0, dtype=torch.float64)
    reference, samples = (
        features.to(torch.float64, copy=True).sub_(origin) for features in (reference_features, sample_features)
    )
    precision = _share_inside(samples, reference, k, chunk_size)
    return precision, _share_inside(reference, samples, k, chunk_size)


def _share_inside(points: Tensor, support: Tensor, k: int, chunk_size: int) -> float:
    """Return the share of points in the union of the support points' k-th-neighbour balls."""
    starts = range(0, len(support), chunk_size)
    radii = torch.cat([_kth_neighbour(support[start : start + chunk_size], support, start, k) for start in starts])
    chunks = (points[start : start + chunk_size] for start in range(0, len(points), chunk_size))
    return sum([int(_inside(chunk, support, radii).sum()) for chunk in chunks]) / len(points)


def _kth_neighbour(points: Tensor, support: Tensor, start: int, k: int) -> Tensor:
    distances, _ = _squared_distances(points, support)
    distances.diagonal(start).fill_(torch.inf)  # a point is not its own neighbour
    return distances.topk(k, dim=1, largest=False).values[:, -1]


def _inside(points: Tensor, support: Tensor, radii: Tensor) -> Tensor:
    distances, rounding = _squared_distances(points, support)
    return (distances <= rounding.add_(radii)).any(1)


def _squared_distances(points: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
    """Return all squared distances as one matrix product, and a bound on their rounding."""
    size = points.square().sum(1)[:, None] + support.square().sum(1)
    return torch.addmm(size, points, support.T, alpha=-2.0), size.mul_(1e-13)
