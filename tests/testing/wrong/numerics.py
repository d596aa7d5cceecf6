"""Right in places: wrong in a regime, a dtype or a limit, or by what was added to avoid a logarithm of zero."""

import math

import torch

from fguidance.testing import Declaration
from tests.testing.wrong.base import KL, Hellinger, ReverseKL, Undeclared, after, changes, found_by, pq

change = changes(__name__)


@found_by("weight_matches_high_precision")
class OtherGaugeAtSaturation(KL):
    def weight(self, log_p, log_q):
        weight = super().weight(log_p, log_q)
        return torch.where(log_p.amax(-1, keepdim=True) > -1e-4, weight + log_p.exp(), weight)


change(KL, "SingleInside", "force_matches_high_precision",
       value=lambda self, log_p, log_q: KL.value(self, log_p.float(), log_q.float()).to(log_p.dtype),
       weight=lambda self, log_p, log_q: KL.weight(self, log_p.float(), log_q.float()).to(log_p.dtype))
change(ReverseKL, "SingleInsideUndeclared", "splitting_a_class_changes_nothing",
       value=lambda self, log_p, log_q: ReverseKL.value(self, log_p.float(), log_q.float()).to(log_p.dtype),
       weight=lambda self, log_p, log_q: ReverseKL.weight(self, log_p.float(), log_q.float()).to(log_p.dtype))


@found_by("value_is_right_near_equality")
class EntropiesThatCancel:
    """Jensen-Shannon as a difference of entropies, which are as large as log of the number of classes."""

    generator = "(t*log(t) - (1 + t)*log((1 + t)/2))/2"

    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        m = (p + q) / 2
        return ((p * p.log()).sum(-1) + (q * q.log()).sum(-1)) / 2 - (m * m.log()).sum(-1)

    def weight(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return p * (2 * p / (p + q)).log() / 2


@found_by("dtypes_agree")
class NearlyForwardKL:
    """alpha = 1 + 1e-7 by the plain formula, which loses most digits."""

    generator = "t*log(t)"
    order = 1 + 1e-7

    def value(self, log_p, log_q):
        a = self.order
        return ((log_p * a + log_q * (1 - a)).exp().sum(-1) - 1) / (a * (a - 1))

    def weight(self, log_p, log_q):
        a = self.order
        return log_p.exp() * (((log_p - log_q) * (a - 1)).exp() - 1) / (a - 1)


change(KL, "LimitTakenTooEarly", "force_is_right_at_saturation",
       doc="The limit at alpha = 1 used for alpha = 1.0005.",
       generator="(t**(10005/10000) - t)/(10005/10000*5/10000)")


@found_by("value_is_bounded_as_declared", "force_is_gradient_of_value")
class AddsALot(KL):
    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return (p * ((p + 1e-3) / (q + 1e-3)).log()).sum(-1)


change(AddsALot, "AddsALotThroughout", "weight_is_zero_at_equality",
       generator=None,
       weight=pq(lambda p, q: p * (((p + 0.001) / (q + 0.001)).log() + p / (p + 0.001))))


@found_by("weight_is_zero_at_equality")
class AddsALittle(ReverseKL):
    """log(p + 1e-12), with the weight that belongs to it."""

    def value(self, log_p, log_q):
        return (log_q.exp() * (log_q - (log_p.exp() + 1e-12).log())).sum(-1)

    def weight(self, log_p, log_q):
        p = log_p.exp()
        return p - log_q.exp() * p / (p + 1e-12)


change(ReverseKL, "AddsALittleToTheValue", "merging_classes_never_raises_the_value",
       value=lambda self, log_p, log_q: (log_q.exp() * (log_q - (log_p.exp() + 1e-12).log())).sum(-1))


@found_by("weight_is_zero_at_equality", "curvature_is_that_of_the_generator")
class AddsALittleToTheTarget(Undeclared):
    def value(self, log_p, log_q):
        p = log_p.exp()
        return (p * (log_p - (log_q.exp() + 1e-8).log())).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() * (log_p - (log_q.exp() + 1e-8).log())


change(KL, "ClampsWeights", "saturation_is_as_declared",
       weight=lambda self, log_p, log_q: KL.weight(self, log_p.clamp_min(math.log(0.0001)), log_q))
change(ReverseKL, "ClampsThroughout", "weight_is_homogeneous",
       doc="At 1e-8, in the value and in the weight that belongs to it.",
       value=lambda self, log_p, log_q: ReverseKL.value(self, log_p.clamp_min(math.log(1e-08)), log_q),
       weight=lambda self, log_p, log_q: log_p.exp() - log_q.exp() * (log_p > math.log(1e-08)))
change(ReverseKL, "ClampsTheValueFarOut", "value_changes_as_the_weights_say", doc="At 1e-30.",
       value=lambda self, log_p, log_q: ReverseKL.value(self, log_p.clamp_min(math.log(1e-30)), log_q))
change(ReverseKL, "ClampsFarOutThroughout", "weight_is_homogeneous",
       doc="At 1e-30, in the value and in the weight that belongs to it.",
       value=lambda self, log_p, log_q: ReverseKL.value(self, log_p.clamp_min(math.log(1e-30)), log_q),
       weight=lambda self, log_p, log_q: log_p.exp() - log_q.exp() * (log_p > math.log(1e-30)))
change(KL, "ClampsTheRatio", "force_matches_high_precision",
       weight=lambda self, log_p, log_q: log_p.exp() * (log_p - log_q).clamp(-20, 20))
change(ReverseKL, "WrongFarTailOfTheValue", "value_is_bounded_as_declared",
       doc="Declared, and right to a log-ratio of 40.",
       generator="-log(t)",
       value=lambda self, log_p, log_q: ReverseKL.value(self, log_p.clamp_min(-40), log_q))
change(KL, "WrongBelowAThousandth", "value_matches_high_precision",
       value=lambda self, log_p, log_q: KL.value(self, log_p, log_q) * ((log_p - log_q).abs() > 0.002).all(-1))


@found_by("value_is_right_near_equality")
class QuadraticNearEquality(KL):
    """Chi-squared/2 instead of KL where p is close to q."""

    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        close = ((log_p - log_q).abs() < 0.05).all(-1)
        return torch.where(close, ((p - q) ** 2 / q).sum(-1) / 2, super().value(log_p, log_q))


change(object, "Overflows", "saturation_is_as_declared",
       generator="(t - 1)**2",
       value=pq(lambda p, q: ((p / q).pow(3) / (p / q).pow(3) * (p - q) ** 2 / q).sum(-1)),
       weight=pq(lambda p, q: 2 * p * (p - q) / q * ((p / q) ** 3 / (p / q) ** 3)))


@found_by("dtypes_agree")
class OverflowsInHalf:
    """Promised in float16, where the square of the ratio overflows."""

    generator = "(t - 1)**2"
    declaration = Declaration(dtypes=("float16", "float32", "float64"))

    def value(self, log_p, log_q):
        return (log_q.exp() * ((log_p - log_q).exp() ** 2 - 1)).sum(-1)

    def weight(self, log_p, log_q):
        ratio = (log_p - log_q).exp()
        return 2 * log_q.exp() * (ratio**2 - ratio)


change(KL, "PromisedInHalf", "finite_input_gives_no_nan",
       doc="log(p/q) of probabilities that half precision rounds to 0.",
       declaration=Declaration(dtypes=("float16", "float32", "float64")),
       weight=pq(lambda p, q: p * (p / q).log()))


@found_by("force_matches_high_precision")
class OnePerMilleForTwoToThree(KL):
    """Off by a thousandth for log-ratios between 1 and 1.2."""

    def weight(self, log_p, log_q):
        ratio = log_p - log_q
        return super().weight(log_p, log_q) * torch.where((ratio > 1) & (ratio < 1.2), 1.001, 1)


change(Undeclared, "OnePerMilleOverTen", "value_changes_as_the_weights_say",
       doc="Off by a thousandth for log-ratios above 5.",
       weight=after(lambda found, log_p, log_q: found * torch.where(log_p - log_q > 5, 1.001, 1)))
change(Undeclared, "OnePerMilleForSureTargets", "value_changes_as_the_weights_say",
       weight=after(lambda found, log_p, log_q: found * torch.where(log_q.amax(-1, keepdim=True) > -0.05, 1.001, 1)))
change(Hellinger, "OnePerMilleInSingle", "dtypes_agree",
       weight=after(lambda found, log_p, log_q: found * (1.001 if log_p.dtype == torch.float32 else 1)))
change(Hellinger, "OnePerMilleOfTheValueInSingle", "dtypes_agree",
       value=after(lambda found, log_p, log_q: found * (1.001 if log_p.dtype == torch.float32 else 1)))
change(Undeclared, "OnePerMilleForManyClasses", "weight_depends_on_its_class_alone",
       doc="Value and weight together, for more than five classes.",
       value=lambda self, log_p, log_q: Undeclared.value(self, log_p, log_q) * (1.001 if log_p.shape[-1] > 5 else 1),
       weight=lambda self, log_p, log_q: Undeclared.weight(self, log_p, log_q) * (1.001 if log_p.shape[-1] > 5 else 1))
change(Undeclared, "WeightForManyClasses", "weight_depends_on_its_class_alone",
       weight=lambda self, log_p, log_q: Undeclared.weight(self, log_p, log_q) * (1.001 if log_p.shape[-1] > 5 else 1))
change(Undeclared, "ValueForHundredsOfClasses", "splitting_a_class_changes_nothing",
       doc="As a sum that stops after 256 classes.",
       value=lambda self, log_p, log_q: Undeclared.value(self, log_p[..., :256], log_q[..., :256]))
change(KL, "WrongForTwoClasses", "dual_swaps_the_arguments",
       value=lambda self, log_p, log_q: KL.value(self, log_p, log_q) * (0.5 if log_p.shape[-1] == 2 else 1.0))


@found_by("weight_is_zero_at_equality")
class WrongForUniformTargets(Undeclared):
    def weight(self, log_p, log_q):
        uniform = (log_q == log_q[..., :1]).all(-1, keepdim=True)
        return torch.where(uniform, log_p.exp() * log_p, super().weight(log_p, log_q))


@found_by("weight_is_zero_at_equality")
class WrongForTargetsWithoutTies(Undeclared):
    """Takes every target to be label-smoothed."""

    def weight(self, log_p, log_q):
        label = log_q == log_q.amax(-1, keepdim=True)
        return super().weight(log_p, torch.where(label, log_q, log_q.amin(-1, keepdim=True)))


change(Undeclared, "WrongWhereAClassIsEqual", "weight_is_zero_at_equality",
       doc="The guard of 0/0 gives 1 instead of 0.",
       weight=after(lambda found, log_p, log_q: torch.where(log_p == log_q, log_p.exp(), found)))
change(Undeclared, "ValueWhereAClassIsEqual", "value_is_zero_only_at_equality",
       value=lambda self, log_p, log_q: Undeclared.value(self, log_p, log_q) + 0.01 * (log_p == log_q).any(-1))


@found_by("finite_input_gives_no_nan")
class NanFarOut(Hellinger):
    def value(self, log_p, log_q):
        far = (log_p - log_q).abs().amax(-1) > 5
        return super().value(log_p, log_q).masked_fill(far, torch.nan)


change(object, "ZeroTimesInfinity", "zeros_in_the_target_are_handled",
       doc="0 log 0 is NaN, though targets with zeros are promised.",
       declaration=Declaration(full_support=False),
       value=lambda self, log_p, log_q: (log_q.exp() * (log_q - log_p)).sum(-1),
       weight=lambda self, log_p, log_q: log_p.exp() - log_q.exp())


@found_by("zeros_in_the_target_are_handled")
class ZerosInTheTargetLeftOut:
    """Classes where the target is 0 are dropped, though their p counts: promised and wrong."""

    generator = "(sqrt(t) - 1)**2"
    declaration = Declaration(full_support=False)

    def value(self, log_p, log_q):
        terms = ((log_p / 2).exp() - (log_q / 2).exp()) ** 2
        return torch.where(log_q.isfinite(), terms, 0).sum(-1)

    def weight(self, log_p, log_q):
        return torch.where(log_q.isfinite(), log_p.exp() - ((log_p + log_q) / 2).exp(), 0)


@found_by("value_changes_as_the_weights_say")
class RoundedToSixDigits(Undeclared):
    def value(self, log_p, log_q):
        return super().value(log_p, log_q) + (super().value(log_p, log_q).mul(1e6).round() / 1e6
                                              - super().value(log_p, log_q)).detach()


@found_by("force_matches_high_precision")
class TruncatedSeries(KL):
    """log(1 + x) by five terms of its series where |x| < 0.1."""

    def weight(self, log_p, log_q):
        x = torch.expm1(log_p - log_q)
        series = x - x**2 / 2 + x**3 / 3 - x**4 / 4 + x**5 / 5
        return log_p.exp() * torch.where(x.abs() < 0.1, series, log_p - log_q)
