"""What autograd sees: gradients recorded or not, in every dtype, of batches, at equality."""

import functools

import torch
from torch import Tensor

from fguidance.testing.check import Violation, check
from fguidance.testing.checks._examples import (
    as_batch,
    in_dtypes,
    repeated,
    rows_of_two,
    size_of,
    some_rows,
    with_leading_axes,
    working_cases,
)  # fmt: skip
from fguidance.testing.checks._subjects import (
    away_from_kinks,
    functions,
    torch_only,
    value_of,
    weight_of,
    with_value,
    working_dtype,
)  # fmt: skip
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import eps, further, require_close, require_close_if_steep, rounding_of_parts, smallest

ULPS_OF_AUTOGRAD = 8.0
"""Per step, in which a dtype may differ from a wider one."""


def _given(
    name: str, example: tuple[Case, tuple[int, ...]], recorded: tuple[bool, bool] = (False, False)
) -> list[Tensor]:
    return [one.requires_grad_(wanted) for one, wanted in zip(repeated(name, *example), recorded, strict=True)]


@check(with_leading_axes, torch_only)
def recording_gradients_changes_nothing(subject: Subject, example: tuple[Case, tuple[int, ...]]) -> None:
    """The same numbers come out under torch.no_grad, and where the logits or the target want a gradient."""
    for name, function in functions(subject).items():
        plain = function(*_given(name, example)).detach()
        allowed = 16 * eps(plain.dtype) * size_of(subject, plain)
        with torch.no_grad():
            found = function(*_given(name, example))
        require_close(f"{name} under torch.no_grad", found, plain, allowed)
        for what, recorded in WANTED.items():
            given = _given(name, example, recorded)
            found = function(*given).detach()
            require_close(f"{name} where {what} a gradient", found, plain, allowed)
            if any(one.grad is not None for one in given):
                raise Violation(f"{name} calls backward: it leaves a gradient in its input")


WANTED = {"the first argument wants": (True, False), "the target wants": (False, True), "both want": (True, True)}


def _meant_for_autograd(subject: Subject) -> str | None:
    if subject.value is None or subject.array != "torch":
        return with_value(subject) or torch_only(subject)
    return None if subject.declaration.differentiable else "it is declared not to be differentiable"


@check(working_cases, _meant_for_autograd)
def autograd_runs_through_the_value(subject: Subject, case: Case) -> None:
    """A value in PyTorch is part of the graph of its logits; declare differentiable=False where that is not meant."""
    log_p = torch.log_softmax(case.logits.clone().requires_grad_(), -1)
    if not value_of(subject)(log_p, case.log_q.clone()).requires_grad:
        raise Violation("the value is cut off from the graph: a loss made of it trains nothing")


def _gradient(subject: Subject, logits: Tensor, log_q: Tensor) -> Tensor:
    """The gradient of the values, summed."""
    at = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(value_of(subject)(torch.log_softmax(at, -1), log_q.clone()).sum(), at)
    return found


def _gradient_under_way(subject: Subject, logits: Tensor, log_q: Tensor, upstream: Tensor) -> Tensor:
    """The gradient of `upstream` times the values, over `upstream`.

    What comes from above is not 1, and another value is asked for before: a gradient written by hand may forget to
    hand it on, or what the value was of.
    """
    at = logits.clone().requires_grad_()
    values = value_of(subject)(torch.log_softmax(at, -1), log_q.clone())
    value_of(subject)(torch.log_softmax(logits.flip(-1), -1), log_q.roll(1, -1))
    (found,) = torch.autograd.grad(values, at, upstream)
    return found / upstream[..., None]


def _differentiable(subject: Subject) -> str | None:
    return _meant_for_autograd(subject) or (None if subject.differentiable else "autograd does not run")


@check(in_dtypes, _differentiable)
def autograd_agrees_in_every_dtype(subject: Subject, case: Case) -> None:
    """The gradient of the value in every promised dtype is that in the widest, to its own rounding."""
    wide = working_dtype(subject)
    away_from_kinks(subject, case.log_p, case.log_q)
    weight = weight_of(subject)(case.log_p.to(wide), case.log_q.to(wide)).detach()
    dtype = case.logits.dtype
    if not float(weight.abs().max()) < torch.finfo(dtype).max / 2**10:
        return  # beyond the range of the dtype there is no gradient
    found = _gradient_under_way(subject, case.logits, case.log_q, torch.tensor(2.0, dtype=dtype))
    expected = _gradient(subject, case.logits.to(wide), case.log_q.to(wide))
    ulps, scale = ULPS_OF_AUTOGRAD, subject.scale
    allowed = rounding_of_parts("logit_gradient", case.logits, case.log_q, weight, ulps, scale=scale)
    moved = functools.partial(_gradient, subject, case.logits.to(wide), further(case.log_p, case.log_q).to(wide))
    require_close_if_steep(f"the gradient of the value in {dtype}", found, expected, allowed + smallest(dtype), moved)


@check(in_dtypes, _differentiable)
def autograd_gives_no_nan_at_equality(subject: Subject, case: Case) -> None:
    """At p = q, where roots of squares have no derivative, the gradient of the value is a number."""
    at = case.log_q.clone().requires_grad_()
    (found,) = torch.autograd.grad(value_of(subject)(at, case.log_q.clone()), at)
    if bool(found.isnan().any()):
        raise Violation("the gradient of the value holds NaN where p = q", log_q=case.log_q, found=found)


@check(lambda subject: rows_of_two(subject), _differentiable)
def autograd_of_a_batch_is_that_of_its_members(subject: Subject, example: tuple[tuple[Case, Case], int]) -> None:
    """The gradient of a weighted sum of the values of a batch is, row by row, what autograd gives for each alone."""
    logits, log_q = as_batch("logit_gradient", *example)
    away_from_kinks(subject, torch.log_softmax(logits, -1), log_q)
    upstream = torch.tensor([61.37, -1.083, 0.517]).repeat(len(logits))[: len(logits)].to(logits.dtype)
    kept, some = upstream.clone(), some_rows(logits)
    found = _gradient_under_way(subject, logits, log_q, upstream)[some]
    if not torch.equal(kept, upstream):
        raise Violation("the gradient writes over what it is multiplied by", before=kept, after=upstream)
    alone = torch.stack([_gradient(subject, *row) for row in zip(logits[some], log_q[some], strict=True)])
    finite = alone.isfinite()  # beyond the range of the dtype there is nothing to compare
    weights = weight_of(subject)(torch.log_softmax(logits, -1), log_q.clone())  # of which the gradients may be far less
    allowed = 64 * eps(found.dtype) * (size_of(subject, alone) + size_of(subject, weights))
    require_close("the gradient of a batch", found[finite], alone[finite], allowed)
