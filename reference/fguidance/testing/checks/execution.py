"""How an implementation behaves: dtypes, shapes, NaN, inputs, surroundings, and what was asked before."""

import contextlib
import functools
import random
import warnings

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import strategies, surroundings, tolerance
from fguidance.testing.check import check
from fguidance.testing.checks import common
from fguidance.testing.checks.common import Example, Two, first_argument, repeated
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Function, Subject
from fguidance.testing.tolerance import Violation, eps, require_close, require_close_if_steep

ULPS_OF_HALF, ULPS_OF_SINGLE = 2.0, 32.0
"""Per step, in which a dtype may differ from a wider one. Half precision has few digits: it is held to them."""
SPREAD_OF_CUBES = 28.0
"""How far apart logits are where float32 still holds the cube of a ratio."""
MANY = (40, 2000)
"""Numbers of classes at which another way of adding up, or of finding the largest ones, may be taken."""
EVERYTHING = {**surroundings.GENERATORS, **surroundings.SETTINGS}


def _many(subject: Subject) -> tuple[int, ...]:
    return MANY[:1] if common.is_slow(subject) else MANY


def _few_many_or_saturated(subject: Subject) -> common.Cases:
    kinds = ("one-hot on the label", "one-hot on another class")
    saturated = common.in_full(subject, lambda dtype: strategies.cases(dtype, SPREAD_OF_CUBES, kinds))
    few, many = common.in_dtypes(subject), common.in_dtypes(subject, _many(subject))
    return few | many | many | saturated


@check(common.with_leading_axes, share=0.4)
def dtype_and_shape_are_kept(subject: Subject, example: Example) -> None:
    """Results have the dtype of the logits; weights and forces their shape, the value the shape less the classes."""
    for name, function in subject.parts.items():
        argument, log_q = repeated(name, *example)
        found = function(argument, log_q)
        if found.dtype != argument.dtype:
            raise Violation(f"{name} returns {found.dtype} for {argument.dtype}")
        common.require_shape(name, argument, found)


@check(_few_many_or_saturated)
def dtypes_agree(subject: Subject, case: Case) -> None:
    """Every promised dtype gives what the widest gives at the same input, to its own rounding."""
    common.away_from_kinks(subject, case.log_p, case.log_q)
    wide, gauge = subject.widest, subject.declaration.gauge
    ulps = ULPS_OF_HALF if case.logits.dtype.itemsize == 2 else ULPS_OF_SINGLE
    weight = subject.weight(first_argument("weight", case.logits).to(wide), case.log_q.to(wide)).detach()
    for name, function in subject.parts.items():
        argument = first_argument(name, case.logits)
        found = function(argument, case.log_q.clone())
        expected = function(argument.to(wide), case.log_q.to(wide))
        allowed = tolerance.rounding_of_parts(name, argument, case.log_q, weight, ulps, gauge, subject.scale)
        moved = functools.partial(function, argument.to(wide), tolerance.further(case.log_p, case.log_q).to(wide))
        allowed = allowed + tolerance.smallest(argument.dtype)
        require_close_if_steep(f"{name} in {argument.dtype}", found, expected, allowed, moved)


def _saturated_in_dtypes(subject: Subject) -> common.Cases:
    classes = (1, *strategies.CLASSES, *_many(subject))
    return common.promised_dtypes(subject).flatmap(lambda dtype: strategies.cases(dtype, 20.0, classes=classes))


@check(_saturated_in_dtypes)
def finite_input_gives_no_nan(subject: Subject, case: Case) -> None:
    """No NaN comes out for finite logits; a single class may be refused with a ValueError."""
    for name, function in subject.parts.items():
        try:
            found = function(first_argument(name, case.logits), case.log_q.clone())
        except ValueError:
            if len(case.logits) > 1:
                raise
            continue
        if bool(found.isnan().any()):
            raise Violation(f"{name} holds NaN", found=found)


def _with_a_class(subject: Subject) -> st.SearchStrategy[tuple[Case, int]]:
    return st.tuples(common.wide_cases(subject), st.integers(0, max(strategies.CLASSES) - 1))


@check(_with_a_class, share=0.5)
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
            arguments = first_argument(name, case.logits), case.log_q.clone()
            arguments[which][place] = torch.nan
            with contextlib.suppress(ValueError):
                found = function(*arguments)
                if not bool(found.isnan().any()) and _depends_on(function, case, name, which, place):
                    message = f"{name} hides a NaN in its {('first', 'second')[which]} argument"
                    hint = "; declare full_support=False if it guards zeros" if which else ""
                    raise Violation(message + hint, place=place, found=found)


def _depends_on(function: Function, case: Case, name: str, which: int, place: int) -> bool:
    """Whether an entry of that argument matters at all: the weight -q of another gauge depends on q alone."""
    arguments = first_argument(name, case.logits), case.log_q.clone()
    before = function(*arguments).detach().clone()
    arguments[which][place] -= 0.5
    try:
        return not torch.equal(before, function(*arguments).detach())
    except ValueError:
        return True


def _leading_with_zeros(subject: Subject) -> st.SearchStrategy[Example]:
    classes = (*strategies.CLASSES, *_many(subject))
    return common.with_leading_axes(subject, classes, zeros=common.zeros_are_allowed(subject) is None)


@check(_leading_with_zeros, share=0.5)
def inputs_are_not_modified(subject: Subject, example: Example) -> None:
    """The arguments are afterwards as they were, whatever their dtype and shape."""
    for name, function in subject.parts.items():
        first, log_q = repeated(name, *example)
        kept = first.clone(), log_q.clone()
        found = common.unless_refused(function, first, log_q)
        if not (torch.equal(first, kept[0]) and torch.equal(log_q, kept[1])):
            raise Violation(f"{name} modifies its input", before=kept, after=(first, log_q))
        if found is not None and _memory(found) in (_memory(first), _memory(log_q)):
            raise Violation(f"{name} returns a view of its input, so that changing one changes the other")


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


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
        first, log_q = first_argument(name, two[0].logits), two[0].log_q.clone()
        returned = function(first, log_q).detach()
        once = returned.clone()
        fresh = function(first_argument(name, two[1].logits), two[1].log_q.clone()).detach().clone()
        if not _equal(once, returned):
            raise Violation(f"{name} writes over the result that it returned before", before=once, after=returned)
        again = function(first_argument(name, two[0].logits), two[0].log_q.clone()).detach().clone()
        if not _equal(once, again):
            raise Violation(f"{name} gives something else the second time", once=once, again=again)
        with contextlib.suppress(RuntimeError):  # of an expanded result, say, that cannot be written to
            function(first, log_q).detach().mul_(3).add_(1)  # a caller may write to what it got
            again = function(first, log_q).detach()
            if not _equal(once, again):
                raise Violation(f"{name} returns what it keeps: written to, it comes back so", before=once, after=again)
        first.copy_(first_argument(name, two[1].logits))
        log_q.copy_(two[1].log_q)
        moved = function(first, log_q).detach()
        allowed = 64 * eps(fresh.dtype) * common.size_of(subject, fresh)
        require_close(f"{name} of the same tensor with new contents", moved, fresh, allowed)


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two results are equal, NaN where NaN is."""
    return torch.equal(one.nan_to_num(), other.nan_to_num())
