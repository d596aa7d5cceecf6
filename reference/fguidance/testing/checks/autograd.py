"""What autograd sees: gradients recorded or not, in every dtype, of batches, at equality."""

import functools

import torch
from torch import Tensor

from fguidance.testing import tolerance
from fguidance.testing.check import check
from fguidance.testing.checks import common
from fguidance.testing.checks.common import Example, Two, autograd_runs, needs, torch_only, with_value
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import Violation, eps, require_close, require_close_if_steep

ULPS = 8.0
"""Per step, in which a dtype may differ from a wider one."""
WANTED = {"the first argument wants": (True, False), "the target wants": (False, True), "both want": (True, True)}
meant_for_autograd = needs(
    lambda subject: subject.declaration.differentiable, "it is declared not to be differentiable"
)
DIFFERENTIABLE = (with_value, torch_only, meant_for_autograd, autograd_runs)


@check(common.with_leading_axes, torch_only, share=0.3)
def recording_gradients_changes_nothing(subject: Subject, example: Example) -> None:
    """The same numbers come out under torch.no_grad, and where the logits or the target want a gradient."""
    for name, function in subject.parts.items():
        plain = function(*common.repeated(name, *example)).detach()
        allowed = 16 * eps(plain.dtype) * common.size_of(subject, plain)
        with torch.no_grad():
            found = function(*common.repeated(name, *example))
        require_close(f"{name} under torch.no_grad", found, plain, allowed)
        for what, recorded in WANTED.items():
            pairs = zip(common.repeated(name, *example), recorded, strict=True)
            given = [one.requires_grad_(wanted) for one, wanted in pairs]
            require_close(f"{name} where {what} a gradient", function(*given).detach(), plain, allowed)
            if any(one.grad is not None for one in given):
                raise Violation(f"{name} calls backward: it leaves a gradient in its input")


@check(common.wide_cases, with_value, torch_only, meant_for_autograd, share=0.4)
def autograd_runs_through_the_value(subject: Subject, case: Case) -> None:
    """A value in PyTorch is part of the graph of its logits; declare differentiable=False where that is not meant."""
    log_p = torch.log_softmax(case.logits.clone().requires_grad_(), -1)
    if not subject.value(log_p, case.log_q.clone()).requires_grad:
        raise Violation("the value is cut off from the graph: a loss made of it trains nothing")


def _gradient(subject: Subject, logits: Tensor, log_q: Tensor) -> Tensor:
    """The gradient of the values, summed."""
    at = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(subject.value(torch.log_softmax(at, -1), log_q.clone()).sum(), at)
    return found


def _gradient_under_way(subject: Subject, logits: Tensor, log_q: Tensor, upstream: Tensor) -> Tensor:
    """The gradient of `upstream` times the values, over `upstream`.

    What comes from above is not 1, and another value is asked for before: a gradient written by hand may forget to
    hand it on, or what the value was of.
    """
    at = logits.clone().requires_grad_()
    values = subject.value(torch.log_softmax(at, -1), log_q.clone())
    subject.value(torch.log_softmax(logits.flip(-1), -1), log_q.roll(1, -1))
    (found,) = torch.autograd.grad(values, at, upstream)
    return found / upstream[..., None]


@check(common.in_dtypes, *DIFFERENTIABLE, share=0.6)
def autograd_agrees_in_every_dtype(subject: Subject, case: Case) -> None:
    """The gradient of the value in every promised dtype is that in the widest, to its own rounding."""
    wide, dtype = subject.widest, case.logits.dtype
    common.away_from_kinks(subject, case.log_p, case.log_q)
    weight = subject.weight(case.log_p.to(wide), case.log_q.to(wide)).detach()
    if not float(weight.abs().max()) < torch.finfo(dtype).max / 2**10:
        return  # beyond the range of the dtype there is no gradient
    found = _gradient_under_way(subject, case.logits, case.log_q, torch.tensor(2.0, dtype=dtype))
    logits, log_q = case.logits.to(wide), case.log_q.to(wide)
    expected = _gradient(subject, logits, log_q)
    allowed = tolerance.rounding_of_parts("logit_gradient", case.logits, case.log_q, weight, ULPS, scale=subject.scale)
    moved = functools.partial(_gradient, subject, logits, tolerance.further(case.log_p, case.log_q).to(wide))
    allowed = allowed + tolerance.smallest(dtype)
    require_close_if_steep(f"the gradient of the value in {dtype}", found, expected, allowed, moved)


@check(common.in_dtypes, *DIFFERENTIABLE, share=0.4)
def autograd_gives_no_nan_at_equality(subject: Subject, case: Case) -> None:
    """At p = q, where roots of squares have no derivative, the gradient of the value is a number."""
    at = case.log_q.clone().requires_grad_()
    (found,) = torch.autograd.grad(subject.value(at, case.log_q.clone()), at)
    if bool(found.isnan().any()):
        raise Violation("the gradient of the value holds NaN where p = q", log_q=case.log_q, found=found)


@check(common.rows_of_two, *DIFFERENTIABLE, share=0.4)
def autograd_of_a_batch_is_that_of_its_members(subject: Subject, example: tuple[Two, int]) -> None:
    """The gradient of a weighted sum of the values of a batch is, row by row, what autograd gives for each alone."""
    logits, log_q = common.as_batch("logit_gradient", *example)
    common.away_from_kinks(subject, torch.log_softmax(logits, -1), log_q)
    upstream = torch.tensor([61.37, -1.083, 0.517]).repeat(len(logits))[: len(logits)].to(logits.dtype)
    kept, some = upstream.clone(), common.some_rows(logits)
    found = _gradient_under_way(subject, logits, log_q, upstream)[some]
    if not torch.equal(kept, upstream):
        raise Violation("the gradient writes over what it is multiplied by", before=kept, after=upstream)
    alone = torch.stack([_gradient(subject, *row) for row in zip(logits[some], log_q[some], strict=True)])
    finite = alone.isfinite()  # beyond the range of the dtype there is nothing to compare
    weights = subject.weight(torch.log_softmax(logits, -1), log_q.clone())  # of which the gradients may be far less
    allowed = 64 * eps(found.dtype) * (common.size_of(subject, alone) + common.size_of(subject, weights))
    require_close("the gradient of a batch", found[finite], alone[finite], allowed)
