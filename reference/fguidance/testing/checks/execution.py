"""How an implementation behaves: dtypes, shapes, purity, NaN, transforms and devices."""

import functools
import random
import warnings

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import strategies, surroundings
from fguidance.testing.check import Violation, check
from fguidance.testing.checks._subjects import (
    away_from_kinks,
    first_argument,
    functions,
    torch_only,
    value_of,
    weight_of,
    with_value,
    working_dtype,
    zeros_are_allowed,
)  # fmt: skip
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Function, Subject
from fguidance.testing.tolerance import (
    eps,
    further,
    require_close,
    require_close_if_steep,
    rounding_of_parts,
    smallest,
)  # fmt: skip

ULPS_OF_HALF, ULPS_OF_SINGLE, ULPS_OF_AUTOGRAD = 2.0, 32.0, 8.0
"""Per step, in which a dtype may differ from a wider one. Half precision has few digits: it is held to them."""
MANY = (40, 2000)
"""Numbers of classes at which another way of adding up, or of finding the largest ones, may be taken."""


def _cases(subject: Subject) -> st.SearchStrategy[Case]:
    return strategies.cases(working_dtype(subject), 20.0)


def _dtypes(subject: Subject) -> st.SearchStrategy[torch.dtype]:
    """The promised dtypes; those of two bytes, which overflow first, more often."""
    narrow = [dtype for dtype in subject.dtypes if dtype.itemsize == 2]
    return st.sampled_from((*narrow, *narrow, *subject.dtypes))


def _in_dtypes(
    subject: Subject, classes: tuple[int, ...] = strategies.CLASSES, zeros: bool = False
) -> st.SearchStrategy[Case]:
    kinds = ("ordinary", "one-hot on the label", "one-hot on another class", "one-hot on another class")
    return _dtypes(subject).flatmap(lambda dtype: strategies.cases(dtype, 8.0, kinds, classes, zeros))


def _is_general_form(subject: Subject) -> bool:
    """Whether every number takes milliseconds."""
    from fguidance.symbolic import pieces

    return subject.derived and subject.generator is not None and pieces(subject.generator) is None


def _many(subject: Subject) -> tuple[int, ...]:
    return MANY[:1] if _is_general_form(subject) else MANY


def _in_dtypes_of_many(subject: Subject) -> st.SearchStrategy[Case]:
    return _in_dtypes(subject) | _in_dtypes(subject, _many(subject))


def _expected_shape(name: str, argument: Tensor) -> torch.Size:
    return argument.shape[:-1] if name == "value" else argument.shape


@check(_in_dtypes)
def dtype_and_shape_are_kept(subject: Subject, case: Case) -> None:
    """Results have the dtype of the logits; weights and forces their shape, the value the shape less the classes."""
    for name, function in functions(subject).items():
        argument = first_argument(name, case.logits)
        found = function(argument, case.log_q.clone())
        if found.dtype != argument.dtype:
            raise Violation(f"{name} returns {found.dtype} for {argument.dtype}")
        if found.shape != _expected_shape(name, argument):
            raise Violation(f"{name} returns shape {tuple(found.shape)} for {tuple(argument.shape)}")


@check(_in_dtypes_of_many)
def dtypes_agree(subject: Subject, case: Case) -> None:
    """Every promised dtype gives what the widest gives at the same input, to its own rounding."""
    wide, gauge = working_dtype(subject), subject.declaration.gauge
    ulps = ULPS_OF_HALF if case.logits.dtype.itemsize == 2 else ULPS_OF_SINGLE
    weight = weight_of(subject)(first_argument("weight", case.logits).to(wide), case.log_q.to(wide)).detach()
    for name, function in functions(subject).items():
        argument = first_argument(name, case.logits)
        found = function(argument, case.log_q.clone())
        expected = function(argument.to(wide), case.log_q.to(wide))
        allowed = rounding_of_parts(name, argument, case.log_q, weight, ulps, gauge, subject.scale)
        moved = functools.partial(function, argument.to(wide), further(case.log_p, case.log_q).to(wide))
        require_close_if_steep(
            f"{name} in {argument.dtype}", found, expected, allowed + smallest(argument.dtype), moved
        )


def _saturated_in_dtypes(subject: Subject) -> st.SearchStrategy[Case]:
    classes = (1, *strategies.CLASSES, *_many(subject))
    return _dtypes(subject).flatmap(lambda dtype: strategies.cases(dtype, 20.0, classes=classes))


@check(_saturated_in_dtypes)
def finite_input_gives_no_nan(subject: Subject, case: Case) -> None:
    """No NaN comes out for finite logits; a single class may be refused with a ValueError."""
    for name, function in functions(subject).items():
        try:
            found = function(first_argument(name, case.logits), case.log_q.clone())
        except ValueError:
            if len(case.logits) > 1:
                raise
            continue
        if bool(found.isnan().any()):
            raise Violation(f"{name} holds NaN", found=found)


def _with_a_class(subject: Subject) -> st.SearchStrategy[tuple[Case, int]]:
    return st.tuples(_cases(subject), st.integers(0, max(strategies.CLASSES) - 1))


@check(_with_a_class)
def nan_is_not_hidden(subject: Subject, example: tuple[Case, int]) -> None:
    """A NaN in any class comes out as NaN or raises ValueError; it is never replaced in silence.

    In the target it is tried with the value alone unless full support is declared, and not at all where zeros are
    promised: what guards a 0 may guard a NaN as well.
    """
    case, place = example[0], example[1] % len(example[0].logits)
    for name, function in functions(subject).items():
        for which in (0, 1) if _shows_nan_of_target(subject, name) else (0,):
            arguments = first_argument(name, case.logits), case.log_q.clone()
            arguments[which][place] = torch.nan
            try:
                found = function(*arguments)
            except ValueError:
                continue
            if not bool(found.isnan().any()) and _depends_on(function, case, name, which, place):
                message = f"{name} hides a NaN in its {('first', 'second')[which]} argument"
                hint = "; declare full_support=False if it guards zeros" if which else ""
                raise Violation(message + hint, place=place, found=found)


def _shows_nan_of_target(subject: Subject, name: str) -> bool:
    stated = subject.declaration.full_support
    return name == "value" if stated is None else stated


def _depends_on(function: Function, case: Case, name: str, which: int, place: int) -> bool:
    """Whether an entry of that argument matters at all: the weight -q of another gauge depends on q alone."""
    arguments = first_argument(name, case.logits), case.log_q.clone()
    before = function(*arguments).detach().clone()
    arguments[which][place] -= 0.5
    try:
        return not torch.equal(before, function(*arguments).detach())
    except ValueError:
        return True


LEADING = ((), (2,), (1, 3), (9,))


def _leading(subject: Subject) -> st.SearchStrategy[tuple[Case, tuple[int, ...]]]:
    classes = (*strategies.CLASSES, *_many(subject))
    cases = _in_dtypes(subject, classes, zeros=zeros_are_allowed(subject) is None)
    return st.tuples(cases, st.sampled_from(LEADING))


@check(_leading)
def inputs_are_not_modified(subject: Subject, example: tuple[Case, tuple[int, ...]]) -> None:
    """What goes in is as it was afterwards, whatever its dtype and shape."""
    case, leading = example
    for name, function in functions(subject).items():
        given = [first_argument(name, case.logits), case.log_q]
        first, log_q = (argument.expand(*leading, -1).clone() for argument in given)
        kept = first.clone(), log_q.clone()
        found = _unless_refused(function, first, log_q)
        if not (torch.equal(first, kept[0]) and torch.equal(log_q, kept[1])):
            raise Violation(f"{name} modifies its input", before=kept, after=(first, log_q))
        if found is not None and _memory(found) in (_memory(first), _memory(log_q)):
            raise Violation(f"{name} returns a view of its input, so that changing one changes the other")


def _unless_refused(function: Function, first: Tensor, log_q: Tensor) -> Tensor | None:
    """The result; None where a target with zeros is refused with a ValueError, as it may be."""
    try:
        return function(first, log_q)
    except ValueError:
        if bool(log_q.isfinite().all()):
            raise
        return None


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


ALL = {**surroundings.GENERATORS, **surroundings.SETTINGS}


@check(_cases)
def surroundings_are_left_alone(subject: Subject, case: Case) -> None:
    """No random generator is seeded or drawn from, and no setting of PyTorch or NumPy is changed."""
    for name, function in functions(subject).items():
        kept = surroundings.read(ALL)
        torch.rand(()), random.random(), np.random.random()  # noqa: NPY002 - so that seeding cannot set what is there
        try:
            with warnings.catch_warnings(record=True):
                warnings.simplefilter("always")  # not the filter that a function would set to be rid of them
                before = surroundings.read(ALL)
                function(first_argument(name, case.logits), case.log_q.clone())
                after = surroundings.read(ALL)
        finally:
            surroundings.restore(ALL, kept)
        changed = [what for what in before if not surroundings.same(before[what], after[what])]
        if changed:
            raise Violation(f"{name} changes {' and '.join(changed)}")


def _given(case: Case, name: str, recorded: tuple[bool, bool]) -> list[Tensor]:
    arguments = first_argument(name, case.logits), case.log_q.clone()
    return [one.requires_grad_(wanted) for one, wanted in zip(arguments, recorded, strict=True)]


@check(_in_dtypes, torch_only)
def recording_gradients_changes_nothing(subject: Subject, case: Case) -> None:
    """The same numbers come out under torch.no_grad, and where the logits or the target want a gradient."""
    for name, function in functions(subject).items():
        plain = function(*_given(case, name, (False, False))).detach()
        allowed = 16 * eps(plain.dtype) * _scale(subject, plain)
        with torch.no_grad():
            found = function(*_given(case, name, (False, False)))
        require_close(f"{name} under torch.no_grad", found, plain, allowed)
        for what, recorded in WANTED.items():
            found = function(*_given(case, name, recorded)).detach()
            require_close(f"{name} where {what} a gradient", found, plain, allowed)


WANTED = {"the first argument wants": (True, False), "the target wants": (False, True), "both want": (True, True)}


def _meant_for_autograd(subject: Subject) -> str | None:
    if subject.value is None or subject.array != "torch":
        return with_value(subject) or torch_only(subject)
    return None if subject.declaration.differentiable else "it is declared not to be differentiable"


@check(_cases, _meant_for_autograd)
def autograd_runs_through_the_value(subject: Subject, case: Case) -> None:
    """A value in PyTorch is part of the graph of its logits; declare differentiable=False where that is not meant."""
    log_p = torch.log_softmax(case.logits.clone().requires_grad_(), -1)
    if not value_of(subject)(log_p, case.log_q.clone()).requires_grad:
        raise Violation("the value is cut off from the graph: a loss made of it trains nothing")


def _gradient(subject: Subject, logits: Tensor, log_q: Tensor, upstream: Tensor | float = 2.0) -> Tensor:
    """The gradient of `upstream` times the values, summed, over `upstream`; a power of 2 per row, so that it is exact.

    What comes from above is never 1, as a gradient written by hand may forget to hand it on.
    """
    at, factor = logits.clone().requires_grad_(), torch.as_tensor(upstream, dtype=logits.dtype)
    values = value_of(subject)(torch.log_softmax(at, -1), log_q.clone())
    (found,) = torch.autograd.grad((factor * values).sum(), at)
    return found / factor[..., None]


def _differentiable(subject: Subject) -> str | None:
    return _meant_for_autograd(subject) or (None if subject.differentiable else "autograd does not run")


@check(_in_dtypes, _differentiable)
def autograd_agrees_in_every_dtype(subject: Subject, case: Case) -> None:
    """The gradient of the value in every promised dtype is that in the widest, to its own rounding."""
    wide = working_dtype(subject)
    away_from_kinks(subject, case.log_p, case.log_q)
    weight = weight_of(subject)(case.log_p.to(wide), case.log_q.to(wide)).detach()
    dtype = case.logits.dtype
    if not float(weight.abs().max()) < torch.finfo(dtype).max / 2**10:
        return  # beyond the range of the dtype there is no gradient
    found, expected = (_gradient(subject, case.logits.to(kind), case.log_q.to(kind)) for kind in (dtype, wide))
    ulps, scale = ULPS_OF_AUTOGRAD, subject.scale
    allowed = rounding_of_parts("logit_gradient", case.logits, case.log_q, weight, ulps, scale=scale)
    moved = functools.partial(_gradient, subject, case.logits.to(wide), further(case.log_p, case.log_q).to(wide))
    require_close_if_steep(f"the gradient of the value in {dtype}", found, expected, allowed + smallest(dtype), moved)


@check(lambda subject: _rows(subject), _differentiable)
def autograd_of_a_batch_is_that_of_its_members(subject: Subject, example: tuple[tuple[Case, Case], int]) -> None:
    """The gradient of a weighted sum of the values of a batch is, row by row, what autograd gives for each alone."""
    logits, log_q = _batch("logit_gradient", *example)
    away_from_kinks(subject, torch.log_softmax(logits, -1), log_q)
    upstream = torch.tensor([2.0, -1.0, 0.5]).repeat(len(logits))[: len(logits)]
    some = _some(logits)
    found = _gradient(subject, logits, log_q, upstream)[some]
    alone = torch.stack([_gradient(subject, *row) for row in zip(logits[some], log_q[some], strict=True)])
    finite = alone.isfinite()  # beyond the range of the dtype there is nothing to compare
    allowed = 64 * eps(found.dtype) * _scale(subject, alone)
    require_close("the gradient of a batch", found[finite], alone[finite], allowed)


def _two_in(
    dtype: torch.dtype, classes: tuple[int, ...] = (2, 3, 5), zeros: bool = False
) -> st.SearchStrategy[tuple[Case, Case]]:
    def two(number: int) -> st.SearchStrategy[tuple[Case, Case]]:
        return st.tuples(*[strategies.cases(dtype, 10.0, classes=(number,), zeros=zeros) for _ in range(2)])

    return st.sampled_from(classes).flatmap(two)


def _two(subject: Subject) -> st.SearchStrategy[tuple[Case, Case]]:
    return _two_in(working_dtype(subject))


def _rows(subject: Subject, zeros: bool = False) -> st.SearchStrategy[tuple[tuple[Case, Case], int]]:
    """Two cases and a number of rows; 0 stands for as many as classes, so that a wrong axis has the right length."""
    two = st.sampled_from(subject.dtypes).flatmap(lambda dtype: _two_in(dtype, zeros=zeros))
    return st.tuples(two, st.sampled_from((0, 0, 9, 33)))


def _scale(subject: Subject, found: Tensor) -> float:
    values = found.detach().double().abs()
    largest = float(values[values.isfinite()].max()) if bool(values.isfinite().any()) else 0.0
    return subject.scale + largest


@check(_two)
def calls_do_not_depend_on_earlier_calls(subject: Subject, two: tuple[Case, Case]) -> None:
    """The same input gives the same result, whatever was asked in between, and in the same memory."""
    for name, function in functions(subject).items():
        first, log_q = first_argument(name, two[0].logits), two[0].log_q.clone()
        returned = function(first, log_q).detach()
        once = returned.clone()
        fresh = function(first_argument(name, two[1].logits), two[1].log_q.clone()).detach().clone()
        if not torch.equal(once.nan_to_num(), returned.nan_to_num()):
            raise Violation(f"{name} writes over the result that it returned before", before=once, after=returned)
        again = function(first_argument(name, two[0].logits), two[0].log_q.clone()).detach().clone()
        if not torch.equal(once.nan_to_num(), again.nan_to_num()):
            raise Violation(f"{name} gives something else the second time", once=once, again=again)
        first.copy_(first_argument(name, two[1].logits))
        log_q.copy_(two[1].log_q)
        moved = function(first, log_q).detach()
        allowed = 64 * eps(fresh.dtype) * _scale(subject, fresh)
        require_close(f"{name} of the same tensor with new contents", moved, fresh, allowed)


def _some(batch: Tensor) -> list[int]:
    return sorted({0, 1, len(batch) // 2, len(batch) - 1})


def _alone(function: Function, first: Tensor, log_q: Tensor) -> Tensor:
    return torch.stack([function(a.clone(), b.clone()).detach() for a, b in zip(first, log_q, strict=True)])


def _batch(name: str, two: tuple[Case, Case], rows: int) -> tuple[Tensor, Tensor]:
    """The two cases by turns; the logits, and every other time the target too, are rolled along."""
    cases = [two[k % 2] for k in range(rows or len(two[0].logits))]
    first = [first_argument(name, case.logits).roll(k) for k, case in enumerate(cases)]
    return torch.stack(first), torch.stack([case.log_q.roll(k // 2) for k, case in enumerate(cases)])


def _rows_with_zeros(subject: Subject) -> st.SearchStrategy[tuple[tuple[Case, Case], int]]:
    return _rows(subject, zeros=zeros_are_allowed(subject) is None)


@check(_rows_with_zeros)
def a_batch_is_its_members(subject: Subject, example: tuple[tuple[Case, Case], int]) -> None:
    """Any leading batch shape gives what its members give alone, in whatever order they lie in memory."""
    for name, function in functions(subject).items():
        first, log_q = _batch(name, *example)
        away_from_kinks(subject, first if name == "value" else torch.log_softmax(first, -1), log_q)
        found = _unless_refused(function, first.clone(), log_q.clone())
        if found is None:
            continue
        batch = found.detach()
        some = _some(first)
        allowed = 64 * eps(first.dtype) * _scale(subject, batch)
        if batch.shape != _expected_shape(name, first):
            raise Violation(f"{name} returns shape {tuple(batch.shape)} for {tuple(first.shape)}")
        require_close(f"{name} of a batch", batch[some], _alone(function, first[some], log_q[some]), allowed)
        for deepen in (lambda rows: torch.stack((rows, rows.flip(0))), lambda rows: rows[None, :, None].clone()):
            deeper = function(deepen(first), deepen(log_q))
            require_close(f"{name} of shape {tuple(deepen(first).shape)}", deeper, deepen(batch), allowed)
        _require_the_same_in_other_memory(name, function, (first, log_q), allowed)


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


ROWS, ROWS_OF_A_GENERAL_FORM = 1025, 129
"""One more than what is done at a time, be it 32, 64 or 1024."""


@check(lambda subject: _two_in(working_dtype(subject), (3, 5)), most_examples=3)
def a_large_batch_is_its_members(subject: Subject, two: tuple[Case, Case]) -> None:
    """A batch of hundreds or of a thousand rows gives what its members give alone, and in the other order the same."""
    rows = ROWS_OF_A_GENERAL_FORM if _is_general_form(subject) else ROWS
    for name, function in functions(subject).items():
        first, log_q = _batch(name, two, rows)
        away_from_kinks(subject, first if name == "value" else torch.log_softmax(first, -1), log_q)
        batch = function(first.clone(), log_q.clone()).detach()
        allowed, some = 64 * eps(first.dtype) * _scale(subject, batch), _some(first)
        turned = function(first.flip(0), log_q.flip(0)).detach()
        require_close(f"{name} of {rows} rows in the other order", turned.flip(0), batch, allowed)
        require_close(f"{name} of {rows} rows", batch[some], _alone(function, first[some], log_q[some]), allowed)


@check(_two, most_examples=5)
def an_empty_batch_gives_an_empty_result(subject: Subject, two: tuple[Case, Case]) -> None:
    """A batch without members gives a result without members, or is refused with a ValueError."""
    for name, function in functions(subject).items():
        first, log_q = (argument[:0] for argument in _batch(name, two, 2))
        try:
            found = function(first, log_q)
        except ValueError:
            continue
        if found.shape != _expected_shape(name, first):
            raise Violation(f"{name} returns shape {tuple(found.shape)} for {tuple(first.shape)}")


@check(_two, torch_only, most_examples=10)
def vmap_gives_the_same(subject: Subject, two: tuple[Case, Case]) -> None:
    """torch.vmap over a batch gives what a loop gives, or is refused with a RuntimeError."""
    for name, function in functions(subject).items():
        first = torch.stack([first_argument(name, case.logits) for case in two])
        log_q = torch.stack([case.log_q for case in two])
        expected = _alone(function, first, log_q)
        allowed = 64 * eps(first.dtype) * _scale(subject, expected)
        try:
            found = torch.vmap(function)(first, log_q)
        except RuntimeError:
            continue
        require_close(f"{name} under vmap", found, expected, allowed)


def _compilable(subject: Subject) -> str | None:
    if _is_general_form(subject):
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
            require_close(what, found, expected, 64 * eps(expected.dtype) * _scale(subject, expected))


def _needs_gpu(subject: Subject) -> str | None:
    reason = torch_only(subject)
    return reason or (None if torch.cuda.is_available() else "there is no GPU here")


@check(_cases, _needs_gpu, most_examples=10)
def devices_agree(subject: Subject, case: Case) -> None:
    """A GPU gives what the CPU gives."""
    for name, function in functions(subject).items():
        argument = first_argument(name, case.logits)
        here = function(argument.clone(), case.log_q.clone())
        there = function(argument.cuda(), case.log_q.cuda())
        if not there.is_cuda:
            raise Violation(f"{name} returns a tensor on another device than its input")
        require_close(f"{name} on a GPU", there.cpu(), here, 256 * eps(here.dtype) * _scale(subject, here))
