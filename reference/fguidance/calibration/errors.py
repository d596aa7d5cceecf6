"""The usual measures of calibration: binned errors, and the proper scores."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fguidance.inputs import require_confidence, require_samples, require_whole


def top_label(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What a classifier is asked about its prediction: the largest probability, and whether it was the label's.

    Args:
        logits: finite, shape (..., classes).
        labels: integers, shape (...).

    Returns:
        confidence and correct, both of shape (...), as the measures take them.

    Raises:
        TypeError: `logits` are not floating point or `labels` no integers.
        ValueError: a wrong shape, no samples, or a label out of range.
    """
    require_samples(logits, labels)
    # Probabilities that rounding makes equal do not say which class was predicted; the logits do.
    return _probs(logits).amax(-1), logits.argmax(-1) == labels


def classwise(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """One problem for each class: its probability, and whether it is the label.

    Args:
        logits: finite, shape (samples, classes).
        labels: integers, shape (samples,).

    Returns:
        confidence and correct, both of shape (classes, samples); the measures give one number per class.

    Raises:
        TypeError: `logits` are not floating point or `labels` no integers.
        ValueError: a wrong shape, no samples, or a label out of range.
    """
    require_samples(logits, labels, flat=True)
    is_label = F.one_hot(labels.long(), logits.shape[-1]).bool()
    return _probs(logits).T.contiguous(), is_label.T.contiguous()


def _probs(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1).clamp(max=1)


def expected_calibration_error(
    confidence: Tensor, correct: Tensor, bins: int = 15, *, equal_mass: bool = False, debiased: bool = False
) -> Tensor:
    """ECE: the sum over bins of n_b/n abs(accuracy_b - confidence_b) (:eq:`eq-ece`).

    Args:
        confidence: shape (..., n), floating point in [0, 1]; every row is a problem of its own.
        correct: boolean, the shape of `confidence`.
        bins: how many.
        equal_mass: bins of equally many samples (up to one), by rank, and not of equal width; equal confidences share
            the bin of the first of them.
        debiased: subtract from each bin's gap what chance adds to it: the gap is taken for the mean of a normal
            distribution with the variance accuracy (1 - accuracy) / n_b, whose mean absolute value is larger
            (:eq:`eq-ece-debiased`). Two fifths (sqrt(2) - 1) of a calibrated classifier's bias go. The result may
            be negative; a bin of one sample tells no variance.

    Returns:
        Shape (...), the dtype of `confidence`, float32 at least.

    Raises:
        TypeError: `confidence` is not floating point, `correct` not boolean, or `bins` no integer.
        ValueError: a value outside [0, 1], shapes that disagree, no samples, or no bins.

    Source: Naeini et al. 2015; the correction after Kumar et al. 2019, arXiv:1909.10155, in closed form.
    """
    require_confidence(confidence, correct)
    bins, wide = require_whole("bins", bins), confidence.double()
    if equal_mass:
        ordered = wide.detach().sort(-1).values
        member = torch.searchsorted(ordered, wide.detach().contiguous()) * bins // wide.shape[-1]
    else:
        member = (wide * bins).long().clamp(max=bins - 1)
    count, sure, right = (
        wide.new_zeros(*wide.shape[:-1], bins).scatter_add(-1, member, one)
        for one in (torch.ones_like(wide), wide, correct.double())
    )
    filled = count.clamp(min=1)
    gap, accuracy = ((right - sure) / filled).abs(), right / filled
    if debiased:
        gap = 2 * gap - _folded_mean(gap, (accuracy * (1 - accuracy) / filled).sqrt())
    found = (count * gap).sum(-1) / wide.shape[-1]
    return found.to(torch.promote_types(confidence.dtype, torch.float32))


def _folded_mean(mean: Tensor, deviation: Tensor) -> Tensor:
    """The mean absolute value of a normal variable."""
    ratio = mean / torch.where(deviation > 0, deviation, 1)
    folded = deviation * math.sqrt(2 / math.pi) * (-ratio.square() / 2).exp() + mean * (ratio / math.sqrt(2)).erf()
    return torch.where(deviation > 0, folded, mean)


def brier_score(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean squared distance of the probabilities from the one-hot label, a scalar from 0 to 2.

    Args:
        logits: finite, shape (..., classes).
        labels: integers, shape (...).

    Raises:
        TypeError: `logits` are not floating point or `labels` no integers.
        ValueError: a wrong shape, no samples, or a label out of range.

    Source: Brier 1950.
    """
    require_samples(logits, labels)
    off = _probs(logits) - F.one_hot(labels.long(), logits.shape[-1])
    return off.square().sum(-1).mean()


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of -log p(label), a scalar.

    Args:
        logits: finite, shape (..., classes).
        labels: integers, shape (...).

    Raises:
        TypeError: `logits` are not floating point or `labels` no integers.
        ValueError: a wrong shape, no samples, or a label out of range.
    """
    require_samples(logits, labels)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(wide.reshape(-1, wide.shape[-1]), labels.flatten().long())
