"""The guidance gradient for a label-smoothed target, in place and without autograd: the fast path of `Guidance`.

The target has two values, so the weights of all classes are those of the smaller one, and the label's are put in.
"""

import math

import torch
from torch import Tensor

from fguidance import closed_forms
from fguidance.closed_forms import FAR, Divergence


def _is_traced() -> bool:
    """Whether a compiler or a transform such as vmap looks on, which takes no `out` and no scattering in place."""
    return torch.compiler.is_compiling() or torch._C._functorch.peek_interpreter_stack() is not None


def _put(x: Tensor, index: Tensor, own: Tensor | float) -> Tensor:
    """x with the labels' entries replaced, in its memory unless it is traced."""
    if _is_traced():
        return x.scatter(-1, index, own)
    return x.scatter_(-1, index, own)


def _less(w: Tensor, p: Tensor, factor: Tensor) -> Tensor:
    """w - factor * p, in the memory of w where it is as large as p and not traced."""
    if w.shape != p.shape or _is_traced():
        return torch.addcmul(w, p, factor, value=-1)
    return w.addcmul_(p, factor, value=-1)


def gradient(
    logits: Tensor, labels: Tensor, divergence: Divergence, alpha: float, epsilon: float, tau_joint: float,
    tau_marginal: float, weights: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """weights * (tau_1 e_y - tau_2 softmax(tau_2 f)) - alpha (w - p sum(w)) (:eq:`eq-proposition-2`), (..., classes).

    Args:
        logits: finite, shape (..., classes), floating point; half precision becomes float32, and all becomes float64
            where the weights are not bounded and the device has it. Nothing is checked here.
        labels: integers, shape (...).
        divergence: its closed forms.
        alpha: strength of the divergence.
        epsilon: weight of the target on the label.
        tau_joint: temperature of the label's logit.
        tau_marginal: temperature of the logits in the normaliser.
        weights: of the samples, shape (..., 1), or None for 1.
    """
    working = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if alpha > 0 and not divergence.bounded and working.device.type != "mps":
        working = working.double()
    index = labels.long().unsqueeze(-1)
    centred = working - working.amax(-1, keepdim=True)
    marginal = torch.mul(centred, tau_marginal).exp_()
    force = _force(divergence, centred, marginal, index, epsilon, tau_marginal) if alpha > 0 else None
    own = marginal.gather(-1, index)
    marginal = _put(marginal, index, 0.0)
    rest = marginal.sum(-1, keepdim=True)  # no 1 - p is formed at the label
    scale = -tau_marginal / (rest + own)
    found = _put(marginal.mul_(scale), index, (tau_joint - tau_marginal) - scale * rest)
    if weights is not None:
        found = found.mul_(weights)
    return found if force is None else found.sub_(force, alpha=alpha)


def _force(
    divergence: Divergence, centred: Tensor, marginal: Tensor, index: Tensor, epsilon: float, tau_marginal: float
) -> Tensor:
    """w - p sum(w), the most probable class taken as the pivot; the memory of `centred` is taken."""
    rest = (1 - epsilon) / centred.shape[-1]
    spare = None if divergence.logarithmic or _is_traced() else centred
    powers = torch.mul(marginal, marginal, out=spare) if tau_marginal == 0.5 else torch.exp(centred)
    total = powers.sum(-1, keepdim=True)
    log_total, tiny = torch.log(total), torch.finfo(centred.dtype).tiny
    top_p = 1 / total
    p = powers.mul_(top_p).clamp_min_(tiny)
    log_p = centred.sub_(log_total).clamp_min_(-FAR) if divergence.logarithmic else p
    own_log_p, own_p = log_p.gather(-1, index), p.gather(-1, index)
    is_top = own_p == top_p

    def weight(p: Tensor, log_p: Tensor, q: float) -> Tensor:
        u = log_p.sub_(math.log(q) if q > 0 else -FAR) if divergence.logarithmic else log_p
        return divergence.weight(p, p.new_tensor(max(q, tiny)), u)

    own = weight(own_p, own_log_p, rest + epsilon)
    top = torch.where(is_top, own * total, weight(top_p, -log_total, rest) * total)
    w = _put(_less(weight(p, log_p, rest), p, top), index, own - own_p * top)
    if not divergence.bounded:
        w = w.masked_fill(w.isnan(), 0)  # the difference of two infinities
        found = torch.addcmul(w, p, w.sum(-1, keepdim=True), value=-1)
        return torch.where(w.isinf(), w, found)
    return _less(w, p, w.sum(-1, keepdim=True))


def differentiable(
    logits: Tensor, labels: Tensor, divergence: Divergence, alpha: float, epsilon: float, tau_joint: float,
    tau_marginal: float, weights: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The same by `closed_forms`, through which autograd can go; arguments and result as in `gradient`."""
    working = logits.double() if logits.device.type != "mps" else logits.float()
    found = closed_forms.tempered_gradient(working, labels, tau_joint, tau_marginal)
    found = found if weights is None else weights * found
    if alpha == 0:
        return found
    log_q = closed_forms.label_smoothed_log_target(labels, logits.shape[-1], epsilon).to(working.dtype)
    return found - alpha * closed_forms.logit_gradient(divergence, working, log_q)
