"""The hand-written frame of `fguidance.closed_forms`; each `printed(...)` becomes the formula that a claim proves."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from derivations.printer import printed

# frame
FAR = 1e30  # stands for an infinite log-probability: finite, so that differences of two stay defined
NODES = (  # Gauss-Legendre quadrature on [0, 1]: half of the positions, and the weight of each and of its mirror image
    (0.005299532504175033, 0.013576229705877048), (0.02771248846338371, 0.031126761969323947),
    (0.06718439880608412, 0.04757925584124639), (0.12229779582249849, 0.06231448562776694),
    (0.19106187779867811, 0.07479799440828837), (0.2709916111713863, 0.08457825969750127),
    (0.35919822461037054, 0.09130170752246179), (0.4524937450811813, 0.09472530522753425),
)  # fmt: skip
Term = Callable[[Tensor, Tensor, Tensor], Tensor]


class Divergence(NamedTuple):
    """An f-divergence as functions of p, q and u = log(p/q), each elementwise.

    `weight` is p f'(p/q) up to the multiple `gauge` of p, `value` is q f(p/q) in the gauge f'(1) = 0, and `bend` is
    t f''(t) at t = e^u, which is integrated for abs(u) <= `radius`; it is None where `value` is precise everywhere.
    `at_zero` and `at_infinity` are the limits of f(t) at 0 and of f(t)/t at infinity. Where not `smooth`, f'' jumps or
    is infinite; where not `bounded`, a weight may be far above p and q; where not `logarithmic`, it takes no u.
    A printed weight of no divergence has no value.
    """

    weight: Term
    gauge: float
    value: Term | None
    bend: Callable[[Tensor], Tensor] | None
    at_zero: float
    at_infinity: float
    radius: float = 1.0
    smooth: bool = True
    bounded: bool = True
    logarithmic: bool = True


def scaled(divergence: Divergence, factor: float) -> Divergence:
    """The multiple factor * D of a divergence, for a factor above 0."""
    weight, value, bend = divergence.weight, divergence.value, divergence.bend
    return divergence._replace(
        weight=lambda p, q, u: factor * weight(p, q, u), gauge=factor * divergence.gauge,
        value=value and (lambda p, q, u: factor * value(p, q, u)), bend=bend and (lambda u: factor * bend(u)),
        at_zero=factor * divergence.at_zero, at_infinity=factor * divergence.at_infinity,
    )  # fmt: skip


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), without overflow."""
    return torch.nn.functional.softplus(x, threshold=40)


def relative_power(x: Tensor, a: float) -> Tensor:
    """(e^(a x) - 1)/a, which is x in the limit of a = 0."""
    return x if a == 0 else torch.expm1(a * x) / a


def difference(p: Tensor, q: Tensor, u: Tensor) -> Tensor:
    """p - q, precise where they are close."""
    return torch.where(u < 0, q * torch.expm1(u.clamp_max(0)), -p * torch.expm1(-u.clamp_min(0)))


def power(p: Tensor, q: Tensor, u: Tensor, a: float) -> Tensor:
    """q (p/q)^a; from u, whose rounding the power enlarges, only where p or q is subnormal."""
    far = torch.where(u > 0, p * torch.exp((a - 1) * u.clamp_min(0)), q * torch.exp(a * u.clamp_max(0)))
    half = (p / q) ** (a / 2)  # squared last, as the square may be beyond the range and the product not
    near = q * (p / q) ** a if abs(a) <= 1 else q * half * half
    return torch.where(torch.minimum(p, q) > torch.finfo(p.dtype).tiny, near, far)


def ratios(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """p, q and u = log p - log q; probabilities below the smallest normal number count as that."""
    log_p, log_q = log_p.clamp_min(-FAR), log_q.clamp_min(-FAR)
    tiny = torch.finfo(log_p.dtype).tiny
    return torch.exp(log_p).clamp_min(tiny), torch.exp(log_q).clamp_min(tiny), log_p - log_q


def weight(divergence: Divergence, log_p: Tensor, log_q: Tensor) -> Tensor:
    """The weights w = p f'(p/q) in the gauge f'(1) = 0 (:eq:`eq-weight`), shape (..., classes)."""
    p, q, u = ratios(log_p, log_q)
    return divergence.weight(p, q, u) + divergence.gauge * p


def value(divergence: Divergence, log_p: Tensor, log_q: Tensor) -> Tensor:
    """D_f = sum_i q_i f(p_i/q_i) >= 0 (:eq:`eq-value`), shape (...); where u is small, f(e^u) is an integral."""
    if divergence.value is None:
        raise ValueError("value: this weight belongs to no f-divergence, so there is no value")
    p, q, u = ratios(log_p, log_q)
    terms = divergence.value(p, q, u.masked_fill(u.abs() > FAR / 2, 0))  # whose derivative stays finite there
    if divergence.bend is not None:
        near = u.clamp(-divergence.radius, divergence.radius)
        terms = torch.where(near == u, q * integrated(divergence.bend, near), terms)
    for gone, mass, limit in ((u < -FAR / 2, q, divergence.at_zero), (u > FAR / 2, p, divergence.at_infinity)):
        terms = terms.masked_fill(gone, limit) if limit == math.inf else torch.where(gone, mass * limit, terms)
    return terms.sum(-1)


def integrated(bend: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """f(e^u) = u times the integral over 0 <= x <= 1 of the integrand below, in which nothing cancels."""
    total = torch.zeros_like(u)
    for position, share in NODES:
        for x in (position, 1 - position):
            total = total + share * bend(x * u) * torch.exp(x * u) * torch.expm1((1 - x) * u)
    return u * total


def logit_gradient(divergence: Divergence, logits: Tensor, log_q: Tensor) -> Tensor:
    """The gradient of D_f in the logits, w - p sum(w) (:eq:`eq-logit-gradient`), shape (..., classes).

    A multiple of p in w changes nothing, so it is chosen such that the most probable class k has weight 0
    (:eq:`eq-pivot`): no 1 - p_k is formed, and the digits stay however close p is to one-hot.
    """
    top, k = logits.max(-1, keepdim=True)
    centred = (logits - top).clamp_min(-FAR)  # finite, even between the largest floats
    rounded = centred - logits
    lost = (logits - (centred - rounded)) - (top + rounded)  # what rounding took from the difference
    powers = torch.exp(centred) * (1 + lost.clamp(-1, 1))
    rest = powers.scatter(-1, k, 0).sum(-1, keepdim=True)
    _, q, u = ratios(centred - torch.log1p(rest), log_q)
    p = (powers / (1 + rest)).clamp_min(torch.finfo(logits.dtype).tiny)
    w = divergence.weight(p, q, u)
    w = (w - p * (w.gather(-1, k) / p.gather(-1, k))).scatter(-1, k, 0)
    w = w.masked_fill(w.isnan(), 0)  # the difference of two infinities
    total = w.sum(-1, keepdim=True)
    return torch.where(w.isinf(), w, printed("logit_gradient"))


def label_smoothed_log_target(labels: Tensor, num_classes: int, epsilon: float) -> Tensor:
    """log q_y, q_y(i) = (1 - epsilon)/N + epsilon [i = y] (:eq:`eq-target`), shape (..., num_classes)."""
    one_hot = torch.nn.functional.one_hot(labels.long(), num_classes).double()
    return torch.log(printed("target"))


def tempered_log_prob(logits: Tensor, labels: Tensor, tau_joint: float, tau_marginal: float) -> Tensor:
    """log p_tau(y|x) of Ma et al. 2024 (:eq:`eq-tempered`), shape (...)."""
    own = logits.gather(-1, labels.long().unsqueeze(-1)).squeeze(-1)
    return printed("tempered")


def tempered_gradient(logits: Tensor, labels: Tensor, tau_joint: float, tau_marginal: float) -> Tensor:
    """Its gradient in the logits (:eq:`eq-tempered-gradient`), shape (..., classes)."""
    one_hot = torch.nn.functional.one_hot(labels.long(), logits.shape[-1]).to(logits.dtype)
    return printed("tempered_gradient")


def entropy_gradient(logits: Tensor) -> Tensor:
    """The gradient of the entropy H(p) in the logits (:eq:`eq-entropy-gradient`), shape (..., classes)."""
    log_p = torch.log_softmax(logits, -1)
    p = torch.exp(log_p)
    entropy = -(p * log_p).sum(-1, keepdim=True)
    return printed("entropy_gradient")


def tilted_weights(log_prob: Tensor, tilt: float) -> Tensor:
    """What the tilted score multiplies the samples' gradients by (:eq:`eq-tilted-gradient`), shape (batch,)."""
    batch = len(log_prob)
    return printed("tilted_weights")


def guidance_score(
    divergence: Divergence, logits: Tensor, labels: Tensor, alpha: float, epsilon: float, tau_joint: float,
    tau_marginal: float, entropy: float = 0.0,
) -> Tensor:  # fmt: skip
    """S_D = log p_tau(y|x) - alpha D_f(q_y, p) + entropy H(p) (:eq:`eq-score`), shape (...)."""
    log_p = torch.log_softmax(logits, -1)
    log_q = label_smoothed_log_target(labels, logits.shape[-1], epsilon).to(logits.dtype)
    log_prob, distance = tempered_log_prob(logits, labels, tau_joint, tau_marginal), value(divergence, log_p, log_q)
    return printed("score") - entropy * (torch.exp(log_p) * log_p).sum(-1)


def guidance_gradient(
    divergence: Divergence, logits: Tensor, labels: Tensor, alpha: float, epsilon: float, tau_joint: float,
    tau_marginal: float, entropy: float = 0.0,
) -> Tensor:  # fmt: skip
    """The gradient of the score in the logits (Proposition 2 in its logit form), shape (..., classes)."""
    log_q = label_smoothed_log_target(labels, logits.shape[-1], epsilon).to(logits.dtype)
    one_hot = torch.nn.functional.one_hot(labels.long(), logits.shape[-1]).to(logits.dtype)
    force = logit_gradient(divergence, logits, log_q)
    score_gradient = printed("score_gradient")
    return score_gradient + entropy * entropy_gradient(logits)


def smooth_ece_loss(logits: Tensor, labels: Tensor, beta: float) -> Tensor:
    """The mean of sqrt((confidence - correct)^2 + beta) (:eq:`eq-smooth-ece-loss`), a scalar."""
    confidence, top = torch.softmax(logits, -1).max(-1)
    correct = (top == labels).to(logits.dtype)
    return printed("smooth_ece").mean()


def smooth_ece_gradient(logits: Tensor, labels: Tensor, beta: float) -> Tensor:
    """The gradient of the loss in the logits, shape (..., classes); `correct` is constant where the top is unique."""
    p, n = torch.softmax(logits, -1), labels.numel()
    confidence, top = p.max(-1, keepdim=True)
    correct = (top == labels.unsqueeze(-1)).to(logits.dtype)
    is_top = torch.zeros_like(p).scatter(-1, top, 1)
    return printed("smooth_ece_gradient")
