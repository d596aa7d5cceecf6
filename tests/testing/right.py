"""Right divergences in the styles in which people write them."""

import numpy as np
import torch

import fguidance as fg
from fguidance.symbolic import t
from fguidance.testing import Declaration


class ReverseKL:
    def value(self, log_p, log_q):
        return (log_q.exp() * (log_q - log_p)).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()

    def logit_gradient(self, logits, log_q):
        return torch.softmax(logits, -1) - log_q.exp()


class ForwardKL(torch.nn.Module):
    generator = "t*log(t)"

    def value(self, log_p, log_q):
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() * (log_p - log_q)

    def logit_gradient(self, logits, log_q):
        log_p = logits.log_softmax(-1)
        weight = self.weight(log_p, log_q)
        return weight - log_p.exp() * weight.sum(-1, keepdim=True)


class HellingerInNumpy:
    generator = "(sqrt(t) - 1)**2"

    def value(self, log_p, log_q):
        return ((np.exp(log_p / 2) - np.exp(log_q / 2)) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        return np.exp(log_p) - np.exp((log_p + log_q) / 2)


class JensenShannonInDouble:
    declaration = Declaration(
        generator="(t*log(t) - (1 + t)*log((1 + t)/2))/2", dtypes=("float64",), symmetric=True, bounded=True
    )

    def value(self, log_p, log_q):
        log_m = torch.logaddexp(log_p, log_q) - np.log(2)
        return ((log_p.exp() * (log_p - log_m)).sum(-1) + (log_q.exp() * (log_q - log_m)).sum(-1)) / 2

    def weight(self, log_p, log_q):
        log_m = torch.logaddexp(log_p, log_q) - np.log(2)
        return log_p.exp() * (log_p - log_m) / 2


class PaperReverseKL(ReverseKL):
    """With the weight -q, which is that of the gauge f'(1) = -1."""

    declaration = Declaration(generator="-log(t)", gauge=-1.0)

    def weight(self, log_p, log_q):
        return -log_q.exp()


def pearson_value(log_p, log_q):
    return ((log_p.exp() - log_q.exp()) ** 2 / log_q.exp()).sum(-1)


def pearson_weight(log_p, log_q):
    return 2 * log_p.exp() * torch.expm1(log_p - log_q)


RIGHT = [
    *(fg.divergence(name) for name in fg.divergence_names() if name != "js_printed"),
    fg.divergence("alpha", alpha=-1.0),
    fg.divergence("alpha", alpha=0.999999),
    fg.divergence("alpha", alpha=2.0),
    ReverseKL,
    ForwardKL(),
    HellingerInNumpy(),
    JensenShannonInDouble,
    PaperReverseKL(),
    (pearson_value, pearson_weight),
    "t*log(t) - t + 1",
    "(t - 1)**2/(t + 1) - log(t)/10",
    (t - 1) ** 4,
]
