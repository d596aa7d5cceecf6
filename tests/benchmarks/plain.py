"""The guidance score as one would write it, for autograd."""

from collections.abc import Callable

import torch
from torch import Tensor

import fguidance as fg

ALPHA, EPSILON, TAU_JOINT, TAU_MARGINAL = 0.5, 0.9, 1.0, 0.5
GUIDED = ("js", "rkl", "fkl")


def _js(log_p: Tensor, log_q: Tensor) -> Tensor:
    p, q = log_p.exp(), log_q.exp()
    log_m = ((p + q) / 2).log()
    return ((p * (log_p - log_m)).sum(-1) + (q * (log_q - log_m)).sum(-1)) / 2


def _rkl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_q.exp() * (log_q - log_p)).sum(-1)


def _fkl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1)


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"js": _js, "rkl": _rkl, "fkl": _fkl}


def guidance(name: str) -> fg.Guidance:
    """The same score in closed form."""
    return fg.Guidance(name, alpha=ALPHA, epsilon=EPSILON, tau_joint=TAU_JOINT, tau_marginal=TAU_MARGINAL)


def gradient_by_autograd(name: str, logits: Tensor, labels: Tensor, log_q: Tensor) -> Tensor:
    """The gradient of the summed score in the logits; the target is given, at no cost."""
    at = logits.detach().requires_grad_()
    log_p = torch.log_softmax(at, -1)
    tempered = TAU_JOINT * at.gather(-1, labels[:, None])[:, 0] - torch.logsumexp(TAU_MARGINAL * at, -1)
    score = tempered - ALPHA * DIVERGENCES[name](log_p, log_q)
    (gradient,) = torch.autograd.grad(score.sum(), at)
    return gradient


def inputs(batch: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of standard deviation 3, labels, and the label-smoothed log-target, in float32."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(batch, classes, generator=generator)
    labels = torch.randint(classes, (batch,), generator=generator)
    return logits, labels, fg.label_smoothed_log_target(labels, classes, EPSILON)
