"""How an implementation behaves: dtypes, shapes, NaN, inputs, surroundings, and what was asked before."""

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
from fguidance.testing.checks._examples import (
    LEADING,
    expected_shape,
    in_dtypes,
    promised_dtypes,
    repeated,
    size_of,
    two_cases,
    unless_refused,
    with_leading_axes,
    working_cases,
    wrong_shape,
)  # fmt: skip
from fguidance.testing.checks._subjects import (
    away_from_kinks,
    first_argument,
    full_dtypes,
    functions,
    is_general_form,
    weight_of,
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

ULPS_OF_HALF, ULPS_OF_SINGLE = 2.0, 32.0
"""Per step, in which a dtype may differ from a wider one. Half precision has few digits: it is held to them."""
FAR = 28.0
"""How far apart logits are where float32 still holds the cube of a ratio."""
MANY = (40, 2000)
"""Numbers of classes at which another way of adding up, or of finding the largest ones, may be taken."""


def _far_in_dtypes(subject: Subject) -> st.SearchStrategy[Case]:
    kinds = ("one-hot on the label", "one-hot on another class")
    return st.sampled_from(full_dtypes(subject)).flatmap(lambda dtype: strategies.cases(dtype, FAR, kinds))


def _many(subject: Subject) -> tuple[int, ...]:
    return MANY[:1] if is_general_form(subject) else MANY


def _in_dtypes_of_many(subject: Subject) -> st.SearchStrategy[Case]:
    few, many = in_dtypes(subject), in_dtypes(subject, _many(subject))
    return few | many | many | _far_in_dtypes(subject)


@check(with_leading_axes)
def dtype_and_shape_are_kept(subject: Subject, example: tuple[Case, tuple[int, ...]]) -> None:
    """Results have the dtype of the logits; weights and forces their shape, the value the shape less the classes."""
    for name, function in functions(subject).items():
        argument, log_q = repeated(name, *example)
        found = function(argument, log_q)
        if found.dtype != argument.dtype:
            raise Violation(f"{name} returns {found.dtype} for {argument.dtype}")
        if found.shape != expected_shape(name, argument):
            raise wrong_shape(name, argument, found)


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
    return promised_dtypes(subject).flatmap(lambda dtype: strategies.cases(dtype, 20.0, classes=classes))


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
    return st.tuples(working_cases(subject), st.integers(0, max(strategies.CLASSES) - 1))


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
    cases = in_dtypes(subject, classes, zeros=zeros_are_allowed(subject) is None)
    return st.tuples(cases, st.sampled_from(LEADING))


@check(_leading_with_zeros)
def inputs_are_not_modified(subject: Subject, example: tuple[Case, tuple[int, ...]]) -> None:
    """What goes in is as it was afterwards, whatever its dtype and shape."""
    for name, function in functions(subject).items():
        first, log_q = repeated(name, *example)
        kept = first.clone(), log_q.clone()
        found = unless_refused(function, first, log_q)
        if not (torch.equal(first, kept[0]) and torch.equal(log_q, kept[1])):
            raise Violation(f"{name} modifies its input", before=kept, after=(first, log_q))
        if found is not None and _memory(found) in (_memory(first), _memory(log_q)):
            raise Violation(f"{name} returns a view of its input, so that changing one changes the other")


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


ALL = {**surroundings.GENERATORS, **surroundings.SETTINGS}


@check(with_leading_axes)
def surroundings_are_left_alone(subject: Subject, example: tuple[Case, tuple[int, ...]]) -> None:
    """No random generator is seeded or drawn from, and no setting of PyTorch or NumPy is changed."""
    for name, function in functions(subject).items():
        kept = surroundings.read(ALL)
        torch.rand(()), random.random(), np.random.random()  # noqa: NPY002 - so that seeding cannot set what is there
        try:
            with warnings.catch_warnings(record=True):
                warnings.simplefilter("always")  # not the filter that a function would set to be rid of them
                before = surroundings.read(ALL)
                function(*repeated(name, *example))
                after = surroundings.read(ALL)
        finally:
            surroundings.restore(ALL, kept)
        changed = [what for what in before if not surroundings.same(before[what], after[what])]
        if changed:
            raise Violation(f"{name} changes {' and '.join(changed)}")


@check(two_cases)
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
        allowed = 64 * eps(fresh.dtype) * size_of(subject, fresh)
        require_close(f"{name} of the same tensor with new contents", moved, fresh, allowed)


def _require_no_memory_of(name: str, function: Function, given: tuple[Tensor, Tensor], once: Tensor) -> None:
    """A caller may write to what it got; a result that is kept and returned again would show that."""
    with contextlib.suppress(RuntimeError):  # of an expanded result, say, that cannot be written to
        function(*given).detach().mul_(3).add_(1)
        again = function(*given).detach()
        if not torch.equal(once.nan_to_num(), again.nan_to_num()):
            raise Violation(f"{name} returns what it keeps: written to, it comes back so", before=once, after=again)
