"""How well samples match reference data: Fréchet distance, precision and recall, on features of either."""

import torch
from torch import Tensor


def feature_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the unbiased covariance of features.

    Args:
        features: ``(n, d)`` floating, n at least 2, finite.

    Returns:
        float64 mean ``(d,)`` and covariance ``(d, d)``, on the device of ``features``.

    Raises:
        ValueError: wrong shape, fewer than 2 rows, or a value that is NaN or infinite.
        TypeError: ``features`` is not a floating tensor.
    """
    _check_features("features", features, at_least=2)
    values = features.double()
    mean = values.mean(0)
    centred = values - mean
    return mean, centred.T @ centred / (len(values) - 1)


def frechet_distance(mu1: Tensor, sigma1: Tensor, mu2: Tensor, sigma2: Tensor) -> float:
    r"""Return the squared Fréchet (Wasserstein-2) distance of two Gaussians, equation :eq:`eq-frechet`.

    The trace of the product's square root is the sum of the singular values of
    :math:`\Sigma_1^{1/2}\Sigma_2^{1/2}`, from symmetric eigendecompositions. Nothing is inverted and no
    complex square root is taken, so singular covariances need no special care.

    Args:
        mu1: ``(d,)`` mean.
        sigma1: ``(d, d)`` covariance, symmetric and positive semidefinite up to rounding.
        mu2: like ``mu1``.
        sigma2: like ``sigma1``.

    Returns:
        The distance, at least 0 up to rounding; computed in float64.

    Raises:
        ValueError: shapes disagree, a value is not finite, a covariance is not symmetric or has a negative
            eigenvalue.

    Source: Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500.
    """
    mu1, sigma1, mu2, sigma2 = (torch.as_tensor(value).double() for value in (mu1, sigma1, mu2, sigma2))
    for name, mu in (("mu1", mu1), ("mu2", mu2)):
        if mu.ndim != 1 or mu.shape != mu1.shape or not bool(mu.isfinite().all()):
            raise ValueError(f"{name} has shape {tuple(mu.shape)}; both means must be (d,) and finite")
    root1, root2 = _root("sigma1", sigma1, len(mu1)), _root("sigma2", sigma2, len(mu1))
    trace_of_root = torch.linalg.svdvals(root1.T @ root2).sum()
    return float((mu1 - mu2).square().sum() + sigma1.trace() + sigma2.trace() - 2.0 * trace_of_root)


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
    if k < 1 or chunk_size < 1:
        raise ValueError(f"k is {k} and chunk_size is {chunk_size}; both must be at least 1")
    _check_features("reference_features", reference_features, at_least=k + 1)
    _check_features("sample_features", sample_features, at_least=k + 1)
    if reference_features.shape[1] != sample_features.shape[1]:
        widths = reference_features.shape[1], sample_features.shape[1]
        raise ValueError(f"reference_features and sample_features have {widths[0]} and {widths[1]} columns; must agree")
    # Distances do not depend on the origin, but the rounding of |a|^2 - 2ab + |b|^2 does.
    origin = reference_features.double().mean(0)
    reference, samples = reference_features.double() - origin, sample_features.double() - origin
    precision = _share_inside(samples, reference, k, chunk_size)
    return precision, _share_inside(reference, samples, k, chunk_size)


def _root(name: str, sigma: Tensor, size: int) -> Tensor:
    """Return R with R R^T = sigma, leaving out the directions in which sigma is zero up to rounding."""
    if sigma.shape != (size, size) or not bool(sigma.isfinite().all()):
        raise ValueError(f"{name} has shape {tuple(sigma.shape)}; it must be ({size}, {size}) and finite")
    scale = float(sigma.abs().max())
    if float((sigma - sigma.T).abs().max()) > 1e-6 * scale:
        raise ValueError(
            f"{name} must be symmetric; it differs from its transpose by more than 1e-6 of its largest value"
        )
    eigenvalues, vectors = torch.linalg.eigh((sigma + sigma.T) / 2)
    if float(eigenvalues[0]) < -1e-6 * scale:
        raise ValueError(f"{name} must be positive semidefinite; its smallest eigenvalue is {float(eigenvalues[0]):g}")
    kept = eigenvalues > size * torch.finfo(torch.float64).eps * scale
    root: Tensor = vectors[:, kept] * eigenvalues[kept].sqrt()
    return root


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


def _check_features(name: str, features: Tensor, at_least: int) -> None:
    if not features.is_floating_point():
        raise TypeError(f"{name} has dtype {features.dtype}; it must be a floating dtype")
    if features.ndim != 2 or len(features) < at_least:
        raise ValueError(f"{name} has shape {tuple(features.shape)}; it must be (n, d) with n at least {at_least}")
    if not bool(features.isfinite().all()):
        raise ValueError(f"{name} must be finite")
