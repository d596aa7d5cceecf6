"""Zeros in the target are promised, and only the value of some of these keeps the promise."""

import torch

from fguidance.testing import Declaration
from tests.testing.wrong.base import KL, Hellinger, after, changes, found_by

change = changes(__name__)


class Promised(Hellinger):
    declaration = Declaration(generator="(sqrt(t) - 1)**2", full_support=False)

    def logit_gradient(self, logits, log_q):
        log_p = logits.log_softmax(-1)
        weight = self.weight(log_p, log_q)
        return weight - log_p.exp() * weight.sum(-1, keepdim=True)


change(Promised, "WeightDroppedAtZeros", "zeros_in_the_target_are_handled",
       weight=lambda self, log_p, log_q: torch.where(log_q.isfinite(), Promised.weight(self, log_p, log_q), 0))


@found_by("zeros_in_the_target_are_handled", "autograd_runs_at_zeros_in_the_target")
class UndeclaredWeightDroppedAtZeros(Hellinger):
    declaration = Declaration(full_support=False)

    def weight(self, log_p, log_q):
        return torch.where(log_q.isfinite(), super().weight(log_p, log_q), 0)


change(Promised, "ForceDroppedAtZeros", "zeros_in_the_target_are_handled",
       logit_gradient=after(lambda found, logits, log_q: torch.where(log_q.isfinite(), found, 0)))


@found_by("zeros_in_the_target_are_handled")
class ValueDroppedAtZeros(Promised):
    def value(self, log_p, log_q):
        terms = ((log_p / 2).exp() - (log_q / 2).exp()) ** 2
        return torch.where(log_q.isfinite(), terms, 0).sum(-1)


change(Promised, "RootOfAProduct", "autograd_runs_at_zeros_in_the_target",
       doc="The derivative of a square root at 0 is infinite, and 0 times it is NaN.",
       value=lambda self, log_p, log_q: 2 - 2 * torch.sqrt(log_p.exp() * log_q.exp()).sum(-1))


@found_by("inputs_are_not_modified")
class ReplacesTheZerosOfItsInput(Promised):
    def value(self, log_p, log_q):
        log_q[log_q.isinf()] = -700
        return super().value(log_p, log_q)


@found_by("inputs_are_not_modified")
class ClampsTheZerosOfItsInput(Promised):
    def weight(self, log_p, log_q):
        return super().weight(log_p, log_q.clamp_(min=-80) if log_q.isinf().any() else log_q)


@found_by("a_batch_is_its_members")
class ZeroForAll(Promised):
    """A class that is 0 in one row is left out in all of them."""

    def value(self, log_p, log_q):
        support = log_q.isfinite().reshape(-1, log_q.shape[-1]).all(0)
        terms = ((log_p / 2).exp() - (log_q / 2).exp()) ** 2
        return torch.where(support | log_q.isinf(), terms, 0).sum(-1)


@found_by("a_batch_is_its_members")
class ForceOfZeroForAll(Promised):
    def logit_gradient(self, logits, log_q):
        support = log_q.isfinite().reshape(-1, log_q.shape[-1]).all(0)
        return torch.where(support | log_q.isinf(), super().logit_gradient(logits, log_q), 0)


@found_by("zeros_in_the_target_are_handled")
class ZerosInDoubleAlone(KL):
    """1e-300 is 0 in float32."""

    declaration = Declaration(generator="-log(t)", full_support=False)

    def value(self, log_p, log_q):
        q = log_q.exp()
        return (q * ((q + 1e-300).log() - log_p)).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()
