"""Wrong forces: centring, softmax, and mistakes that only some logits show."""

import torch

from fguidance.testing import Declaration
from tests.testing.wrong.base import KL, Hellinger, Undeclared, after, changes, found_by

change = changes(__name__)


def of_weights(function):
    """A force written in the weights, p and q."""

    def force(self, logits, log_q):
        log_p = logits.log_softmax(-1)
        return function(self.weight(log_p, log_q), log_p.exp(), log_q.exp())

    return force


change(Undeclared, "NotCentred", "force_sums_to_zero",
       logit_gradient=of_weights(lambda weight, p, q: weight))
change(Undeclared, "CentredByTheMean", "force_is_that_of_the_weights",
       logit_gradient=of_weights(lambda weight, p, q: weight - weight.mean(-1, keepdim=True)))
change(Undeclared, "CentredByTheTarget", "force_is_that_of_the_weights",
       logit_gradient=of_weights(lambda weight, p, q: weight - q * weight.sum(-1, keepdim=True)))
change(Undeclared, "CentredWithoutP", "force_sums_to_zero",
       logit_gradient=of_weights(lambda weight, p, q: weight - weight.sum(-1, keepdim=True)))
change(Undeclared, "CentredTwice", "force_sums_to_zero",
       logit_gradient=of_weights(lambda weight, p, q: weight - 2 * p * weight.sum(-1, keepdim=True)))
change(Undeclared, "ForceSign", "a_step_against_the_force_lowers_the_value",
       doc="The direction of descent instead of the gradient.",
       logit_gradient=lambda self, logits, log_q: -Undeclared.logit_gradient(self, logits, log_q))
change(Undeclared, "TemperatureForgotten", "a_step_against_the_force_lowers_the_value",
       logit_gradient=lambda self, logits, log_q: Undeclared.logit_gradient(self, logits / 2, log_q))


@found_by("finite_input_gives_no_nan")
class LogitsForLogProbabilities(Undeclared):
    """No log softmax, so that the normaliser is missing."""

    def logit_gradient(self, logits, log_q):
        weight = logits.exp() * (logits - log_q)
        return weight - logits.exp() * weight.sum(-1, keepdim=True)


change(Undeclared, "SoftmaxTwice", "a_step_against_the_force_lowers_the_value",
       logit_gradient=lambda self, logits, log_q: Undeclared.logit_gradient(self, logits.softmax(-1), log_q))


@found_by("finite_input_gives_no_nan")
class SoftmaxOverflows(Undeclared):
    """exp of the logits, right until they are large and positive."""

    def logit_gradient(self, logits, log_q):
        p = logits.exp() / logits.exp().sum(-1, keepdim=True)
        weight = self.weight(p.log(), log_q)
        return weight - p * weight.sum(-1, keepdim=True)


change(Undeclared, "WrongForLargeLogits", "force_is_that_of_the_weights",
       logit_gradient=lambda self, logits, log_q: Undeclared.logit_gradient(self, logits.clamp_max(100), log_q))
change(Undeclared, "WrongForVeryNegativeLogits", "force_is_that_of_the_weights",
       logit_gradient=lambda self, logits, log_q: Undeclared.logit_gradient(self, logits.clamp_min(-50), log_q))


@found_by("force_ignores_a_shift")
class WrongForNegativeLogits(Undeclared):
    def logit_gradient(self, logits, log_q):
        force = super().logit_gradient(logits, log_q)
        return torch.where((logits < 0).all(-1, keepdim=True), 1.001 * force, force)


change(Undeclared, "ScaledByTheFirstLogit", "force_ignores_a_shift",
       logit_gradient=after(lambda found, logits, log_q: found * (1 + logits[..., :1].abs())))


@found_by("force_is_that_of_the_weights")
class WrongForTies(Undeclared):
    def logit_gradient(self, logits, log_q):
        force = super().logit_gradient(logits, log_q)
        ties = (logits == logits.amax(-1, keepdim=True)).sum(-1, keepdim=True)
        return force / ties


change(Undeclared, "ForceClipped", "force_is_gradient_in_the_image",
       logit_gradient=lambda self, logits, log_q: Undeclared.logit_gradient(self, logits, log_q).clamp(-0.25, 0.25))
change(Undeclared, "ForceNormalised", "force_sums_to_zero",
       logit_gradient=after(lambda force, logits, log_q: force / (force.norm(dim=-1, keepdim=True) + 1e-12)))


@found_by("force_is_that_of_the_weights")
class ForceOfTheTopClasses(Undeclared):
    """Probabilities below a millionth are left out."""

    def logit_gradient(self, logits, log_q):
        p = logits.softmax(-1)
        weight = torch.where(p > 1e-6, self.weight(logits.log_softmax(-1), log_q), 0)
        return weight - p * weight.sum(-1, keepdim=True)


@found_by("force_sums_to_zero")
class SingleInForce(KL):
    def logit_gradient(self, logits, log_q):
        return super().logit_gradient(logits.float(), log_q.float()).to(logits.dtype)


change(KL, "CancelsAtSaturation", "force_is_right_at_saturation",
       doc="Plainly written, though the leading digits are promised.",
       declaration=Declaration(precision="faithful", full_support=True))


@found_by("force_is_right_at_saturation")
class ZeroAtSaturation(KL):
    def logit_gradient(self, logits, log_q):
        force = super().logit_gradient(logits, log_q)
        return torch.where(logits.softmax(-1).amax(-1, keepdim=True) > 0.9999, 0, force)


@found_by("force_is_right_at_saturation")
class StaleSoftmax(KL):
    def __init__(self):
        self.kept = None

    def logit_gradient(self, logits, log_q):
        if self.kept is None or self.kept.shape != logits.shape:
            self.kept = logits.log_softmax(-1)
        weight = self.weight(self.kept, log_q)
        return weight - self.kept.exp() * weight.sum(-1, keepdim=True)


change(KL, "BatchAxisInForce", "a_batch_is_its_members",
       logit_gradient=of_weights(lambda weight, p, q: weight - p * weight.sum(0, keepdim=True)))


@found_by("a_batch_is_its_members")
class SoftmaxOverTheBatch(KL):
    def logit_gradient(self, logits, log_q):
        log_p = logits.log_softmax(0)
        weight = self.weight(log_p, log_q)
        return weight - log_p.exp() * weight.sum(-1, keepdim=True)


change(Undeclared, "ForceIsAboutTheMeanOfTheBatch", "a_batch_is_its_members",
       doc="As the gradient of a loss that is averaged over the batch.",
       logit_gradient=after(lambda found, logits, log_q: found / max(1, logits[..., 0].numel())))


@found_by("force_sums_to_zero")
class ForceByCoarseDifferences(Hellinger):
    """Differences of the value with a step that is far too large."""

    def logit_gradient(self, logits, log_q):
        step = 0.1 * torch.eye(logits.shape[-1], dtype=logits.dtype)
        ends = [self.value((logits[..., None, :] + s * step).log_softmax(-1), log_q[..., None, :]) for s in (1, -1)]
        return (ends[0] - ends[1]) / 0.2
