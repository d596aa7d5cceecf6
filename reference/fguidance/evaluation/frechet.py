"""The Fréchet distance of two sets of features, each taken for a Gaussian."""

import torch
from torch import Tensor

from fguidance.evaluation.checks import check_features


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
    check_features("features", features, at_least=2)
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
