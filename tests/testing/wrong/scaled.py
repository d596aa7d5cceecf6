"""Mistakes in a divergence of very small numbers, which no fixed tolerance would see."""

import torch

from tests.testing.wrong.base import KL, found_by

SMALL = 1e-14


class SmallKL(KL):
    generator = f"{SMALL}*t*log(t)"

    def value(self, log_p, log_q):
        return SMALL * super().value(log_p, log_q)

    def weight(self, log_p, log_q):
        return SMALL * super().weight(log_p, log_q)


class SmallUndeclared(SmallKL):
    generator = None


@found_by("value_matches_high_precision", "dual_swaps_the_arguments")
class SmallAndSwapped(SmallKL):
    def value(self, log_p, log_q):
        return super().value(log_q, log_p)


@found_by("weight_is_gradient_of_value", "value_changes_as_the_weights_say")
class SmallWithAFactor(SmallUndeclared):
    def weight(self, log_p, log_q):
        return 1.001 * super().weight(log_p, log_q)


@found_by("weight_is_zero_at_equality")
class SmallInAnotherGauge(SmallUndeclared):
    def weight(self, log_p, log_q):
        return super().weight(log_p, log_q) + SMALL * log_p.exp()


@found_by("value_is_not_negative")
class SmallAndNegative(SmallUndeclared):
    def value(self, log_p, log_q):
        return super().value(log_p, log_q) - 1e-3 * SMALL


@found_by("value_is_jointly_convex")
class SmallRoot(SmallUndeclared):
    def value(self, log_p, log_q):
        return SMALL * torch.sqrt(super().value(log_p, log_q) / SMALL)


@found_by("merging_classes_never_raises_the_value")
class SmallMean(SmallUndeclared):
    """The mean over the classes in place of the sum."""

    def value(self, log_p, log_q):
        return super().value(log_p, log_q) / log_p.shape[-1]
