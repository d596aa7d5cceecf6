"""Wrong far out, close to equality, or by a little: beyond what ordinary examples and coarse differences show."""

import math

import numpy as np
import torch

from fguidance.testing import Declaration
from tests.testing.wrong.base import KL, Hellinger, ReverseKL, Undeclared, changes, found_by

change = changes(__name__)

NOT_BY_AUTOGRAD = Declaration(differentiable=False)
change(KL, "ForceOfATargetClamped", "force_matches_high_precision", doc="At 1e-8, as some losses do.",
       logit_gradient=lambda self, logits, log_q: KL.logit_gradient(self, logits, log_q.clamp_min(math.log(1e-08))))


@found_by("force_is_that_of_the_weights")
class UndeclaredForceOfATargetClamped(Undeclared):
    def logit_gradient(self, logits, log_q):
        return super().logit_gradient(logits, log_q.clamp_min(math.log(1e-8)))


change(Undeclared, "ClampedAtAHundred", "weight_is_gradient_of_value",
       doc="As the binary cross-entropy of PyTorch does.",
       value=lambda self, log_p, log_q: (log_q.exp() * (log_q - log_p.clamp_min(-100))).sum(-1),
       weight=lambda self, log_p, log_q: log_p.exp() - log_q.exp(),
       logit_gradient=None)
change(ReverseKL, "RatiosOfTheValueClamped", "weight_is_gradient_of_value",
       declaration=NOT_BY_AUTOGRAD,
       value=lambda self, log_p, log_q: (log_q.exp() * (log_q - log_p).clamp(-30, 30)).sum(-1).detach())
change(object, "RatiosOfTheValueClampedInNumpy", "weight_is_gradient_of_value",
       value=lambda self, log_p, log_q: (np.exp(log_q) * np.clip(log_q - log_p, -30, 30)).sum(-1),
       weight=lambda self, log_p, log_q: np.exp(log_p) - np.exp(log_q))
change(ReverseKL, "LogarithmToTheBaseOfTwo", "weight_is_gradient_of_value", doc="With a rounded 1/log 2.",
       declaration=NOT_BY_AUTOGRAD,
       value=lambda self, log_p, log_q: ReverseKL.value(self, log_p, log_q).detach() / math.log(2),
       weight=lambda self, log_p, log_q: 1.4427 * ReverseKL.weight(self, log_p, log_q))
change(object, "OffByFiveMillionthsInNumpy", "weight_is_gradient_of_value",
       value=lambda self, log_p, log_q: ((np.exp(log_p / 2) - np.exp(log_q / 2)) ** 2).sum(-1),
       weight=lambda self, log_p, log_q: 1.000005 * (np.exp(log_p) - np.exp((log_p + log_q) / 2)))


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


change(Undeclared, "RatiosClampedForSingle", "weight_is_gradient_of_value",
       doc="At 88, where the exponential of a float32 ends, and in float64 too.",
       value=lambda self, log_p, log_q: (log_q.exp() * torch.expm1((log_p - log_q).clamp_max(88)) ** 2).sum(-1),
       weight=lambda self, log_p, log_q: 2 * log_p.exp() * torch.expm1((log_p - log_q).clamp_max(88)),
       logit_gradient=None)
change(Undeclared, "ValueClampedAtAHundred", "weight_is_gradient_of_value",
       value=lambda self, log_p, log_q: Undeclared.value(self, log_p, log_q).clamp(0, 100))
change(object, "TargetOfTheValueClampedInNumpy", "weight_is_gradient_of_value",
       value=lambda self, log_p, log_q: (np.exp(log_p) * (log_p - np.maximum(log_q, -50))).sum(-1),
       weight=lambda self, log_p, log_q: np.exp(log_p) * (log_p - log_q))
change(Undeclared, "TwoThousandClasses", "splitting_a_class_changes_nothing",
       value=lambda self, log_p, log_q: Undeclared.value(self, log_p[..., :2048], log_q[..., :2048]))
