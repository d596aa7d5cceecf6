"""Wrong for some batches only, or with autograd, memory or a compiler under them."""

import numpy as np
import torch

from tests.testing.wrong.base import KL, ReverseKL, Undeclared, found_by


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


@found_by("an_empty_batch_gives_an_empty_result")
class LosesTheEmptyAxis(ReverseKL):
    def value(self, log_p, log_q):
        value = super().value(log_p, log_q)
        return value if value.numel() else value.sum()


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


@found_by("autograd_of_a_batch_is_that_of_its_members")
class DetachedInABatch(Undeclared):
    def value(self, log_p, log_q):
        return super().value(log_p.detach() if log_p.ndim > 1 else log_p, log_q)


@found_by("autograd_of_a_batch_is_that_of_its_members")
class GradientOfTheFirstRow(Undeclared):
    def value(self, log_p, log_q):
        value = super().value(log_p, log_q)
        return torch.cat((value[:1], value[1:].detach())) if value.ndim else value


@found_by("nan_is_not_hidden")
class HidesNanBehindTheFirst(KL):
    def value(self, log_p, log_q):
        terms = log_p.exp() * (log_p - log_q)
        return terms[..., 0] + terms[..., 1:].nan_to_num().sum(-1)


@found_by("nan_is_not_hidden")
class DropsNanOfTheTarget(ReverseKL):
    def value(self, log_p, log_q):
        return (log_q.exp() * (log_q - log_p)).nansum(-1)


def _when_compiled(factor):
    return factor if torch.compiler.is_compiling() else 1


@found_by("compiling_gives_the_same")
class ValueOtherwiseWhenCompiled(KL):
    def value(self, log_p, log_q):
        return super().value(log_p, log_q) * _when_compiled(2)


@found_by("compiling_gives_the_same")
class WeightOtherwiseWhenCompiled(KL):
    def weight(self, log_p, log_q):
        return super().weight(log_p, log_q) * _when_compiled(2)


@found_by("compiling_gives_the_same")
class ForceOtherwiseWhenCompiled(KL):
    def logit_gradient(self, logits, log_q):
        return super().logit_gradient(logits, log_q) * _when_compiled(2)


@found_by("surroundings_are_left_alone")
class SetsTheNumberOfThreads(Undeclared):
    def value(self, log_p, log_q):
        torch.set_num_threads(2 if torch.get_num_threads() == 1 else 1)
        return super().value(log_p, log_q)


@found_by("surroundings_are_left_alone")
class SetsDeterministicMode(Undeclared):
    def value(self, log_p, log_q):
        torch.use_deterministic_algorithms(True)
        return super().value(log_p, log_q)


@found_by("surroundings_are_left_alone")
class DetectsAnomalies(Undeclared):
    def weight(self, log_p, log_q):
        torch.autograd.set_detect_anomaly(True)
        return super().weight(log_p, log_q)


@found_by("surroundings_are_left_alone")
class PrintsOtherwise(Undeclared):
    def weight(self, log_p, log_q):
        torch.set_printoptions(precision=2)
        return super().weight(log_p, log_q)


@found_by("surroundings_are_left_alone")
class PrintsOtherwiseInNumpy(Undeclared):
    def value(self, log_p, log_q):
        np.set_printoptions(precision=2)
        return super().value(log_p, log_q)


@found_by("surroundings_are_left_alone")
class FlushesDenormals(Undeclared):
    def value(self, log_p, log_q):
        torch.set_flush_denormal(True)
        return super().value(log_p, log_q)
