"""Wrong for many classes, or for targets that are not label-smoothed: what small examples do not show."""

import numpy as np
import torch

from tests.testing.wrong.base import KL, ReverseKL, Undeclared, after, changes, found_by

change = changes(__name__)


@found_by("every_class_is_treated_alike")
class WeightTailForgotten(KL):
    """The weights of classes from the 257th on are 0."""

    def weight(self, log_p, log_q):
        weight = super().weight(log_p, log_q).clone()
        weight[..., 256:] = 0
        return weight


@found_by("every_class_is_treated_alike")
class UndeclaredWeightTailForgotten(Undeclared):
    def weight(self, log_p, log_q):
        weight = super().weight(log_p, log_q).clone()
        weight[..., 1024:] = 0
        return weight


@found_by("every_class_is_treated_alike")
class WeightTailForgottenInNumpy:
    generator = "-log(t)"

    def value(self, log_p, log_q):
        return (np.exp(log_q) * (log_q - log_p)).sum(-1)

    def weight(self, log_p, log_q):
        weight = np.exp(log_p) - np.exp(log_q)
        weight[..., 100:] = 0
        return weight


change(KL, "ValueTailForgotten", "splitting_a_class_changes_nothing",
       value=lambda self, log_p, log_q: (log_p.exp() * (log_p - log_q))[..., :512].sum(-1))
change(KL, "ForceGrowsWithManyClasses", "force_is_that_of_the_weights", "force_is_gradient_of_value",
       logit_gradient=after(lambda found, logits, log_q: found * (1.1 if logits.shape[-1] > 256 else 1)))
change(Undeclared, "ForceOfElevenClasses", "force_is_that_of_the_weights",
       logit_gradient=after(lambda found, logits, log_q: found * (2 if logits.shape[-1] > 10 else 1)))


@found_by("force_is_that_of_the_weights")
class ForceOfTheLargest(KL):
    """Over the sixteen most probable classes alone, centred again."""

    def logit_gradient(self, logits, log_q):
        force = super().logit_gradient(logits, log_q)
        if logits.shape[-1] <= 16:
            return force
        kept = torch.zeros_like(force).scatter(-1, logits.topk(16, -1).indices, 1.0)
        return kept * (force - (force * kept).sum(-1, keepdim=True) / 16)


@found_by("force_is_that_of_the_weights", "force_matches_high_precision")
class TakesEveryTargetForSmoothed(KL):
    def logit_gradient(self, logits, log_q):
        label = log_q == log_q.amax(-1, keepdim=True)
        return super().logit_gradient(logits, torch.where(label, log_q, log_q.amin(-1, keepdim=True)))


@found_by("force_sums_to_zero")
class SpreadsWhatTheLabelLeaves(ReverseKL):
    def logit_gradient(self, logits, log_q):
        q = log_q.exp()
        label = q.amax(-1, keepdim=True)
        return logits.softmax(-1) - torch.where(q == label, label, (1 - label) / (q.shape[-1] - 1))


@found_by("weight_is_gradient_of_value")
class MinorClasses(Undeclared):
    """Off by a twentieth from the third largest q on, where all differ."""

    def weight(self, log_p, log_q):
        rank = log_q.argsort(-1, descending=True).argsort(-1)
        distinct = (log_q.sort(-1).values.diff(dim=-1) > 0).all(-1, keepdim=True)
        return super().weight(log_p, log_q) * torch.where((rank >= 2) & distinct, 1.05, 1.0)


change(Undeclared, "RatiosClampedThroughout", "weight_is_gradient_in_the_log_probabilities",
       doc="Log-ratios are held within 15, in the value and in the weight.",
       value=lambda self, log_p, log_q: (log_p.exp() * (log_p - log_q).clamp(-15, 15)).sum(-1),
       weight=lambda self, log_p, log_q: log_p.exp() * (log_p - log_q).clamp(-15, 15))
change(Undeclared, "RatiosClampedFarOut", "weight_is_gradient_in_the_log_probabilities",
       value=lambda self, log_p, log_q: (log_p.exp() * (log_p - log_q).clamp(-30, 30)).sum(-1),
       weight=lambda self, log_p, log_q: log_p.exp() * (log_p - log_q).clamp(-30, 30))


@found_by("dtypes_agree")
class ForceInSingleOfManyClasses(KL):
    def logit_gradient(self, logits, log_q):
        wrong = logits.dtype == torch.float32 and logits.shape[-1] > 16
        return super().logit_gradient(logits, log_q) * (1.1 if wrong else 1)


change(Undeclared, "OverwritesManyClasses", "inputs_are_not_modified",
       weight=after(lambda weight, log_p, log_q: log_p.copy_(weight).clone() if log_p.shape[-1] > 16 else weight))


@found_by("finite_input_gives_no_nan")
class NeedsASecondClass(Undeclared):
    """NaN where there is one class alone."""

    def value(self, log_p, log_q):
        classes = log_p.shape[-1]
        return super().value(log_p, log_q) * ((classes - 1) / torch.tensor(classes - 1))
