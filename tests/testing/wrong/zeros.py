"""Zeros in the target are promised, and only the value of some of these keeps the promise."""

import torch

from fguidance.testing import Declaration
from tests.testing.wrong.base import Hellinger, found_by


class Promised(Hellinger):
    declaration = Declaration(generator="(sqrt(t) - 1)**2", full_support=False)

    def logit_gradient(self, logits, log_q):
        log_p = logits.log_softmax(-1)
        weight = self.weight(log_p, log_q)
        return weight - log_p.exp() * weight.sum(-1, keepdim=True)


@found_by("zeros_in_the_target_are_handled")
class WeightDroppedAtZeros(Promised):
    def weight(self, log_p, log_q):
        return torch.where(log_q.isfinite(), super().weight(log_p, log_q), 0)


@found_by("zeros_in_the_target_are_handled", "autograd_runs_at_zeros_in_the_target")
class UndeclaredWeightDroppedAtZeros(Hellinger):
    declaration = Declaration(full_support=False)

    def weight(self, log_p, log_q):
        return torch.where(log_q.isfinite(), super().weight(log_p, log_q), 0)


@found_by("zeros_in_the_target_are_handled")
class ForceDroppedAtZeros(Promised):
    def logit_gradient(self, logits, log_q):
        return torch.where(log_q.isfinite(), super().logit_gradient(logits, log_q), 0)


@found_by("zeros_in_the_target_are_handled")
class ValueDroppedAtZeros(Promised):
    def value(self, log_p, log_q):
        terms = ((log_p / 2).exp() - (log_q / 2).exp()) ** 2
        return torch.where(log_q.isfinite(), terms, 0).sum(-1)


@found_by("autograd_runs_at_zeros_in_the_target")
class RootOfAProduct(Promised):
    """The derivative of a square root at 0 is infinite, and 0 times it is NaN."""

    def value(self, log_p, log_q):
        return 2 - 2 * torch.sqrt(log_p.exp() * log_q.exp()).sum(-1)
