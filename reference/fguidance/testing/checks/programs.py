"""How an implementation behaves: dtypes, shapes, batches, NaN, memory, surroundings, compilers and other devices."""

import contextlib
import functools
import random
import warnings
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import strategies, surroundings, tolerance
from fguidance.testing.check import check
from fguidance.testing.checks import common
from fguidance.testing.checks.common import Example, Two, needs, repeated, require_same, torch_only, zeros_are_allowed
from fguidance.testing.strategies import CLASSES, Case
from fguidance.testing.subject import Function, Subject
from fguidance.testing.tolerance import Violation, eps, require_close

ULPS_OF_HALF, ULPS_OF_SINGLE = 2.0, 32.0
"""Per step, in which a dtype may differ from a wider one. Half precision has few digits: it is held to them."""
SPREAD_OF_CUBES = 28.0
"""How far apart logits are where float32 still holds the cube of a ratio."""
MANY = (40, 2000)
"""Numbers of classes at which another way of adding up, or of finding the largest ones, may be taken."""
ROWS, ROWS_WHERE_SLOW = 8193, 129
"""One more than what is done at a time, be it 32, 64 or 8192."""
EVERYTHING = {**surroundings.GENERATORS, **surroundings.SETTINGS}


def _many(subject: Subject) -> tuple[int, ...]:
    return MANY[:1] if common.is_slow(subject) else MANY


@check(common.with_leading_axes, share=0.4)
def dtype_and_shape_are_kept(subject: Subject, example: Example) -> None:
    """Results have the dtype of the logits; weights and forces their shape, the value the shape less the classes."""
    for name, function in subject.parts.items():
        argument, log_q = repeated(name, *example)
        found = function(argument, log_q)
        if found.dtype != argument.dtype:
            raise Violation(f"{name} returns {found.dtype} for {argument.dtype}")
        common.require_shape(name, argument, found)


def _few_many_or_saturated(subject: Subject) -> common.Cases:
    saturated = common.in_full(subject, lambda dtype: strategies.cases(dtype, SPREAD_OF_CUBES, common.ONE_HOT))
    few, many = common.in_dtypes(subject), common.in_dtypes(subject, _many(subject))
    return few | many | many | saturated


@check(_few_many_or_saturated)
def dtypes_agree(subject: Subject, case: Case) -> None:
    """Every promised dtype gives what the widest gives at the same input, to its own rounding."""
    common.away_from_kinks(subject, case.log_p, case.log_q)
    wide, dtype = subject.widest, case.logits.dtype
    ulps = ULPS_OF_HALF if dtype.itemsize == 2 else ULPS_OF_SINGLE
    weight = subject.weight(case.log_p.to(wide), case.log_q.to(wide)).detach()
    further = tolerance.further(case.log_p, case.log_q).to(wide)
    for name, function in subject.parts.items():
        first, log_q = repeated(name, case)
        found, expected = function(first.clone(), log_q.clone()), function(first.to(wide), log_q.to(wide))
        rounding = tolerance.rounding_of_parts(
            name, first, log_q, weight, ulps, subject.declaration.gauge, subject.scale
        )
        moved = functools.partial(function, first.to(wide), further)
        allowed = rounding + tolerance.smallest(dtype)
        tolerance.require_close_if_steep(f"{name} in {dtype}", found, expected, allowed, moved)


def _saturated_in_dtypes(subject: Subject) -> common.Cases:
    classes = (1, *CLASSES, *_many(subject))
    return common.promised_dtypes(subject).flatmap(lambda dtype: strategies.cases(dtype, 20.0, classes=classes))


@check(_saturated_in_dtypes)
def finite_input_gives_no_nan(subject: Subject, case: Case) -> None:
    """No NaN comes out for finite logits; a single class may be refused with a ValueError."""
    for name, function in subject.parts.items():
        try:
            found = function(*repeated(name, case))
        except ValueError:
            if len(case.logits) > 1:
                raise
            continue
        if bool(found.isnan().any()):
            raise Violation(f"{name} holds NaN", found=found)


@check(lambda subject: st.tuples(common.wide_cases(subject), st.integers(0, max(CLASSES) - 1)), share=0.5)
def nan_is_not_hidden(subject: Subject, example: tuple[Case, int]) -> None:
    """A NaN in any class comes out as NaN or raises ValueError; it is never replaced in silence.

    In the target it is tried with the value alone unless full support is declared, and not at all where zeros are
    promised: what guards a 0 may guard a NaN as well.
    """
    case, place = example[0], example[1] % len(example[0].logits)
    stated = subject.declaration.full_support
    for name, function in subject.parts.items():
        shown_in_target = name == "value" if stated is None else stated
        for which in (0, 1) if shown_in_target else (0,):
            arguments = repeated(name, case)
            arguments[which][place] = torch.nan
            with contextlib.suppress(ValueError):
                found = function(*arguments)
                if not bool(found.isnan().any()) and _depends_on(function, repeated(name, case), which, place):
                    message = f"{name} hides a NaN in its {('first', 'second')[which]} argument"
                    hint = "; declare full_support=False if it guards zeros" if which else ""
                    raise Violation(message + hint, place=place, found=found)


def _depends_on(function: Function, arguments: tuple[Tensor, Tensor], which: int, place: int) -> bool:
    """Whether an entry of that argument matters at all: the weight -q of another gauge depends on q alone."""
    before = function(*(one.clone() for one in arguments)).detach().clone()
    arguments[which][place] -= 0.5
    try:
        return not torch.equal(before, function(*arguments).detach())
    except ValueError:
        return True


def _leading_with_zeros(subject: Subject) -> st.SearchStrategy[Example]:
    zeros = zeros_are_allowed(subject) is None
    return common.with_leading_axes(subject, (*CLASSES, *_many(subject)), zeros)


@check(_leading_with_zeros, share=0.5)
def inputs_are_not_modified(subject: Subject, example: Example) -> None:
    """The arguments are afterwards as they were, whatever their dtype and shape."""
    for name, function in subject.parts.items():
        first, log_q = repeated(name, *example)
        kept = first.clone(), log_q.clone()
        found = common.unless_refused(function, first, log_q)
        if not (torch.equal(first, kept[0]) and torch.equal(log_q, kept[1])):
            raise Violation(f"{name} modifies its input", before=kept, after=(first, log_q))
        result, *inputs = (0 if one is None else one.untyped_storage().data_ptr() for one in (found, first, log_q))
        if result in inputs:
            raise Violation(f"{name} returns a view of its input, so that changing one changes the other")


@check(common.with_leading_axes, share=0.3)
def surroundings_are_left_alone(subject: Subject, example: Example) -> None:
    """No random generator is seeded or drawn from, and no setting of PyTorch or NumPy is changed."""
    for name, function in subject.parts.items():
        kept = surroundings.read(EVERYTHING)
        torch.rand(()), random.random(), np.random.random()  # noqa: NPY002 - so that seeding cannot set what is there
        try:
            with warnings.catch_warnings(record=True):
                warnings.simplefilter("always")  # not the filter that a function would set to be rid of them
                before = surroundings.read(EVERYTHING)
                function(*repeated(name, *example))
                after = surroundings.read(EVERYTHING)
        finally:
            surroundings.restore(EVERYTHING, kept)
        changed = [what for what in before if not surroundings.same(before[what], after[what])]
        if changed:
            raise Violation(f"{name} changes {' and '.join(changed)}")


@check(common.two_cases, share=0.4)
def calls_do_not_depend_on_earlier_calls(subject: Subject, two: Two) -> None:
    """The same input gives the same result, whatever was asked in between, and in the same memory."""
    for name, function in subject.parts.items():
        first, log_q = repeated(name, two[0])
        returned = function(first, log_q).detach()
        once = returned.clone()
        fresh = function(*repeated(name, two[1])).detach().clone()
        _require_equal(f"{name} writes over the result that it returned before", once, returned)
        _require_equal(f"{name} gives something else the second time", once, function(*repeated(name, two[0])))
        with contextlib.suppress(RuntimeError):  # of an expanded result, say, that cannot be written to
            function(first, log_q).detach().mul_(3).add_(1)  # a caller may write to what it got
            _require_equal(f"{name} returns what it keeps: written to, it comes back so", once, function(first, log_q))
        for one, other in zip((first, log_q), repeated(name, two[1]), strict=True):
            one.copy_(other)
        require_same(subject, f"{name} of the same tensor with new contents", function(first, log_q), fresh)


def _require_equal(otherwise: str, once: Tensor, again: Tensor) -> None:
    """Raise `Violation` with that message unless two results are equal, NaN where NaN is."""
    if not torch.equal(once.nan_to_num(), again.detach().nan_to_num()):
        raise Violation(otherwise, once=once, again=again)


def _batch(subject: Subject, name: str, two: Two, rows: int) -> tuple[Tensor, Tensor]:
    first, log_q = common.as_batch(name, two, rows)
    common.away_from_kinks(subject, first if name == "value" else torch.log_softmax(first, -1), log_q)
    return first, log_q


@check(lambda subject: common.rows_of_two(subject, zeros=zeros_are_allowed(subject) is None), share=0.4)
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
    name: str, function: Function, given: tuple[Tensor, Tensor], batch: Tensor, allowed: float
) -> None:
    """A row of NaN, unless it is refused with a ValueError, comes out as NaN and leaves the other rows as they are."""
    first, log_q = given[0].clone(), given[1]
    first[0] = torch.nan
    with contextlib.suppress(ValueError):
        found = function(first, log_q.clone()).detach()
        require_close(f"{name} of a batch with a row of NaN, in the other rows", found[1:], batch[1:], allowed)
        first[0] = given[0][0] - 0.5
        depends = not torch.equal(function(first, log_q.clone()).detach()[0], batch[0])
        if depends and not bool(found[0].isnan().any()):
            raise Violation(f"{name} hides a NaN in a row of a batch", found=found)


def _require_the_same_in_other_memory(
    name: str, function: Function, given: tuple[Tensor, Tensor], allowed: float
) -> None:
    """Of transposed memory, and of one target for all rows; an exception, which is no wrong number, is let pass."""
    transposed = [argument.mT.contiguous().mT for argument in given]
    one_target = [given[0], given[1][:1].expand_as(given[0])]
    for what, arguments in (("that is not contiguous", transposed), ("with one target", one_target)):
        with contextlib.suppress(RuntimeError):
            found = function(*arguments).detach()
            expected = function(*(argument.contiguous().clone() for argument in arguments))
            require_close(f"{name} of a batch {what}", found, expected, allowed)


@check(lambda subject: common.in_full(subject, lambda dtype: common.two_cases_in(dtype, (3, 5))), most_examples=4)
def a_large_batch_is_its_members(subject: Subject, two: Two) -> None:
    """A batch of hundreds or thousands of rows gives what its members give alone, and in the other order the same."""
    rows = ROWS_WHERE_SLOW if common.is_slow(subject) else ROWS
    for name, function in subject.parts.items():
        first, log_q = _batch(subject, name, two, rows)
        batch, some = function(first.clone(), log_q.clone()).detach(), common.some_rows(first)
        turned = function(first.flip(0), log_q.flip(0)).detach()
        require_same(subject, f"{name} of {rows} rows in the other order", turned.flip(0), batch)
        alone = common.each_alone(function, first[some], log_q[some])
        require_close(
            f"{name} of {rows} rows", batch[some], alone, 64 * eps(first.dtype) * common.size_of(subject, batch)
        )


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
        first, log_q = map(torch.stack, zip(*(repeated(name, case) for case in two), strict=True))
        expected = common.each_alone(function, first, log_q)
        with contextlib.suppress(RuntimeError):
            require_same(subject, f"{name} under vmap", torch.vmap(function)(first, log_q), expected)


def _apart(subject: Subject) -> common.Cases:
    """Cases in which value, weight and force differ from 0."""
    cases = common.wide_cases(subject, 5.0, kinds=("ordinary",), classes=(4,))
    return cases.filter(lambda case: float((case.log_p - case.log_q).abs().min()) > 0.1)


_closed_form = needs(
    lambda subject: not common.is_slow(subject),
    "a general form may walk SymPy's tree, which would be traced: compile its printed code instead",
)


@check(_apart, _closed_form, torch_only, most_examples=1)
def compiling_gives_the_same(subject: Subject, case: Case) -> None:
    """torch.compile changes nothing, alone or in a batch of three (graph capture; the backend runs it as it stands)."""
    batch = case.logits + (torch.arange(3.0)[:, None] * torch.arange(len(case.logits))).to(case.logits.dtype)
    given = {
        name: [repeated(name, case), (common.first_argument(name, batch), case.log_q.expand_as(batch).clone())]
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
            require_same(subject, f"the compiled {name} with result of shape {tuple(wanted.shape)}", one, wanted)


_on_a_gpu = needs(lambda subject: torch.cuda.is_available(), "there is no GPU here")


@check(common.wide_cases, torch_only, _on_a_gpu, most_examples=10)
def devices_agree(subject: Subject, case: Case) -> None:
    """A GPU gives what the CPU gives."""
    for name, function in subject.parts.items():
        first, log_q = repeated(name, case)
        there = function(first.cuda(), log_q.cuda())
        if not there.is_cuda:
            raise Violation(f"{name} returns a tensor on another device than its input")
        require_same(subject, f"{name} on a GPU", there.cpu(), function(first, log_q), 256)
