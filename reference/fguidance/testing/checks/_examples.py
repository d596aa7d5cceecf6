"""Examples that several checks of a program are tried on: in every dtype, alone, repeated and in batches."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import strategies
from fguidance.testing.check import Violation
from fguidance.testing.checks._subjects import first_argument, working_dtype
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Function, Subject


def working_cases(subject: Subject) -> st.SearchStrategy[Case]:
    """In the widest dtype that is promised."""
    return strategies.cases(working_dtype(subject), 20.0)


def promised_dtypes(subject: Subject) -> st.SearchStrategy[torch.dtype]:
    """The promised dtypes; those of two bytes, which overflow first, more often."""
    narrow = [dtype for dtype in subject.dtypes if dtype.itemsize == 2]
    return st.sampled_from((*narrow, *narrow, *subject.dtypes))


def in_dtypes(
    subject: Subject, classes: tuple[int, ...] = strategies.CLASSES, zeros: bool = False
) -> st.SearchStrategy[Case]:
    """In every promised dtype, no further apart than half precision bears."""
    kinds = ("ordinary", "one-hot on the label", "one-hot on another class", "one-hot on another class")
    return promised_dtypes(subject).flatmap(lambda dtype: strategies.cases(dtype, 8.0, kinds, classes, zeros))


def expected_shape(name: str, argument: Tensor) -> torch.Size:
    """What a part of that name returns for a first argument."""
    return argument.shape[:-1] if name == "value" else argument.shape


def wrong_shape(name: str, argument: Tensor, found: Tensor) -> Violation:
    """What to raise where a part returns another shape."""
    wanted = tuple(expected_shape(name, argument))
    return Violation(f"{name} returns shape {tuple(found.shape)} for {tuple(argument.shape)}, not {wanted}")


LEADING = ((), (2,), (1, 3), (9,))


def with_leading_axes(subject: Subject) -> st.SearchStrategy[tuple[Case, tuple[int, ...]]]:
    """A case and the leading axes over which to repeat it."""
    return st.tuples(in_dtypes(subject), st.sampled_from(LEADING))


def repeated(name: str, case: Case, leading: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The same case in every place of a batch; fresh tensors."""
    first, log_q = (one.expand(*leading, -1).clone() for one in (first_argument(name, case.logits), case.log_q))
    return first, log_q


def two_cases_in(
    dtype: torch.dtype, classes: tuple[int, ...] = (2, 3, 5), zeros: bool = False
) -> st.SearchStrategy[tuple[Case, Case]]:
    """Two cases with as many classes as each other."""

    def two(number: int) -> st.SearchStrategy[tuple[Case, Case]]:
        return st.tuples(*[strategies.cases(dtype, 10.0, classes=(number,), zeros=zeros) for _ in range(2)])

    return st.sampled_from(classes).flatmap(two)


def two_cases(subject: Subject) -> st.SearchStrategy[tuple[Case, Case]]:
    """Two cases in the widest dtype that is promised."""
    return two_cases_in(working_dtype(subject))


def rows_of_two(subject: Subject, zeros: bool = False) -> st.SearchStrategy[tuple[tuple[Case, Case], int]]:
    """Two cases and a number of rows; 0 stands for as many as classes, so that a wrong axis has the right length."""
    two = st.sampled_from(subject.dtypes).flatmap(lambda dtype: two_cases_in(dtype, zeros=zeros))
    return st.tuples(two, st.sampled_from((0, 0, 9, 33)))


def as_batch(name: str, two: tuple[Case, Case], rows: int) -> tuple[Tensor, Tensor]:
    """The two cases by turns; the logits, and every other time the target too, are rolled along.

    The logits are shrunk a little, as whole sixteenths would be exact in half precision too.
    """
    row = torch.arange(rows or len(two[0].logits))
    first = torch.stack([first_argument(name, 0.97 * case.logits) for case in two])
    log_q = torch.stack([case.log_q for case in two])
    return _rolled(first[row % 2], row), _rolled(log_q[row % 2], row // 2)


def _rolled(batch: Tensor, by: Tensor) -> Tensor:
    """Each row rolled along by a number of its own."""
    classes = batch.shape[-1]
    return batch.gather(-1, (torch.arange(classes) - by[:, None]) % classes)


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


def size_of(subject: Subject, found: Tensor) -> float:
    """The largest finite number, and the scale of the divergence."""
    values = found.detach().double().abs()
    largest = float(values[values.isfinite()].max()) if bool(values.isfinite().any()) else 0.0
    return subject.scale + largest
