"""Value, weight and force against the generator in high precision, and at targets that are exactly 0 for some classes.

This library promises of its own divergences (A) 8 units in the last place of the larger of weight and probability.
Of those in `subject.EXACT` it promises (B) 256 of the force's largest component for logits at least 10 apart; of the
others what rounding the log-ratio u once leaves: half a unit of u changes f'(e^u) by a factor of |u t f''/f'| / 2.
"""

import math

import mpmath
import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import exact, strategies
from fguidance.testing.check import check
from fguidance.testing.checks import common
from fguidance.testing.checks.common import away_from_kinks, with_force, with_generator, with_value, zeros_are_allowed
from fguidance.testing.strategies import Case, Pair
from fguidance.testing.subject import Function, Subject, force_of_weights
from fguidance.testing.tolerance import ULPS, Violation, conditioning, eps, require_close, smallest

PROMISED, PROMISED_AT_SATURATION, APART = 8, 256, 10.0
FAITHFUL_AT_SATURATION = 2**14
"""Where precision="faithful" is declared."""
SHARE_AT_SATURATION = {torch.float32: 0.05, torch.float64: 1e-4}
"""Of the force, what a plain formula may lose there."""
PLAIN_ULPS = 5
"""Of 1, which a value near equality may be off by: measured, plain sums stay within 2, and differences of entropies
over 201 classes lose 7 or more."""
FARTHEST = {torch.float64: 200.0, torch.float32: 25.0}
"""Log-ratios u for which a plain formula may write out e^(3u)."""
FARTHEST_FAITHFUL = {torch.float64: 300.0, torch.float32: 80.0}
FARTHEST_TARGET = {torch.float64: 40.0, torch.float32: 25.0}


def _cases(subject: Subject) -> common.Cases:
    return common.in_full(
        subject, lambda dtype: strategies.cases(dtype, 30.0, largest_target_spread=FARTHEST_TARGET.get(dtype, 6.0))
    )


def _pairs(subject: Subject) -> st.SearchStrategy[Pair]:
    return _cases(subject).map(lambda case: Pair(case.log_p, case.log_q))


def _ends(subject: Subject) -> st.SearchStrategy[Pair]:
    def pair(dtype: torch.dtype, ratio: float) -> Pair:
        half, less = math.log(0.5), math.log(0.5) - abs(ratio)
        logs = torch.tensor([[half, half], [less, math.log1p(-math.exp(less))]], dtype=torch.float64).to(dtype)
        return Pair(*(logs if ratio > 0 else logs.flip(0)))

    def pairs(dtype: torch.dtype) -> st.SearchStrategy[Pair]:
        farthest = (FARTHEST_FAITHFUL if subject.faithful else FARTHEST).get(dtype, 5.0)
        return strategies.log_ratios(farthest).map(lambda u: pair(dtype, u))

    return common.in_full(subject, pairs)


def _excused(subject: Subject, found: Tensor, wanted: Tensor) -> Tensor:
    """The result, less the infinities that a plain program may have: (p/q)^4 overflows before q (p/q)^4 does."""
    large = wanted.abs() > torch.finfo(found.dtype).max ** 0.5
    overflown = found.detach().isinf() & (found.detach().sign() == wanted.sign()) & large
    return found if subject.faithful else torch.where(overflown, wanted.to(found.dtype), found)


@check(_pairs, with_generator)
def weight_matches_high_precision(subject: Subject, pair: Pair) -> None:
    """The weights are p f'(p/q), to what rounding the inputs by a few ulps explains."""
    log_p, log_q, unit, gauge = pair.log_p, pair.log_q, eps(pair.log_p.dtype), subject.declaration.gauge
    wanted = exact.weights(subject.f, log_p, log_q, gauge)
    sizes, p = exact.double(wanted).abs(), subject.scale * log_p.double().exp()

    def change(shift: Tensor) -> Tensor:
        """What changes where the log-ratios are that much larger."""
        moved = exact.weights(subject.f, log_p, log_q.double() - shift, gauge)
        return exact.double(abs(m - w) for m, w in zip(moved, wanted, strict=True))

    if subject.derived:
        once = 0 if subject.exact else change(unit * (log_p.double() - log_q.double()).abs() / 2)
        allowed = PROMISED * unit * torch.maximum(sizes, p) + once
    else:
        magnified = conditioning(log_p, log_q)
        allowed = 2 * change(4 * unit * magnified) + (ULPS + magnified) * unit * (sizes + p)
    found = subject.weight(log_p.clone(), log_q.clone())
    result = _excused(subject, found, exact.double(wanted))
    require_close("the weight", result, exact.double(wanted), allowed + smallest(log_p.dtype), log_p=log_p, log_q=log_q)


@check(_ends, with_generator)
def weight_is_right_at_the_ends(subject: Subject, pair: Pair) -> None:
    """The weights are right for log-ratios of either sign from 1e-8 to 200 (25 in float32; 300 and 80 if faithful)."""
    weight_matches_high_precision(subject, pair)


@check(_pairs, with_generator, with_value)
def value_matches_high_precision(subject: Subject, pair: Pair) -> None:
    """The value is sum q f(p/q), to what rounding the inputs by a few ulps explains."""
    generator, (log_p, log_q) = subject.f, (pair.log_p, pair.log_q)
    wanted = torch.tensor(float(exact.value(generator, log_p, log_q)), dtype=torch.float64)
    weights = exact.double(exact.weights(generator, log_p, log_q))
    sizes = weights.abs() + subject.scale * (log_p.double().exp() + log_q.double().exp())
    size = (sizes * conditioning(log_p, log_q)).sum() + wanted.abs()
    gauge = 1 + abs(float(exact.slope_at_one(generator))) / subject.scale
    found = _excused(subject, subject.value(log_p.clone(), log_q.clone()), wanted)
    require_close("the value", found, wanted, gauge * ULPS * eps(log_p.dtype) * size, log_p=log_p, log_q=log_q)


@check(_ends, with_generator, with_value)
def value_is_right_at_the_ends(subject: Subject, pair: Pair) -> None:
    """The value is right for log-ratios as large as those of `weight_is_right_at_the_ends`."""
    value_matches_high_precision(subject, pair)


@check(lambda subject: common.in_full(subject, strategies.near_pairs), with_generator, with_value)
def value_is_right_near_equality(subject: Subject, pair: Pair) -> None:
    """Where p is close to q the value is off by a few ulps of 1 at most, and keeps its leading digits if faithful."""
    generator, dtype = subject.f, pair.log_p.dtype
    gauged = exact.value(generator, pair.log_p, pair.log_q)
    totals = [mpmath.fsum(map(mpmath.exp, exact.numbers(log))) for log in (pair.log_p, pair.log_q)]
    ends = sorted((gauged, gauged + (totals[0] - totals[1]) * exact.slope_at_one(generator)))
    share = 0.05 if dtype == torch.float32 else 1e-6
    bound = exact.bound(generator)  # a plain formula subtracts terms as large as that, or as f has at t = 1
    largest = max(subject.scale, exact.largest_term_at_one(generator), bound if math.isfinite(bound) else 0.0)
    rounding = 0.0 if subject.faithful else PLAIN_ULPS * eps(dtype) * largest
    number = float(subject.value(pair.log_p.clone(), pair.log_q.clone()))
    if not ends[0] * (1 - share) - rounding <= number <= ends[1] * (1 + share) + rounding:
        message = f"the value is {number:.6g} and not {float(gauged):.6g} where p is close to q, in {dtype}"
        raise Violation(message, found=number, expected=float(gauged))


def _require_force(subject: Subject, case: Case, ulps: float, of_weights: bool) -> None:
    """Require the force to so many ulps of its largest component, or of the largest weight or probability too."""
    away_from_kinks(subject, case.log_p, case.log_q)
    force, weights, probabilities = exact.force(subject.f, case.logits, case.log_q)
    wanted, largest, unit = exact.double(force), max(map(abs, force)), eps(case.logits.dtype)
    if not mpmath.isfinite(largest):
        return
    scale = max(largest, *map(abs, weights), subject.scale * max(probabilities)) if of_weights else largest
    allowed = ulps * unit * float(scale) + smallest(case.logits.dtype)
    found = subject.force(case.logits.clone(), case.log_q)
    try:
        require_close("the force", found, wanted, allowed)
    except Violation:  # a few ulps in the log-ratios change much for a generator as steep as exp(t) or t^64
        shift = 4 * unit * conditioning(case.log_p, case.log_q)
        moved = exact.force(subject.f, case.logits, case.log_q.double() - shift)[0]
        change = (exact.double(moved) - wanted).abs().max().nan_to_num(nan=0.0, posinf=0.0)
        require_close("the force", found, wanted, allowed + 2 * change)


@check(_cases, with_force, with_generator)
def force_matches_high_precision(subject: Subject, case: Case) -> None:
    """The logit gradient is w - p sum(w), to a few ulps of the largest weight or probability."""
    plain = 32 * (1 + float(case.logits.max() - case.logits.min())) + 8 * float(case.logits.abs().max())
    _require_force(subject, case, PROMISED if subject.derived else plain, of_weights=True)


def _saturated(subject: Subject) -> common.Cases:
    spreads = {torch.float32: 80.0, torch.float64: 300.0} if subject.faithful else {torch.float32: 12.0}
    return common.in_full(subject, lambda dtype: strategies.cases(dtype, spreads.get(dtype, 20.0), common.ONE_HOT))


@check(_saturated, with_force, with_generator)
def force_is_right_at_saturation(subject: Subject, case: Case) -> None:
    """Where one class has nearly all the probability the force keeps its leading digits, as far as is promised."""
    first, second = case.logits.double().topk(2).values
    if subject.exact:
        apart = float(first - second) >= APART
        _require_force(subject, case, PROMISED_AT_SATURATION if apart else PROMISED, of_weights=not apart)
        return
    dtype = case.logits.dtype
    plain = SHARE_AT_SATURATION.get(dtype, SHARE_AT_SATURATION[torch.float64]) / eps(dtype)
    _require_force(subject, case, FAITHFUL_AT_SATURATION if subject.faithful else plain, of_weights=False)


ALL_BUT_ZERO = {torch.float64: -690.0, torch.float32: -80.0}
"""The logarithm of a probability that is still a normal number, and as good as 0 for most divergences."""
SHARE_AT_ZEROS, SHARE_OF_LIMIT = 1e-9, 1e-6


def _cases_with_zeros(subject: Subject) -> common.Cases:
    return st.sampled_from(subject.dtypes).flatmap(lambda dtype: strategies.cases(dtype, 10.0, zeros=True))


@check(_cases_with_zeros, zeros_are_allowed)
def zeros_in_the_target_are_handled(subject: Subject, case: Case) -> None:
    """A target that is 0 for some classes gives no NaN and the right numbers, or is refused with a ValueError."""
    away_from_kinks(subject, case.log_p, case.log_q)
    common.away_from_quick_bends(subject, case)
    weights = _weights_at_zeros(subject, case)
    for name, function in subject.parts.items():
        try:
            found = function(*common.repeated(name, case)).detach()
        except ValueError:
            continue
        if bool(found.isnan().any()):
            raise Violation(f"{name} holds NaN where the target is 0", found=found)
        if name == "value" and bool(found.isinf()):
            return  # the divergence is infinite there, and so has no force
        wanted = weights
        if name == "value":
            wanted = _value_at_zeros(subject, case)
        elif name == "logit_gradient" and weights is not None:
            wanted = force_of_weights(case.log_p.double(), weights)
        if wanted is not None:
            allowed = max(SHARE_AT_ZEROS if subject.generator is not None else SHARE_OF_LIMIT, 1e3 * eps(found.dtype))
            size = subject.scale + float(wanted.abs().max())
            require_close(f"{name} where the target is 0", found, wanted, allowed * size, log_p=case.log_p)


def _value_at_zeros(subject: Subject, case: Case) -> Tensor | None:
    """sum q f(p/q), where q = 0 with the limit of f(t)/t at infinity; or else the limit of small q."""
    if subject.generator is None:
        return _limit(subject.value, case)
    support = case.log_q.isfinite()
    outside = float(case.log_p.double()[~support].exp().sum())
    inside = float(exact.value(subject.generator, case.log_p[support], case.log_q[support]))
    far = float(exact.end_values(subject.generator)[1]) if outside else 0.0
    return torch.tensor(inside + outside * far, dtype=torch.float64)


def _weights_at_zeros(subject: Subject, case: Case) -> Tensor | None:
    """p f'(p/q), with the limit of f' at infinity, which is that of f(t)/t, where q = 0; None where it is infinite."""
    if subject.generator is None:
        return _limit(subject.weight, case)
    support, gauge = case.log_q.isfinite(), subject.declaration.gauge
    found = case.log_p.double().exp() * (float(exact.end_values(subject.generator)[1]) + gauge)
    found[support] = exact.double(exact.weights(subject.generator, case.log_p[support], case.log_q[support], gauge))
    return found if bool(found.isfinite().all()) else None


def _limit(function: Function, case: Case) -> Tensor | None:
    """The result for all but 0, if that is a number."""
    log_q = case.log_q.clone()
    log_q[log_q.isinf()] = ALL_BUT_ZERO.get(log_q.dtype, -8.0)
    try:
        found = function(case.log_p, log_q).detach().double()
    except ValueError:
        return None
    return found if bool(found.isfinite().all()) else None


@check(_cases_with_zeros, with_value, zeros_are_allowed, common.autograd_runs)
def autograd_runs_at_zeros_in_the_target(subject: Subject, case: Case) -> None:
    """Where the target is 0 for some classes, autograd of the value still gives the force of the weights."""
    away_from_kinks(subject, case.log_p, case.log_q)
    at = case.logits.clone().requires_grad_()
    try:
        value = subject.value(torch.log_softmax(at, -1), case.log_q.clone())
        weights = subject.weight(case.log_p, case.log_q.clone()).detach()
    except ValueError:
        return  # refused
    if not bool(value.detach().isfinite() and weights.isfinite().all()):
        return  # the divergence is infinite there, and so has no gradient
    (found,) = torch.autograd.grad(value, at)
    allowed = max(1e-7, 1e3 * eps(found.dtype)) * (subject.scale + float(weights.abs().max()))
    expected = force_of_weights(case.log_p, weights)
    require_close("the gradient where the target is 0", found, expected, allowed, weights=weights)
