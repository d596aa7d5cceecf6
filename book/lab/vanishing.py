"""How strongly a classifier answers when asked for a label: its gradients on clean, noisy and denoised images."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fguidance import Guidance

Classifier = Callable[[Tensor], Tensor]
LOG_PROBABILITY = Guidance(tau_joint=1.0, tau_marginal=1.0)


@dataclass(frozen=True)
class Answer:
    """What the classifier says of images `(batch, ...)` when asked for `labels`; every field has shape `(batch,)`.

    Attributes:
        label_probability: p(y|x).
        missing: 1 - p(y|x), summed over the other classes so that it keeps its digits.
        confidence: the largest probability, whichever class has it.
        entropy: H(p) in nats, from 0 to log N.
        agrees: whether the label is the most probable class.
        gradient_norm: the length of the gradient of log p(y|x) in x.
        residual_norm: the length of e_y - p, its direction in the logits.
    """

    label_probability: Tensor
    missing: Tensor
    confidence: Tensor
    entropy: Tensor
    agrees: Tensor
    gradient_norm: Tensor
    residual_norm: Tensor


def ask(classifier: Classifier, x: Tensor, labels: Tensor) -> Answer:
    """Ask `classifier` for `labels` at the images `x`."""
    with torch.no_grad():
        logits = classifier(x)
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    rows = torch.arange(len(labels))
    others = p.clone()
    others[rows, labels] = 0.0
    return Answer(
        label_probability=p[rows, labels],
        missing=others.sum(-1),
        confidence=p.amax(-1),
        entropy=-(p * log_p).sum(-1),
        agrees=p.argmax(-1) == labels,
        gradient_norm=LOG_PROBABILITY.gradient(classifier, x, labels).flatten(1).norm(dim=1),
        residual_norm=LOG_PROBABILITY.logit_gradient(logits, labels).norm(dim=-1),
    )


def pull_back(classifier: Classifier, x: Tensor, direction: Callable[[Tensor], Tensor]) -> Tensor:
    """One vector-Jacobian product: `direction(logits)` carried from the logits back to the images `x`."""
    seen = x.detach().requires_grad_()
    logits = classifier(seen)
    return torch.autograd.grad(logits, seen, direction(logits.detach()))[0]


def ascend(
    classifier: Classifier, x: Tensor, labels: Tensor, guidance: Guidance, steps: int, step_size: float
) -> tuple[Tensor, Tensor]:
    """Climb the guidance score by plain gradient steps on the images.

    Returns:
        1 - p(y|x) before every step and the length of the score's gradient, both `(steps, batch)`.
    """
    missing, norms = [], []
    for _ in range(steps):
        gradient = guidance.gradient(classifier, x, labels)
        missing.append(ask(classifier, x, labels).missing)
        norms.append(gradient.flatten(1).norm(dim=1))
        x = x + step_size * gradient
    return torch.stack(missing), torch.stack(norms)


def best_denoiser(clean: Tensor, x_t: Tensor, alpha_cumprod: float) -> Tensor:
    """E[x_0 | x_t] if the data were exactly the images `clean`: what a denoiser without limits would learn from them.

    Args:
        clean: the data, shape `(n, ...)`.
        x_t: noisy images, shape `(batch, ...)`.
        alpha_cumprod: the share of the clean image's variance left, below 1.

    Returns:
        The shape of `x_t`: means of `clean` weighed by how well each explains the noisy image.
    """
    points = clean.flatten(1)
    squared = torch.cdist(x_t.flatten(1), math.sqrt(alpha_cumprod) * points).square()
    return ((-squared / (2 * (1 - alpha_cumprod))).softmax(-1) @ points).view_as(x_t)
