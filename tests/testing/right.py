"""Right divergences in the styles in which people write them: the suite must pass every one of them."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import sympy as sp
import torch
from scipy.special import logsumexp, rel_entr, xlogy

import fguidance as fg
from fguidance.testing import Declaration
from fguidance.testing.exact import t

LOG_2 = math.log(2)


class ReverseKL:
    """Three methods, nothing declared."""

    def value(self, log_p, log_q):
        return (log_q.exp() * (log_q - log_p)).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()

    def logit_gradient(self, logits, log_q):
        return torch.softmax(logits, -1) - log_q.exp()


class ForwardKL:
    generator = "t*log(t)"

    def value(self, log_p, log_q):
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() * (log_p - log_q)


class ForwardKLModule(torch.nn.Module):
    """A module whose parameter and buffer take no part in the result, with the plainly written force."""

    declaration = Declaration(generator="t*log(t)", full_support=True)

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()), requires_grad=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def value(self, log_p, log_q):
        self.calls += 1
        return torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)

    def weight(self, log_p, log_q):
        return self.scale.to(log_p.dtype) * log_p.exp() * (log_p - log_q)

    def logit_gradient(self, logits, log_q):
        log_p = logits.log_softmax(-1)
        weight = self.weight(log_p, log_q)
        return weight - log_p.exp() * weight.sum(-1, keepdim=True)


class KLFromTorchDistributions:
    generator = "t*log(t)"

    def value(self, log_p, log_q):
        here, there = (torch.distributions.Categorical(logits=log, validate_args=False) for log in (log_p, log_q))
        return torch.distributions.kl_divergence(here, there)

    def weight(self, log_p, log_q):
        return log_p.exp() * (log_p - log_q)


class ForceByAutograd:
    """The logit gradient is that of the value, by autograd."""

    generator = "(sqrt(t) - 1)**2"

    def value(self, log_p, log_q):
        return (((log_p / 2).exp() - (log_q / 2).exp()) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() - ((log_p + log_q) / 2).exp()

    def logit_gradient(self, logits, log_q):
        gradient = torch.func.grad(lambda logits: self.value(logits.log_softmax(-1), log_q).sum())
        return gradient(logits)


class HellingerByItsAffinity:
    """1 minus a sum, which loses its digits near p = q as ordinary rounding does."""

    generator = "2 - 2*sqrt(t)"

    def value(self, log_p, log_q):
        return 2 - 2 * ((log_p + log_q) / 2).exp().sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() - ((log_p + log_q) / 2).exp()


class Marton:
    """sum q (1 - p/q)^2 where p < q, whose second derivative jumps."""

    declaration = Declaration(smooth=False)

    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return ((q - p).clamp_min(0) ** 2 / q).sum(-1)

    def weight(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return -2 * p * (1 - p / q).clamp_min(0)


class MartonInNumpy(Marton):
    declaration = Declaration(smooth=False, array="numpy", kinks=(2.0,))

    def value(self, log_p, log_q):
        return (np.exp(log_q) * np.maximum(1 - np.exp(log_p - log_q), 0) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        return -2 * np.exp(log_p) * np.maximum(1 - np.exp(log_p - log_q), 0)


class VajdaBetweenTheOrders:
    """|t - 1|^1.5, whose second derivative is infinite at t = 1."""

    declaration = Declaration(smooth=False)

    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return ((p - q).abs() ** 1.5 / q.sqrt()).sum(-1)

    def weight(self, log_p, log_q):
        difference = log_p.exp() - log_q.exp()
        return 1.5 * log_p.exp() * difference.sign() * (difference.abs() / log_q.exp()).sqrt()


@dataclass(frozen=True)
class Power:
    """(sum p^a q^(1 - a) - 1)/(a (a - 1))."""

    order: float

    @property
    def generator(self):
        return (t ** sp.Rational(self.order) - 1) / (sp.Rational(self.order) * (sp.Rational(self.order) - 1))

    def value(self, log_p, log_q):
        a = self.order
        return ((a * log_p + (1 - a) * log_q).exp().sum(-1) - 1) / (a * (a - 1))

    def weight(self, log_p, log_q):
        a = self.order
        return ((a * log_p + (1 - a) * log_q).exp() - log_p.exp()) / (a - 1)


class UndeclaredPower:
    """As above with p**a, and nothing declared."""

    def __init__(self, order):
        self.order = order

    def value(self, log_p, log_q):
        a, p, q = self.order, log_p.exp(), log_q.exp()
        return ((p**a * q ** (1 - a)).sum(-1) - 1) / (a * (a - 1))

    def weight(self, log_p, log_q):
        a, p, q = self.order, log_p.exp(), log_q.exp()
        return p * ((p / q) ** (a - 1) - 1) / (a - 1)


class JensenShannon:
    """By the logarithm of the mixture, promised in float32 too."""

    generator = "(t*log(t) - (1 + t)*log((1 + t)/2))/2"
    declaration = Declaration(symmetric=True, bounded=True, saturation="vanishes")

    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        middle = ((p + q) / 2).log()
        return (p * (log_p - middle) + q * (log_q - middle)).sum(-1) / 2

    def weight(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return p * (log_p - ((p + q) / 2).log()) / 2


class JensenShannonInDouble:
    declaration = Declaration(
        generator="(t*log(t) - (1 + t)*log((1 + t)/2))/2", dtypes=("float64",), symmetric=True, bounded=True
    )

    def value(self, log_p, log_q):
        log_m = torch.logaddexp(log_p, log_q) - LOG_2
        return ((log_p.exp() * (log_p - log_m)).sum(-1) + (log_q.exp() * (log_q - log_m)).sum(-1)) / 2

    def weight(self, log_p, log_q):
        return log_p.exp() * (log_p - torch.logaddexp(log_p, log_q) + LOG_2) / 2


class JensenShannonInBits(JensenShannonInDouble):
    declaration = Declaration(symmetric=True, bounded=True)

    def value(self, log_p, log_q):
        return super().value(log_p, log_q) / LOG_2

    def weight(self, log_p, log_q):
        return super().weight(log_p, log_q) / LOG_2


class SkewedJensenShannon:
    """Skew 1/4 on p."""

    generator = "t*log(t)/4 - (t/4 + 3/4)*log(t/4 + 3/4)"

    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        middle = (p / 4 + 3 * q / 4).log()
        return (p / 4 * (log_p - middle) + 3 * q / 4 * (log_q - middle)).sum(-1)

    def weight(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return p * (log_p - (p / 4 + 3 * q / 4).log()) / 4


class Jeffreys:
    declaration = Declaration(symmetric=True, saturation="stays", bounded=False)

    def value(self, log_p, log_q):
        return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)

    def weight(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return p * (log_p - log_q) + p - q


class VajdaInPlainPowers:
    """(p/q)^4 overflows at log-ratios that the check of the ends still asks for."""

    generator = "(t - 1)**4"

    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return (q * (p / q - 1) ** 4).sum(-1)

    def weight(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return 4 * p * (p / q - 1) ** 3


class Triangular:
    """The plain quotient."""

    generator = "(t - 1)**2/(t + 1)"

    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return ((p - q) ** 2 / (p + q)).sum(-1)

    def weight(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return p * (p - q) * (p + 3 * q) / (p + q) ** 2


class Neyman:
    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return ((p - q) ** 2 / p).sum(-1)

    def weight(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return p - q**2 / p


class NeymanByTheRatio:
    generator = "(t - 1)**2/t"

    def value(self, log_p, log_q):
        ratio = (log_p - log_q).exp()
        return (log_q.exp() * (ratio - 1) ** 2 / ratio).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() * (1 - (log_q - log_p).exp() ** 2)


class TotalVariation:
    declaration = Declaration(smooth=False, symmetric=True, bounded=True)

    def value(self, log_p, log_q):
        return (log_p.exp() - log_q.exp()).abs().sum(-1) / 2

    def weight(self, log_p, log_q):
        return log_p.exp() * torch.sign(log_p - log_q) / 2


class DeclaredWithAKink(TotalVariation):
    declaration = Declaration(generator="abs(t - 1)/2", smooth=False, symmetric=True, bounded=True)


class Matusita:
    """Of the order 3: sum |p^(1/3) - q^(1/3)|^3."""

    declaration = Declaration(generator="abs(t**(1/3) - 1)**3", smooth=False, bounded=True)

    def value(self, log_p, log_q):
        return ((log_p / 3).exp() - (log_q / 3).exp()).abs().pow(3).sum(-1)

    def weight(self, log_p, log_q):
        change = 1 - ((log_q - log_p) / 3).exp()
        return log_p.exp() * change.square() * change.sign()


class PaperReverseKL(ReverseKL):
    """With the weight -q, which is that of the gauge f'(1) = -1."""

    declaration = Declaration(generator="-log(t)", gauge=-1.0)

    def weight(self, log_p, log_q):
        return -log_q.exp()


class ScaledKL(ForwardKL):
    """A divergence of very small or very large numbers."""

    def __init__(self, factor, declared=True):
        self.factor = float(factor)
        self.generator = factor * t * sp.log(t) if declared else None

    def value(self, log_p, log_q):
        return self.factor * super().value(log_p, log_q)

    def weight(self, log_p, log_q):
        return self.factor * super().weight(log_p, log_q)


class ForwardKLInItsOwnGauge(ForwardKL):
    declaration = Declaration(gauge=1.0)

    def weight(self, log_p, log_q):
        return log_p.exp() * (log_p - log_q + 1)


class WithZeros:
    """Guards the 0 log 0 of the target, and promises it."""

    declaration = Declaration(generator="-log(t)", full_support=False)

    def value(self, log_p, log_q):
        q = log_q.exp()
        return (torch.special.xlogy(q, q) - q * log_p).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()


class GuardedZeros(WithZeros):
    """The same by where."""

    def value(self, log_p, log_q):
        q = log_q.exp()
        return torch.where(q > 0, q * (torch.where(q > 0, log_q, 0) - log_p), 0).sum(-1)


class InHalf:
    """Computed in float32 and returned in the dtype that came in."""

    declaration = Declaration(generator="(sqrt(t) - 1)**2", dtypes=("float16", "bfloat16", "float32", "float64"))

    def value(self, log_p, log_q):
        wide = log_p.double(), log_q.double()
        return (((wide[0] / 2).exp() - (wide[1] / 2).exp()) ** 2).sum(-1).to(log_p.dtype)

    def weight(self, log_p, log_q):
        wide = log_p.double(), log_q.double()
        return (wide[0].exp() - ((wide[0] + wide[1]) / 2).exp()).to(log_p.dtype)


class InHalfWithAForce(ReverseKL):
    declaration = Declaration(dtypes=("float16", "bfloat16", "float32", "float64"))

    def logit_gradient(self, logits, log_q):
        return logits.softmax(-1) - log_q.exp()


class InFloat16Alone(InHalfWithAForce):
    declaration = Declaration(dtypes=("float16",))


class InBrainFloatAlone(ReverseKL):
    declaration = Declaration(dtypes=("bfloat16",))


class HockeyStick:
    """sum (p - 2 q) where p > 2 q, whose generator is 0 around t = 1."""

    declaration = Declaration(smooth=False, kinks=(2.0,))

    def value(self, log_p, log_q):
        return torch.relu(log_p.exp() - 2 * log_q.exp()).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() * torch.sigmoid(torch.where(log_p > log_q + math.log(2), 1e4, -1e4) + 0 * log_p)


class KumarChhina:
    """With the generator, whose convexity ball arithmetic does not decide."""

    generator = "(t + 1)*(t - 1)**2/t*log((t + 1)/(2*sqrt(t)))"

    def value(self, log_p, log_q):
        p, q = log_p.exp(), log_q.exp()
        return ((p + q) * (p - q) ** 2 / (p * q) * (torch.log((p + q) / 2) - (log_p + log_q) / 2)).sum(-1)

    def weight(self, log_p, log_q):
        ratio = (log_p - log_q).exp()
        first = (2 * ratio - 1 - ratio**-2) * (torch.log((ratio + 1) / 2) - (log_p - log_q) / 2)
        second = (ratio + 1) * (ratio - 1) ** 2 / ratio * (1 / (ratio + 1) - 1 / (2 * ratio))
        return log_p.exp() * (first + second)


class StaticMethods:
    @staticmethod
    def value(log_p, log_q):
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    @staticmethod
    def weight(log_p, log_q):
        return log_p.exp() * torch.sub(log_p, log_q)


class ByUnbinding:
    """Class by class, so that rounding grows with their number."""

    def value(self, log_p, log_q):
        terms = (log_q.exp() * (log_q - log_p)).unbind(-1)
        return sum(terms[1:], terms[0])

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()


class ByEinsum:
    """A named axis by einsum, no generator."""

    def value(self, log_p, log_q):
        return torch.einsum("...c,...c->...", log_p.exp(), log_p - log_q)

    def weight(self, log_p, log_q):
        return torch.mul(log_p.exp(), log_p - log_q)


class ByCustomFunction:
    """A value with a gradient written by hand."""

    class Function(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(log_p, log_q):
            return (log_q.exp() * (log_q - log_p)).sum(-1)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[1])

        @staticmethod
        def backward(ctx, gradient):
            return -ctx.saved_tensors[0].exp() * gradient[..., None], None

    def value(self, log_p, log_q):
        return self.Function.apply(log_p, log_q)

    def weight(self, log_p, log_q):
        return log_p.exp() - log_q.exp()


class NotMeantForAutograd(ForwardKL):
    declaration = Declaration(differentiable=False)

    @torch.no_grad()
    def value(self, log_p, log_q):
        return super().value(log_p, log_q)


class HellingerInNumpy:
    generator = "(sqrt(t) - 1)**2"

    def value(self, log_p, log_q):
        return ((np.exp(log_p / 2) - np.exp(log_q / 2)) ** 2).sum(-1)

    def weight(self, log_p, log_q):
        return np.exp(log_p) - np.exp((log_p + log_q) / 2)

    def logit_gradient(self, logits, log_q):
        log_p = logits - logsumexp(logits, axis=-1, keepdims=True)
        weight = self.weight(log_p, log_q)
        return weight - np.exp(log_p) * weight.sum(-1, keepdims=True)


class KLInScipy:
    generator = t * sp.log(t)

    def value(self, log_p, log_q):
        return rel_entr(np.exp(log_p), np.exp(log_q)).sum(axis=-1)

    def weight(self, log_p, log_q):
        return xlogy(np.exp(log_p), np.exp(log_p - log_q))


class JensenShannonInScipy:
    declaration = Declaration(symmetric=True, array="numpy")

    def value(self, log_p, log_q):
        p, q = np.exp(log_p), np.exp(log_q)
        middle = (p + q) / 2
        return 0.5 * np.sum(rel_entr(p, middle) + rel_entr(q, middle), axis=-1)

    def weight(self, log_p, log_q):
        p, q = np.exp(log_p), np.exp(log_q)
        return xlogy(p, 2 * p / (p + q)) / 2


class VincentBlended:
    """A generator with an unusual symbol, 2 (t - 1)^2/(t + 1)."""

    x = sp.Symbol("x", positive=True)
    generator = 2 * (x - 1) ** 2 / (x + 1)

    def value(self, log_p, log_q):
        return 2 * Triangular().value(log_p, log_q)

    def weight(self, log_p, log_q):
        return 2 * Triangular().weight(log_p, log_q)


class SafeRatios:
    """log-domain, faithful at every ratio: f' = log((1 + t)/2) as softplus(u) - log 2."""

    declaration = Declaration(generator="(1 + t)*log((1 + t)/2) - t + 1", gauge=0.0)

    def value(self, log_p, log_q):
        half = torch.logaddexp(log_p, log_q) - LOG_2
        p, q = log_p.exp(), log_q.exp()
        return ((p + q) * (half - log_q) - p + q).sum(-1)

    def weight(self, log_p, log_q):
        return log_p.exp() * (torch.nn.functional.softplus(log_p - log_q, threshold=1000) - LOG_2)


def pearson_value(log_p, log_q):
    return ((log_p.exp() - log_q.exp()) ** 2 / log_q.exp()).sum(-1)


def pearson_weight(log_p, log_q):
    return 2 * log_p.exp() * torch.expm1(log_p - log_q)


def exclusive_value(log_p, log_q):
    return torch.nn.functional.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)


def softplus_force(logits, log_q):
    return torch.softmax(logits, -1) - log_q.exp()


def lambdas():
    return (
        lambda log_p, log_q: (log_q.exp() * (log_q - log_p)).sum(-1),
        lambda log_p, log_q: log_p.exp() - log_q.exp(),
        lambda logits, log_q: logits.softmax(-1) - log_q.exp(),
    )


def compiled():
    """Through torch.compile, with the backend that needs no compiler."""
    return (
        pearson_value,
        torch.compile(pearson_weight, backend="eager", dynamic=True),
    )


def scripted_namespace():
    return SimpleNamespace(
        value=pearson_value, weight=pearson_weight, generator="(t - 1)**2", name="a namespace", declaration=None
    )


def in_single(program):
    """The same promised in float32 alone."""
    kept = getattr(program, "declaration", None) or Declaration()
    if kept.generator is None:
        kept = kept.with_changes(generator=getattr(program, "generator", None))
    return SimpleNamespace(
        value=program.value, weight=program.weight, declaration=kept.with_changes(dtypes=("float32",)),
        name=f"{type(program).__name__} in float32",
    )  # fmt: skip


BY_HAND = [
    ReverseKL, ForwardKL, ForwardKLModule(), KLFromTorchDistributions(), ForceByAutograd(), HellingerByItsAffinity(),
    Power(2.5), Power(-1.5), Power(0.25), UndeclaredPower(3.0), UndeclaredPower(0.7), JensenShannon(),
    JensenShannonInDouble, JensenShannonInBits(), SkewedJensenShannon(), Jeffreys(), Triangular(), Neyman(),
    VajdaInPlainPowers(),
    NeymanByTheRatio(), TotalVariation(), PaperReverseKL(), ForwardKLInItsOwnGauge(), ScaledKL(10**7),
    ScaledKL(1e-14, declared=False), ScaledKL(1e7, declared=False), WithZeros(), GuardedZeros(), InHalf(),
    StaticMethods, ByEinsum(), ByCustomFunction(), NotMeantForAutograd(), HellingerInNumpy(),
    KLInScipy(), JensenShannonInScipy(), VincentBlended(), SafeRatios(), (pearson_value, pearson_weight),
    (exclusive_value, ReverseKL().weight, softplus_force), lambdas(), compiled(), scripted_namespace(),
    *map(in_single, (
        ForwardKL(), ReverseKL(), HellingerByItsAffinity(), Power(2.5), UndeclaredPower(0.7), UndeclaredPower(1.1),
        UndeclaredPower(1.2), JensenShannon(), Jeffreys(), Triangular(), Neyman(), VajdaInPlainPowers(),
        TotalVariation(), PaperReverseKL(), WithZeros(), ByCustomFunction(), HellingerInNumpy(), KLInScipy(),
    )),
    Power(1.1), Power(1.2), VajdaBetweenTheOrders(), Marton(), MartonInNumpy(),
    DeclaredWithAKink(), Matusita(), InHalfWithAForce(), InFloat16Alone(), InBrainFloatAlone(),
    HockeyStick(), KumarChhina(), ByUnbinding(),
]  # fmt: skip
"""Programs."""

_x = sp.Symbol("x")
DERIVED = [
    "t*log(t) - t + 1",
    "(t - 1)**2/(t + 1) - log(t)/10",
    "1e-7*(t - 1)**2",
    "sqrt((t - 1)**2 + 1e-12) - 1e-6",
    "exp(1/t) - e",
    _x * sp.log(_x) - (1 + _x) * sp.log((1 + _x) / 2),
]
"""Generators, as text and as SymPy expressions."""

REGISTERED = [
    *(fg.divergence(name) for name in fg.divergence_names() if name != "js_printed"),
    fg.divergence("alpha", alpha=0.999999),
]
"""This library's own."""

RIGHT = [*BY_HAND, *DERIVED, *REGISTERED]
