"""How an implementation behaves: dtypes, shapes, purity, NaN, transforms and devices."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import exact, strategies
from fguidance.testing.check import Violation, check
from fguidance.testing.checks._subjects import (
    first_argument,
    functions,
    torch_only,
    value_of,
    weight_of,
    with_value,
    working_dtype,
)  # fmt: skip
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Function, Subject
from fguidance.testing.tolerance import eps, require_close

if TYPE_CHECKING:
    import sympy as sp


def _cases(subject: Subject) -> st.SearchStrategy[Case]:
    return strategies.cases(working_dtype(subject), 20.0)


def _dtypes(subject: Subject) -> st.SearchStrategy[torch.dtype]:
    """The promised dtypes; those of two bytes, which overflow first, more often."""
    narrow = [dtype for dtype in subject.dtypes if dtype.itemsize == 2]
    return st.sampled_from((*narrow, *narrow, *subject.dtypes))


def _in_dtypes(subject: Subject) -> st.SearchStrategy[Case]:
    kinds = ("ordinary", "one-hot on the label", "one-hot on another class", "one-hot on another class")
    return _dtypes(subject).flatmap(lambda dtype: strategies.cases(dtype, 8.0, kinds))


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


@check(_in_dtypes)
def dtypes_agree(subject: Subject, case: Case) -> None:
    """Every promised dtype gives what the widest gives at the same input, to its own rounding."""
    wide = working_dtype(subject)
    for name, function in functions(subject).items():
        argument = first_argument(name, case.logits)
        found = function(argument, case.log_q.clone())
        expected = function(argument.to(wide), case.log_q.to(wide)).detach().double()
        scale = (1 + float(expected.abs().max())) * (2 + float(case.log_q.abs().max()) + float(case.logits.abs().max()))
        require_close(f"{name} in {argument.dtype}", found, expected, 32 * eps(argument.dtype) * scale)


def _saturated_in_dtypes(subject: Subject) -> st.SearchStrategy[Case]:
    return _dtypes(subject).flatmap(lambda dtype: strategies.cases(dtype, 20.0))


@check(_saturated_in_dtypes)
def finite_input_gives_no_nan(subject: Subject, case: Case) -> None:
    """No NaN comes out for finite logits."""
    for name, function in functions(subject).items():
        found = function(first_argument(name, case.logits), case.log_q.clone())
        if bool(found.isnan().any()):
            raise Violation(f"{name} holds NaN", found=found)


@check(_cases)
def nan_is_not_hidden(subject: Subject, case: Case) -> None:
    """A NaN comes out as NaN or raises ValueError; it is never replaced in silence.

    In the target it is tried only where every class needs q > 0: what guards a 0 there may guard a NaN as well.
    """
    for name, function in functions(subject).items():
        for which in (0, 1) if subject.declaration.full_support else (0,):
            arguments = first_argument(name, case.logits), case.log_q.clone()
            arguments[which][0] = torch.nan
            try:
                found = function(*arguments)
            except ValueError:
                continue
            if not bool(found.isnan().any()) and _depends_on(function, case, name, which):
                raise Violation(f"{name} hides a NaN in its {('first', 'second')[which]} argument", found=found)


def _depends_on(function: Function, case: Case, name: str, which: int) -> bool:
    """Whether an entry of that argument matters at all: the weight -q of another gauge depends on q alone."""
    arguments = first_argument(name, case.logits), case.log_q.clone()
    before = function(*arguments).detach().clone()
    arguments[which][0] -= 0.5
    try:
        return not torch.equal(before, function(*arguments).detach())
    except ValueError:
        return True


@check(_cases)
def inputs_are_not_modified(subject: Subject, case: Case) -> None:
    """What goes in is as it was afterwards."""
    for name, function in functions(subject).items():
        first, log_q = first_argument(name, case.logits), case.log_q.clone()
        kept = first.clone(), log_q.clone()
        found = function(first, log_q)
        if not (torch.equal(first, kept[0]) and torch.equal(log_q, kept[1])):
            raise Violation(f"{name} modifies its input", before=kept[0], after=first)
        if _memory(found) in (_memory(first), _memory(log_q)):
            raise Violation(f"{name} returns a view of its input, so that changing one changes the other")


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


_SURROUNDINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "PyTorch's random numbers": (torch.get_rng_state, torch.set_rng_state),
    "NumPy's random numbers": (np.random.get_state, np.random.set_state),
    "Python's random numbers": (random.getstate, random.setstate),
    "whether gradients are recorded": (torch.is_grad_enabled, torch.set_grad_enabled),
    "PyTorch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "NumPy's handling of floating-point errors": (np.geterr, lambda kept: np.seterr(**kept)),
}
"""What a function could change behind its caller's back: how to read it, and how to set it."""


def _restore(kept: dict[str, Any]) -> None:
    for what, (_, put) in _SURROUNDINGS.items():
        put(kept[what])


def _read() -> dict[str, Any]:
    return {what: get() for what, (get, _) in _SURROUNDINGS.items()}


@check(_cases)
def surroundings_are_left_alone(subject: Subject, case: Case) -> None:
    """No random generator is seeded or drawn from, and no setting of PyTorch or NumPy is changed."""
    for name, function in functions(subject).items():
        kept = _read()
        torch.rand(()), random.random(), np.random.random()  # noqa: NPY002 - so that seeding cannot set what is there
        before = _read()
        try:
            function(first_argument(name, case.logits), case.log_q.clone())
            after = _read()
        finally:
            _restore(kept)
        changed = [what for what in before if not _same(before[what], after[what])]
        if changed:
            raise Violation(f"{name} changes {' and '.join(changed)}")


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return repr(one) == repr(other)


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


def _two(subject: Subject) -> st.SearchStrategy[tuple[Case, Case]]:
    dtype = working_dtype(subject)
    return st.sampled_from((2, 3, 5)).flatmap(
        lambda classes: st.tuples(*[strategies.cases(dtype, 10.0, classes=(classes,)) for _ in range(2)])
    )


def _scale(found: Tensor) -> float:
    values = found.detach().double().abs()
    return 1 + float(values[values.isfinite()].max()) if bool(values.isfinite().any()) else 1.0


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
        allowed = 64 * eps(fresh.dtype) * _scale(fresh)
        require_close(f"{name} of the same tensor with new contents", moved, fresh, allowed)


def _alone(function: Function, first: Tensor, log_q: Tensor) -> Tensor:
    return torch.stack([function(a.clone(), b.clone()).detach() for a, b in zip(first, log_q, strict=True)])


@check(_two)
def a_batch_is_its_members(subject: Subject, two: tuple[Case, Case]) -> None:
    """Any leading batch shape gives what its members give alone, in whatever order they lie in memory."""
    classes = len(two[0].logits)
    rows = [two[k % 2] for k in range(classes)]  # as many as classes, so that a wrong axis has the right length
    for name, function in functions(subject).items():
        first = torch.stack([first_argument(name, case.logits).roll(k) for k, case in enumerate(rows)])
        log_q = torch.stack([case.log_q for case in rows])
        batch = function(first.clone(), log_q.clone()).detach()
        some = [0, classes - 1]
        allowed = 64 * eps(first.dtype) * _scale(batch)
        if batch.shape != _expected_shape(name, first):
            raise Violation(f"{name} returns shape {tuple(batch.shape)} for {tuple(first.shape)}")
        require_close(f"{name} of a batch", batch[some], _alone(function, first[some], log_q[some]), allowed)
        deeper = function(first[None, :, None].clone(), log_q[None, :, None].clone())
        require_close(f"{name} of shape (1, {classes}, 1, {classes})", deeper, batch[None, :, None], allowed)
        _require_the_same_in_other_memory(name, function, (first, log_q), batch, allowed)


def _require_the_same_in_other_memory(
    name: str, function: Function, arguments: tuple[Tensor, Tensor], expected: Tensor, allowed: float
) -> None:
    """Of transposed memory; a function that refuses it with an exception gives no wrong number."""
    transposed = [argument.mT.contiguous().mT for argument in arguments]
    try:
        found = function(*transposed)
    except RuntimeError:
        return
    require_close(f"{name} of a batch that is not contiguous", found, expected, allowed)


def _zeros_are_allowed(subject: Subject) -> str | None:
    stated = subject.declaration.full_support
    if stated is None and not subject.derived:
        return "nothing is declared of targets with zeros; declare full_support=False to have them tried"
    return "every class of the target needs q > 0" if stated else None


@check(lambda subject: strategies.cases(working_dtype(subject), 10.0, zeros=True), _zeros_are_allowed)
def zeros_in_the_target_are_handled(subject: Subject, case: Case) -> None:
    """A target that is 0 for some classes gives no NaN, or is refused with a ValueError."""
    for name, function in functions(subject).items():
        try:
            found = function(first_argument(name, case.logits), case.log_q.clone())
        except ValueError:
            continue
        if bool(found.isnan().any()):
            raise Violation(f"{name} holds NaN where the target is 0", found=found)
        if name == "value" and bool(found.isinf()):
            return  # the divergence is infinite there, and so has no force
        if name == "value" and subject.generator is not None:
            _require_value_with_zeros(subject.generator, found, case)


def _require_value_with_zeros(generator: "sp.Expr", found: Tensor, case: Case) -> None:
    from fguidance.symbolic import end_values

    support = case.log_q.isfinite()
    outside = float(case.log_p.double()[~support].exp().sum())
    inside = exact.value(generator, case.log_p[support], case.log_q[support])
    wanted = float(inside) + (outside * float(end_values(generator)[1]) if outside else 0.0)
    allowed = max(1e-9, 1e3 * eps(found.dtype)) * (1 + abs(wanted))
    require_close("the value", found, torch.tensor(wanted, dtype=torch.float64), allowed)


@check(_two, torch_only, most_examples=10)
def vmap_gives_the_same(subject: Subject, two: tuple[Case, Case]) -> None:
    """torch.vmap over a batch gives what a loop gives, or is refused with a RuntimeError."""
    for name, function in functions(subject).items():
        first = torch.stack([first_argument(name, case.logits) for case in two])
        log_q = torch.stack([case.log_q for case in two])
        expected = _alone(function, first, log_q)
        allowed = 64 * eps(first.dtype) * _scale(expected)
        try:
            found = torch.vmap(function)(first, log_q)
        except RuntimeError:
            continue
        require_close(f"{name} under vmap", found, expected, allowed)


def _compilable(subject: Subject) -> str | None:
    if subject.derived and subject.generator is not None:
        from fguidance.symbolic import pieces

        if pieces(subject.generator) is None:
            return "its general form walks SymPy's tree, which would be traced: compile its printed code instead"
    return torch_only(subject)


@check(_two, _compilable, most_examples=1)
def compiling_gives_the_same(subject: Subject, two: tuple[Case, Case]) -> None:
    """torch.compile changes no weight (graph capture; the backend runs it as it stands)."""
    torch._dynamo.reset()
    case = two[0]
    compiled = torch.compile(weight_of(subject), backend="eager")
    expected = weight_of(subject)(case.log_p, case.log_q.clone())
    found = compiled(case.log_p, case.log_q.clone())
    torch._dynamo.reset()
    require_close("the compiled weight", found, expected, 64 * eps(expected.dtype) * _scale(expected))


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
        require_close(f"{name} on a GPU", there.cpu(), here, 256 * eps(here.dtype) * _scale(here))
