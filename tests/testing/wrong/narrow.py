"""Wrong in one dtype of those that are promised, or close to a kink."""

import torch

from fguidance.testing import Declaration
from tests.testing.wrong.base import KL, ReverseKL, TotalVariation, Undeclared, after, changes, found_by, pq

change = changes(__name__)

IN_HALF = ("float16", "bfloat16", "float32", "float64")


class InHalf(ReverseKL):
    declaration = Declaration(dtypes=IN_HALF)


change(InHalf, "WeightOfHalf", "dtypes_agree",
       weight=after(lambda found, log_p, log_q: found * (1.2 if log_p.dtype == torch.float16 else 1)))
change(InHalf, "ValueOfHalf", "dtypes_agree",
       value=lambda self, log_p, log_q: InHalf.value(self, log_p, log_q) * (1.1 if log_p.dtype == torch.float16 else 1))
change(InHalf, "WeightOfBrainFloat", "dtypes_agree",
       weight=lambda self, log_p, log_q: log_p.exp() - log_q.exp() * (0.9 if log_p.dtype == torch.bfloat16 else 1))


@found_by("dtypes_agree")
class ForceOfBrainFloat(InHalf):
    def logit_gradient(self, logits, log_q):
        force = logits.softmax(-1) - log_q.exp()
        return force * (0.5 if logits.dtype == torch.bfloat16 else 1)


@found_by("inputs_are_not_modified")
class ClampsSingle(KL):
    """`float` copies every dtype but this one."""

    def value(self, log_p, log_q):
        value = super().value(log_p, log_q)
        log_q.float().clamp_(min=-1.0)
        return value


change(Undeclared, "GradientOfSingle", "autograd_agrees_in_every_dtype",
       value=after(lambda value, log_p, log_q: value if value.dtype == torch.float64 else 2 * value - value.detach()))
change(TotalVariation, "DoubledNearTheKink", "weight_is_gradient_of_value",
       weight=after(lambda found, log_p, log_q: found * torch.where((log_p - log_q).abs() < 0.05, 2, 1)))
change(TotalVariation, "KinkElsewhere", "weight_is_gradient_of_value",
       doc="Its kink is declared at t = 1, and is at t = 2 as well.",
       value=pq(lambda p, q: ((p - q).abs() / 2 + (p - 2 * q).clamp_min(0)).sum(-1)),
       weight=lambda self, log_p, log_q: TotalVariation.weight(self, log_p, log_q))
