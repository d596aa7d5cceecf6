"""Mistakes in a divergence of very small numbers, which no fixed tolerance would see."""

import torch

from tests.testing.wrong.base import KL, changes

change = changes(__name__)

SMALL = 1e-14


class SmallKL(KL):
    generator = f"{SMALL}*t*log(t)"

    def value(self, log_p, log_q):
        return SMALL * super().value(log_p, log_q)

    def weight(self, log_p, log_q):
        return SMALL * super().weight(log_p, log_q)


class SmallUndeclared(SmallKL):
    generator = None


change(SmallKL, "SmallAndSwapped", "value_matches_high_precision", "dual_swaps_the_arguments",
       value=lambda self, log_p, log_q: SmallKL.value(self, log_q, log_p))
change(SmallUndeclared, "SmallWithAFactor", "weight_is_gradient_of_value", "value_changes_as_the_weights_say",
       weight=lambda self, log_p, log_q: 1.001 * SmallUndeclared.weight(self, log_p, log_q))
change(SmallUndeclared, "SmallInAnotherGauge", "weight_is_zero_at_equality",
       weight=lambda self, log_p, log_q: SmallUndeclared.weight(self, log_p, log_q) + SMALL * log_p.exp())
change(SmallUndeclared, "SmallAndNegative", "value_is_not_negative",
       value=lambda self, log_p, log_q: SmallUndeclared.value(self, log_p, log_q) - 0.001 * SMALL)
change(SmallUndeclared, "SmallRoot", "value_is_jointly_convex",
       value=lambda self, log_p, log_q: SMALL * torch.sqrt(SmallUndeclared.value(self, log_p, log_q) / SMALL))
change(SmallUndeclared, "SmallMean", "merging_classes_never_raises_the_value",
       doc="The mean over the classes in place of the sum.",
       value=lambda self, log_p, log_q: SmallUndeclared.value(self, log_p, log_q) / log_p.shape[-1])
