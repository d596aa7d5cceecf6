"""Wrong formulas: signs, factors, swapped arguments, another divergence's weight, no divergence at all."""

import math

import sympy as sp
import torch

import fguidance as fg
from fguidance.testing import Declaration
from fguidance.testing.exact import t
from tests.testing.wrong.base import KL, Hellinger, ReverseKL, Undeclared, changes, found_by

change = changes(__name__)

change(Undeclared, "WeightSign", "a_step_against_the_force_lowers_the_value",
       weight=lambda self, log_p, log_q: -Undeclared.weight(self, log_p, log_q))
change(Undeclared, "WeightFactor", "value_changes_as_the_weights_say",
       weight=lambda self, log_p, log_q: 2 * Undeclared.weight(self, log_p, log_q))


@found_by("dual_swaps_the_arguments")
class ValueFactor(KL):
    def value(self, log_p, log_q):
        return 2 * super().value(log_p, log_q)


change(ValueFactor, "BothFactor", "force_is_right_at_saturation",
       weight=lambda self, log_p, log_q: 2 * ValueFactor.weight(self, log_p, log_q))
change(Undeclared, "SwappedInValue", "value_changes_as_the_weights_say",
       value=lambda self, log_p, log_q: Undeclared.value(self, log_q, log_p))
change(Undeclared, "SwappedInWeight", "a_step_against_the_force_lowers_the_value",
       weight=lambda self, log_p, log_q: Undeclared.weight(self, log_q, log_p))
change(KL, "SwappedThroughout", "saturation_is_as_declared",
       value=lambda self, log_p, log_q: KL.value(self, log_q, log_p),
       weight=lambda self, log_p, log_q: log_p.exp() - log_q.exp())
change(KL, "NotInGauge", "weight_is_zero_at_equality",
       weight=lambda self, log_p, log_q: log_p.exp() * (log_p - log_q + 1))
change(KL, "WrongLimit", "saturation_is_as_declared", doc="alpha = 1 taken for the other limit.",
       weight=lambda self, log_p, log_q: log_p.exp() - log_q.exp())
change(Undeclared, "LogarithmToBaseTwo", "value_changes_as_the_weights_say",
       weight=lambda self, log_p, log_q: Undeclared.weight(self, log_p, log_q) / math.log(2))
change(Undeclared, "MeanOverClasses", "merging_classes_never_raises_the_value",
       value=lambda self, log_p, log_q: (log_p.exp() * (log_p - log_q)).mean(-1))
change(ReverseKL, "MeanOverClassesThroughout", "merging_classes_never_raises_the_value",
       value=lambda self, log_p, log_q: ReverseKL.value(self, log_p, log_q) / log_p.shape[-1],
       weight=lambda self, log_p, log_q: ReverseKL.weight(self, log_p, log_q) / log_p.shape[-1])
change(ReverseKL, "OverTheLogarithmOfTheClasses", "merging_classes_never_raises_the_value",
       value=lambda self, log_p, log_q: ReverseKL.value(self, log_p, log_q) / math.log(log_p.shape[-1]),
       weight=lambda self, log_p, log_q: ReverseKL.weight(self, log_p, log_q) / math.log(log_p.shape[-1]))
change(Undeclared, "ForgetsTheLastClass", "value_is_not_negative",
       value=lambda self, log_p, log_q: (log_p.exp() * (log_p - log_q))[..., :-1].sum(-1))


@found_by("classes_may_be_permuted")
class OnlyTheLabel(Undeclared):
    def weight(self, log_p, log_q):
        hot = torch.nn.functional.one_hot(log_q.argmax(-1), log_q.shape[-1])
        return super().weight(log_p, log_q) * hot


change(Undeclared, "WeightOfTheDual", "value_changes_as_the_weights_say",
       weight=lambda self, log_p, log_q: log_p.exp() - log_q.exp())
change(Undeclared, "WeightWithoutP", "weight_is_homogeneous",
       weight=lambda self, log_p, log_q: log_p - log_q)
change(Undeclared, "WeightTimesQ", "value_changes_as_the_weights_say",
       weight=lambda self, log_p, log_q: log_q.exp() * (log_p - log_q))
change(ReverseKL, "TheValuesTermsForWeights", "a_step_against_the_force_lowers_the_value",
       weight=lambda self, log_p, log_q: log_q.exp() * (log_q - log_p))


@found_by("value_is_jointly_convex")
class Negative(Undeclared):
    def value(self, log_p, log_q):
        return -super().value(log_p, log_q)

    def weight(self, log_p, log_q):
        return -super().weight(log_p, log_q)


change(Undeclared, "NotZeroAtEquality", "value_is_zero_only_at_equality",
       value=lambda self, log_p, log_q: Undeclared.value(self, log_p, log_q) + 0.1)
change(Undeclared, "MinusATinyConstant", "value_is_zero_only_at_equality",
       value=lambda self, log_p, log_q: Undeclared.value(self, log_p, log_q) - 1e-09)


@found_by("merging_classes_never_raises_the_value")
class NotConvex:
    """p log(p/q)^2: its generator t log(t)^2 is concave below t = 1/e."""

    def value(self, log_p, log_q):
        return (log_p.exp() * (log_p - log_q) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        ratio = log_p - log_q
        return log_p.exp() * (ratio**2 + 2 * ratio)


@found_by("merging_classes_never_raises_the_value")
class Euclidean:
    def value(self, log_p, log_q):
        return ((log_p.exp() - log_q.exp()) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        p = log_p.exp()
        return 2 * p * (p - log_q.exp())


@found_by("dtypes_agree")
class WassersteinOnIndices:
    def value(self, log_p, log_q):
        return (log_p.exp() - log_q.exp()).cumsum(-1).abs().sum(-1)

    def weight(self, log_p, log_q):
        sign = (log_p.exp() - log_q.exp()).cumsum(-1).sign()
        return log_p.exp() * sign.flip(-1).cumsum(-1).flip(-1)


change(object, "Bhattacharyya", "weight_depends_on_its_class_alone",
       value=lambda self, log_p, log_q: -torch.logsumexp((log_p + log_q) / 2, -1),
       weight=lambda self, log_p, log_q: -torch.softmax((log_p + log_q) / 2, -1) / 2 + log_p.exp() / 2)
change(object, "Renyi", "weight_depends_on_its_class_alone",
       doc="Of order 3; a function of an f-divergence, and none itself.",
       value=lambda self, log_p, log_q: torch.logsumexp(3 * log_p - 2 * log_q, -1) / 2,
       weight=lambda self, log_p, log_q: 3 * (torch.softmax(3 * log_p - 2 * log_q, -1) - log_p.exp()) / 2)


@found_by("weight_depends_on_its_class_alone")
class HellingerDistance(Hellinger):
    """With the square root."""

    def value(self, log_p, log_q):
        return (super().value(log_p, log_q) + 1e-30).sqrt()

    def weight(self, log_p, log_q):
        return super().weight(log_p, log_q) / (2 * self.value(log_p, log_q)[..., None])


change(object, "ItakuraSaito", "splitting_a_class_changes_nothing",
       value=lambda self, log_p, log_q: ((log_p - log_q).exp() - (log_p - log_q) - 1).sum(-1),
       weight=lambda self, log_p, log_q: (log_p - log_q).exp() - 1)
change(object, "MeanSquareOfLogits", "splitting_a_class_changes_nothing",
       value=lambda self, log_p, log_q: ((log_p - log_q) ** 2).sum(-1),
       weight=lambda self, log_p, log_q: 2 * (log_p - log_q))
change(Hellinger, "ZeroFarFromEquality", "a_step_against_the_force_lowers_the_value",
       value=lambda self, log_p, log_q: (Hellinger.value(self, log_p, log_q) - 0.02).clamp_min(0))
change(object, "JeffreysWeightHalved", "weight_is_right_at_the_ends",
       generator="(t - 1)*log(t)",
       value=lambda self, log_p, log_q: ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1),
       weight=lambda self, log_p, log_q: (log_p.exp() * (log_p - log_q + 1) - log_q.exp()) / 2)


@found_by("dual_swaps_the_arguments")
class JensenShannonInBits:
    """Both in bits, and declared in nats."""

    generator = "(t*log(t) - (1 + t)*log((1 + t)/2))/2"

    def value(self, log_p, log_q):
        middle = torch.logaddexp(log_p, log_q) - math.log(2)
        terms = log_p.exp() * (log_p - middle) + log_q.exp() * (log_q - middle)
        return terms.sum(-1) / (2 * math.log(2))

    def weight(self, log_p, log_q):
        middle = torch.logaddexp(log_p, log_q) - math.log(2)
        return log_p.exp() * (log_p - middle) / (2 * math.log(2))


@found_by("dual_swaps_the_arguments")
class SkewSwapped:
    """The skew of p given to q."""

    generator = "t*log(t)/4 - (t/4 + 3/4)*log(t/4 + 3/4)"

    def value(self, log_p, log_q):
        share = 3 / 4
        p, q = log_p.exp(), log_q.exp()
        middle = (share * p + (1 - share) * q).log()
        return (share * p * (log_p - middle) + (1 - share) * q * (log_q - middle)).sum(-1)

    def weight(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return 3 / 4 * p * (log_p - (3 / 4 * p + q / 4).log())


class Power:
    """(sum p^a q^(1 - a) - 1)/(a (a - 1))."""

    order = 0.5

    def value(self, log_p, log_q):
        a = self.order
        return ((a * log_p + (1 - a) * log_q).exp().sum(-1) - 1) / (a * (a - 1))

    def weight(self, log_p, log_q):
        a = self.order
        return ((a * log_p + (1 - a) * log_q).exp() - log_p.exp()) / (a - 1)


@found_by("value_changes_as_the_weights_say")
class WeightOfAnotherOrder(Power):
    def weight(self, log_p, log_q):
        other = Power()
        other.order = 0.501
        return other.weight(log_p, log_q)


change(Power, "OrderAndItsComplement", "dual_swaps_the_arguments", doc="The order of p is taken for that of q.",
       generator="(t**(3/10) - 1)/(-21/100)",
       order=0.7)
change(Power, "NormaliserForgotten", "dual_swaps_the_arguments",
       doc="Without 1/a: as in (sum p^a q^(1 - a) - 1)/(a - 1).",
       generator="(t**(1/2) - 1)*(-4)",
       value=lambda self, log_p, log_q: Power.value(self, log_p, log_q) / 2)
change(ReverseKL, "ValueOfTheUnnormalised", "value_is_zero_only_at_equality",
       doc="The generator without f(1) = 0 times the number of classes.",
       value=lambda self, log_p, log_q: ReverseKL.value(self, log_p, log_q) + log_p.shape[-1])
change(object, "TotalVariationDoubled", "value_changes_as_the_weights_say",
       declaration=Declaration(smooth=False),
       value=lambda self, log_p, log_q: (log_p.exp() - log_q.exp()).abs().sum(-1) / 2,
       weight=lambda self, log_p, log_q: log_p.exp() * (log_p - log_q).sign())
change(Hellinger, "GeneratorWithADent", "generator_is_convex", doc="Concave near t = 1.4.",
       generator=(t - 1) ** 2 - sp.exp(-1000 * (t - sp.Rational(7, 5)) ** 2) / 100)
change(Negative, "ConcaveGenerator", "generator_is_convex",
       generator=-t * sp.log(t))


@found_by("weight_is_homogeneous")
def weight_as_printed():
    """The Jensen-Shannon weight of the paper, which lacks a factor p."""
    return fg.divergence("js_printed")
