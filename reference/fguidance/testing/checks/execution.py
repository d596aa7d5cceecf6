"""How an implementation behaves: dtypes, shapes, purity, NaN, transforms and devices."""

import contextlib
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
    full_dtypes,
    functions,
    is_general_form,
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
FAR = 28.0
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


def _far_in_dtypes(subject: Subject) -> st.SearchStrategy[Case]:
    """As far apart as float32 holds the cube of a ratio."""
    kinds = ("one-hot on the label", "one-hot on another class")
    return st.sampled_from(full_dtypes(subject)).flatmap(lambda dtype: strategies.cases(dtype, FAR, kinds))


def _many(subject: Subject) -> tuple[int, ...]:
    return MANY[:1] if is_general_form(subject) else MANY


def _in_dtypes_of_many(subject: Subject) -> st.SearchStrategy[Case]:
    few, many = _in_dtypes(subject), _in_dtypes(subject, _many(subject))
    return few | many | many | _far_in_dtypes(subject)


def _expected_shape(name: str, argument: Tensor) -> torch.Size:
    return argument.shape[:-1] if name == "value" else argument.shape


LEADING = ((), (2,), (1, 3), (9,))


def _leading(subject: Subject) -> st.SearchStrategy[tuple[Case, tuple[int, ...]]]:
    return st.tuples(_in_dtypes(subject), st.sampled_from(LEADING))


def _repeated(name: str, case: Case, leading: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The same case in every place of a batch; fresh tensors."""
    first, log_q = (one.expand(*leading, -1).clone() for one in (first_argument(name, case.logits), case.log_q))
    return first, log_q


@check(_leading)
def dtype_and_shape_are_kept(subject: Subject, example: tuple[Case, tuple[int, ...]]) -> None:
    """Results have the dtype of the logits; weights and forces their shape, the value the shape less the classes."""
    for name, function in functions(subject).items():
        argument, log_q = _repeated(name, *example)
        found = function(argument, log_q)
        if found.dtype != argument.dtype:
            raise Violation(f"{name} returns {found.dtype} for {argument.dtype}")
        if found.shape != _expected_shape(name, argument):
            raise Violation(f"{name} returns shape {tuple(found.shape)} for {tuple(argument.shape)}")


@check(_in_dtypes_of_many)
def dtypes_agree(subject: Subject, case: Case) -> None:
    """Every promised dtype gives what the widest gives at the same input, to its own rounding."""
    away_from_kinks(subject, case.log_p, case.log_q)
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


def _leading_with_zeros(subject: Subject) -> st.SearchStrategy[tuple[Case, tuple[int, ...]]]:
    classes = (*strategies.CLASSES, *_many(subject))
    cases = _in_dtypes(subject, classes, zeros=zeros_are_allowed(subject) is None)
    return st.tuples(cases, st.sampled_from(LEADING))


@check(_leading_with_zeros)
def inputs_are_not_modified(subject: Subject, example: tuple[Case, tuple[int, ...]]) -> None:
    """What goes in is as it was afterwards, whatever its dtype and shape."""
    for name, function in functions(subject).items():
        first, log_q = _repeated(name, *example)
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


@check(_leading)
def surroundings_are_left_alone(subject: Subject, example: tuple[Case, tuple[int, ...]]) -> None:
    """No random generator is seeded or drawn from, and no setting of PyTorch or NumPy is changed."""
    for name, function in functions(subject).items():
        kept = surroundings.read(ALL)
        torch.rand(()), random.random(), np.random.random()  # noqa: NPY002 - so that seeding cannot set what is there
        try:
            with warnings.catch_warnings(record=True):
                warnings.simplefilter("always")  # not the filter that a function would set to be rid of them
                before = surroundings.read(ALL)
                function(*_repeated(name, *example))
                after = surroundings.read(ALL)
        finally:
            surroundings.restore(ALL, kept)
        changed = [what for what in before if not surroundings.same(before[what], after[what])]
        if changed:
            raise Violation(f"{name} changes {' and '.join(changed)}")


def _given(
    name: str, example: tuple[Case, tuple[int, ...]], recorded: tuple[bool, bool] = (False, False)
) -> list[Tensor]:
    return [one.requires_grad_(wanted) for one, wanted in zip(_repeated(name, *example), recorded, strict=True)]


@check(_leading, torch_only)
def recording_gradients_changes_nothing(subject: Subject, example: tuple[Case, tuple[int, ...]]) -> None:
    """The same numbers come out under torch.no_grad, and where the logits or the target want a gradient."""
    for name, function in functions(subject).items():
        plain = function(*_given(name, example)).detach()
        allowed = 16 * eps(plain.dtype) * _scale(subject, plain)
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


@check(_cases, _meant_for_autograd)
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


@check(_in_dtypes, _differentiable)
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


@check(_in_dtypes, _differentiable)
def autograd_gives_no_nan_at_equality(subject: Subject, case: Case) -> None:
    """At p = q, where roots of squares have no derivative, the gradient of the value is a number."""
    at = case.log_q.clone().requires_grad_()
    (found,) = torch.autograd.grad(value_of(subject)(at, case.log_q.clone()), at)
    if bool(found.isnan().any()):
        raise Violation("the gradient of the value holds NaN where p = q", log_q=case.log_q, found=found)


@check(lambda subject: _rows(subject), _differentiable)
def autograd_of_a_batch_is_that_of_its_members(subject: Subject, example: tuple[tuple[Case, Case], int]) -> None:
    """The gradient of a weighted sum of the values of a batch is, row by row, what autograd gives for each alone."""
    logits, log_q = _batch("logit_gradient", *example)
    away_from_kinks(subject, torch.log_softmax(logits, -1), log_q)
    upstream = torch.tensor([61.37, -1.083, 0.517]).repeat(len(logits))[: len(logits)].to(logits.dtype)
    kept, some = upstream.clone(), _some(logits)
    found = _gradient_under_way(subject, logits, log_q, upstream)[some]
    if not torch.equal(kept, upstream):
        raise Violation("the gradient writes over what it is multiplied by", before=kept, after=upstream)
    alone = torch.stack([_gradient(subject, *row) for row in zip(logits[some], log_q[some], strict=True)])
    finite = alone.isfinite()  # beyond the range of the dtype there is nothing to compare
    allowed = 256 * eps(found.dtype) * _scale(subject, alone)
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
        _require_no_memory_of(name, function, (first, log_q), once)
        first.copy_(first_argument(name, two[1].logits))
        log_q.copy_(two[1].log_q)
        moved = function(first, log_q).detach()
        allowed = 64 * eps(fresh.dtype) * _scale(subject, fresh)
        require_close(f"{name} of the same tensor with new contents", moved, fresh, allowed)


def _require_no_memory_of(name: str, function: Function, given: tuple[Tensor, Tensor], once: Tensor) -> None:
    """A caller may write to what it got; a result that is kept and returned again would show that."""
    with contextlib.suppress(RuntimeError):  # of an expanded result, say, that cannot be written to
        function(*given).detach().mul_(3).add_(1)
        again = function(*given).detach()
        if not torch.equal(once.nan_to_num(), again.nan_to_num()):
            raise Violation(f"{name} returns what it keeps: written to, it comes back so", before=once, after=again)


def _some(batch: Tensor) -> list[int]:
    return sorted({0, 1, len(batch) // 2, len(batch) - 1})


def _alone(function: Function, first: Tensor, log_q: Tensor) -> Tensor:
    return torch.stack([function(a.clone(), b.clone()).detach() for a, b in zip(first, log_q, strict=True)])


def _batch(name: str, two: tuple[Case, Case], rows: int) -> tuple[Tensor, Tensor]:
    """The two cases by turns; the logits, and every other time the target too, are rolled along.

    The logits are shrunk a little, as whole sixteenths would be exact in half precision too.
    """
    cases = [two[k % 2] for k in range(rows or len(two[0].logits))]
    first = [first_argument(name, 0.97 * case.logits).roll(k) for k, case in enumerate(cases)]
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
        if batch.dtype != first.dtype:
            raise Violation(f"{name} of a batch returns {batch.dtype} for {first.dtype}")
        some = _some(first)
        allowed = 64 * eps(first.dtype) * _scale(subject, batch)
        if batch.shape != _expected_shape(name, first):
            raise Violation(f"{name} returns shape {tuple(batch.shape)} for {tuple(first.shape)}")
        require_close(f"{name} of a batch", batch[some], _alone(function, first[some], log_q[some]), allowed)
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
    return st.sampled_from(full_dtypes(subject)).flatmap(lambda dtype: _two_in(dtype, (3, 5)))


@check(_two_of_a_large_batch, most_examples=4)
def a_large_batch_is_its_members(subject: Subject, two: tuple[Case, Case]) -> None:
    """A batch of hundreds or thousands of rows gives what its members give alone, and in the other order the same."""
    rows = ROWS_OF_A_GENERAL_FORM if is_general_form(subject) else ROWS
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
