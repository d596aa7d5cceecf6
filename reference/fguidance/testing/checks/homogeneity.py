"""What makes it an f-divergence: the weight of a class depends on its p and q alone, and scales with them."""

import functools
import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing.check import check
from fguidance.testing.checks import common
from fguidance.testing.checks.common import with_value
from fguidance.testing.strategies import Case, Pair
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import Violation, conditioning, eps, further, require_close, require_close_if_steep

Numbers = tuple[float, float, float, float]
TINY = (1e-6, 1e-12, 1e-20, 1e-40)
SHARES = st.integers(1, 15).map(lambda number: number / 16)
NUMBERS = st.tuples(SHARES, SHARES, SHARES, SHARES)


def _with_a_factor(subject: Subject) -> st.SearchStrategy[Numbers]:
    """The fourth is a factor: a share, or so small that it meets whatever was added to avoid a logarithm of 0.

    A plain formula may write out the cube of a probability.
    """
    smallest = 100 * torch.finfo(subject.widest).tiny ** (1 / 3)
    tiny = [factor for factor in TINY if factor > smallest]
    return st.tuples(SHARES, SHARES, SHARES, SHARES | st.sampled_from(tiny) if tiny else SHARES)


def _with_pieces(subject: Subject) -> st.SearchStrategy[tuple[Numbers, int]]:
    return st.tuples(NUMBERS, st.sampled_from((2, 1100 if common.is_slow(subject) else 5000, 3, 300, 8)))


def _pair(p: float, q: float, split: float, dtype: torch.dtype) -> Pair:
    """Three classes: the first has the given p and q, the others share what is left."""
    first = torch.tensor([p, (1 - p) * split, (1 - p) * (1 - split)], dtype=torch.float64)
    second = torch.tensor([q, (1 - q) * (1 - split), (1 - q) * split], dtype=torch.float64)
    return Pair(first.log().to(dtype), second.log().to(dtype))


def _first_weight(subject: Subject, pair: Pair) -> Tensor:
    return subject.weight(pair.log_p.clone(), pair.log_q.clone())[0]


def _away_from_kinks(subject: Subject, p: float, q: float) -> None:
    log_p, log_q = torch.tensor([[p], [q]], dtype=torch.float64).log().to(subject.widest)
    common.away_from_kinks(subject, log_p, log_q)


def _split(log: Tensor, share: float, pieces: int) -> Tensor:
    """The first class split: a share of it, and the rest in equal pieces; so many in all."""
    parts = torch.full((pieces,), (1 - share) / (pieces - 1), dtype=torch.float64)
    parts[0] = share
    return torch.cat((parts.log() + log[0].double(), log[1:].double()))


def _allowed(subject: Subject, number: Tensor) -> float:
    return 256 * eps(subject.widest) * (subject.scale + abs(float(number.detach())))


@check(_with_pieces)
def weight_depends_on_its_class_alone(subject: Subject, example: tuple[Numbers, int]) -> None:
    """The weight of a class is a function of its own p and q, however the others, be they many, share the rest."""
    (p, q, split, other), pieces = example
    _away_from_kinks(subject, p, q)
    here = _first_weight(subject, _pair(p, q, split, subject.widest))
    pair = _pair(p, q, other, torch.float64)
    many = [_split(log.flip(-1), other, pieces).flip(-1).to(subject.widest) for log in (pair.log_p, pair.log_q)]
    there = _first_weight(subject, Pair(*many))
    require_close("the first weight, with the rest shared otherwise", there, here, _allowed(subject, here), p=p, q=q)


def _cases(subject: Subject) -> common.Cases:
    kinds = ("ordinary", "one-hot on the label", "one-hot on another class")
    return common.wide_cases(subject, 12.0, kinds=kinds, classes=(4, 11, 300, 1100))


@check(_cases)
def every_class_is_treated_alike(subject: Subject, case: Case) -> None:
    """Each of a thousand weights is what a class of its p and q has among three, wherever it stands."""
    log_p, log_q = case.log_p, case.log_q
    common.away_from_kinks(subject, log_p, log_q)
    found = subject.weight(log_p.clone(), log_q.clone())
    if found.shape != log_p.shape:
        raise Violation(f"the weights of {len(log_p)} classes have shape {tuple(found.shape)}")
    expected = subject.weight(_among_three(log_p, 0.25), _among_three(log_q, 0.5))[:, 0]
    unit = 256 * eps(found.dtype) * conditioning(log_p, log_q)
    allowed = unit * (expected.detach().double().abs() + subject.scale * (log_p.double().exp() + log_q.double().exp()))
    require_close("a weight among many", found, expected, allowed, log_p=log_p, log_q=log_q)


def _among_three(log: Tensor, share: float) -> Tensor:
    """A distribution over three classes for each: it, and two that share what is left; shape (classes, 3)."""
    one = log.double()
    little = (-torch.expm1(one)).clamp_min(torch.finfo(torch.float32).tiny).log()  # in place of the logarithm of 0
    rest = torch.where(one > -math.log(2), little, torch.log1p(-one.exp()))
    return torch.stack((one, rest + math.log(share), rest + math.log1p(-share)), -1).to(log.dtype)


@check(_with_a_factor)
def weight_is_homogeneous(subject: Subject, numbers: Numbers) -> None:
    """w(c p, c q) = c w(p, q), however small c is: a weight is p times a function of p/q."""
    p, q, split, factor = numbers
    _away_from_kinks(subject, p, q)
    large, small = (_pair(c * p, c * q, split, subject.widest) for c in (1.0, factor))
    whole, part = _first_weight(subject, large), _first_weight(subject, small)
    size = abs(float(whole.detach())) + subject.scale * (p + q)
    magnified = float(conditioning(small.log_p[0], small.log_q[0]))

    def moved() -> Tensor:
        return factor * _first_weight(subject, Pair(large.log_p, further(large.log_p, large.log_q).to(subject.widest)))

    allowed = 256 * eps(subject.widest) * magnified * factor * size
    require_close_if_steep("w(c p, c q)", part, factor * whole, allowed, moved, p=p, q=q, factor=factor)


@check(_with_pieces, with_value)
def splitting_a_class_changes_nothing(subject: Subject, example: tuple[Numbers, int]) -> None:
    """A class split in two or in hundreds with the same p/q leaves the value as it is."""
    (p, q, split, share), pieces = example
    pair, dtype, value = _pair(p, q, split, torch.float64), subject.widest, subject.value
    log_p, log_q = pair.log_p.to(dtype), pair.log_q.to(dtype)
    whole = value(log_p.clone(), log_q.clone())
    finer = [_split(log, share, pieces).to(dtype) for log in (pair.log_p, pair.log_q)]
    moved = functools.partial(value, log_p, further(log_p, log_q).to(dtype))
    allowed = _allowed(subject, whole) * max(1, pieces / 256)  # as terms that are added one by one lose
    require_close_if_steep("the value with the class split", value(*finer), whole, allowed, moved, log_p=finer[0])
