"""Promised in float32 or half precision alone, where a derivative has to be seen with few digits."""

import torch

from fguidance.testing import Declaration
from tests.testing.wrong.base import KL, Hellinger, ReverseKL, Undeclared, changes, found_by

change = changes(__name__)


class InSingle(Undeclared):
    declaration = Declaration(dtypes=("float32",))


change(InSingle, "DoubledInSingle", "weight_is_gradient_of_value", "value_changes_as_the_weights_say",
       weight=lambda self, log_p, log_q: 2 * InSingle.weight(self, log_p, log_q))
change(InSingle, "NegatedInSingle", "weight_is_gradient_of_value", "a_step_against_the_force_lowers_the_value",
       weight=lambda self, log_p, log_q: -InSingle.weight(self, log_p, log_q))
change(InSingle, "OffByAThousandth", "weight_is_gradient_of_value", "force_is_gradient_of_value",
       weight=lambda self, log_p, log_q: InSingle.weight(self, log_p, log_q) * 1.001)
change(Hellinger, "DifferenceForHellinger", "weight_is_gradient_of_value", doc="The weight of the reverse KL.",
       declaration=Declaration(dtypes=("float32", "float16")),
       weight=lambda self, log_p, log_q: log_p.exp() - log_q.exp())


@found_by("weight_is_gradient_of_value")
class DoubledInNumpyAndSingle:
    declaration = Declaration(dtypes=("float32",), array="numpy")

    def value(self, log_p, log_q):
        return ReverseKL().value(torch.from_numpy(log_p), torch.from_numpy(log_q)).numpy()

    def weight(self, log_p, log_q):
        return 2 * ReverseKL().weight(torch.from_numpy(log_p), torch.from_numpy(log_q)).numpy()


change(KL, "SwappedInSingle", "dual_swaps_the_arguments",
       declaration=Declaration(dtypes=("float32",)),
       value=lambda self, log_p, log_q: KL.value(self, log_q, log_p))
change(KL, "SymmetricInSingle", "symmetry_is_as_declared",
       declaration=Declaration(dtypes=("float32",), symmetric=True))
change(InSingle, "MeanInSingle", "merging_classes_never_raises_the_value",
       value=lambda self, log_p, log_q: InSingle.value(self, log_p, log_q) / log_p.shape[-1])
change(InSingle, "RootInSingle", "value_is_jointly_convex",
       value=lambda self, log_p, log_q: torch.sqrt(InSingle.value(self, log_p, log_q).abs()))
change(InSingle, "CountsTheClassesInSingle", "value_is_zero_only_at_equality",
       doc="Blind to how far apart two distributions are.",
       value=lambda self, log_p, log_q: 0 * InSingle.value(self, log_p, log_q))
change(ReverseKL, "ClampedInSingle", "weight_is_gradient_of_value",
       declaration=Declaration(dtypes=("float32",)),
       value=lambda self, log_p, log_q: (log_q.exp() * (log_q - log_p.exp().clamp_min(1e-12).log())).sum(-1))


@found_by("dtypes_agree")
class ClampedByDtype(ReverseKL):
    """At 1e-10 in float32 and at 1e-300 in float64."""

    def value(self, log_p, log_q):
        smallest = 1e-10 if log_p.dtype == torch.float32 else 1e-300
        return (log_q.exp() * (log_q - log_p.exp().clamp_min(smallest).log())).sum(-1)


class InHalfAlone(KL):
    declaration = Declaration(dtypes=("float16", "bfloat16"))
    generator = None


change(InHalfAlone, "NegatedInHalfAlone", "weight_is_gradient_of_value", "force_is_gradient_of_value",
       weight=lambda self, log_p, log_q: -InHalfAlone.weight(self, log_p, log_q))
change(ReverseKL, "TripledInBrainFloatAlone", "weight_is_gradient_of_value",
       declaration=Declaration(dtypes=("bfloat16",)),
       weight=lambda self, log_p, log_q: 3 * ReverseKL.weight(self, log_p, log_q))
change(InSingle, "AddsALittleInSingle", "weight_is_gradient_of_value",
       value=lambda self, log_p, log_q: (log_q.exp() * (log_q - (log_p.exp() + 1e-10).log())).sum(-1),
       weight=lambda self, log_p, log_q: log_p.exp() - log_q.exp(),
       logit_gradient=None)
