"""Wrong far out, close to equality, or by a little: beyond what ordinary examples and coarse differences show."""

import math

import numpy as np
import torch

from fguidance.testing import Declaration
from tests.testing.wrong.base import KL, Hellinger, ReverseKL, Undeclared, found_by

NOT_BY_AUTOGRAD = Declaration(differentiable=False)


@found_by("force_matches_high_precision")
class ForceOfATargetClamped(KL):
    """At 1e-8, as some losses do."""

    def logit_gradient(self, logits, log_q):
        return super().logit_gradient(logits, log_q.clamp_min(math.log(1e-8)))


@found_by("force_is_that_of_the_weights")
class UndeclaredForceOfATargetClamped(Undeclared):
    def logit_gradient(self, logits, log_q):
        return super().logit_gradient(logits, log_q.clamp_min(math.log(1e-8)))


@found_by("weight_is_gradient_of_value")
class ClampedAtAHundred(Undeclared):
    """As the binary cross-entropy of PyTorch does."""

    def value(self, log_p, log_q):
        return (log_q.exp() * (log_q - log_p.clamp_min(-100))).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()

    logit_gradient = None


@found_by("weight_is_gradient_of_value")
class RatiosOfTheValueClamped(ReverseKL):
    declaration = NOT_BY_AUTOGRAD

    def value(self, log_p, log_q):
        return (log_q.exp() * (log_q - log_p).clamp(-30, 30)).sum(-1).detach()


@found_by("weight_is_gradient_of_value")
class RatiosOfTheValueClampedInNumpy:
    def value(self, log_p, log_q):
        return (np.exp(log_q) * np.clip(log_q - log_p, -30, 30)).sum(-1)

    def weight(self, log_p, log_q):
        return np.exp(log_p) - np.exp(log_q)


@found_by("weight_is_gradient_of_value")
class LogarithmToTheBaseOfTwo(ReverseKL):
    """With a rounded 1/log 2."""

    declaration = NOT_BY_AUTOGRAD

    def value(self, log_p, log_q):
        return super().value(log_p, log_q).detach() / math.log(2)

    def weight(self, log_p, log_q):
        return 1.4427 * super().weight(log_p, log_q)


@found_by("weight_is_gradient_of_value")
class OffByFiveMillionthsInNumpy:
    def value(self, log_p, log_q):
        return ((np.exp(log_p / 2) - np.exp(log_q / 2)) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        return 1.000005 * (np.exp(log_p) - np.exp((log_p + log_q) / 2))


@found_by("weight_is_gradient_of_value")
class InfiniteTooEarly(Undeclared):
    """Takes a probability below 1e-8 for 0."""

    def value(self, log_p, log_q):
        return torch.where((log_p < math.log(1e-8)).any(-1), torch.inf, Hellinger().value(log_p, log_q))

    def weight(self, log_p, log_q):
        return Hellinger().weight(log_p, log_q)


@found_by("weight_is_gradient_of_value")
class SeriesWithoutItsHalf(Undeclared):
    """Close to equality, where it goes over to a series."""

    def weight(self, log_p, log_q):
        u = log_p - log_q
        return log_p.exp() * torch.where(u.abs() < 1e-4, 2 * u, u)


@found_by("weight_is_gradient_of_value")
class RatiosClampedForSingle(Undeclared):
    """At 88, where the exponential of a float32 ends, and in float64 too."""

    def value(self, log_p, log_q):
        return (log_q.exp() * torch.expm1((log_p - log_q).clamp_max(88)) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        return 2 * log_p.exp() * torch.expm1((log_p - log_q).clamp_max(88))

    logit_gradient = None


@found_by("weight_is_gradient_of_value")
class ValueClampedAtAHundred(Undeclared):
    def value(self, log_p, log_q):
        return super().value(log_p, log_q).clamp(0, 100)


@found_by("weight_is_gradient_of_value")
class TargetOfTheValueClampedInNumpy:
    def value(self, log_p, log_q):
        return (np.exp(log_p) * (log_p - np.maximum(log_q, -50))).sum(-1)

    def weight(self, log_p, log_q):
        return np.exp(log_p) * (log_p - log_q)


@found_by("splitting_a_class_changes_nothing")
class TwoThousandClasses(Undeclared):
    def value(self, log_p, log_q):
        return super().value(log_p[..., :2048], log_q[..., :2048])
