"""Losses for fine-tuning a classifier: the paper's, whose bins cancel, and one whose bins do not.

Source: arXiv:2511.05844 for the first; the second is what its name suggests.
"""

import math

import torch
from torch import Tensor

from fguidance.calibration.grid import deposit
from fguidance.inputs import require_number, require_samples, require_whole


def smooth_ece_loss(logits: Tensor, labels: Tensor, beta: float = 1e-2, reduction: str = "mean") -> Tensor:
    """The paper's loss, the mean of sqrt((confidence - correct)^2 + beta) (:eq:`eq-smooth-ece-loss`).

    It is **not proper**: a classifier that is right with probability c > 1/2 has the smallest expected loss at a
    confidence above c (the ledger's claims *The Smooth ECE loss is not proper*, *What minimises the Smooth ECE loss*).
    Nor is it the smooth calibration error of Błasiok & Nakkiran; that is `smooth_ece`.

    Args:
        logits: finite, shape (..., classes), floating point; of equal ones the first is the prediction.
        labels: integers, shape (...).
        beta: smoothing, at least 0; at 0 the loss is the mean absolute error of the confidence.
        reduction: "mean", "sum" or "none".

    Returns:
        A scalar, or shape (...) for "none", in the dtype of `logits`. Its gradient in the logits is finite everywhere
        and vanishes for a sample that is wrong with full confidence.

    Raises:
        TypeError: `logits` are not floating point or `labels` no integers.
        ValueError: a wrong shape, no samples, a value out of range, or an unknown `reduction`.
    """
    require_samples(logits, labels)
    beta = require_number("beta", beta, 0)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', not {reduction!r}")
    _, off = _confidence_and_error(logits, labels)
    losses = _rounded(off, torch.full_like(off, math.sqrt(beta)))
    reduced = losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses
    return reduced.to(logits.dtype)


def binned_smooth_ece_loss(logits: Tensor, labels: Tensor, beta: float = 1e-2, bins: int = 15) -> Tensor:
    """Sum over bins of n_b/n sqrt((confidence_b - accuracy_b)^2 + beta) (:eq:`eq-binned-smooth-ece-loss`).

    A sample belongs to the two bins whose centres its confidence lies between, to each by its nearness; so the loss is
    continuous, and its gradient knows that samples move between bins. It is at most `smooth_ece_loss`, and as small as
    it can be, sqrt(beta), where accuracy and confidence agree in every bin.

    Args:
        logits: finite, shape (..., classes), floating point.
        labels: integers, shape (...).
        beta: smoothing, at least 0.
        bins: M, at least 1, of equal width.

    Returns:
        A scalar in the dtype of `logits`.

    Raises:
        TypeError: `logits` are not floating point or `labels` no integers.
        ValueError: a wrong shape, no samples, or a value out of range.
    """
    require_samples(logits, labels)
    beta, bins = require_number("beta", beta, 0), require_whole("bins", bins)
    confidence, off = (tensor.flatten() for tensor in _confidence_and_error(logits, labels))
    cells = max(bins - 1, 1)
    # Centres are at (b + 1/2)/M; before the first and after the last of them a sample is in one bin alone.
    place = (confidence * bins - 0.5).clamp(0, bins - 1) / cells if bins > 1 else torch.zeros_like(confidence)
    excess, share = (deposit(place, mass, cells) for mass in (off, torch.ones_like(off)))
    return (_rounded(excess, math.sqrt(beta) * share).sum() / off.numel()).to(logits.dtype)


def _confidence_and_error(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The largest probability, and that minus 1 where it is the label's: minus the sum of all others, exactly."""
    wide = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    probs = wide.softmax(-1)
    top = wide.argmax(-1, keepdim=True)
    confidence = probs.gather(-1, top).squeeze(-1)
    rest = probs.scatter(-1, top, 0.0).sum(-1)
    return confidence, torch.where(top.squeeze(-1) == labels, -rest, confidence)


def _rounded(length: Tensor, rounding: Tensor) -> Tensor:
    """sqrt(length^2 + rounding^2); where both are 0 its slope is 0, and not NaN."""
    none = (length == 0) & (rounding == 0)
    return torch.hypot(length, torch.where(none, 1.0, rounding)) - none.to(length.dtype)
