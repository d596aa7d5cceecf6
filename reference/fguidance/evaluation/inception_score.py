"""The Inception score: how sure a classifier is of each sample, and how varied its answers are."""

import torch
from torch import Tensor


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
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        raise TypeError(f"logits must be a floating tensor, not {getattr(logits, 'dtype', type(logits).__name__)}")
    if logits.ndim != 2 or len(logits) == 0 or not bool(logits.isfinite().all()):
        raise ValueError(f"logits has shape {tuple(logits.shape)}; it must be (n, classes), n at least 1, and finite")
    if split_size < 1:
        raise ValueError(f"split_size is {split_size}; it must be at least 1")
    scores = torch.stack([_score(part) for part in torch.split(logits, split_size)])
    return float(scores.mean()), float(scores.std(correction=0))


def _score(logits: Tensor) -> Tensor:
    log_p = torch.log_softmax(logits.double(), -1)
    log_mean = torch.logsumexp(log_p, 0) - torch.tensor(float(len(logits)), dtype=torch.float64).log()
    return (log_p.exp() * (log_p - log_mean)).sum(-1).mean().exp()
