"""Wrong divergences and wrong implementations, each with its mistake: the suite must fail every one of them."""

import math

import numpy as np
import torch

import fguidance as fg


class KL:
    """sum p log(p/q), right: the wrong ones below change one thing in it."""

    generator = "t*log(t)"

    def value(self, log_p, log_q):
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() * (log_p - log_q)

    def logit_gradient(self, logits, log_q):
        log_p = logits.log_softmax(-1)
        weight = self.weight(log_p, log_q)
        return weight - log_p.exp() * weight.sum(-1, keepdim=True)


class Undeclared(KL):
    """The same without a generator, so that only consistency can find a mistake."""

    generator = None


class WeightSign(Undeclared):
    def weight(self, log_p, log_q):
        return -super().weight(log_p, log_q)


class WeightFactor(Undeclared):
    def weight(self, log_p, log_q):
        return 2 * super().weight(log_p, log_q)


class ValueFactor(KL):
    def value(self, log_p, log_q):
        return 2 * super().value(log_p, log_q)


class BothFactor(ValueFactor):
    def weight(self, log_p, log_q):
        return 2 * super().weight(log_p, log_q)


class SwappedInValue(Undeclared):
    def value(self, log_p, log_q):
        return super().value(log_q, log_p)


class SwappedInWeight(Undeclared):
    def weight(self, log_p, log_q):
        return super().weight(log_q, log_p)


class SwappedThroughout(KL):
    def value(self, log_p, log_q):
        return super().value(log_q, log_p)

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()


class NotCentred(Undeclared):
    def logit_gradient(self, logits, log_q):
        return self.weight(logits.log_softmax(-1), log_q)


class CentredByTheMean(Undeclared):
    def logit_gradient(self, logits, log_q):
        weight = self.weight(logits.log_softmax(-1), log_q)
        return weight - weight.mean(-1, keepdim=True)


class CentredByTheTarget(Undeclared):
    def logit_gradient(self, logits, log_q):
        weight = self.weight(logits.log_softmax(-1), log_q)
        return weight - log_q.exp() * weight.sum(-1, keepdim=True)


class NotInGauge(KL):
    def weight(self, log_p, log_q):
        return log_p.exp() * (log_p - log_q + 1)


class OtherGaugeAtSaturation(KL):
    def weight(self, log_p, log_q):
        weight = super().weight(log_p, log_q)
        return torch.where(log_p.amax(-1, keepdim=True) > -1e-4, weight + log_p.exp(), weight)


class SingleInside(KL):
    def value(self, log_p, log_q):
        return super().value(log_p.float(), log_q.float()).to(log_p.dtype)

    def weight(self, log_p, log_q):
        return super().weight(log_p.float(), log_q.float()).to(log_p.dtype)


class SingleInForce(KL):
    def logit_gradient(self, logits, log_q):
        return super().logit_gradient(logits.float(), log_q.float()).to(logits.dtype)


class CancellingValue:
    generator = "(t*log(t) - (1 + t)*log((1 + t)/2))/2"

    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        m = (p + q) / 2
        return ((p * p.log()).sum(-1) + (q * q.log()).sum(-1)) / 2 - (m * m.log()).sum(-1)

    def weight(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return p * (2 * p / (p + q)).log() / 2


class NearlyFKL:
    """alpha = 1 + 1e-7 by the plain formula, which loses most digits."""

    declaration_alpha = 1 + 1e-7
    generator = "t*log(t)"

    def value(self, log_p, log_q):
        a = self.declaration_alpha
        return ((log_p * a + log_q * (1 - a)).exp().sum(-1) - 1) / (a * (a - 1))

    def weight(self, log_p, log_q):
        a = self.declaration_alpha
        return log_p.exp() * (((log_p - log_q) * (a - 1)).exp() - 1) / (a - 1)


class WrongLimit(KL):
    """alpha = 1 taken for the other limit."""

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()


class StaleSoftmax(KL):
    def __init__(self):
        self.kept = None

    def logit_gradient(self, logits, log_q):
        if self.kept is None or self.kept.shape != logits.shape:
            self.kept = logits.log_softmax(-1)
        weight = self.weight(self.kept, log_q)
        return weight - self.kept.exp() * weight.sum(-1, keepdim=True)


class CachedByIdentity(KL):
    def __init__(self):
        self.kept = {}

    def weight(self, log_p, log_q):
        key = log_p.data_ptr()
        if key not in self.kept or self.kept[key][0] is not log_p:
            self.kept[key] = (log_p, super().weight(log_p, log_q))
        return self.kept[key][1]


class BatchAxisInValue(KL):
    def value(self, log_p, log_q):
        return (log_p.exp() * (log_p - log_q)).sum(0)


class BatchAxisInForce(KL):
    def logit_gradient(self, logits, log_q):
        log_p = logits.log_softmax(-1)
        weight = self.weight(log_p, log_q)
        return weight - log_p.exp() * weight.sum(0, keepdim=True)


class SoftmaxOverTheBatch(KL):
    def logit_gradient(self, logits, log_q):
        log_p = logits.log_softmax(0)
        weight = self.weight(log_p, log_q)
        return weight - log_p.exp() * weight.sum(-1, keepdim=True)


class MeanOverTheBatch(KL):
    def value(self, log_p, log_q):
        return super().value(log_p, log_q).mean()


class HidesNan(KL):
    def value(self, log_p, log_q):
        return super().value(log_p, log_q).nan_to_num(0.0)

    def weight(self, log_p, log_q):
        return super().weight(log_p, log_q).nan_to_num(0.0)


class ModifiesItsInput(KL):
    def weight(self, log_p, log_q):
        log_p.sub_(log_q)
        return (log_p + log_q).exp() * log_p


class ModifiesTheTarget(KL):
    def value(self, log_p, log_q):
        found = super().value(log_p, log_q)
        log_q.clamp_(min=-1.0)
        return found


class ModifiesTheLogits(KL):
    def logit_gradient(self, logits, log_q):
        logits -= logits.logsumexp(-1, keepdim=True)
        return super().logit_gradient(logits, log_q)


class AddsEpsilon(KL):
    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return (p * ((p + 1e-3) / (q + 1e-3)).log()).sum(-1)


class AddsEpsilonThroughout(AddsEpsilon):
    generator = None

    def weight(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return p * (((p + 1e-3) / (q + 1e-3)).log() + p / (p + 1e-3))


class ClampsProbabilities(KL):
    def weight(self, log_p, log_q):
        return super().weight(log_p.clamp_min(math.log(1e-4)), log_q)


class LogarithmToBaseTwo(Undeclared):
    def weight(self, log_p, log_q):
        return super().weight(log_p, log_q) / math.log(2)


class MeanOverClasses(Undeclared):
    def value(self, log_p, log_q):
        return (log_p.exp() * (log_p - log_q)).mean(-1)


class ForgetsTheLastClass(Undeclared):
    def value(self, log_p, log_q):
        return (log_p.exp() * (log_p - log_q))[..., :-1].sum(-1)


class OnlyTheLabel(Undeclared):
    def weight(self, log_p, log_q):
        hot = torch.nn.functional.one_hot(log_q.argmax(-1), log_q.shape[-1])
        return super().weight(log_p, log_q) * hot


class WeightOfTheDual(Undeclared):
    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()


class WeightWithoutP(Undeclared):
    def weight(self, log_p, log_q):
        return log_p - log_q


class WeightTimesQ(Undeclared):
    def weight(self, log_p, log_q):
        return log_q.exp() * (log_p - log_q)


class DetachedValue(Undeclared):
    def value(self, log_p, log_q):
        return (log_p.exp().detach() * (log_p - log_q)).sum(-1)


class TemperatureForgotten(Undeclared):
    def logit_gradient(self, logits, log_q):
        return super().logit_gradient(logits / 2, log_q)


class NotConvex:
    """p log(p/q)^2: its generator t log(t)^2 is concave below t = 1/e."""

    def value(self, log_p, log_q):
        return (log_p.exp() * (log_p - log_q) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        ratio = log_p - log_q
        return log_p.exp() * (ratio**2 + 2 * ratio)


class Negative(Undeclared):
    def value(self, log_p, log_q):
        return -super().value(log_p, log_q)

    def weight(self, log_p, log_q):
        return -super().weight(log_p, log_q)


class NotZeroAtEquality(Undeclared):
    def value(self, log_p, log_q):
        return super().value(log_p, log_q) + 0.1


class Euclidean:
    def value(self, log_p, log_q):
        return ((log_p.exp() - log_q.exp()) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        p = log_p.exp()
        return 2 * p * (p - log_q.exp())


class WassersteinOnIndices:
    def value(self, log_p, log_q):
        return (log_p.exp() - log_q.exp()).cumsum(-1).abs().sum(-1)

    def weight(self, log_p, log_q):
        sign = (log_p.exp() - log_q.exp()).cumsum(-1).sign()
        return log_p.exp() * sign.flip(-1).cumsum(-1).flip(-1)


class Bhattacharyya:
    def value(self, log_p, log_q):
        return -torch.logsumexp((log_p + log_q) / 2, -1)

    def weight(self, log_p, log_q):
        return -torch.softmax((log_p + log_q) / 2, -1) / 2 + log_p.exp() / 2


class ItakuraSaito:
    def value(self, log_p, log_q):
        return ((log_p - log_q).exp() - (log_p - log_q) - 1).sum(-1)

    def weight(self, log_p, log_q):
        return (log_p - log_q).exp() - 1


class DeclaredSymmetric(KL):
    declaration = None

    def __init__(self):
        from fguidance.testing import Declaration

        self.declaration = Declaration(symmetric=True)


class DeclaredBounded(DeclaredSymmetric):
    generator = None

    def __init__(self):
        from fguidance.testing import Declaration

        self.declaration = Declaration(bounded=True)


class DeclaredToStay(DeclaredSymmetric):
    def __init__(self):
        from fguidance.testing import Declaration

        self.declaration = Declaration(saturation="stays")


class Noisy(KL):
    def weight(self, log_p, log_q):
        weight = super().weight(log_p, log_q)
        return weight * (1 + 1e-9 * torch.rand_like(weight))


class AlwaysDouble(KL):
    def weight(self, log_p, log_q):
        return super().weight(log_p.double(), log_q.double())


class KeepsTheClassAxis(KL):
    def value(self, log_p, log_q):
        return super().value(log_p, log_q)[..., None]


class PythonFloat(KL):
    def value(self, log_p, log_q):
        return float(super().value(log_p, log_q))


class BreaksUnderVmap(KL):
    def weight(self, log_p, log_q):
        if float(log_p.max()) > 0.5:
            raise ValueError("log_p must be at most 0")
        return super().weight(log_p, log_q)


class WrongBeyondTwenty(KL):
    def weight(self, log_p, log_q):
        ratio = log_p - log_q
        return log_p.exp() * ratio.clamp(-20, 20)


class WrongBelowAThousandth(KL):
    def value(self, log_p, log_q):
        ratio = log_p - log_q
        kept = (ratio.abs() > 2e-3).all(-1)
        return super().value(log_p, log_q) * kept


class Overflows:
    generator = "(t - 1)**2"

    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return ((p / q).pow(3) / (p / q).pow(3) * (p - q) ** 2 / q).sum(-1)

    def weight(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return 2 * p * (p - q) / q * ((p / q) ** 3 / (p / q) ** 3)


class OffByOneClass(KL):
    def weight(self, log_p, log_q):
        return super().weight(log_p, log_q).roll(1, -1)


class WrongForTwoClasses(KL):
    def value(self, log_p, log_q):
        return super().value(log_p, log_q) * (0.5 if log_p.shape[-1] == 2 else 1.0)


class WrongForTies(Undeclared):
    def logit_gradient(self, logits, log_q):
        force = super().logit_gradient(logits, log_q)
        ties = (logits == logits.amax(-1, keepdim=True)).sum(-1, keepdim=True)
        return force / ties


class WrongForZeros:
    """0 log 0 is NaN, though targets with zeros are promised."""

    def __init__(self):
        from fguidance.testing import Declaration

        self.declaration = Declaration(full_support=False)

    def value(self, log_p, log_q):
        return (log_q.exp() * (log_q - log_p)).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()


class InNumpyWithASign:
    generator = "-log(t)"

    def value(self, log_p, log_q):
        return np.sum(np.exp(log_q) * (log_q - log_p), -1)

    def weight(self, log_p, log_q):
        return np.exp(log_q) - np.exp(log_p)


class InNumpyInPlace(InNumpyWithASign):
    def weight(self, log_p, log_q):
        np.exp(log_p, out=log_p)
        return log_p - np.exp(log_q)


class Raises(KL):
    def weight(self, log_p, log_q):
        if log_p.shape[-1] > 4:
            raise RuntimeError("too many classes")
        return super().weight(log_p, log_q)


class ReturnsNone(KL):
    def weight(self, log_p, log_q):
        return None


def paper_weight_for_js():
    return fg.divergence("js_printed")


paper_weight_for_js.__name__ = "PaperWeightForJS"

_HELPERS = (KL, Undeclared)
WRONG = [
    found
    for found in list(globals().values())
    if isinstance(found, type) and found.__module__ == __name__ and found not in _HELPERS
] + [paper_weight_for_js]
