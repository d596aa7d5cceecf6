"""Batches give what their members give: of any shape and size, in any memory, mapped, compiled, on other devices."""

import contextlib
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing.check import check
from fguidance.testing.checks import common
from fguidance.testing.checks.common import Two, first_argument, needs, torch_only, zeros_are_allowed
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Function, Subject
from fguidance.testing.tolerance import Violation, eps, require_close

ROWS, ROWS_WHERE_SLOW = 8193, 129
"""One more than what is done at a time, be it 32, 64 or 8192."""


def _rows_with_zeros(subject: Subject) -> st.SearchStrategy[tuple[Two, int]]:
    return common.rows_of_two(subject, zeros=zeros_are_allowed(subject) is None)


def _batch(subject: Subject, name: str, two: Two, rows: int) -> tuple[Tensor, Tensor]:
    first, log_q = common.as_batch(name, two, rows)
    common.away_from_kinks(subject, first if name == "value" else torch.log_softmax(first, -1), log_q)
    return first, log_q


@check(_rows_with_zeros, share=0.4)
def a_batch_is_its_members(subject: Subject, example: tuple[Two, int]) -> None:
    """Any leading batch shape gives what its members give alone, in whatever order they lie in memory."""
    for name, function in subject.parts.items():
        first, log_q = _batch(subject, name, *example)
        found = common.unless_refused(function, first.clone(), log_q.clone())
        if found is None:
            continue
        batch, some = found.detach(), common.some_rows(first)
        if batch.dtype != first.dtype:
            raise Violation(f"{name} of a batch returns {batch.dtype} for {first.dtype}")
        allowed = 64 * eps(first.dtype) * common.size_of(subject, batch)
        common.require_shape(name, first, batch)
        alone = common.each_alone(function, first[some], log_q[some])
        require_close(f"{name} of a batch", batch[some], alone, allowed)
        require_close(f"{name} of a batch of one", function(first[:1].clone(), log_q[:1].clone()), batch[:1], allowed)
        _require_rows_apart(name, function, (first, log_q), batch, allowed)
        for deepen in (lambda rows: torch.stack((rows, rows.flip(0))), lambda rows: rows[None, :, None].clone()):
            deeper = function(deepen(first), deepen(log_q))
            require_close(f"{name} of shape {tuple(deepen(first).shape)}", deeper, deepen(batch), allowed)
        _require_the_same_in_other_memory(name, function, (first, log_q), allowed)


def _require_rows_apart(
    name: str, function: Function, arguments: tuple[Tensor, Tensor], batch: Tensor, allowed: float
) -> None:
    """A row of NaN, unless it is refused with a ValueError, comes out as NaN and leaves the other rows as they are."""
    first = arguments[0].clone()
    first[0] = torch.nan
    with contextlib.suppress(ValueError):
        found = function(first, arguments[1].clone()).detach()
        require_close(f"{name} of a batch with a row of NaN, in the other rows", found[1:], batch[1:], allowed)
        first[0] = arguments[0][0] - 0.5
        depends = not torch.equal(function(first, arguments[1].clone()).detach()[0], batch[0])
        if depends and not bool(found[0].isnan().any()):
            raise Violation(f"{name} hides a NaN in a row of a batch", found=found)


def _require_the_same_in_other_memory(
    name: str, function: Function, arguments: tuple[Tensor, Tensor], allowed: float
) -> None:
    """Of transposed memory, and of one target for all rows; an exception, which is no wrong number, is let pass."""
    first, log_q = arguments
    others = {
        "that is not contiguous": [argument.mT.contiguous().mT for argument in arguments],
        "with one target": [first, log_q[:1].expand_as(first)],
    }
    for what, given in others.items():
        with contextlib.suppress(RuntimeError):
            found = function(*given).detach()
            expected = function(*(argument.contiguous().clone() for argument in given))
            require_close(f"{name} of a batch {what}", found, expected, allowed)


def _two_of_a_large_batch(subject: Subject) -> st.SearchStrategy[Two]:
    return common.in_full(subject, lambda dtype: common.two_cases_in(dtype, (3, 5)))


@check(_two_of_a_large_batch, most_examples=4)
def a_large_batch_is_its_members(subject: Subject, two: Two) -> None:
    """A batch of hundreds or thousands of rows gives what its members give alone, and in the other order the same."""
    rows = ROWS_WHERE_SLOW if common.is_slow(subject) else ROWS
    for name, function in subject.parts.items():
        first, log_q = _batch(subject, name, two, rows)
        batch = function(first.clone(), log_q.clone()).detach()
        allowed, some = 64 * eps(first.dtype) * common.size_of(subject, batch), common.some_rows(first)
        turned = function(first.flip(0), log_q.flip(0)).detach()
        require_close(f"{name} of {rows} rows in the other order", turned.flip(0), batch, allowed)
        alone = common.each_alone(function, first[some], log_q[some])
        require_close(f"{name} of {rows} rows", batch[some], alone, allowed)


@check(common.two_cases, most_examples=5)
def an_empty_batch_gives_an_empty_result(subject: Subject, two: Two) -> None:
    """A batch without members gives a result without members, or is refused with a ValueError."""
    for name, function in subject.parts.items():
        first, log_q = (argument[:0] for argument in common.as_batch(name, two, 2))
        with contextlib.suppress(ValueError):
            common.require_shape(name, first, function(first, log_q))


@check(common.two_cases, torch_only, most_examples=10)
def vmap_gives_the_same(subject: Subject, two: Two) -> None:
    """torch.vmap over a batch gives what a loop gives, or is refused with a RuntimeError."""
    for name, function in subject.parts.items():
        first = torch.stack([first_argument(name, case.logits) for case in two])
        log_q = torch.stack([case.log_q for case in two])
        expected = common.each_alone(function, first, log_q)
        allowed = 64 * eps(first.dtype) * common.size_of(subject, expected)
        with contextlib.suppress(RuntimeError):
            require_close(f"{name} under vmap", torch.vmap(function)(first, log_q), expected, allowed)


def _apart(subject: Subject) -> common.Cases:
    """Cases in which value, weight and force differ from 0."""
    return common.wide_cases(subject, 5.0, kinds=("ordinary",), classes=(4,)).filter(
        lambda case: float((case.log_p - case.log_q).abs().min()) > 0.1
    )


_general_form = needs(
    lambda subject: not common.is_slow(subject),
    "a general form may walk SymPy's tree, which would be traced: compile its printed code instead",
)


@check(_apart, _general_form, torch_only, most_examples=1)
def compiling_gives_the_same(subject: Subject, case: Case) -> None:
    """torch.compile changes nothing, alone or in a batch of three (graph capture; the backend runs it as it stands)."""
    moved = torch.arange(3.0)[:, None] * torch.arange(len(case.logits))
    batch = case.logits + moved.to(case.logits.dtype)
    given = {
        name: [(first_argument(name, row), case.log_q.expand_as(row).clone()) for row in (case.logits, batch)]
        for name in subject.parts
    }

    def every_part(tensors: Any) -> Any:
        return {name: [function(*pair) for pair in tensors[name]] for name, function in subject.parts.items()}

    expected = every_part(given)
    torch._dynamo.reset()
    found = torch.compile(every_part, backend="eager")(given)
    torch._dynamo.reset()
    for name, numbers in expected.items():
        for one, wanted in zip(found[name], numbers, strict=True):
            allowed = 64 * eps(wanted.dtype) * common.size_of(subject, wanted)
            require_close(f"the compiled {name} with result of shape {tuple(wanted.shape)}", one, wanted, allowed)


_on_a_gpu = needs(lambda subject: torch.cuda.is_available(), "there is no GPU here")


@check(common.wide_cases, torch_only, _on_a_gpu, most_examples=10)
def devices_agree(subject: Subject, case: Case) -> None:
    """A GPU gives what the CPU gives."""
    for name, function in subject.parts.items():
        argument = first_argument(name, case.logits)
        here = function(argument.clone(), case.log_q.clone())
        there = function(argument.cuda(), case.log_q.cuda())
        if not there.is_cuda:
            raise Violation(f"{name} returns a tensor on another device than its input")
        require_close(f"{name} on a GPU", there.cpu(), here, 256 * eps(here.dtype) * common.size_of(subject, here))
