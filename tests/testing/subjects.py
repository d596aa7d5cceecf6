"""Programs of divergences as people write them: right ones, and wrong ones with the checks that must find them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from fguidance.symbolic import t
from fguidance.testing import Declaration

Array = NDArray[Any]


class ForwardKL:
    """sum p log(p/q)."""

    generator: Any = "t*log(t)"

    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return log_p.exp() * (log_p - log_q)


class ForwardKLWithForce(ForwardKL):
    """The same with the plainly written force."""

    declaration = Declaration(full_support=True)

    def logit_gradient(self, logits: Tensor, log_q: Tensor) -> Tensor:
        log_p = logits.log_softmax(-1)
        weights = self.weight(log_p, log_q)
        return weights - log_p.exp() * weights.sum(-1, keepdim=True)


class ReverseKL:
    """sum q log(q/p), which gives 0 times infinity where q = 0."""

    generator = "-log(t)"
    declaration = Declaration(full_support=True)

    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return (log_q.exp() * (log_q - log_p)).sum(-1)

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return log_p.exp() - log_q.exp()


class Pearson:
    """sum (p - q)^2/q."""

    generator = "(t - 1)**2"

    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return ((log_p.exp() - log_q.exp()) ** 2 / log_q.exp()).sum(-1)

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return 2 * log_p.exp() * ((log_p - log_q).exp() - 1)


class Hellinger:
    """sum (sqrt p - sqrt q)^2, without a generator."""

    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return (((log_p / 2).exp() - (log_q / 2).exp()) ** 2).sum(-1)

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return log_p.exp() - ((log_p + log_q) / 2).exp()


class HellingerWithGenerator(Hellinger):
    """The same with its generator."""

    generator = "(sqrt(t) - 1)**2"


class JensenShannon:
    """Differences of logarithms, which only float64 stands."""

    generator = "(t*log(t) - (t + 1)*log((t + 1)/2))/2"
    declaration = Declaration(dtypes=("float64",), full_support=True)

    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        p, q = log_p.exp(), log_q.exp()
        middle = ((p + q) / 2).log()
        return (p * (log_p - middle) + q * (log_q - middle)).sum(-1) / 2

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        p, q = log_p.exp(), log_q.exp()
        return p * (log_p - ((p + q) / 2).log()) / 2


class NumPyForwardKL:
    """sum p log(p/q) in NumPy."""

    generator = "t*log(t)"

    def value(self, log_p: Array, log_q: Array) -> Any:
        return (np.exp(log_p) * (log_p - log_q)).sum(-1)

    def weight(self, log_p: Array, log_q: Array) -> Array:
        return np.asarray(np.exp(log_p) * (log_p - log_q))


class NumPyHellinger:
    """Hellinger in NumPy with a force."""

    generator: Any = "(sqrt(t) - 1)**2"

    def value(self, log_p: Array, log_q: Array) -> Any:
        return ((np.exp(log_p / 2) - np.exp(log_q / 2)) ** 2).sum(-1)

    def weight(self, log_p: Array, log_q: Array) -> Array:
        return np.asarray(np.exp(log_p) - np.exp((log_p + log_q) / 2))

    def logit_gradient(self, logits: Array, log_q: Array) -> Array:
        moved = logits - logits.max(-1, keepdims=True)
        log_p = moved - np.log(np.exp(moved).sum(-1, keepdims=True))
        weights = self.weight(log_p, log_q)
        return np.asarray(weights - np.exp(log_p) * weights.sum(-1, keepdims=True))


RIGHT = (
    ForwardKL, ForwardKLWithForce, ReverseKL, Pearson, Hellinger, HellingerWithGenerator, JensenShannon,
    NumPyForwardKL, NumPyHellinger,
)  # fmt: skip

WRONG: list[tuple[type, tuple[str, ...]]] = []


def fails(*checks: str) -> Callable[[type], type]:
    """Register a wrong subject with the checks that must fail it."""

    def register(subject: type) -> type:
        WRONG.append((subject, checks))
        return subject

    return register


@fails("weight_is_gradient_of_value", "weight_matches_high_precision", "a_step_against_the_force_lowers_the_value")
class Sign(HellingerWithGenerator):
    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return -super().weight(log_p, log_q)


@fails("weight_is_gradient_of_value", "force_is_gradient_in_the_image")
class Factor(Hellinger):
    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return 2 * super().weight(log_p, log_q)


@fails("weight_is_gradient_of_value", "force_is_gradient_of_value")
class NumPyFactor(NumPyHellinger):
    generator = None

    def weight(self, log_p: Array, log_q: Array) -> Array:
        return 2 * super().weight(log_p, log_q)


@fails("dual_swaps_the_arguments", "value_matches_high_precision")
class SwappedArguments(ForwardKL):
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().value(log_q, log_p)


@fails("weight_is_zero_at_equality")
class OtherGauge(ForwardKL):
    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().weight(log_p, log_q) + log_p.exp()


@fails("weight_is_right_at_the_ends")
class WrongFarOut(ForwardKL):
    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().weight(log_p, log_q) * torch.where(log_p - log_q < -10, 2, 1)


@fails("weight_is_homogeneous", "splitting_a_class_changes_nothing", "merging_classes_never_raises_the_value")
class Euclidean(Hellinger):
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return ((log_p.exp() - log_q.exp()) ** 2).sum(-1)

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return 2 * log_p.exp() * (log_p.exp() - log_q.exp())


@fails("weight_depends_on_its_class_alone")
class Renyi(Hellinger):
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return -2 * torch.logsumexp((log_p + log_q) / 2, -1)

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return log_p.exp() - torch.softmax((log_p + log_q) / 2, -1)


@fails("value_is_not_negative", "value_is_jointly_convex")
class Negative(Hellinger):
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return -super().value(log_p, log_q)


@fails("value_is_zero_only_at_equality")
class ZeroFarFromEquality(Hellinger):
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return (super().value(log_p, log_q) - 0.02).clamp_min(0)


@fails("value_is_zero_only_at_equality", "value_is_right_near_equality")
class Offset(HellingerWithGenerator):
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().value(log_p, log_q) + 1e-3


@fails("value_is_right_near_equality")
class CancellingInSingle(JensenShannon):
    declaration = Declaration(full_support=True)

    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        p, q = log_p.exp(), log_q.exp()
        entropies = [-(share * share.log()).sum(-1) for share in ((p + q) / 2, p, q)]
        return entropies[0] - (entropies[1] + entropies[2]) / 2


@fails("symmetry_is_as_declared")
class NotSymmetric(ForwardKL):
    declaration = Declaration(symmetric=True)


@fails("symmetry_is_as_declared")
class SymmetricAfterAll(Hellinger):
    declaration = Declaration(symmetric=False)


@fails("curvature_is_that_of_the_generator")
class Doubled(HellingerWithGenerator):
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return 2 * super().value(log_p, log_q)


@fails("value_is_bounded_as_declared")
class NotBounded(ForwardKL):
    declaration = Declaration(bounded=True)


@fails("saturation_is_as_declared")
class NoForceAtTheEnd(HellingerWithGenerator):
    declaration = Declaration(saturation="stays")


@fails("generator_is_convex")
class Dented(Hellinger):
    generator = (t - 1) ** 2 - sp.exp(-1000 * (t - sp.Rational(7, 5)) ** 2) / 100


@fails("force_sums_to_zero", "force_is_that_of_the_weights", "force_matches_high_precision")
class Uncentred(ForwardKLWithForce):
    def logit_gradient(self, logits: Tensor, log_q: Tensor) -> Tensor:
        return self.weight(logits.log_softmax(-1), log_q)


@fails("force_ignores_a_shift")
class ScaledByTheFirstLogit(ForwardKLWithForce):
    def logit_gradient(self, logits: Tensor, log_q: Tensor) -> Tensor:
        return super().logit_gradient(logits, log_q) * (1 + logits[..., :1].abs())


@fails("force_is_right_at_saturation")
class FaithfulByDeclaration(ForwardKLWithForce):
    declaration = Declaration(precision="faithful", full_support=True)


@fails("force_is_right_at_saturation")
class SingleInside(ForwardKLWithForce):
    def logit_gradient(self, logits: Tensor, log_q: Tensor) -> Tensor:
        return super().logit_gradient(logits.float(), log_q.float()).to(logits.dtype)


@fails("classes_may_be_permuted")
class FirstClassCountsTwice(Hellinger):
    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().weight(log_p, log_q) * (1 + (torch.arange(log_p.shape[-1]) == 0))


@fails("dtype_and_shape_are_kept")
class KeptDimension(Hellinger):
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().value(log_p, log_q)[..., None]


@fails("dtype_and_shape_are_kept")
class AlwaysDouble(Hellinger):
    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().weight(log_p, log_q).double()


@fails("dtypes_agree")
class OnePercentInSingle(Hellinger):
    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().weight(log_p, log_q) * (1.01 if log_p.dtype == torch.float32 else 1.0)


@fails("finite_input_gives_no_nan")
class NaNFarOut(Hellinger):
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        far = (log_p - log_q).abs().amax(-1) > 5
        return super().value(log_p, log_q).masked_fill(far, torch.nan)


@fails("nan_is_not_hidden")
class NaNToZero(Hellinger):
    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().weight(log_p, log_q).nan_to_num()


@fails("inputs_are_not_modified")
class InPlace(Hellinger):
    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return log_p.exp() - log_p.add_(log_q).div_(2).exp()


@fails("calls_do_not_depend_on_earlier_calls")
class Stale(Hellinger):
    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], Tensor] = {}

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        key = (log_p.data_ptr(), log_p.numel())
        return self.kept.setdefault(key, super().weight(log_p, log_q))


@fails("calls_do_not_depend_on_earlier_calls")
class Drifting(Hellinger):
    calls = 0

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        self.calls += 1
        return super().weight(log_p, log_q) * (1 + self.calls / 1000)


@fails("a_batch_is_its_members")
class WrongAxis(Hellinger):
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return (((log_p / 2).exp() - (log_q / 2).exp()) ** 2).sum(0)


@fails("a_batch_is_its_members")
class MeanOverTheBatch(Hellinger):
    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().weight(log_p, log_q) / (len(log_p) if log_p.ndim > 1 else 1)


@fails("zeros_in_the_target_are_handled")
class NaNAtZero(Hellinger):
    declaration = Declaration(full_support=False)

    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().value(log_p, log_q) + 0 * log_q.mean(-1)


@fails("vmap_gives_the_same")
class ReadsANumber(Hellinger):
    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().value(log_p, log_q) if float(log_p.detach().sum()) < 1 else log_p.sum(-1)


@fails("compiling_gives_the_same")
class OtherwiseWhenCompiled(Hellinger):
    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        return super().weight(log_p, log_q) * (2 if torch.compiler.is_compiling() else 1)
