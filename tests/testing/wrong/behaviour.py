"""Wrong as programs: memory, batches, dtypes, gradients, NaN, the surroundings, NumPy."""

import random
import sys

import numpy as np
import torch

from fguidance.testing import Declaration
from tests.testing.wrong.base import KL, Hellinger, Undeclared, after, changes, doing, found_by

change = changes(__name__)

CARELESS = {
    "SeedsTheGenerator": lambda: torch.manual_seed(0),
    "DrawsFromTheGenerator": lambda: torch.rand(()),
    "SeedsNumpy": lambda: np.random.seed(0),  # noqa: NPY002
    "SeedsPython": lambda: random.seed(0),
    "LeavesGradientsOff": lambda: torch.set_grad_enabled(False),
    "ChangesTheDefaultDtype": lambda: torch.set_default_dtype(torch.float64),
}

for name, action in CARELESS.items():
    change(Undeclared, name, "surroundings_are_left_alone", value=doing(action))


@found_by("calls_do_not_depend_on_earlier_calls")
class CachedByMemory(KL):
    def __init__(self):
        self.kept = {}

    def weight(self, log_p, log_q):
        key = log_p.data_ptr()
        if key not in self.kept or self.kept[key][0] is not log_p:
            self.kept[key] = (log_p, super().weight(log_p, log_q))
        return self.kept[key][1]


@found_by("value_changes_as_the_weights_say")
class CachedByTheTarget(KL):
    def __init__(self):
        self.kept = {}

    def value(self, log_p, log_q):
        key = tuple(log_q.detach().flatten().tolist())
        return self.kept.setdefault(key, super().value(log_p, log_q))


@found_by("dtype_and_shape_are_kept")
class CachedByShape(Undeclared):
    def __init__(self):
        self.kept = {}

    def weight(self, log_p, log_q):
        found = self.kept.setdefault(log_p.shape, torch.empty_like(log_p))
        return found.copy_(super().weight(log_p, log_q))


@found_by("compiling_gives_the_same")
class Drifting(Hellinger):
    calls = 0

    def weight(self, log_p, log_q):
        self.calls += 1
        return super().weight(log_p, log_q) * (1 + self.calls / 1000)


@found_by("compiling_gives_the_same")
class RunningMean(torch.nn.Module, Hellinger):
    """A module that keeps a running mean of its targets and uses it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros((), dtype=torch.float64))

    def weight(self, log_p, log_q):
        self.mean = 0.9 * self.mean + 0.1 * log_q.detach().double().exp().max()
        return Hellinger.weight(self, log_p, log_q) * (1 + 1e-3 * self.mean).to(log_p.dtype)


@found_by("calls_do_not_depend_on_earlier_calls")
class OnlySometimes(Undeclared):
    """Every seventh call is off by a thousandth."""

    calls = 0

    def weight(self, log_p, log_q):
        self.calls += 1
        return super().weight(log_p, log_q) * (1.001 if self.calls % 7 == 0 else 1)


change(KL, "Noisy", "compiling_gives_the_same",
       weight=after(lambda weight, log_p, log_q: weight * (1 + 1e-09 * torch.rand_like(weight))))
change(Undeclared, "Dropout", "force_ignores_a_shift",
       weight=after(lambda found, log_p, log_q: torch.nn.functional.dropout(found, 0.1)))
change(KL, "BatchAxisInValue", "a_batch_is_its_members",
       value=lambda self, log_p, log_q: (log_p.exp() * (log_p - log_q)).sum(0))
change(KL, "MeanOverTheBatch", "a_batch_is_its_members",
       value=lambda self, log_p, log_q: KL.value(self, log_p, log_q).mean())
change(Hellinger, "WeightOverTheBatch", "a_batch_is_its_members",
       weight=lambda self, log_p, log_q: Hellinger.weight(self, log_p, log_q) / (len(log_p) if log_p.ndim > 1 else 1))
change(Undeclared, "FirstTargetForAll", "a_batch_is_its_members",
       value=lambda self, log_p, log_q: Undeclared.value(self, log_p, log_q.reshape(-1, log_q.shape[-1])[0]))


@found_by("a_batch_is_its_members")
class FlattensTheBatch(Undeclared):
    def value(self, log_p, log_q):
        classes = log_p.shape[-1]
        return super().value(log_p.reshape(-1, classes), log_q.reshape(-1, classes)).squeeze()


@found_by("a_batch_is_its_members")
class ReadsMemoryInOrder(Undeclared):
    """Takes every tensor for contiguous."""

    def weight(self, log_p, log_q):
        raw = torch.as_strided(log_p, log_p.shape, torch.empty(log_p.shape).stride())
        return super().weight(raw, log_q)


@found_by("a_batch_is_its_members")
class MaximumOverTheBatch(Undeclared):
    """A shift by the maximum over everything, so that other members underflow."""

    def logit_gradient(self, logits, log_q):
        powers = (logits - logits.max()).exp() + 1e-30
        p = powers / powers.sum(-1, keepdim=True)
        weight = self.weight(p.log(), log_q)
        return weight - p * weight.sum(-1, keepdim=True)


change(KL, "OffByOneClass", "saturation_is_as_declared",
       weight=lambda self, log_p, log_q: KL.weight(self, log_p, log_q).roll(1, -1))
change(Hellinger, "FirstClassCountsMore", "classes_may_be_permuted",
       weight=after(lambda found, log_p, log_q: found * (1 + 1e-3 * (torch.arange(log_p.shape[-1]) == 0))))


@found_by("weight_depends_on_its_class_alone")
class SortsTheClasses(Undeclared):
    def weight(self, log_p, log_q):
        order = log_p.argsort(-1)
        return super().weight(log_p.gather(-1, order), log_q.gather(-1, order))


change(KL, "HidesNan", "nan_is_not_hidden",
       value=lambda self, log_p, log_q: KL.value(self, log_p, log_q).nan_to_num(0.0),
       weight=lambda self, log_p, log_q: KL.weight(self, log_p, log_q).nan_to_num(0.0))
change(Undeclared, "HidesNanInTheTarget", "nan_is_not_hidden",
       declaration=Declaration(full_support=True),
       value=lambda self, log_p, log_q: Undeclared.value(self, log_p, torch.where(log_q.isnan(), log_p, log_q)),
       weight=lambda self, log_p, log_q: Undeclared.weight(self, log_p, torch.where(log_q.isnan(), log_p, log_q)))
change(Undeclared, "SumsWithoutNan", "nan_is_not_hidden",
       value=lambda self, log_p, log_q: (log_p.exp() * (log_p - log_q)).nansum(-1))


@found_by("inputs_are_not_modified")
class ModifiesItsInput(KL):
    def weight(self, log_p, log_q):
        log_p.sub_(log_q)
        return (log_p + log_q).exp() * log_p


@found_by("inputs_are_not_modified")
class ModifiesTheTarget(KL):
    def value(self, log_p, log_q):
        found = super().value(log_p, log_q)
        log_q.clamp_(min=-1.0)
        return found


@found_by("inputs_are_not_modified")
class ModifiesTheLogits(KL):
    def logit_gradient(self, logits, log_q):
        logits -= logits.logsumexp(-1, keepdim=True)
        return super().logit_gradient(logits, log_q)


change(Undeclared, "WritesOverItsInput", "inputs_are_not_modified", doc="The result is a view of the argument.",
       weight=lambda self, log_p, log_q: log_p.copy_(Undeclared.weight(self, log_p, log_q)))
change(Undeclared, "DetachedP", "weight_is_gradient_of_value",
       value=lambda self, log_p, log_q: (log_p.exp().detach() * (log_p - log_q)).sum(-1))


@found_by("autograd_runs_through_the_value")
class LosesTheGradient(Undeclared):
    @torch.no_grad()
    def value(self, log_p, log_q):
        return super().value(log_p, log_q)


@found_by("weight_is_gradient_of_value")
class GradientStopsAtAMaximum(Undeclared):
    """Written with a shift that is differentiated on one side only."""

    def value(self, log_p, log_q):
        shift = log_p.amax(-1, keepdim=True)
        return (log_p.exp() * (log_p - shift - log_q)).sum(-1) + shift[..., 0].detach()


change(KL, "AlwaysDouble", "dtype_and_shape_are_kept",
       weight=lambda self, log_p, log_q: KL.weight(self, log_p.double(), log_q.double()))
change(Undeclared, "ValueInDouble", "dtype_and_shape_are_kept",
       value=lambda self, log_p, log_q: Undeclared.value(self, log_p.double(), log_q.double()))
change(KL, "KeepsTheClassAxis", "dtype_and_shape_are_kept", "value_is_right_at_the_ends",
       value=lambda self, log_p, log_q: KL.value(self, log_p, log_q)[..., None])


@found_by("value_is_not_negative")
class Exits(Undeclared):
    """Ends the program, which the command would take for a pass."""

    def value(self, log_p, log_q):
        sys.exit(0)


change(KL, "PythonFloat", "autograd_runs_through_the_value",
       value=lambda self, log_p, log_q: float(KL.value(self, log_p, log_q)))
change(KL, "ReturnsNone", "nan_is_not_hidden",
       weight=lambda self, log_p, log_q: None)


@found_by("nan_is_not_hidden")
class Raises(KL):
    def weight(self, log_p, log_q):
        if log_p.shape[-1] > 4:
            raise RuntimeError("too many classes")
        return super().weight(log_p, log_q)


@found_by("vmap_gives_the_same")
class OtherwiseUnderVmap(Undeclared):
    """Reads a number from a tensor, which vmap refuses, and goes on without it."""

    def weight(self, log_p, log_q):
        try:
            largest = float(log_p.exp().max())
        except RuntimeError:
            largest = 1.0
        return super().weight(log_p, log_q) / largest * log_p.exp().amax(-1, keepdim=True)


change(Hellinger, "OtherwiseWhenCompiled", "compiling_gives_the_same",
       weight=after(lambda found, log_p, log_q: found * (2 if torch.compiler.is_compiling() else 1)))


class InNumpy:
    generator = "-log(t)"

    def value(self, log_p, log_q):
        return np.sum(np.exp(log_q) * (log_q - log_p), -1)

    def weight(self, log_p, log_q):
        return np.exp(log_p) - np.exp(log_q)


change(InNumpy, "InNumpyWithASign", "a_step_against_the_force_lowers_the_value",
       weight=lambda self, log_p, log_q: np.exp(log_q) - np.exp(log_p))


@found_by("inputs_are_not_modified")
class InNumpyInPlace(InNumpy):
    def weight(self, log_p, log_q):
        np.exp(log_p, out=log_p)
        return log_p - np.exp(log_q)


change(InNumpy, "InNumpyTwice", "weight_is_gradient_of_value",
       generator=None,
       weight=lambda self, log_p, log_q: 2 * InNumpy.weight(self, log_p, log_q))


@found_by("dtype_and_shape_are_kept")
class InNumpyAlwaysDouble(InNumpy):
    def weight(self, log_p, log_q):
        return np.exp(np.asarray(log_p, dtype=np.float64)) - np.exp(np.asarray(log_q, dtype=np.float64))


change(InNumpy, "InNumpyAlwaysSingle", "dtype_and_shape_are_kept",
       weight=lambda self, log_p, log_q: InNumpy.weight(self, log_p, log_q).astype(np.float32))


@found_by("surroundings_are_left_alone")
class InNumpySilencesWarnings(InNumpy):
    def weight(self, log_p, log_q):
        np.seterr(all="ignore")
        return super().weight(log_p, log_q)


change(InNumpy, "InNumpyOverAll", "a_batch_is_its_members",
       value=lambda self, log_p, log_q: np.sum(np.exp(log_q) * (log_q - log_p)))
