"""Right but for what autograd does: gradients that are handed on, recorded, or not recorded."""

import torch

from tests.testing.wrong.base import KL, Hellinger, ReverseKL, TotalVariation, Undeclared, after, changes, found_by

change = changes(__name__)


class _ForgetsWhatItIsMultipliedBy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, log_p, log_q):
        ctx.save_for_backward(log_p, log_q)
        return (log_q.exp() * (log_q - log_p)).sum(-1)

    @staticmethod
    def backward(ctx, gradient):
        log_p, log_q = ctx.saved_tensors
        return -log_q.exp().expand_as(log_p), None


@found_by("weight_is_gradient_of_value", "autograd_of_a_batch_is_that_of_its_members")
class ForgetsTheUpstreamGradient(ReverseKL):
    def value(self, log_p, log_q):
        return _ForgetsWhatItIsMultipliedBy.apply(log_p, log_q)


class _TakesOneForAll(_ForgetsWhatItIsMultipliedBy):
    @staticmethod
    def backward(ctx, gradient):
        return -ctx.saved_tensors[1].exp() * gradient.mean(), None


change(ReverseKL, "OneUpstreamGradientForAll", "autograd_of_a_batch_is_that_of_its_members",
       value=lambda self, log_p, log_q: _TakesOneForAll.apply(log_p, log_q))


@found_by("recording_gradients_changes_nothing")
class SurrogateWhereGradientsAreRecorded(ReverseKL):
    """A loss with the right gradient and another value."""

    def value(self, log_p, log_q):
        if not log_p.requires_grad:
            return super().value(log_p, log_q)
        return (self.weight(log_p, log_q).detach() / log_p.exp().detach() * log_p.exp()).sum(-1)


@found_by("recording_gradients_changes_nothing")
class BrainFloatWithoutGradients(KL):
    """A fast path for inference."""

    def weight(self, log_p, log_q):
        if torch.is_grad_enabled():
            return super().weight(log_p, log_q)
        return super().weight(log_p.bfloat16(), log_q.bfloat16()).to(log_p.dtype)


@found_by("recording_gradients_changes_nothing")
class NeedsARecord(Hellinger):
    """The logit gradient by autograd, which is not recorded while one samples."""

    def logit_gradient(self, logits, log_q):
        at = logits.detach().clone().requires_grad_()
        return torch.autograd.grad(self.value(at.log_softmax(-1), log_q).sum(), at)[0]


@found_by("recording_gradients_changes_nothing")
class NeedsPlainInputs(ReverseKL):
    def weight(self, log_p, log_q):
        weight = log_p.clone()
        return weight.exp_().sub_(torch.from_numpy(log_p.numpy() * 0) + log_q.exp())


change(ReverseKL, "OtherGaugeWhereGradientsAreRecorded", "recording_gradients_changes_nothing",
       weight=lambda self, log_p, log_q: -log_q.exp() if log_p.requires_grad else ReverseKL.weight(self, log_p, log_q))
change(Undeclared, "ForceTwiceWhereTheTargetIsRecorded", "recording_gradients_changes_nothing",
       logit_gradient=after(lambda found, logits, log_q: found * (2 if log_q.requires_grad else 1)))


class _KeepsOnTheClass(torch.autograd.Function):
    """What is needed later is kept on the class, where the next call writes it over."""

    @staticmethod
    def forward(ctx, log_p, log_q):
        _KeepsOnTheClass.q = log_q.exp()
        return (_KeepsOnTheClass.q * (log_q - log_p)).sum(-1)

    @staticmethod
    def backward(ctx, gradient):
        return -_KeepsOnTheClass.q * gradient[..., None], None


@found_by("autograd_of_a_batch_is_that_of_its_members", "autograd_agrees_in_every_dtype")
class GradientOfTheLastCall(ReverseKL):
    def value(self, log_p, log_q):
        return _KeepsOnTheClass.apply(log_p, log_q)


class _InPlace(_ForgetsWhatItIsMultipliedBy):
    @staticmethod
    def backward(ctx, gradient):
        return -ctx.saved_tensors[1].exp() * gradient.mul_(2)[..., None] / 2, None


change(ReverseKL, "WritesOverTheUpstreamGradient", "autograd_of_a_batch_is_that_of_its_members",
       value=lambda self, log_p, log_q: _InPlace.apply(log_p, log_q))


@found_by("weight_is_gradient_of_value")
class ClipsTheGradient(ReverseKL):
    def value(self, log_p, log_q):
        if log_p.requires_grad:
            log_p.register_hook(lambda gradient: gradient.clamp(-10, 10))
        return super().value(log_p, log_q)


@found_by("recording_gradients_changes_nothing")
class CallsBackward(KL):
    """In place of autograd.grad, so that the gradients of the caller's model are added to."""

    def logit_gradient(self, logits, log_q):
        with torch.enable_grad():
            at = logits if logits.requires_grad else logits.clone().requires_grad_()
            self.value(at.log_softmax(-1), log_q.detach()).sum().backward()
        return at.grad.detach().clone()


change(TotalVariation, "RootOfASquare", "autograd_gives_no_nan_at_equality",
       value=lambda self, log_p, log_q: torch.sqrt((log_p.exp() - log_q.exp()) ** 2).sum(-1) / 2)


class _ThroughHalf(_ForgetsWhatItIsMultipliedBy):
    @staticmethod
    def backward(ctx, gradient):
        log_q = ctx.saved_tensors[1]
        return -log_q.exp() * gradient.half().to(log_q.dtype)[..., None], None


@found_by("weight_is_gradient_of_value", "autograd_of_a_batch_is_that_of_its_members")
class UpstreamGradientThroughHalf(ReverseKL):
    def value(self, log_p, log_q):
        return _ThroughHalf.apply(log_p, log_q)
