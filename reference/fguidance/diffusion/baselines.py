"""The guidance of other papers, on the same sampler.

Unguided is `sample` without guidance. Dhariwal & Nichol's is ``Guidance(alpha=0, tau_marginal=1)`` with a noise-aware
classifier and ``classifier_input="noisy"``; Ma et al.'s is ``Guidance(alpha=0)`` with a classifier of clean images.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from fguidance.diffusion.sampler import Classifier, ImageGuidance, Model
from fguidance.inputs import require_number, require_positive

Unconditional = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class EntropyAware:
    r"""A guidance scaled by :math:`\log N / H(p)` sample by sample, equation :eq:`eq-entropy-aware`.

    A classifier that is sure has an entropy close to 0, and the factor grows without bound; the published formula
    divides by zero where a probability rounds to 1. Here the entropy is never taken to be smaller than a share of its
    largest value :math:`\log N`, which is ours, so the factor lies from 1 to ``1 / smallest_share``.

    Attributes:
        guidance: whose gradient is scaled, such as a :class:`fguidance.Guidance`.
        smallest_share: the least entropy, as a share of :math:`\log N`; above 0, at most 1.

    Raises:
        ValueError: ``smallest_share`` is out of range.

    Source: Li et al. 2022 (ED-DPM), arXiv:2206.11474.
    """

    guidance: ImageGuidance
    smallest_share: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "smallest_share", require_positive("smallest_share", self.smallest_share, 1))

    def gradient(self, classifier: Classifier, x: Tensor, labels: Tensor) -> Tensor:
        """The scaled gradient; one pass through the classifier, as without the scaling.

        Args:
            classifier: maps x to logits ``(batch, classes)``.
            x: what the classifier sees, ``(batch, ...)``.
            labels: ``(batch,)``.

        Returns:
            The shape and dtype of `x`, detached.

        Raises:
            TypeError: as that of `guidance`.
            ValueError: as that of `guidance`.
        """
        seen: list[Tensor] = []

        def remembering(image: Tensor) -> Tensor:
            seen.append(classifier(image))
            return seen[-1]

        gradient = self.guidance.gradient(remembering, x, labels)
        factor = self.factor(seen[-1].detach())
        return gradient * factor.view(-1, *[1] * (gradient.ndim - 1)).to(gradient.dtype)

    def factor(self, logits: Tensor) -> Tensor:
        r""":math:`\log N / H(p)` of each sample, from 1 to ``1 / smallest_share``.

        Args:
            logits: ``(batch, classes)``, at least two classes.

        Returns:
            ``(batch,)``, float64 for float64 logits and float32 otherwise.
        """
        working = logits if logits.dtype == torch.float64 else logits.float()
        log_p = torch.log_softmax(working, -1)
        share = -(log_p.exp() * log_p).sum(-1) / math.log(logits.shape[-1])
        return 1 / share.clamp(self.smallest_share, 1.0)


def classifier_free(
    model: Model,
    guidance_scale: float,
    *,
    null_label: int | None = None,
    unconditional: Unconditional | None = None,
) -> Model:
    r"""A model whose noise is moved away from that of an unconditional one, equation :eq:`eq-classifier-free`.

    :math:`\hat\varepsilon = (1 + s)\, \varepsilon(x_t, y) - s\, \varepsilon(x_t, \varnothing)`. Channels that predict
    the variance are those of the conditional model.

    Args:
        model: called ``(x_t, t, y)``.
        guidance_scale: s, finite; 0 leaves the model as it is.
        null_label: the label by which ``model`` was taught to ignore labels; or
        unconditional: another network, called ``(x_t, t)``. One of the two must be given.

    Returns:
        A model for :func:`~fguidance.diffusion.sample`, twice as costly.

    Raises:
        ValueError: none or both of ``null_label`` and ``unconditional`` are given, or ``guidance_scale`` is not finite.

    Source: Ho & Salimans 2022, arXiv:2207.12598, equation 6.
    """
    scale = require_number("guidance_scale", guidance_scale)
    if (null_label is None) == (unconditional is None):
        raise ValueError("exactly one of null_label and unconditional must be given")

    def guided(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        conditional, channels = model(x_t, t, y), x_t.shape[1]
        other = unconditional(x_t, t) if unconditional else model(x_t, t, torch.full_like(y, cast(int, null_label)))
        noise = (1 + scale) * conditional[:, :channels] - scale * other[:, :channels]
        return torch.cat((noise, conditional[:, channels:]), 1)

    return guided
