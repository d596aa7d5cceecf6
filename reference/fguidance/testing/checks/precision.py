"""Value, weight and force against the generator in high precision."""

import math

import mpmath
import sympy as sp
import torch
from hypothesis import strategies as st
from mpmath import mpf
from torch import Tensor

from fguidance.testing import exact, strategies
from fguidance.testing.check import Violation, check
from fguidance.testing.checks._subjects import (
    away_from_kinks,
    both,
    full_dtypes,
    value_of,
    weight_of,
    with_force,
    with_generator,
)
from fguidance.testing.strategies import Case, Pair
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import ULPS, conditioning, eps, require_close

FAITHFUL_ULPS = 256
PLAIN_ULPS = 5
"""Of 1, which a value near equality may be off by: measured, plain sums stay within 2, and differences of entropies
over 201 classes lose 7 or more."""
FARTHEST = {torch.float64: 200.0, torch.float32: 25.0}
"""Log-ratios u for which a plain formula may write out e^(3u)."""
FARTHEST_FAITHFUL = {torch.float64: 300.0, torch.float32: 80.0}
GENERAL_FORM_ULPS = 2**14
"""Of a generator without exact pieces, which is integrated by quadrature."""


FARTHEST_TARGET = {torch.float64: 40.0, torch.float32: 25.0}


def _in_dtypes(subject: Subject) -> st.SearchStrategy[Case]:
    def cases(dtype: torch.dtype) -> st.SearchStrategy[Case]:
        return strategies.cases(dtype, 30.0, largest_target_spread=FARTHEST_TARGET.get(dtype, 6.0))

    return st.sampled_from(full_dtypes(subject)).flatmap(cases)


def _needs_weight_precision(subject: Subject) -> str | None:
    return "no generator is declared" if subject.generator is None else None


def _generator(subject: Subject) -> sp.Expr:
    assert subject.generator is not None
    return subject.generator


def _as_float(number: mpf) -> float:
    return float(number)


def _weights_and_allowance(subject: Subject, pair: Pair) -> tuple[Tensor, Tensor]:
    """The exact weights, and what rounding the inputs and the result may change in them."""
    generator, gauge, unit = _generator(subject), subject.declaration.gauge, eps(pair.log_p.dtype)
    found = exact.weights(generator, pair.log_p, pair.log_q, gauge)
    magnified = conditioning(pair.log_p, pair.log_q)
    shift = 4 * unit * magnified
    moved = exact.weights(generator, pair.log_p.double() + shift, pair.log_q.double(), gauge)
    wanted = torch.tensor([_as_float(w) for w in found], dtype=torch.float64)
    change = torch.tensor([_as_float(abs(m - w)) for w, m in zip(found, moved, strict=True)], dtype=torch.float64)
    scale = wanted.abs() + subject.scale * pair.log_p.double().exp()
    return wanted, 2 * change + (ULPS + magnified) * unit * scale + torch.finfo(pair.log_p.dtype).tiny


def _require_weight(subject: Subject, pair: Pair) -> None:
    wanted, allowed = _weights_and_allowance(subject, pair)
    found = weight_of(subject)(pair.log_p.clone(), pair.log_q.clone())
    require_close("the weight", _excused(subject, found, wanted), wanted, allowed, log_p=pair.log_p, log_q=pair.log_q)


def _excused(subject: Subject, found: Tensor, wanted: Tensor) -> Tensor:
    """What was found, less the infinities that a plain program may have: (p/q)^4 overflows before q (p/q)^4 does."""
    large = wanted.abs() > torch.finfo(found.dtype).max ** 0.5
    overflown = found.detach().isinf() & (found.detach().sign() == wanted.sign()) & large
    return found if subject.faithful else torch.where(overflown, wanted.to(found.dtype), found)


@check(_in_dtypes, _needs_weight_precision)
def weight_matches_high_precision(subject: Subject, case: Case) -> None:
    """The weights are p f'(p/q), to what rounding the inputs by a few ulps explains."""
    _require_weight(subject, Pair(case.log_p, case.log_q))


def _ends(subject: Subject) -> st.SearchStrategy[Pair]:
    def pair(dtype: torch.dtype, ratio: float) -> Pair:
        shares = torch.tensor([0.5, 0.5 * torch.tensor(-abs(ratio), dtype=torch.float64).exp()], dtype=torch.float64)
        logs = torch.stack((shares.log(), (1 - shares).log()), -1)
        logs[1, 0] = -abs(ratio) + float(shares[0].log())
        first, second = (logs[0], logs[1]) if ratio > 0 else (logs[1], logs[0])
        return Pair(first.to(dtype), second.to(dtype))

    farthest = FARTHEST_FAITHFUL if subject.faithful else FARTHEST
    return st.sampled_from(full_dtypes(subject)).flatmap(
        lambda dtype: strategies.log_ratios(farthest.get(dtype, 5.0)).map(lambda u: pair(dtype, u))
    )


@check(_ends, _needs_weight_precision)
def weight_is_right_at_the_ends(subject: Subject, pair: Pair) -> None:
    """The weights are right for log-ratios of either sign from 1e-8 to 200 (25 in float32; 300 and 80 if faithful)."""
    _require_weight(subject, pair)


@check(_in_dtypes, with_generator)
def value_matches_high_precision(subject: Subject, case: Case) -> None:
    """The value is sum q f(p/q), to what rounding the inputs by a few ulps explains."""
    _require_value(subject, Pair(case.log_p, case.log_q))


@check(_ends, with_generator)
def value_is_right_at_the_ends(subject: Subject, pair: Pair) -> None:
    """The value is right for log-ratios as large as those of `weight_is_right_at_the_ends`."""
    _require_value(subject, pair)


def _require_value(subject: Subject, pair: Pair) -> None:
    generator, (log_p, log_q) = _generator(subject), (pair.log_p, pair.log_q)
    wanted = torch.tensor(_as_float(exact.value(generator, log_p, log_q)), dtype=torch.float64)
    found = value_of(subject)(log_p.clone(), log_q.clone())
    weights = torch.tensor([_as_float(w) for w in exact.weights(generator, log_p, log_q)], dtype=torch.float64)
    sizes = weights.abs() + subject.scale * (log_p.double().exp() + log_q.double().exp())
    size = (sizes * conditioning(log_p, log_q)).sum() + wanted.abs()
    gauge = 1 + abs(_as_float(exact.slope_at_one(generator))) / subject.scale
    allowed = gauge * ULPS * eps(log_p.dtype) * size
    require_close("the value", _excused(subject, found, wanted), wanted, allowed, log_p=log_p, log_q=log_q)


def _near(subject: Subject) -> st.SearchStrategy[Pair]:
    return st.sampled_from(full_dtypes(subject)).flatmap(strategies.near_pairs)


@check(_near, with_generator)
def value_is_right_near_equality(subject: Subject, pair: Pair) -> None:
    """Where p is close to q the value is off by a few ulps of 1 at most, and keeps its leading digits if faithful."""
    generator = _generator(subject)
    gauged = exact.value(generator, pair.log_p, pair.log_q)
    missing = mpmath.fsum(map(mpmath.exp, exact.numbers(pair.log_p))) - mpmath.fsum(
        map(mpmath.exp, exact.numbers(pair.log_q))
    )
    ends = sorted((gauged, gauged + missing * exact.slope_at_one(generator)))
    share = 0.05 if pair.log_p.dtype == torch.float32 else 1e-6
    rounding = 0.0 if subject.faithful else PLAIN_ULPS * eps(pair.log_p.dtype) * _largest_terms(subject, generator)
    found = value_of(subject)(pair.log_p.clone(), pair.log_q.clone())
    number = float(found)
    if not ends[0] * (1 - share) - rounding <= number <= ends[1] * (1 + share) + rounding:
        raise Violation(
            f"the value is {number:.6g} and not {float(gauged):.6g} where p is close to q, in {pair.log_p.dtype}",
            found=number,
            expected=float(gauged),
        )


def _largest_terms(subject: Subject, generator: sp.Expr) -> float:
    """The size of what a plain formula subtracts: the largest value or term at t = 1, and at least the scale."""
    largest = exact.bound(generator)
    sizes = [subject.scale, exact.largest_term_at_one(generator), *([largest] if math.isfinite(largest) else [])]
    return max(sizes)


def _require_force(subject: Subject, case: Case, ulps: float, of_weights: bool) -> None:
    assert subject.logit_gradient is not None
    away_from_kinks(subject, case.log_p, case.log_q)
    force, weights, probabilities = exact.force(_generator(subject), case.logits, case.log_q)
    wanted = torch.tensor([_as_float(entry) for entry in force], dtype=torch.float64)
    largest = max(map(abs, force))
    if not mpmath.isfinite(largest):
        return
    scale = max(largest, *map(abs, weights), subject.scale * max(probabilities)) if of_weights else largest
    allowed = ulps * eps(case.logits.dtype) * _as_float(scale) + torch.finfo(case.logits.dtype).tiny
    found = subject.logit_gradient(case.logits.clone(), case.log_q.clone())
    try:
        require_close("the force", found, wanted, allowed)
    except Violation:
        require_close("the force", found, wanted, allowed + _moved_by_rounding(subject, case, wanted))


def _moved_by_rounding(subject: Subject, case: Case, force: Tensor) -> Tensor:
    """What a few ulps in the log-ratios change in the force; much, for a generator as steep as exp(t) or t^64."""
    shift = 4 * eps(case.logits.dtype) * conditioning(case.log_p, case.log_q)
    moved = exact.force(_generator(subject), case.logits, case.log_q.double() - shift)[0]
    change = (torch.tensor([_as_float(entry) for entry in moved], dtype=torch.float64) - force).abs()
    return 2 * change.max().nan_to_num(nan=0.0, posinf=0.0)


@check(_in_dtypes, both(with_force, _needs_weight_precision))
def force_matches_high_precision(subject: Subject, case: Case) -> None:
    """The logit gradient is w - p sum(w), to a few ulps of the largest weight or probability."""
    spread = float(case.logits.max() - case.logits.min())
    plain = 32 * (1 + spread) + 8 * float(case.logits.abs().max())
    _require_force(subject, case, 8 if _exact_pieces(subject) else plain, of_weights=True)


def _exact_pieces(subject: Subject) -> bool:
    from fguidance.symbolic import pieces

    return subject.derived and pieces(_generator(subject)) is not None


def _saturated(subject: Subject) -> st.SearchStrategy[Case]:
    kinds = ("one-hot on the label", "one-hot on another class")
    spreads = {torch.float32: 80.0, torch.float64: 300.0} if subject.faithful else {}

    def cases(dtype: torch.dtype) -> st.SearchStrategy[Case]:
        spread = spreads.get(dtype, 12.0 if dtype == torch.float32 else 20.0)
        return strategies.cases(dtype, spread, kinds)

    return st.sampled_from(full_dtypes(subject)).flatmap(cases)


@check(_saturated, both(with_force, _needs_weight_precision))
def force_is_right_at_saturation(subject: Subject, case: Case) -> None:
    """Where one class has nearly all the probability the force keeps its leading digits, as far as is promised."""
    if _exact_pieces(subject):
        ulps = float(FAITHFUL_ULPS)
    elif subject.faithful:
        ulps = float(GENERAL_FORM_ULPS)
    else:
        ulps = (0.05 if case.logits.dtype == torch.float32 else 1e-4) / eps(case.logits.dtype)
    _require_force(subject, case, ulps, of_weights=False)
