"""What makes it an f-divergence: the weight of a class depends on its p and q alone, and scales with them."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing.check import check
from fguidance.testing.checks._subjects import value_of, weight_of, with_value, working_dtype
from fguidance.testing.strategies import Pair
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import eps, require_close

Numbers = tuple[float, float, float, float]


def _numbers(_: Subject) -> st.SearchStrategy[Numbers]:
    share = st.integers(1, 15).map(lambda number: number / 16)
    return st.tuples(share, share, share, share)


def _pair(p: float, q: float, split: float, dtype: torch.dtype) -> Pair:
    """Three classes: the first has the given p and q, the others share what is left."""
    first = torch.tensor([p, (1 - p) * split, (1 - p) * (1 - split)], dtype=torch.float64)
    second = torch.tensor([q, (1 - q) * (1 - split), (1 - q) * split], dtype=torch.float64)
    return Pair(first.log().to(dtype), second.log().to(dtype))


def _first_weight(subject: Subject, pair: Pair) -> Tensor:
    return weight_of(subject)(pair.log_p.clone(), pair.log_q.clone())[0]


def _allowed(subject: Subject, *weights: Tensor) -> float:
    return 256 * eps(working_dtype(subject)) * (1 + max(float(w.detach().abs()) for w in weights))


@check(_numbers)
def weight_depends_on_its_class_alone(subject: Subject, numbers: Numbers) -> None:
    """The weight of a class is a function of its own p and q, however the others share the rest."""
    p, q, split, other = numbers
    dtype = working_dtype(subject)
    here, there = (_first_weight(subject, _pair(p, q, s, dtype)) for s in (split, other))
    require_close("the first weight, with the rest shared otherwise", there, here, _allowed(subject, here), p=p, q=q)


@check(_numbers)
def weight_is_homogeneous(subject: Subject, numbers: Numbers) -> None:
    """w(c p, c q) = c w(p, q): a weight is p times a function of p/q."""
    p, q, split, factor = numbers
    dtype = working_dtype(subject)
    whole, part = (_first_weight(subject, _pair(c * p, c * q, split, dtype)) for c in (1.0, factor))
    allowed = _allowed(subject, whole, part)
    require_close("w(c p, c q)", part, factor * whole, allowed, p=p, q=q, factor=factor)


@check(_numbers, with_value)
def splitting_a_class_changes_nothing(subject: Subject, numbers: Numbers) -> None:
    """A class split in two with the same p/q leaves the value as it is."""
    p, q, split, share = numbers
    pair = _pair(p, q, split, torch.float64)
    parts = torch.tensor([share, 1 - share], dtype=torch.float64).log()
    dtype = working_dtype(subject)
    value = value_of(subject)
    whole = value(pair.log_p.to(dtype), pair.log_q.to(dtype))
    finer = [torch.cat((parts + log[0], log[1:])).to(dtype) for log in (pair.log_p, pair.log_q)]
    found = value(*finer)
    require_close("the value with the class split", found, whole, _allowed(subject, whole), log_p=finer[0])
