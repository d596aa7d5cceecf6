"""Promised in float32 or half precision alone, where a derivative has to be seen with few digits."""

import torch

from fguidance.testing import Declaration
from tests.testing.wrong.base import KL, Hellinger, ReverseKL, Undeclared, found_by


class InSingle(Undeclared):
    declaration = Declaration(dtypes=("float32",))


@found_by("weight_is_gradient_of_value", "value_changes_as_the_weights_say")
class DoubledInSingle(InSingle):
    def weight(self, log_p, log_q):
        return 2 * super().weight(log_p, log_q)


@found_by("weight_is_gradient_of_value", "a_step_against_the_force_lowers_the_value")
class NegatedInSingle(InSingle):
    def weight(self, log_p, log_q):
        return -super().weight(log_p, log_q)


@found_by("weight_is_gradient_of_value", "force_is_gradient_of_value")
class OffByAThousandth(InSingle):
    def weight(self, log_p, log_q):
        return super().weight(log_p, log_q) * 1.001


@found_by("weight_is_gradient_of_value")
class DifferenceForHellinger(Hellinger):
    """The weight of the reverse KL."""

    declaration = Declaration(dtypes=("float32", "float16"))

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()


@found_by("weight_is_gradient_of_value")
class DoubledInNumpyAndSingle:
    declaration = Declaration(dtypes=("float32",), array="numpy")

    def value(self, log_p, log_q):
        return ReverseKL().value(torch.from_numpy(log_p), torch.from_numpy(log_q)).numpy()

    def weight(self, log_p, log_q):
        return 2 * ReverseKL().weight(torch.from_numpy(log_p), torch.from_numpy(log_q)).numpy()


@found_by("dual_swaps_the_arguments")
class SwappedInSingle(KL):
    declaration = Declaration(dtypes=("float32",))

    def value(self, log_p, log_q):
        return super().value(log_q, log_p)


@found_by("symmetry_is_as_declared")
class SymmetricInSingle(KL):
    declaration = Declaration(dtypes=("float32",), symmetric=True)


@found_by("merging_classes_never_raises_the_value")
class MeanInSingle(InSingle):
    def value(self, log_p, log_q):
        return super().value(log_p, log_q) / log_p.shape[-1]


@found_by("value_is_jointly_convex")
class RootInSingle(InSingle):
    def value(self, log_p, log_q):
        return torch.sqrt(super().value(log_p, log_q).abs())


@found_by("value_is_zero_only_at_equality")
class CountsTheClassesInSingle(InSingle):
    """Blind to how far apart two distributions are."""

    def value(self, log_p, log_q):
        return 0 * super().value(log_p, log_q)


@found_by("weight_is_gradient_of_value")
class ClampedInSingle(ReverseKL):
    declaration = Declaration(dtypes=("float32",))

    def value(self, log_p, log_q):
        return (log_q.exp() * (log_q - log_p.exp().clamp_min(1e-12).log())).sum(-1)


@found_by("dtypes_agree")
class ClampedByDtype(ReverseKL):
    """At 1e-10 in float32 and at 1e-300 in float64."""

    def value(self, log_p, log_q):
        smallest = 1e-10 if log_p.dtype == torch.float32 else 1e-300
        return (log_q.exp() * (log_q - log_p.exp().clamp_min(smallest).log())).sum(-1)


class InHalfAlone(KL):
    declaration = Declaration(dtypes=("float16", "bfloat16"))
    generator = None


@found_by("weight_is_gradient_of_value", "force_is_gradient_of_value")
class NegatedInHalfAlone(InHalfAlone):
    def weight(self, log_p, log_q):
        return -super().weight(log_p, log_q)


@found_by("weight_is_gradient_of_value")
class TripledInBrainFloatAlone(ReverseKL):
    declaration = Declaration(dtypes=("bfloat16",))

    def weight(self, log_p, log_q):
        return 3 * super().weight(log_p, log_q)


@found_by("weight_is_gradient_of_value")
class AddsALittleInSingle(InSingle):
    def value(self, log_p, log_q):
        return (log_q.exp() * (log_q - (log_p.exp() + 1e-10).log())).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()

    logit_gradient = None
