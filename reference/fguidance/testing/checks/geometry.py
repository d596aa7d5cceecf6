"""What a divergence is: nowhere negative, jointly convex, never larger after merging, curved as f''(1) says."""

import functools
import math
from collections.abc import Callable

import mpmath
import sympy as sp
import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import exact, strategies
from fguidance.testing.check import check
from fguidance.testing.checks import common
from fguidance.testing.checks.common import in_double, needs, single_or_double, smooth, with_generator, with_value
from fguidance.testing.convexity import Certificate, certify_convexity
from fguidance.testing.strategies import Case, Pair
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import Violation, conditioning, eps, require_close

NARROW = 1e-4
"""The width of a bend at t = 1 within which f''(1) is seen only so close to p = q that no digits are left."""
LEAST = {torch.float64: (0.1, 1e-12), torch.float32: (0.5, 1e-7)}
"""The log-ratio and the value that count as apart and as more than 0; a float32 has few digits left near equality."""
FAR, FARTHER = 100.0, 300.0
"""Log-ratios at which growth and saturation are told."""
Number = Callable[[Tensor, Tensor], float]


def _number(subject: Subject, log_p: Tensor, log_q: Tensor) -> float:
    return float(subject.value(log_p.clone(), log_q.clone()))


def _exact_number(generator: sp.Expr, log_p: Tensor, log_q: Tensor) -> float:
    return float(exact.value(generator, log_p, log_q))


def _rounding(subject: Subject, log_p: Tensor, log_q: Tensor) -> float:
    sizes = (log_p.double().exp() + log_q.double().exp()) * conditioning(log_p, log_q)
    return 16 * subject.scale * eps(log_p.dtype) * float(sizes.sum())


@check(lambda subject: common.in_full(subject, strategies.cases), with_value)
def value_is_not_negative(subject: Subject, case: Case) -> None:
    """D >= 0, but for rounding."""
    found = _number(subject, case.log_p, case.log_q)
    if not found >= -_rounding(subject, case.log_p, case.log_q):
        raise Violation(f"the value is {found:.6g}", log_p=case.log_p)


def _pairs(subject: Subject, classes: tuple[int, ...] = (2, 3, 5)) -> st.SearchStrategy[Pair]:
    return strategies.pairs(classes, dtype=subject.widest)


def _reaches_a_kink(subject: Subject, pair: Pair) -> bool:
    """Whether some ratio is beyond the first kink on its side: a generator may be linear up to there, around t = 1."""
    kinks = subject.declaration.kinks
    if subject.declaration.smooth or 1.0 in kinks:
        return True
    above, below = min([k for k in kinks if k > 1], default=math.inf), max([k for k in kinks if k < 1], default=0.0)
    ratios = (pair.log_p - pair.log_q).double().exp()[pair.log_q > -3]
    return bool(((ratios > 1.1 * above) | (ratios < 0.9 * below)).any())


@check(_pairs, with_value, single_or_double)
def value_is_zero_only_at_equality(subject: Subject, pair: Pair) -> None:
    """D(p, p) = 0, and D(p, q) > 0 where p and q differ; by more than the kinks do, if those are declared elsewhere."""
    same = _number(subject, pair.log_q, pair.log_q)
    if not abs(same) <= _rounding(subject, pair.log_q, pair.log_q):
        raise Violation(f"D(q, q) = {same:.6g}", value=same)
    apart = float((pair.log_p - pair.log_q).abs()[pair.log_q > -3].max())
    found = _number(subject, pair.log_p, pair.log_q)
    farthest, least = LEAST[pair.log_p.dtype]
    if apart > farthest and _reaches_a_kink(subject, pair) and not found > least * subject.scale:
        raise Violation(f"D(p, q) = {found:.6g} though p and q differ", value=found)


@check(_pairs, share=0.5)
def weight_is_zero_at_equality(subject: Subject, pair: Pair) -> None:
    """At p = q the weights are the gauge's constant times p, and the house's gauge is 0."""
    log_q, gauge = pair.log_q, subject.declaration.gauge
    found, p = subject.weight(log_q.clone(), log_q.clone()).detach().double(), log_q.double().exp()
    try:
        require_close("w(q, q)", found, gauge * p, 64 * eps(log_q.dtype) * (subject.scale + abs(gauge)))
    except Violation as violation:
        ratio, mean, hint = found / p, float((found / p).mean()), ""
        alike = float(ratio.max() - ratio.min()) < 1e-3 * abs(mean)
        if alike and abs(mean) > 1e-3 * subject.scale:
            hint = f"; it is {mean:.6g} p: if that gauge is meant, declare gauge={mean:.6g}"
        raise Violation(f"{violation}{hint}", weight=found) from None


def _two_pairs(subject: Subject) -> st.SearchStrategy[tuple[Pair, Pair, float]]:
    parts = st.integers(1, 9).map(lambda number: number / 10)
    return st.tuples(_pairs(subject, (3,)), _pairs(subject, (3,)), parts)


def _slack(subject: Subject, size: float) -> float:
    """What rounding may lose of values as large as `size` whose log-ratios are up to 12."""
    return common.limit_share(subject.widest) * (abs(size) + 1e-4 * subject.scale)


@check(_two_pairs, with_value, single_or_double)
def value_is_jointly_convex(subject: Subject, example: tuple[Pair, Pair, float]) -> None:
    """D of a mixture is at most the mixture of the D."""
    one, two, part = example

    def mixed(first: Tensor, second: Tensor) -> Tensor:
        return (part * first.double().exp() + (1 - part) * second.double().exp()).log().to(first.dtype)

    ends = part * _number(subject, one.log_p, one.log_q) + (1 - part) * _number(subject, two.log_p, two.log_q)
    middle = _number(subject, mixed(one.log_p, two.log_p), mixed(one.log_q, two.log_q))
    if not middle <= ends + _slack(subject, ends) + _rounding(subject, one.log_p, two.log_q):
        raise Violation(f"D is {middle:.6g} in the middle and {ends:.6g} between the ends", middle=middle, ends=ends)


@check(lambda subject: _pairs(subject, (3, 5)), with_value, single_or_double, share=0.5)
def merging_classes_never_raises_the_value(subject: Subject, pair: Pair) -> None:
    """Merging two classes loses information, so it cannot raise D (data processing)."""
    before = _number(subject, pair.log_p, pair.log_q)
    merged = [torch.cat((torch.logaddexp(log[0], log[1])[None], log[2:])) for log in (pair.log_p, pair.log_q)]
    after = _number(subject, *merged)
    if not after <= before + _slack(subject, before) + _rounding(subject, pair.log_p, pair.log_q):
        raise Violation(f"D goes from {before:.6g} to {after:.6g}", before=before, after=after)


@functools.lru_cache(maxsize=256)
def _dual(generator: sp.Expr) -> sp.Expr:
    return exact.dual(exact.gauge_fixed(generator))


@check(_pairs, with_generator, with_value, single_or_double, share=0.4)
def dual_swaps_the_arguments(subject: Subject, pair: Pair) -> None:
    """D(p, q) is the divergence of the dual t f(1/t) with p and q swapped."""
    swapped = _exact_number(_dual(subject.f), pair.log_q, pair.log_p)
    found = subject.value(pair.log_p.clone(), pair.log_q.clone())
    allowed = common.limit_share(pair.log_p.dtype) * (subject.scale + abs(swapped))
    require_close("D(p, q)", found, torch.tensor(swapped, dtype=torch.float64), allowed, dual=swapped)


@functools.lru_cache(maxsize=256)
def _symmetric(generator: sp.Expr) -> bool:
    with mpmath.workdps(40):
        points = [mpmath.mpf(number) / 7 for number in (1, 3, 9, 40)]
        fixed, dual = exact.gauge_fixed(generator), _dual(generator)
        both_ways = [(exact.evaluate(fixed, at), exact.evaluate(dual, at)) for at in points]
        return all(abs(here - there) <= mpmath.mpf(10) ** -25 * abs(here) for here, there in both_ways)


_symmetry_is_known = needs(
    lambda subject: subject.declaration.symmetric is not None or subject.generator is not None,
    "neither a generator nor symmetry is declared",
)


@check(lambda subject: _pairs(subject, (3,)), with_value, _symmetry_is_known, single_or_double, share=0.4)
def symmetry_is_as_declared(subject: Subject, pair: Pair) -> None:
    """D(q, p) = D(p, q) where that is declared or follows from the generator, and only there."""
    stated = subject.declaration.symmetric
    known = subject.generator if stated is None else None
    if _symmetric(known) if known is not None else stated:
        straight = subject.value(pair.log_p.clone(), pair.log_q.clone())
        swapped = subject.value(pair.log_q.clone(), pair.log_p.clone())
        allowed = common.limit_share(straight.dtype) * (subject.scale + abs(float(straight)))
        require_close("D(q, p)", swapped, straight, allowed)
        return
    rows = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4]], dtype=torch.float64)
    first, second = rows.log().to(subject.widest)

    def alike(number: Number) -> bool:
        here, there = number(first, second), number(second, first)
        return not abs(here - there) > common.limit_share(subject.widest) * abs(here)

    if known is not None and alike(functools.partial(_exact_number, known)):
        return  # not symmetric, but by less than any check would see
    if alike(functools.partial(_number, subject)):
        word = "declared" if known is None else "known from its generator"
        raise Violation(f"D(q, p) = D(p, q), though it is {word} not to be symmetric")


def _directions(_: Subject) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(st.integers(2, 8).map(lambda n: n / 10), st.sampled_from((1e-3, -1e-3)))


def _over_chi_squared(number: Number, part: float, distance: float) -> float:
    q = torch.tensor([part, (1 - part) / 3, 2 * (1 - part) / 3], dtype=torch.float64)
    p = q + distance * torch.tensor([0.5, -0.3, -0.2], dtype=torch.float64) * q.min()
    return number(p.log(), q.log()) / float(((p - q) ** 2 / q).sum())


@functools.lru_cache(maxsize=256)
def _curvature(generator: sp.Expr) -> float:
    return float(sp.N(sp.diff(generator, exact.t, 2).subs(exact.t, 1)))


def _expected_over_chi_squared(subject: Subject, part: float, distance: float) -> float:
    if subject.generator is None:
        return _over_chi_squared(functools.partial(_number, subject), 0.5, abs(distance))
    if any(abs(place - 1) < 0.01 and width < NARROW for place, width in exact.bends(subject.generator)):
        return _over_chi_squared(functools.partial(_exact_number, subject.generator), part, distance)
    return _curvature(subject.generator) / 2


@check(_directions, with_value, smooth, in_double)
def curvature_is_that_of_the_generator(subject: Subject, example: tuple[float, float]) -> None:
    """Near p = q, D is f''(1)/2 times chi-squared, as every f-divergence is KL there up to a factor."""
    part, distance = example
    errors: list[float] = []
    for closer in (1.0, 1 / 16, 1 / 256):  # a generator may bend within a thousandth of t = 1
        found = _over_chi_squared(functools.partial(_number, subject), part, closer * distance)
        expected = _expected_over_chi_squared(subject, part, closer * distance)
        errors.append(abs(found - expected))
        if errors[-1] <= 0.02 * abs(expected) + 1e-4 * subject.scale:
            return
    if not errors[2] <= 0.95 * errors[1] <= 0.95**2 * errors[0]:  # it may also approach its limit slowly
        hint = "; if f''(1) is infinite or jumps, declare smooth=False" if subject.generator is None else ""
        message = f"D over chi-squared is {found:.6g}, not {expected:.6g}{hint}"
        raise Violation(message, found=found, expected=expected)


@functools.lru_cache(maxsize=256)
def _certificate(generator: sp.Expr) -> Certificate | str:
    """The certificate, or why there is none."""
    try:
        found = certify_convexity(generator)
    except ValueError as error:  # what the enclosures do not know how to calculate with
        return f"undecided: {error}"
    return f"undecided: {found.where}" if found.status == "undecided" else found


def _can_be_certified(subject: Subject) -> str | None:
    found = _certificate(subject.f)
    return found if isinstance(found, str) else None


@check(lambda subject: st.none(), with_generator, smooth, _can_be_certified, most_examples=1)
def generator_is_convex(subject: Subject, _: None) -> None:
    """f'' >= 0 for every t > 0, by enclosures of ball arithmetic on a wide interval and leading terms beyond it."""
    found = _certificate(subject.f)
    if isinstance(found, Certificate) and found.status != "certified":
        raise Violation("f'' < 0", log_t=found.point)


def _far_pair(distance: float) -> tuple[Tensor, Tensor]:
    """Two classes, the first of which has the log-probability -distance; and the uniform target."""
    rows = [[-distance, math.log1p(-math.exp(-distance))], [math.log(0.5)] * 2]
    near_one, half = torch.tensor(rows, dtype=torch.float64)
    return near_one, half


_bound_is_known = needs(
    lambda subject: subject.generator is not None or subject.declaration.bounded is not None,
    "neither a generator nor a bound is declared",
)


@check(lambda subject: st.none(), with_value, _bound_is_known, in_double, most_examples=1)
def value_is_bounded_as_declared(subject: Subject, _: None) -> None:
    """D is bounded, or grows without end as p and q part, as declared and as f(0) and lim f(t)/t say."""
    stated, known = subject.declaration.bounded, subject.generator
    if stated is not None and known is not None and math.isfinite(exact.bound(known)) != stated:
        raise Violation(f"it is declared bounded={stated}, and the generator's limits say otherwise", generator=known)

    def grows(number: Number) -> tuple[bool, list[float]]:
        """Whether D at the far log-ratio is more than at the near one, for one order of p and q at least."""
        near, far = _far_pair(FAR), _far_pair(FARTHER)
        values = [number(*near[::order]) for order in (1, -1)] + [number(*far[::order]) for order in (1, -1)]
        return any(not values[2 + k] < 1.01 * values[k] + 1e-9 * subject.scale for k in (0, 1)), values

    expected = not stated if known is None else grows(functools.partial(_exact_number, known))[0]
    found, values = grows(functools.partial(_number, subject))
    if found != expected:
        word = "go on growing" if expected else "stay"
        raise Violation(f"D should {word} from log-ratio {FAR} to {FARTHER}, but is {values}", values=values)


_saturation_is_known = needs(
    lambda subject: subject.generator is not None or subject.declaration.saturation is not None,
    "neither a generator nor the behaviour at saturation is declared",
)


@functools.lru_cache(maxsize=256)
def _saturation_of(generator: sp.Expr) -> str:
    limit = exact.saturation_limit(generator)
    return "vanishes" if limit == 0 else "stays" if limit.is_finite else "grows"


def _trend(weight: Number) -> str:
    near, far = (abs(weight(*_far_pair(distance))) for distance in (FAR, FARTHER))
    return "vanishes" if far < 0.9 * near or far == 0 else "stays" if far < 1.1 * near else "grows"


@check(lambda subject: st.none(), _saturation_is_known, in_double, most_examples=1)
def saturation_is_as_declared(subject: Subject, _: None) -> None:
    """Where p goes to 0 the weight vanishes, stays or grows, as declared and as the limit of t f'(t) at 0 says."""
    stated, known = subject.declaration.saturation, subject.generator
    if stated is not None and known is not None and _saturation_of(known) != stated:
        raise Violation(f"it is declared that it {stated}, but it {_saturation_of(known)}", generator=known)
    expected = stated if known is None else _trend(lambda *pair: float(exact.weights(known, *pair)[0]))
    found = _trend(lambda *pair: float(subject.weight(*pair)[0].detach()))
    if found != expected:
        raise Violation(f"it {found}, though it {expected} by what is known of it", found=found, expected=expected)
