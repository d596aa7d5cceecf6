"""Wrong for some batches only, or with autograd, memory or a compiler under them."""

import decimal
import gc
import logging
import os
import warnings

import mpmath
import numpy as np
import torch

from tests.testing.wrong.base import KL, ReverseKL, Undeclared, after, changes, doing, found_by

change = changes(__name__)

CARELESS = {
    "SetsTheNumberOfThreads": lambda: torch.set_num_threads(2 if torch.get_num_threads() == 1 else 1),
    "SetsDeterministicMode": lambda: torch.use_deterministic_algorithms(True),
    "DetectsAnomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "PrintsOtherwise": lambda: torch.set_printoptions(precision=2),
    "PrintsOtherwiseInNumpy": lambda: np.set_printoptions(precision=2),
    "FlushesDenormals": lambda: torch.set_flush_denormal(True),
    "SilencesWarnings": lambda: warnings.filterwarnings("ignore"),
    "SetsThePrecisionOfMpmath": lambda: setattr(mpmath.mp, "dps", 30),
    "SetsThePrecisionOfDecimals": lambda: setattr(decimal.getcontext(), "prec", 50),
    "SetsAnEnvironmentVariable": lambda: os.environ.update(FGUIDANCE_WRONG="1"),
    "TurnsOffTheCollection": gc.disable,
    "TurnsOffLogging": lambda: logging.disable(logging.CRITICAL),
    "TurnsOffABackend": lambda: setattr(torch.backends.mkldnn, "enabled", False),
}

for name, action in CARELESS.items():
    change(Undeclared, name, "surroundings_are_left_alone", value=doing(action))


@found_by("a_batch_is_its_members")
class DropsTheLastChunk(KL):
    """Eight rows at a time."""

    def weight(self, log_p, log_q):
        weight = super().weight(log_p, log_q)
        if weight.ndim == 2 and len(weight) > 8:
            weight = weight.clone()
            weight[len(weight) // 8 * 8 :] = 0
        return weight


@found_by("a_batch_is_its_members")
class AveragesLargeBatches(Undeclared):
    def value(self, log_p, log_q):
        value = super().value(log_p, log_q)
        return value.mean(0, keepdim=True).expand_as(value) if value.ndim and len(value) > 5 else value


@found_by("a_batch_is_its_members")
class OneTargetForAll(KL):
    """Takes a target of stride 0, which is the same for all rows, for none."""

    def weight(self, log_p, log_q):
        one = log_q.ndim > 1 and 0 in log_q.stride()
        return super().weight(log_p, torch.zeros_like(log_q) if one else log_q)


@found_by("an_empty_batch_gives_an_empty_result")
class NeedsAMember(KL):
    def weight(self, log_p, log_q):
        assert float(log_p.max()) < 1
        return super().weight(log_p, log_q)


change(ReverseKL, "LosesTheEmptyAxis", "an_empty_batch_gives_an_empty_result",
       value=after(lambda value, log_p, log_q: value if value.numel() else value.sum()))


@found_by("inputs_are_not_modified")
class ClampsTheTargetsOfABatch(KL):
    def weight(self, log_p, log_q):
        weight = super().weight(log_p, log_q)
        if log_q.ndim > 1:
            log_q.clamp_(min=-1)
        return weight


@found_by("inputs_are_not_modified")
class ClampsTheTargetsOfABatchInNumpy:
    def value(self, log_p, log_q):
        value = (np.exp(log_q) * (log_q - log_p)).sum(-1)
        if log_q.ndim > 1:
            np.clip(log_q, -1, None, out=log_q)
        return value

    def weight(self, log_p, log_q):
        return np.exp(log_p) - np.exp(log_q)


change(Undeclared, "DetachedInABatch", "autograd_of_a_batch_is_that_of_its_members",
       value=lambda self, log_p, log_q: Undeclared.value(self, log_p.detach() if log_p.ndim > 1 else log_p, log_q))
change(Undeclared, "GradientOfTheFirstRow", "autograd_of_a_batch_is_that_of_its_members",
       value=after(lambda value, log_p, log_q: torch.cat((value[:1], value[1:].detach())) if value.ndim else value))


@found_by("nan_is_not_hidden")
class HidesNanBehindTheFirst(KL):
    def value(self, log_p, log_q):
        terms = log_p.exp() * (log_p - log_q)
        return terms[..., 0] + terms[..., 1:].nan_to_num().sum(-1)


change(ReverseKL, "DropsNanOfTheTarget", "nan_is_not_hidden",
       value=lambda self, log_p, log_q: (log_q.exp() * (log_q - log_p)).nansum(-1))


def _when_compiled(factor):
    return factor if torch.compiler.is_compiling() else 1


change(KL, "ValueOtherwiseWhenCompiled", "compiling_gives_the_same",
       value=lambda self, log_p, log_q: KL.value(self, log_p, log_q) * _when_compiled(2))
change(KL, "WeightOtherwiseWhenCompiled", "compiling_gives_the_same",
       weight=lambda self, log_p, log_q: KL.weight(self, log_p, log_q) * _when_compiled(2))
change(KL, "ForceOtherwiseWhenCompiled", "compiling_gives_the_same",
       logit_gradient=lambda self, logits, log_q: KL.logit_gradient(self, logits, log_q) * _when_compiled(2))


@found_by("a_large_batch_is_its_members")
class DropsTheLastOfManyRows(KL):
    """Sixty-four rows at a time."""

    def value(self, log_p, log_q):
        value = super().value(log_p, log_q).clone()
        if value.ndim == 1 and len(value) > 64:
            value[len(value) // 64 * 64 :] = 0
        return value


@found_by("a_large_batch_is_its_members")
class RowsOfTheFirstChunk(Undeclared):
    """Every chunk of 256 rows meets the targets of the first."""

    def weight(self, log_p, log_q):
        rows = torch.arange(len(log_q)) % 256 if log_q.ndim > 1 else ...
        return super().weight(log_p, log_q[rows])


change(Undeclared, "TimeBeforeBatch", "a_batch_is_its_members",
       doc="A result of three axes is returned with the first two changed over, as for sequences.",
       value=after(lambda value, log_p, log_q: value.mT if value.ndim == 2 else value))
change(Undeclared, "ClassesInTheMiddle", "a_batch_is_its_members",
       doc="Images, batch x classes x height, where there are three axes.",
       value=lambda self, log_p, log_q: (log_p.exp() * (log_p - log_q)).sum(1 if log_p.ndim == 3 else -1))


@found_by("a_batch_is_its_members")
class BatchesOfSingleInBrainFloat(KL):
    def weight(self, log_p, log_q):
        if log_p.ndim == 1 or log_p.dtype != torch.float32:
            return super().weight(log_p, log_q)
        return super().weight(log_p.bfloat16(), log_q.bfloat16()).float()


@found_by("autograd_of_a_batch_is_that_of_its_members")
class DetachedInABatchOfSingle(Undeclared):
    def value(self, log_p, log_q):
        batch = log_p.ndim > 1 and log_p.dtype == torch.float32
        p = log_p.exp().detach() if batch else log_p.exp()
        return (p * (log_p - log_q)).sum(-1)


@found_by("compiling_gives_the_same")
class AveragedWhenCompiled(Undeclared):
    def value(self, log_p, log_q):
        value = super().value(log_p, log_q)
        return value.mean().expand_as(value) if torch.compiler.is_compiling() and value.ndim else value


change(ReverseKL, "SqueezesABatchOfOne", "a_batch_is_its_members",
       value=after(lambda value, log_p, log_q: value if value.numel() > 1 else value.squeeze()))


@found_by("a_large_batch_is_its_members")
class ForgetsTheRestOfTheChunks(ReverseKL):
    """4,096 rows at a time."""

    def weight(self, log_p, log_q):
        weight = super().weight(log_p, log_q)
        if weight.ndim == 2 and len(weight) > 4096:
            weight[len(weight) // 4096 * 4096 :] = 0
        return weight


@found_by("a_large_batch_is_its_members")
class LargeBatchesOfSingleInHalf(ReverseKL):
    def logit_gradient(self, logits, log_q):
        large = logits.dtype == torch.float32 and logits.ndim > 1 and len(logits) >= 64
        return (logits.half().float() if large else logits).softmax(-1) - log_q.exp()


@found_by("a_batch_is_its_members")
class ShiftedByTheMeanOfAll(ReverseKL):
    """One row of NaN makes all of them NaN."""

    def logit_gradient(self, logits, log_q):
        return (logits - (logits.mean() if logits.numel() else 0)).softmax(-1) - log_q.exp()


@found_by("calls_do_not_depend_on_earlier_calls")
class ReturnsWhatItKeeps(ReverseKL):
    def __init__(self):
        self.kept = {}

    def weight(self, log_p, log_q):
        key = (log_p.shape, log_p.dtype, *log_p.detach().flatten().tolist(), *log_q.detach().flatten().tolist())
        if key not in self.kept:
            self.kept[key] = super().weight(log_p.detach(), log_q.detach())
        return self.kept[key]


@found_by("dtype_and_shape_are_kept", "a_batch_is_its_members")
class BatchesInDouble(ReverseKL):
    """A buffer that is made without its dtype."""

    def weight(self, log_p, log_q):
        if log_p.ndim == 1:
            return super().weight(log_p, log_q)
        buffer = torch.zeros(log_p.shape, dtype=torch.float64)
        return buffer + super().weight(log_p, log_q)


change(ReverseKL, "HidesARowOfNan", "a_batch_is_its_members",
       value=after(lambda value, log_p, log_q: torch.where(value.isnan(), 0, value) if value.ndim else value))


@found_by("surroundings_are_left_alone")
class SeedsForABatch(Undeclared):
    def value(self, log_p, log_q):
        if log_p.ndim > 1:
            torch.manual_seed(0)
        return super().value(log_p, log_q)


@found_by("recording_gradients_changes_nothing")
class BatchesInBrainFloatWithoutGradients(Undeclared):
    def weight(self, log_p, log_q):
        if log_p.ndim == 1 or torch.is_grad_enabled():
            return super().weight(log_p, log_q)
        return super().weight(log_p.bfloat16(), log_q.bfloat16()).to(log_p.dtype)


@found_by("force_is_gradient_in_the_image")
class GoesBackThroughTheCallersGraph(KL):
    """`clone` keeps the graph that the logits are part of."""

    def logit_gradient(self, logits, log_q):
        with torch.enable_grad():
            at = logits.clone().requires_grad_()
            at.retain_grad()
            self.value(at.log_softmax(-1), log_q.detach()).sum().backward()
        return at.grad.detach()


@found_by("force_is_gradient_in_the_image")
class LeavesAHook(ReverseKL):
    def logit_gradient(self, logits, log_q):
        if logits.requires_grad:
            logits.register_hook(torch.zeros_like)
        return logits.softmax(-1) - log_q.exp()
