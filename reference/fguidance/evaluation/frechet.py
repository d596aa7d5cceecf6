"""The Fréchet distance of two sets of features, each taken for a Gaussian, and the Inception score."""

import math

import torch
from torch import Tensor

from fguidance.inputs import require_features, require_whole


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
    require_features("features", features, at_least=2)
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
        sigma1: ``(d, d)`` covariance, symmetric and positive semidefinite up to the rounding of its dtype.
        mu2: like ``mu1``.
        sigma2: like ``sigma1``.

    Returns:
        The distance, at least 0 up to rounding; computed in float64.

    Raises:
        ValueError: shapes disagree, a value is not finite, a covariance is not symmetric or has a negative
            eigenvalue.

    Source: Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500.
    """
    mu1, sigma1, mu2, sigma2 = (torch.as_tensor(value) for value in (mu1, sigma1, mu2, sigma2))
    for name, mu in (("mu1", mu1), ("mu2", mu2)):
        if mu.ndim != 1 or mu.shape != mu1.shape or not bool(mu.isfinite().all()):
            raise ValueError(f"{name} has shape {tuple(mu.shape)}; both means must be (d,) and finite")
    root1, root2 = _root("sigma1", sigma1, len(mu1)), _root("sigma2", sigma2, len(mu1))
    trace_of_root = torch.linalg.svdvals(root1.T @ root2).sum()
    traces = sigma1.double().trace() + sigma2.double().trace()
    return float((mu1.double() - mu2.double()).square().sum() + traces - 2.0 * trace_of_root)


def _root(name: str, sigma: Tensor, size: int) -> Tensor:
    """Return R with R R^T = sigma, leaving out the directions in which sigma is zero up to rounding."""
    if sigma.shape != (size, size) or not bool(sigma.isfinite().all()):
        raise ValueError(f"{name} has shape {tuple(sigma.shape)}; it must be ({size}, {size}) and finite")
    rounding = size * torch.finfo(sigma.dtype).eps if sigma.is_floating_point() else 0.0
    sigma, scale = sigma.double(), float(sigma.abs().max())
    allowed = max(1e-6, rounding) * scale
    if float((sigma - sigma.T).abs().max()) > allowed:
        raise ValueError(f"{name} must be symmetric; it differs from its transpose by more than {allowed:.3g}")
    eigenvalues, vectors = torch.linalg.eigh((sigma + sigma.T) / 2)
    if float(eigenvalues[0]) < -allowed:
        raise ValueError(f"{name} must be positive semidefinite; its smallest eigenvalue is {float(eigenvalues[0]):g}")
    kept = eigenvalues > size * torch.finfo(torch.float64).eps * scale
    root: Tensor = vectors[:, kept] * eigenvalues[kept].sqrt()
    return root


def inception_score(logits: Tensor, split_size: int = 5000) -> tuple[float, float]:
    r"""Return the Inception score, the mean over splits of equation :eq:`eq-inception-score`.

    Args:
        logits: ``(n, classes)`` floating, finite, of the Inception network or any other classifier.
        split_size: samples that are scored together; the last split holds what is left. The score of few samples is
            biased downwards, so only scores of equal splits compare. 5,000 is the published evaluator's.

    Returns:
        mean and standard deviation over the splits, of at least 1 and 0; computed in float64.

    Raises:
        TypeError: ``logits`` is not a floating tensor.
        ValueError: wrong shape, no sample, a value that is not finite, or ``split_size`` below 1.

    Source: Salimans et al. 2016, arXiv:1606.03498.
    """
    require_features("logits", logits, at_least=1)
    scores = []
    for log_p in torch.split(torch.log_softmax(logits.double(), -1), require_whole("split_size", split_size)):
        log_mean = torch.logsumexp(log_p, 0) - math.log(len(log_p))
        scores.append((log_p.exp() * (log_p - log_mean)).sum(-1).mean().exp())
    return float(torch.stack(scores).mean()), float(torch.stack(scores).std(correction=0))
