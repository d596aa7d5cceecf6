"""What a divergence is: nowhere negative, jointly convex, never larger after merging, curved as f''(1) says."""

import functools
import math
from collections.abc import Callable

import mpmath
import sympy as sp
import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.symbolic.numerical import places
from fguidance.testing import exact, strategies
from fguidance.testing.check import Violation, check
from fguidance.testing.checks._subjects import (
    both,
    full_dtypes,
    share,
    single_or_double,
    smooth,
    value_of,
    weight_of,
    with_generator,
    with_value,
    working_dtype,
)  # fmt: skip
from fguidance.testing.strategies import Case, Pair
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import conditioning, eps, require_close

NARROW = 1e-4
"""The width of a bend at t = 1 within which f''(1) is seen only so close to p = q that no digits are left."""


def _double(subject: Subject) -> str | None:
    return None if torch.float64 in subject.dtypes else "float64 is not promised"


def _number(subject: Subject, log_p: Tensor, log_q: Tensor) -> float:
    return float(value_of(subject)(log_p.clone(), log_q.clone()))


def _in_dtypes(subject: Subject) -> st.SearchStrategy[Case]:
    return st.sampled_from(full_dtypes(subject)).flatmap(strategies.cases)


def _rounding(subject: Subject, log_p: Tensor, log_q: Tensor) -> float:
    sizes = (log_p.double().exp() + log_q.double().exp()) * conditioning(log_p, log_q)
    return 16 * subject.scale * eps(log_p.dtype) * float(sizes.sum())


@check(_in_dtypes, with_value)
def value_is_not_negative(subject: Subject, case: Case) -> None:
    """D >= 0, but for rounding."""
    found = _number(subject, case.log_p, case.log_q)
    if not found >= -_rounding(subject, case.log_p, case.log_q):
        raise Violation(f"the value is {found:.6g}", log_p=case.log_p)


def _pairs(subject: Subject, classes: tuple[int, ...] = (2, 3, 5)) -> st.SearchStrategy[Pair]:
    return strategies.pairs(classes, dtype=working_dtype(subject))


def _reaches_a_kink(subject: Subject, pair: Pair) -> bool:
    """Whether some ratio is beyond the first kink on its side: a generator may be linear up to there, around t = 1."""
    kinks = subject.declaration.kinks
    if subject.declaration.smooth or 1.0 in kinks:
        return True
    above, below = min([k for k in kinks if k > 1], default=math.inf), max([k for k in kinks if k < 1], default=0.0)
    ratios = (pair.log_p - pair.log_q).double().exp()[pair.log_q > -3]
    return bool(((ratios > 1.1 * above) | (ratios < 0.9 * below)).any())


LEAST = {torch.float64: (0.1, 1e-12), torch.float32: (0.5, 1e-7)}
"""The log-ratio and the value that count as apart and as more than 0; a float32 has few digits left near equality."""


@check(_pairs, both(with_value, single_or_double))
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


@check(_pairs)
def weight_is_zero_at_equality(subject: Subject, pair: Pair) -> None:
    """At p = q the weights are the gauge's constant times p, and the house's gauge is 0."""
    log_q, dtype = pair.log_q, pair.log_q.dtype
    found = weight_of(subject)(log_q.clone(), log_q.clone()).detach().double()
    p = log_q.double().exp()
    try:
        allowed = 64 * eps(dtype) * (subject.scale + abs(subject.declaration.gauge))
        require_close("w(q, q)", found, subject.declaration.gauge * p, allowed * torch.ones_like(p))
    except Violation as violation:
        ratio, mean, hint = found / p, float((found / p).mean()), ""
        alike = float(ratio.max() - ratio.min()) < 1e-3 * abs(mean)
        if alike and abs(mean) > 1e-3 * subject.scale:
            hint = f"; it is {mean:.6g} p: if that gauge is meant, declare gauge={mean:.6g}"
        raise Violation(f"{violation}{hint}", weight=found) from None


def _two_pairs(subject: Subject) -> st.SearchStrategy[tuple[Pair, Pair, float]]:
    parts = st.integers(1, 9).map(lambda number: number / 10)
    return st.tuples(_pairs(subject, (3,)), _pairs(subject, (3,)), parts)


def _mixed(first: Tensor, second: Tensor, part: float) -> Tensor:
    return (part * first.double().exp() + (1 - part) * second.double().exp()).log().to(first.dtype)


def _slack(subject: Subject, size: float) -> float:
    """What rounding may lose of values as large as `size` whose log-ratios are up to 12."""
    dtype = working_dtype(subject)
    return share(dtype) * (abs(size) + 1e-4 * subject.scale)


@check(_two_pairs, both(with_value, single_or_double))
def value_is_jointly_convex(subject: Subject, example: tuple[Pair, Pair, float]) -> None:
    """D of a mixture is at most the mixture of the D."""
    one, two, part = example
    ends = part * _number(subject, one.log_p, one.log_q) + (1 - part) * _number(subject, two.log_p, two.log_q)
    middle = _number(
        subject, _mixed(one.log_p, two.log_p, part), _mixed(one.log_q, two.log_q, part)
    )
    if not middle <= ends + _slack(subject, ends) + _rounding(subject, one.log_p, two.log_q):
        raise Violation(f"D is {middle:.6g} in the middle and {ends:.6g} between the ends", middle=middle, ends=ends)


@check(lambda subject: _pairs(subject, (3, 5)), both(with_value, single_or_double))
def merging_classes_never_raises_the_value(subject: Subject, pair: Pair) -> None:
    """Merging two classes loses information, so it cannot raise D (data processing)."""
    before = _number(subject, pair.log_p, pair.log_q)
    merged = [torch.cat((torch.logaddexp(log[0], log[1])[None], log[2:])) for log in (pair.log_p, pair.log_q)]
    after = _number(subject, *merged)
    if not after <= before + _slack(subject, before) + _rounding(subject, pair.log_p, pair.log_q):
        raise Violation(f"D goes from {before:.6g} to {after:.6g}", before=before, after=after)


@check(_pairs, both(with_generator, single_or_double))
def dual_swaps_the_arguments(subject: Subject, pair: Pair) -> None:
    """D(p, q) is the divergence of the dual t f(1/t) with p and q swapped."""
    from fguidance.symbolic import dual, gauge_fixed

    generator = subject.generator
    assert generator is not None
    swapped = float(exact.value(dual(gauge_fixed(generator)), pair.log_q, pair.log_p))
    found = value_of(subject)(pair.log_p.clone(), pair.log_q.clone())
    allowed = share(pair.log_p.dtype) * (subject.scale + abs(swapped))
    require_close("D(p, q)", found, torch.tensor(swapped, dtype=torch.float64), allowed, dual=swapped)


def _symmetric(generator: sp.Expr) -> bool:
    from fguidance.symbolic import dual, gauge_fixed

    fixed = gauge_fixed(generator)
    with mpmath.workdps(40):
        points = [mpmath.mpf(number) / 7 for number in (1, 3, 9, 40)]
        both_ways = [(exact.evaluate(fixed, at), exact.evaluate(dual(fixed), at)) for at in points]
    return all(abs(here - there) <= mpmath.mpf(10) ** -25 * abs(here) for here, there in both_ways)


def _symmetry_is_known(subject: Subject) -> str | None:
    known = subject.declaration.symmetric is not None or subject.generator is not None
    return with_value(subject) if known else "neither a generator nor symmetry is declared"


@check(lambda subject: _pairs(subject, (3,)), both(_symmetry_is_known, single_or_double))
def symmetry_is_as_declared(subject: Subject, pair: Pair) -> None:
    """D(q, p) = D(p, q) where that is declared or follows from the generator, and only there."""
    stated = subject.declaration.symmetric
    known = subject.generator if stated is None else None
    if _symmetric(known) if known is not None else stated:
        straight = value_of(subject)(pair.log_p.clone(), pair.log_q.clone())
        swapped = value_of(subject)(pair.log_q.clone(), pair.log_p.clone())
        allowed = share(straight.dtype) * (subject.scale + abs(float(straight)))
        require_close("D(q, p)", swapped, straight, allowed)
        return
    dtype = working_dtype(subject)
    rows = [0.7, 0.2, 0.1], [0.1, 0.5, 0.4]
    first, second = (torch.tensor(row, dtype=torch.float64).log().to(dtype) for row in rows)
    apart = functools.partial(_differ, by=share(dtype))
    if known is not None and not apart(_exact_value(known, first, second), _exact_value(known, second, first)):
        return  # not symmetric, but by less than any check would see
    here, there = _number(subject, first, second), _number(subject, second, first)
    if not apart(here, there):
        word = "declared" if known is None else "known from its generator"
        raise Violation(f"D(q, p) = D(p, q), though it is {word} not to be symmetric", value=here)


def _differ(first: float, second: float, by: float) -> bool:
    return abs(first - second) > by * abs(first)


def _directions(_: Subject) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(st.integers(2, 8).map(lambda n: n / 10), st.sampled_from((1e-3, -1e-3)))


def _over_chi_squared(number: Callable[[Tensor, Tensor], float], part: float, distance: float) -> float:
    q = torch.tensor([part, (1 - part) / 3, 2 * (1 - part) / 3], dtype=torch.float64)
    p = q + distance * torch.tensor([0.5, -0.3, -0.2], dtype=torch.float64) * q.min()
    chi_squared = float(((p - q) ** 2 / q).sum())
    return number(p.log(), q.log()) / chi_squared


def _expected_over_chi_squared(subject: Subject, part: float, distance: float) -> float:
    if subject.generator is None:
        return _over_chi_squared(functools.partial(_number, subject), 0.5, abs(distance))
    if any(abs(place - 1) < 0.01 and width < NARROW for place, width in places(subject.generator)):
        return _over_chi_squared(functools.partial(_exact_value, subject.generator), part, distance)
    return float(_curvature(subject.generator)) / 2


@check(_directions, both(with_value, smooth, _double))
def curvature_is_that_of_the_generator(subject: Subject, example: tuple[float, float]) -> None:
    """Near p = q, D is f''(1)/2 times chi-squared, as every f-divergence is KL there up to a factor."""
    (part, distance), known = example, subject.generator
    errors: list[float] = []
    for closer in (1.0, 1 / 16, 1 / 256):  # a generator may bend within a thousandth of t = 1
        found = _over_chi_squared(functools.partial(_number, subject), part, closer * distance)
        expected = _expected_over_chi_squared(subject, part, closer * distance)
        errors.append(abs(found - expected))
        if errors[-1] <= 0.02 * abs(expected) + 1e-4 * subject.scale:
            return
    if not errors[2] <= 0.95 * errors[1] <= 0.95**2 * errors[0]:  # it may also approach its limit slowly
        hint = "; if f''(1) is infinite or jumps, declare smooth=False" if known is None else ""
        message = f"D over chi-squared is {found:.6g}, not {expected:.6g}{hint}"
        raise Violation(message, found=found, expected=expected)


@functools.lru_cache(maxsize=256)
def _curvature(generator: sp.Expr) -> sp.Expr:
    from fguidance.symbolic import t

    return sp.N(sp.diff(generator, t, 2).subs(t, 1))


def _can_be_certified(subject: Subject) -> str | None:
    if subject.generator is None:
        return "no generator is declared"
    if not subject.declaration.smooth:
        return "it is declared not to be smooth"
    try:
        certificate = _certificate(subject.generator)
    except ValueError as error:  # what the enclosures do not know how to calculate with
        return f"undecided: {error}"
    return f"undecided: {certificate.where}" if certificate.status == "undecided" else None


@functools.lru_cache(maxsize=256)
def _certificate(generator: sp.Expr):  # type: ignore[no-untyped-def]
    from fguidance.convexity import certify_convexity

    return certify_convexity(generator)


@check(lambda subject: st.none(), _can_be_certified, most_examples=1)
def generator_is_convex(subject: Subject, _: None) -> None:
    """f'' >= 0 for every t > 0, by enclosures of ball arithmetic on a wide interval and leading terms beyond it."""
    certificate = _certificate(subject.generator)
    if certificate.status != "certified":
        raise Violation("f'' < 0", log_t=certificate.point)


FAR, FARTHER = 100.0, 300.0


def _far_value(number: Callable[[Tensor, Tensor], float], distance: float, swapped: bool) -> float:
    near_one = torch.tensor([-distance, math.log1p(-math.exp(-distance))], dtype=torch.float64)
    half = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    return number(near_one, half) if not swapped else number(half, near_one)


def _bound_is_known(subject: Subject) -> str | None:
    if subject.generator is None and subject.declaration.bounded is None:
        return "neither a generator nor a bound is declared"
    return with_value(subject)


@check(lambda subject: st.none(), both(_bound_is_known, _double), most_examples=1)
def value_is_bounded_as_declared(subject: Subject, _: None) -> None:
    """D is bounded, or grows without end as p and q part, as declared and as f(0) and lim f(t)/t say."""
    stated, known = subject.declaration.bounded, subject.generator
    if stated is not None and known is not None and _is_bounded(known) != stated:
        raise Violation(f"it is declared bounded={stated}, and the generator's limits say otherwise", generator=known)
    numbers = functools.partial(_far_value, functools.partial(_number, subject))
    exact_numbers = functools.partial(_far_value, functools.partial(_exact_value, known))
    grows = not stated if known is None else _grows(exact_numbers, subject.scale)
    if _grows(numbers, subject.scale) != grows:
        word = "go on growing" if grows else "stay"
        values = [numbers(distance, swap) for swap in (False, True) for distance in (FAR, FARTHER)]
        raise Violation(f"D should {word} from log-ratio {FAR} to {FARTHER}, but is {values}", values=values)


def _exact_value(generator: sp.Expr, log_p: Tensor, log_q: Tensor) -> float:
    return float(exact.value(generator, log_p, log_q))


def _grows(number: Callable[[float, bool], float], scale: float) -> bool:
    """Whether D at the far log-ratio is more than at the near one, for one order of p and q at least."""
    return any(not number(FARTHER, swap) < 1.01 * number(FAR, swap) + 1e-9 * scale for swap in (False, True))


@functools.lru_cache(maxsize=256)
def _is_bounded(generator: sp.Expr) -> bool:
    from fguidance.symbolic import end_values

    return all(bool(end.is_finite) for end in end_values(generator))


def _saturation_is_known(subject: Subject) -> str | None:
    known = subject.generator is not None or subject.declaration.saturation is not None
    return None if known else "neither a generator nor the behaviour at saturation is declared"


@functools.lru_cache(maxsize=256)
def _saturation_of(generator: sp.Expr) -> str:
    from fguidance.symbolic import saturation_limit

    limit = saturation_limit(generator)
    return "vanishes" if limit == 0 else "stays" if limit.is_finite else "grows"


@check(lambda subject: st.none(), both(_saturation_is_known, _double), most_examples=1)
def saturation_is_as_declared(subject: Subject, _: None) -> None:
    """Where p goes to 0 the weight vanishes, stays or grows, as declared and as the limit of t f'(t) at 0 says."""
    stated, known = subject.declaration.saturation, subject.generator
    if stated is not None and known is not None and _saturation_of(known) != stated:
        raise Violation(f"it is declared that it {stated}, but it {_saturation_of(known)}", generator=known)
    sizes = [_far_weight(lambda *pair: float(weight_of(subject)(*pair)[0].detach()), d) for d in (FAR, FARTHER)]
    expected = stated if known is None else _exact_trend(known)
    if _trend(*sizes) != expected:
        raise Violation(f"it {_trend(*sizes)}, though it {expected} by what is known of it", weights=sizes)


def _exact_trend(generator: sp.Expr) -> str:
    return _trend(*(_far_weight(lambda *pair: float(exact.weights(generator, *pair)[0]), d) for d in (FAR, FARTHER)))


def _far_weight(weight: Callable[[Tensor, Tensor], float], distance: float) -> float:
    log_p = torch.tensor([-distance, math.log1p(-math.exp(-distance))], dtype=torch.float64)
    return abs(weight(log_p, torch.tensor([0.5, 0.5], dtype=torch.float64).log()))


def _trend(near: float, far: float) -> str:
    return "vanishes" if far < 0.9 * near or far == 0 else "stays" if far < 1.1 * near else "grows"
