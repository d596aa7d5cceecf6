"""What several checks share: conditions, examples in every dtype and shape, and which examples are given up."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import exact, strategies
from fguidance.testing.check import Condition
from fguidance.testing.strategies import CLASSES, Case
from fguidance.testing.subject import Function, Subject
from fguidance.testing.tolerance import Violation, eps, require_close

Example = tuple[Case, tuple[int, ...]]
"""A case, and the leading axes over which it is repeated."""
Two = tuple[Case, Case]
Cases = st.SearchStrategy[Case]
ONE_HOT = ("one-hot on the label", "one-hot on another class")
NEAREST_KINK, NEAREST_BEND = 1e-3, 5e-4
"""The log-ratio from a kink within which rounding, or a step of a difference, may decide between two slopes."""


def needs(holds: Callable[[Subject], bool], reason: str) -> Condition:
    """The condition that something holds, and why the check is skipped where it does not."""
    return lambda subject: None if holds(subject) else reason


with_generator = needs(lambda subject: subject.generator is not None, "no generator is declared")
with_value = needs(lambda subject: "value" in subject.parts, "it has no value")
with_force = needs(lambda subject: "logit_gradient" in subject.parts, "no logit_gradient is given")
smooth = needs(lambda subject: subject.declaration.smooth, "it is declared not to be smooth")
autograd_runs = needs(lambda subject: subject.differentiable, "autograd does not run")
torch_only = needs(lambda subject: subject.array == "torch", "it takes NumPy arrays")
in_double = needs(lambda subject: torch.float64 in subject.dtypes, "float64 is not promised")
single_or_double = needs(
    lambda subject: subject.widest.itemsize > 2, "it needs float32 or float64, and neither is promised"
)


def zeros_are_allowed(subject: Subject) -> str | None:
    """The check needs targets that are 0 for some classes."""
    stated = subject.declaration.full_support
    if stated is None and not subject.derived:
        return "nothing is declared of targets with zeros; declare full_support=False to have them tried"
    return "every class of the target needs q > 0" if stated else None


def is_slow(subject: Subject) -> bool:
    """Whether it was derived from a formula and may be integrated: every number then takes milliseconds."""
    return subject.derived and not subject.registered


def in_full(subject: Subject, strategy: Callable[[torch.dtype], st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Examples in those of float32 and float64 that are promised, in the widest promised dtype if neither is."""
    full = [dtype for dtype in subject.dtypes if dtype.itemsize > 2] or [subject.widest]
    return st.sampled_from(full).flatmap(strategy)


def wide_cases(subject: Subject, largest_spread: float = 20.0, **options: Any) -> Cases:
    """Cases in the widest dtype that is promised."""
    return strategies.cases(subject.widest, largest_spread, **options)


def promised_dtypes(subject: Subject) -> st.SearchStrategy[torch.dtype]:
    """The promised dtypes; those of two bytes, which overflow first, more often."""
    narrow = [dtype for dtype in subject.dtypes if dtype.itemsize == 2]
    return st.sampled_from((*narrow, *narrow, *subject.dtypes))


def in_dtypes(subject: Subject, classes: tuple[int, ...] = CLASSES, zeros: bool = False) -> Cases:
    """Cases in every promised dtype, no further apart than half precision bears."""
    kinds = ("ordinary", *ONE_HOT, ONE_HOT[1])
    return promised_dtypes(subject).flatmap(lambda dtype: strategies.cases(dtype, 8.0, kinds, classes, zeros))


def with_leading_axes(
    subject: Subject, classes: tuple[int, ...] = CLASSES, zeros: bool = False
) -> st.SearchStrategy[Example]:
    """A case and the leading axes over which to repeat it."""
    return st.tuples(in_dtypes(subject, classes, zeros), st.sampled_from(((), (2,), (1, 3), (9,))))


def two_cases(subject: Subject) -> st.SearchStrategy[Two]:
    """Two cases with as many classes as each other, in the widest dtype that is promised."""
    return two_cases_in(subject.widest)


@functools.cache
def two_cases_in(
    dtype: torch.dtype, classes: tuple[int, ...] = (2, 3, 5), zeros: bool = False
) -> st.SearchStrategy[Two]:
    """Two cases with as many classes as each other."""
    cases = [strategies.cases(dtype, 10.0, classes=(number,), zeros=zeros) for number in classes]
    return st.sampled_from(cases).flatmap(lambda case: st.tuples(case, case))


def rows_of_two(subject: Subject, zeros: bool = False) -> st.SearchStrategy[tuple[Two, int]]:
    """Two cases and a number of rows; 0 stands for as many as classes, so that a wrong axis has the right length."""
    two = st.sampled_from(subject.dtypes).flatmap(lambda dtype: two_cases_in(dtype, zeros=zeros))
    return st.tuples(two, st.sampled_from((0, 0, 9, 33)))


def first_argument(name: str, logits: Tensor) -> Tensor:
    """The logits for the force, log-probabilities for the others; always a fresh tensor."""
    return logits.clone() if name == "logit_gradient" else torch.log_softmax(logits.double(), -1).to(logits.dtype)


def repeated(name: str, case: Case, leading: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """The arguments for a part, of the same case in every place of a batch; fresh tensors."""
    first, log_q = (one.expand(*leading, -1).clone() for one in (first_argument(name, case.logits), case.log_q))
    return first, log_q


def as_batch(name: str, two: Two, rows: int) -> tuple[Tensor, Tensor]:
    """The two cases by turns; the logits, and every other time the target too, are rolled along.

    The logits are shrunk a little, as whole sixteenths would be exact in half precision too.
    """
    row = torch.arange(rows or len(two[0].logits))
    first = torch.stack([first_argument(name, 0.97 * case.logits) for case in two])[row % 2]
    log_q = torch.stack([case.log_q for case in two])[row % 2]
    place = torch.arange(first.shape[-1])
    rolled = [batch.gather(-1, (place - by[:, None]) % len(place)) for batch, by in ((first, row), (log_q, row // 2))]
    return rolled[0], rolled[1]


def some_rows(batch: Tensor) -> list[int]:
    """The first two rows of a batch, one in the middle and the last."""
    return sorted({0, 1, len(batch) // 2, len(batch) - 1})


def each_alone(function: Function, first: Tensor, log_q: Tensor) -> Tensor:
    """The results for the rows, one by one."""
    return torch.stack([function(a.clone(), b.clone()).detach() for a, b in zip(first, log_q, strict=True)])


def unless_refused(function: Function, first: Tensor, log_q: Tensor) -> Tensor | None:
    """The result; None where a target with zeros is refused with a ValueError, as it may be."""
    try:
        return function(first, log_q)
    except ValueError:
        if bool(log_q.isfinite().all()):
            raise
        return None


def require_shape(name: str, argument: Tensor, found: Tensor) -> None:
    """Raise `Violation` unless a result has the shape that a part of that name returns for a first argument."""
    wanted = argument.shape[:-1] if name == "value" else argument.shape
    if found.shape != wanted:
        shapes = f"{tuple(found.shape)} for {tuple(argument.shape)}, not {tuple(wanted)}"
        raise Violation(f"{name} returns shape {shapes}")


def size_of(subject: Subject, found: Tensor) -> float:
    """The scale of the divergence and the largest finite number."""
    return subject.scale + float(found.detach().double().nan_to_num(0, 0, 0).abs().amax())


def require_same(subject: Subject, what: str, found: Tensor, expected: Tensor, ulps: float = 64) -> None:
    """Raise `Violation` unless two results are the same but for so many ulps of the largest number."""
    require_close(what, found, expected, ulps * eps(expected.dtype) * size_of(subject, expected))


def away_from_kinks(subject: Subject, log_p: Tensor, log_q: Tensor, reach: float = 0.0) -> None:
    """Give up an example in which some class is at a kink, or within `reach` of it."""
    if subject.declaration.smooth:
        return
    rounding = 64 * eps(log_p.dtype) * float(log_p.detach().abs().max() + 1)
    ratio = (log_p.detach().double() - log_q.double())[..., None]
    kinks = torch.tensor(subject.declaration.kinks, dtype=torch.float64).log()
    assume(bool(((ratio - kinks).abs() > max(NEAREST_KINK, rounding, reach)).all()))


def away_from_quick_bends(subject: Subject, case: Case) -> None:
    """Give up an example at a bend of the generator that is narrower than differences and logarithms resolve."""
    ratios = case.log_p.double() - case.log_q.double()
    for place, distance in exact.bends(subject.generator) if subject.generator is not None else ():
        if distance < NEAREST_BEND * place:
            assume(bool(((ratios - math.log(place)).abs() > NEAREST_BEND).all()))


def limit_share(dtype: torch.dtype) -> float:
    """What a sum of a few terms with log-ratios of up to 12 may lose of its size."""
    return 1e-9 if dtype == torch.float64 else 1e-4
