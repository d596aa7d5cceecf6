"""Batches give what their members give: of any shape and size, in any memory, mapped, compiled, on other devices."""

import contextlib

import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import strategies
from fguidance.testing.check import Violation, check
from fguidance.testing.checks._examples import (
    as_batch,
    each_alone,
    expected_shape,
    rows_of_two,
    size_of,
    some_rows,
    two_cases,
    two_cases_in,
    unless_refused,
    working_cases,
    wrong_shape,
)  # fmt: skip
from fguidance.testing.checks._subjects import (
    away_from_kinks,
    first_argument,
    full_dtypes,
    functions,
    is_general_form,
    torch_only,
    working_dtype,
    zeros_are_allowed,
)  # fmt: skip
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Function, Subject
from fguidance.testing.tolerance import eps, require_close


def _rows_with_zeros(subject: Subject) -> st.SearchStrategy[tuple[tuple[Case, Case], int]]:
    return rows_of_two(subject, zeros=zeros_are_allowed(subject) is None)


@check(_rows_with_zeros)
def a_batch_is_its_members(subject: Subject, example: tuple[tuple[Case, Case], int]) -> None:
    """Any leading batch shape gives what its members give alone, in whatever order they lie in memory."""
    for name, function in functions(subject).items():
        first, log_q = as_batch(name, *example)
        away_from_kinks(subject, first if name == "value" else torch.log_softmax(first, -1), log_q)
        found = unless_refused(function, first.clone(), log_q.clone())
        if found is None:
            continue
        batch = found.detach()
        if batch.dtype != first.dtype:
            raise Violation(f"{name} of a batch returns {batch.dtype} for {first.dtype}")
        some = some_rows(first)
        allowed = 64 * eps(first.dtype) * size_of(subject, batch)
        if batch.shape != expected_shape(name, first):
            raise wrong_shape(name, first, batch)
        require_close(f"{name} of a batch", batch[some], each_alone(function, first[some], log_q[some]), allowed)
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
        again = first.clone()
        again[0] = arguments[0][0] - 0.5
        depends = not torch.equal(function(again, arguments[1].clone()).detach()[0], batch[0])
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
        try:
            found = function(*given).detach()
        except RuntimeError:
            continue
        expected = function(*(argument.contiguous().clone() for argument in given))
        require_close(f"{name} of a batch {what}", found, expected, allowed)


ROWS, ROWS_OF_A_GENERAL_FORM = 8193, 129
"""One more than what is done at a time, be it 32, 64 or 8192."""


def _two_of_a_large_batch(subject: Subject) -> st.SearchStrategy[tuple[Case, Case]]:
    return st.sampled_from(full_dtypes(subject)).flatmap(lambda dtype: two_cases_in(dtype, (3, 5)))


@check(_two_of_a_large_batch, most_examples=4)
def a_large_batch_is_its_members(subject: Subject, two: tuple[Case, Case]) -> None:
    """A batch of hundreds or thousands of rows gives what its members give alone, and in the other order the same."""
    rows = ROWS_OF_A_GENERAL_FORM if is_general_form(subject) else ROWS
    for name, function in functions(subject).items():
        first, log_q = as_batch(name, two, rows)
        away_from_kinks(subject, first if name == "value" else torch.log_softmax(first, -1), log_q)
        batch = function(first.clone(), log_q.clone()).detach()
        allowed, some = 64 * eps(first.dtype) * size_of(subject, batch), some_rows(first)
        turned = function(first.flip(0), log_q.flip(0)).detach()
        require_close(f"{name} of {rows} rows in the other order", turned.flip(0), batch, allowed)
        require_close(f"{name} of {rows} rows", batch[some], each_alone(function, first[some], log_q[some]), allowed)


@check(two_cases, most_examples=5)
def an_empty_batch_gives_an_empty_result(subject: Subject, two: tuple[Case, Case]) -> None:
    """A batch without members gives a result without members, or is refused with a ValueError."""
    for name, function in functions(subject).items():
        first, log_q = (argument[:0] for argument in as_batch(name, two, 2))
        try:
            found = function(first, log_q)
        except ValueError:
            continue
        if found.shape != expected_shape(name, first):
            raise wrong_shape(name, first, found)


@check(two_cases, torch_only, most_examples=10)
def vmap_gives_the_same(subject: Subject, two: tuple[Case, Case]) -> None:
    """torch.vmap over a batch gives what a loop gives, or is refused with a RuntimeError."""
    for name, function in functions(subject).items():
        first = torch.stack([first_argument(name, case.logits) for case in two])
        log_q = torch.stack([case.log_q for case in two])
        expected = each_alone(function, first, log_q)
        allowed = 64 * eps(first.dtype) * size_of(subject, expected)
        try:
            found = torch.vmap(function)(first, log_q)
        except RuntimeError:
            continue
        require_close(f"{name} under vmap", found, expected, allowed)


def _compilable(subject: Subject) -> str | None:
    if is_general_form(subject):
        return "its general form walks SymPy's tree, which would be traced: compile its printed code instead"
    return torch_only(subject)


def _apart(subject: Subject) -> st.SearchStrategy[Case]:
    """Cases in which value, weight and force differ from 0."""
    return strategies.cases(working_dtype(subject), 5.0, ("ordinary",), (4,)).filter(
        lambda case: float((case.log_p - case.log_q).abs().min()) > 0.1
    )


def _three(name: str, case: Case) -> tuple[Tensor, Tensor]:
    """A batch of three whose values differ."""
    moved = torch.arange(3.0)[:, None] * torch.arange(len(case.logits))
    return first_argument(name, case.logits + moved.to(case.logits.dtype)), case.log_q.expand(3, -1).clone()


@check(_apart, _compilable, most_examples=1)
def compiling_gives_the_same(subject: Subject, case: Case) -> None:
    """torch.compile changes nothing, alone or in a batch (graph capture; the backend runs it as it stands)."""
    for name, function in functions(subject).items():
        for first, log_q in ((first_argument(name, case.logits), case.log_q.clone()), _three(name, case)):
            expected = function(first.clone(), log_q.clone())
            torch._dynamo.reset()
            found = torch.compile(function, backend="eager")(first, log_q)
            torch._dynamo.reset()
            what = f"the compiled {name} of shape {tuple(first.shape)}"
            require_close(what, found, expected, 64 * eps(expected.dtype) * size_of(subject, expected))


def _needs_gpu(subject: Subject) -> str | None:
    reason = torch_only(subject)
    return reason or (None if torch.cuda.is_available() else "there is no GPU here")


@check(working_cases, _needs_gpu, most_examples=10)
def devices_agree(subject: Subject, case: Case) -> None:
    """A GPU gives what the CPU gives."""
    for name, function in functions(subject).items():
        argument = first_argument(name, case.logits)
        here = function(argument.clone(), case.log_q.clone())
        there = function(argument.cuda(), case.log_q.cuda())
        if not there.is_cuda:
            raise Violation(f"{name} returns a tensor on another device than its input")
        require_close(f"{name} on a GPU", there.cpu(), here, 256 * eps(here.dtype) * size_of(subject, here))
