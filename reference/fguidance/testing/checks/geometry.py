"""What makes it a divergence, and an f-divergence: convex, never larger after merging, the same f for each class."""

import functools
import math
from collections.abc import Callable

import mpmath
import sympy as sp
import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import exact, strategies
from fguidance.testing.check import Condition, check
from fguidance.testing.checks import common
from fguidance.testing.checks.common import in_double, needs, single_or_double, smooth, with_generator, with_value
from fguidance.testing.convexity import certify_convexity
from fguidance.testing.strategies import Case, Pair
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import Violation, conditioning, eps, further, require_close, require_close_if_steep

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


def _slack(subject: Subject, size: float) -> float:
    """What rounding may lose of values as large as `size` whose log-ratios are up to 12."""
    return common.limit_share(subject.widest) * (abs(size) + 1e-4 * subject.scale)


@check(
    lambda subject: st.tuples(_pairs(subject, (3,)), _pairs(subject, (3,)), st.integers(1, 9).map(lambda n: n / 10)),
    with_value, single_or_double,
)  # fmt: skip
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


def _known(entry: str, what: str) -> Condition:
    """The condition that an entry is declared, or follows from a generator."""
    return needs(
        lambda subject: getattr(subject.declaration, entry) is not None or subject.generator is not None,
        f"neither a generator nor {what} is declared",
    )


@check(
    lambda subject: _pairs(subject, (3,)),
    with_value, _known("symmetric", "symmetry"), single_or_double, share=0.4,
)  # fmt: skip
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


@check(
    lambda subject: st.tuples(st.integers(2, 8).map(lambda n: n / 10), st.sampled_from((1e-3, -1e-3))),
    with_value, smooth, in_double,
)  # fmt: skip
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


_certificate = functools.lru_cache(maxsize=256)(certify_convexity)


def _is_decided(subject: Subject) -> str | None:
    found = _certificate(subject.f)
    return f"undecided: {found.where}" if found.status == "undecided" else None


@check(lambda _: st.none(), with_generator, smooth, _is_decided, most_examples=1)
def generator_is_convex(subject: Subject, _: None) -> None:
    """f'' >= 0 for every t > 0, by enclosures of ball arithmetic on a wide interval and leading terms beyond it."""
    found = _certificate(subject.f)
    if found.status == "refuted":
        raise Violation("f'' < 0", log_t=found.point)


def _far_pair(distance: float) -> tuple[Tensor, Tensor]:
    """Two classes, the first of which has the log-probability -distance; and the uniform target."""
    rows = [[-distance, math.log1p(-math.exp(-distance))], [math.log(0.5)] * 2]
    near_one, half = torch.tensor(rows, dtype=torch.float64)
    return near_one, half


@check(lambda _: st.none(), with_value, _known("bounded", "a bound"), in_double, most_examples=1)
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


@functools.lru_cache(maxsize=256)
def _saturation_of(generator: sp.Expr) -> str:
    limit = exact.saturation_limit(generator)
    return "vanishes" if limit == 0 else "stays" if limit.is_finite else "grows"


def _trend(weight: Number) -> str:
    near, far = (abs(weight(*_far_pair(distance))) for distance in (FAR, FARTHER))
    return "vanishes" if far < 0.9 * near or far == 0 else "stays" if far < 1.1 * near else "grows"


@check(lambda _: st.none(), _known("saturation", "the behaviour at saturation"), in_double, most_examples=1)
def saturation_is_as_declared(subject: Subject, _: None) -> None:
    """Where p goes to 0 the weight vanishes, stays or grows, as declared and as the limit of t f'(t) at 0 says."""
    stated, known = subject.declaration.saturation, subject.generator
    if stated is not None and known is not None and _saturation_of(known) != stated:
        raise Violation(f"it is declared that it {stated}, but it {_saturation_of(known)}", generator=known)
    expected = stated if known is None else _trend(lambda *pair: float(exact.weights(known, *pair)[0]))
    found = _trend(lambda *pair: float(subject.weight(*pair)[0].detach()))
    if found != expected:
        raise Violation(f"it {found}, though it {expected} by what is known of it", found=found, expected=expected)


Numbers = tuple[float, float, float, float]
TINY = (1e-6, 1e-12, 1e-20, 1e-40)
SHARES = st.integers(1, 15).map(lambda number: number / 16)
NUMBERS = st.tuples(SHARES, SHARES, SHARES, SHARES)


def _with_a_factor(subject: Subject) -> st.SearchStrategy[Numbers]:
    """The fourth is a factor: a share, or so small that it meets whatever was added to avoid a logarithm of 0."""
    smallest = 100 * torch.finfo(subject.widest).tiny ** (1 / 3)  # a formula may write out the cube of a probability
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


@check(
    lambda subject: common.wide_cases(subject, 12.0, kinds=("ordinary", *common.ONE_HOT), classes=(4, 11, 300, 1100))
)
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
