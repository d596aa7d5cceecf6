"""The guidance score of a classifier, regularised by an f-divergence, and its gradients in closed form.

After arXiv:2511.05844; the tempered log-probability is that of Ma et al. 2024.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fguidance import closed_forms, smoothed
from fguidance.divergence import Divergence, divergence
from fguidance.inputs import (
    require_batch,
    require_labels,
    require_logits,
    require_number,
    require_positive,
    require_whole,
)


def label_smoothed_log_target(
    labels: Tensor, num_classes: int, epsilon: float, dtype: torch.dtype = torch.float32
) -> Tensor:
    """log q_y with q_y(i) = (1 - epsilon)/N + epsilon [i = y] (:eq:`eq-target`).

    Args:
        labels: integers from 0 to num_classes - 1, any shape (...).
        num_classes: N, at least 2.
        epsilon: the weight on the label, from 0 (uniform) to 1 (one-hot, -inf elsewhere).
        dtype: floating-point dtype of the result.

    Returns:
        Shape (..., num_classes), on the device of `labels`.

    Raises:
        TypeError: `labels` are not integers or `dtype` is not floating point.
        ValueError: a label, `num_classes` or `epsilon` is out of range.
    """
    num_classes = require_whole("num_classes", num_classes, 2)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point dtype, not {dtype}")
    epsilon = require_number("epsilon", epsilon, 0, 1)
    require_labels(labels, num_classes)
    rest = (1 - epsilon) / num_classes
    is_label = torch.arange(num_classes, device=labels.device) == labels.unsqueeze(-1)
    on, off = math.log(rest + epsilon), math.log(rest) if rest > 0 else -math.inf
    return torch.where(is_label, on, torch.tensor(off, dtype=torch.float64, device=labels.device)).to(dtype)


@dataclass(frozen=True)
class Guidance:
    """The score S_D = log p_tau(y|x) - alpha D_f(q_y, p) + entropy * H(p) and its gradients (:eq:`eq-score`).

    Attributes:
        divergence: a registered name or a `Divergence`.
        alpha: strength of the divergence term, >= 0; 0 gives the guidance of Ma et al.
        epsilon: weight of the target on the label, from 0 to 1 (:eq:`eq-target`).
        tau_joint: temperature tau_1 > 0 of the label's logit (:eq:`eq-tempered`).
        tau_marginal: temperature tau_2 > 0 of the logits in the normaliser.
        tilt: t of the tilted score over the batch (:eq:`eq-tilted`); 0 leaves every sample its own score.
        entropy: strength of the entropy bonus, any finite number (:eq:`eq-entropy`).
        tilt_reduction: "sum" weighs the samples' gradients by B softmax(t log p), so that t = 0 is the untilted
            guidance; "mean" leaves out the batch size B and is the gradient of the tilted score itself.

    Raises:
        TypeError: `divergence` is neither a name nor a `Divergence`.
        ValueError: a number is out of its range, or the divergence is infinite at the one-hot target of epsilon 1.
    """

    divergence: Divergence | str = "rkl"
    alpha: float = 0.0
    epsilon: float = 0.9
    tau_joint: float = 1.0
    tau_marginal: float = 0.5
    tilt: float = 0.0
    entropy: float = 0.0
    tilt_reduction: str = "sum"
    _resolved: Divergence = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.divergence, str | Divergence):
            raise TypeError(
                f"divergence must be a name or a Divergence, not {type(self.divergence).__name__}; "
                "Divergence.from_generator makes one from a formula"
            )
        resolved = divergence(self.divergence) if isinstance(self.divergence, str) else self.divergence
        object.__setattr__(self, "_resolved", resolved)
        object.__setattr__(self, "alpha", require_number("alpha", self.alpha, 0))
        object.__setattr__(self, "epsilon", require_number("epsilon", self.epsilon, 0, 1))
        for name in ("tau_joint", "tau_marginal"):
            object.__setattr__(self, name, require_positive(name, getattr(self, name)))
        for name in ("tilt", "entropy"):
            object.__setattr__(self, name, require_number(name, getattr(self, name)))
        if self.tilt_reduction not in ("sum", "mean"):
            raise ValueError(f"tilt_reduction must be 'sum' or 'mean', not {self.tilt_reduction!r}")
        if self.alpha > 0 and self.epsilon == 1 and resolved.needs_full_support:
            raise ValueError(f"epsilon must be below 1: {resolved.name} is infinite at a one-hot target")

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """S_D for every sample (:eq:`eq-score`); its sum over the batch has the gradient `logit_gradient`.

        With `tilt`, each entry holds the batch's tilted score (divided by B for "mean") in place of its own
        log p_tau. Differentiable in `logits`.

        Args:
            logits: finite, shape (..., classes), floating point.
            labels: integers, shape (...).

        Returns:
            Shape (...), the dtype of `logits`.

        Raises:
            TypeError: `logits` are not floating point or `labels` not integers.
            ValueError: shapes do not match, a logit is not finite, a label is out of range, or the score has a
                printed weight for divergence, which has no value.
        """
        require_batch(logits, labels)
        working = _at_least_float32(logits)
        score = self._tilted(self._tempered(working, labels))
        log_p = torch.log_softmax(_centred(working), -1)
        if self.alpha > 0:
            score = score - self.alpha * self._resolved.value(log_p, self._log_target(working, labels))
        if self.entropy != 0:
            score = score - self.entropy * (log_p.exp() * log_p).sum(-1)
        return score.to(logits.dtype)

    def logit_gradient(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The gradient of the summed score in the logits, in closed form and without autograd.

        It is tau_1 e_y - tau_2 softmax(tau_2 f) (:eq:`eq-tempered-gradient`), weighed by the tilt
        (:eq:`eq-tilted-gradient`), minus alpha times :eq:`eq-logit-gradient`, plus :eq:`eq-entropy-gradient`.

        The divergence's part is within 8 units in the last place of the largest weight or probability (tested up to
        logits 300 apart), and where one logit is at least 10 above the others within 256 of its largest component
        (tested up to 50). `Divergence.logit_gradient` is the more precise of the two.

        Args:
            logits: finite, shape (..., classes), floating point.
            labels: integers, shape (...).

        Returns:
            Shape (..., classes), the dtype of `logits`.

        Raises:
            TypeError: `logits` are not floating point or `labels` not integers.
            ValueError: shapes do not match, a logit is not finite, or a label is out of range.
        """
        require_batch(logits, labels)
        weights = None if self.tilt == 0 else self._tilt_weights(_at_least_float32(logits), labels)
        terms = (self._resolved.definition, self.alpha, self.epsilon, self.tau_joint, self.tau_marginal)
        if torch.is_grad_enabled() and logits.requires_grad:
            gradient = smoothed.differentiable(logits, labels, *terms, weights)
        else:
            gradient = smoothed.gradient(logits, labels, *terms, weights)
        if self.entropy != 0:
            gradient = gradient + self.entropy * entropy_gradient(_at_least_float32(logits))
        return gradient.to(logits.dtype)

    def gradient(self, classifier: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor) -> Tensor:
        """The gradient of the summed score in the classifier's input (:eq:`eq-proposition-2`).

        One forward and one vector-Jacobian product through the classifier; the score itself adds no graph.

        Args:
            classifier: maps x to logits of shape (batch, classes).
            x: what the classifier sees, floating point, shape (batch, ...).
            labels: integers, shape (batch,).

        Returns:
            The shape and dtype of `x`, detached.

        Raises:
            TypeError: `x` is not floating point, or as `logit_gradient`.
            ValueError: the classifier's output does not depend on `x`, or as `logit_gradient`.
        """
        if not isinstance(x, Tensor) or not x.is_floating_point():
            raise TypeError("x must be a floating-point tensor")
        with torch.inference_mode(False), torch.enable_grad():
            seen = (x.clone() if x.is_inference() else x.detach()).requires_grad_()
            logits = classifier(seen)
            if not isinstance(logits, Tensor) or not logits.requires_grad:
                raise ValueError("classifier must return logits that depend on x by differentiable operations")
            direction = self.logit_gradient(logits.detach(), labels)
            gradient = torch.autograd.grad(logits, seen, direction, allow_unused=True)[0]
        if gradient is None:
            raise ValueError("classifier must return logits that depend on x, but these do not")
        return gradient

    def _tempered(self, logits: Tensor, labels: Tensor) -> Tensor:
        """log p_tau; scaled by a power of two so that only the result can overflow."""
        scale = 2.0 ** -math.ceil(math.log2(4 * max(self.tau_joint, self.tau_marginal, 1)))
        own = logits.gather(-1, labels.long().unsqueeze(-1)).squeeze(-1)
        linear = self.tau_joint * (scale * own) - self.tau_marginal * (scale * logits.amax(-1))
        return linear / scale - torch.logsumexp(self.tau_marginal * _centred(logits), -1)

    def _log_target(self, logits: Tensor, labels: Tensor) -> Tensor:
        return label_smoothed_log_target(labels, logits.shape[-1], self.epsilon, logits.dtype)

    def _tilted(self, log_prob: Tensor) -> Tensor:
        if self.tilt == 0 or log_prob.numel() == 0:
            return log_prob
        share = 1 if self.tilt_reduction == "sum" else log_prob.numel()
        return tilted_mean(log_prob, self.tilt).expand(log_prob.shape) / share

    def _tilt_weights(self, logits: Tensor, labels: Tensor) -> Tensor:
        log_prob = self._tempered(logits, labels)
        largest = torch.finfo(log_prob.dtype).max / 4
        tilted = (self.tilt * log_prob.flatten()).clamp(-largest, largest)
        weights = torch.softmax(tilted, 0).view(log_prob.shape).unsqueeze(-1)
        return weights * (log_prob.numel() if self.tilt_reduction == "sum" else 1)


def tilted_mean(log_prob: Tensor, tilt: float) -> Tensor:
    """(1/t) log mean exp(t log_prob) over all samples, the mean itself in the limit of t = 0 (:eq:`eq-tilted`).

    Args:
        log_prob: any shape, floating point.
        tilt: t, any finite number but 0.

    Returns:
        A scalar of the dtype of `log_prob`.

    Raises:
        TypeError: `log_prob` is not a floating-point tensor.
        ValueError: `tilt` is 0 or not finite, or there is no sample.
    """
    if not isinstance(log_prob, Tensor) or not log_prob.is_floating_point():
        raise TypeError("log_prob must be a floating-point tensor")
    if log_prob.numel() == 0:
        raise ValueError("log_prob must hold at least one sample")
    tilt = require_number("tilt", tilt)
    if tilt == 0:
        raise ValueError("tilt must not be 0: the limit is the plain mean")
    working = _at_least_float32(log_prob)
    largest = torch.finfo(working.dtype).max / 8
    eighth = (working.flatten() / 8).clamp_min(-largest)  # sums and differences of these cannot overflow
    centre = (eighth / eighth.numel()).sum()
    spread = (8 * tilt * (eighth - centre)).clamp(-2 * largest, 2 * largest)
    small = torch.log1p(torch.expm1(spread.clamp_max(1)).mean())
    large = torch.logsumexp(spread, 0) - math.log(spread.numel())
    return (8 * (centre + torch.where(spread.abs().amax() < 1, small, large) / (8 * tilt))).to(log_prob.dtype)


def entropy_gradient(logits: Tensor) -> Tensor:
    """The gradient of H(softmax(logits)) in the logits, -p (log p + H) (:eq:`eq-entropy-gradient`).

    As H(p) = log N - KL(p, uniform), it is minus the FKL gradient at the uniform target.

    Args:
        logits: finite, shape (..., classes), floating point.

    Returns:
        The shape and dtype of `logits`.

    Raises:
        TypeError: `logits` are not floating point.
        ValueError: a logit is not finite.
    """
    require_logits(logits)
    uniform = torch.full_like(logits, -math.log(logits.shape[-1]))
    return -divergence("fkl").logit_gradient(logits, uniform)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _centred(logits: Tensor) -> Tensor:
    """The logits less their largest; differences beyond -FAR have probability 0 as they do there."""
    return (logits - logits.amax(-1, keepdim=True)).clamp_min(-closed_forms.FAR)
