"""Arithmetic that every emitted divergence shares; its text is copied into the generated reference.

A divergence enters through one function, the *slope difference* p (f'(e^u) - f'(e^b)) for the log-ratio
u = log p - log q and a base b. It comes back as a `Term`, mantissa * exp(exponent), so that a product such as
p f'(p/q) overflows only where its exact value does. Log-ratios and exponents are kept as an unevaluated sum
high + low: exp turns the absolute error of its argument into a relative one, and at a logit spread of 300 one
rounding alone would cost more than a hundred units in the last place.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

FAR = 2.0**100  # stands for an infinite log-ratio: finite, so that differences of two stay defined
WIDEST = 2.0**22  # logits further apart have exp(difference) = 0 many times over; sums of exponents stay exact


class Double(NamedTuple):
    """A number to twice the working precision, as an unevaluated sum high + low."""

    high: Tensor
    low: Tensor


class Contrast(NamedTuple):
    """Where a slope difference is taken: log p, the log-ratio u = log p - log q, a base b, and u - b."""

    log_p: Double
    ratio: Double
    base: Double
    difference: Tensor


class Term(NamedTuple):
    """mantissa * exp(exponent), not yet multiplied out."""

    mantissa: Tensor
    exponent: Double


SlopeDifference = Callable[[Contrast], Term]
LeanSlope = Callable[[Tensor, bool], Tensor]
Tails = Callable[[Tensor], tuple[Tensor, Tensor]]


class Parameter(NamedTuple):
    """The parameter of a family: its name, its value unless told, and its range, both ends excluded where open."""

    name: str
    default: float
    low: float
    high: float
    is_open: bool


class Lean(NamedTuple):
    """f'(t) for plain arithmetic, up to a constant: slope(1/t) + logarithm * log t - inverse/t, each part increasing.

    The slope is also told whether it may overwrite 1/t.
    """

    slope: LeanSlope | None = None
    logarithm: float = 0.0
    inverse: float = 0.0


class Definition(NamedTuple):
    """All that the arithmetic needs to know of a divergence.

    `limits` are f(0) and the limit of f(t)/t at infinity, `bounded` says that no weight can overflow, and
    `is_divergence` is false where there is only a printed weight. `near` is f(e^y) for abs(y) <= 1, where it is no
    integral that a quadrature finds; `smooth` is false where f is not twice differentiable at t = 1. `lean` is f'(t)
    where plain arithmetic will do: no weight p f'(p/q) is much larger than p, q or p log(p/q). `radius` is the abs(y)
    up to which f(e^y) is integrated: smaller where f' grows too fast for the quadrature. The tails are divided by the
    exponentials of `growth`, where there is one, so that they overflow nowhere. Where there are `breaks`, the value is
    an integral of slope differences alone, taken in parts that end at these abs(y); where `wide`, float32 and less is
    computed in float64.
    """

    slope_difference: SlopeDifference
    tails: Tails
    limits: tuple[float, float]
    bounded: bool
    is_divergence: bool = True
    lean: Lean | None = None
    near: Callable[[Tensor], Tensor] | None = None
    smooth: bool = True
    radius: float = 1.0
    growth: Tails | None = None
    breaks: tuple[float, ...] = ()
    wide: bool = False


def _two_sum(x: Tensor, y: Tensor) -> Double:
    total = x + y
    part = total - x
    return Double(total, (x - (total - part)) + (y - part))


def _add(x: Double, y: Double) -> Double:
    high, low = _two_sum(x.high, y.high)
    return Double(high, low + (x.low + y.low))


def _negative(x: Double) -> Double:
    return Double(-x.high, -x.low)


def _double(x: Tensor) -> Double:
    return Double(x, torch.zeros_like(x))


def _where(condition: Tensor, x: Double, y: Double) -> Double:
    return Double(torch.where(condition, x.high, y.high), torch.where(condition, x.low, y.low))


def _exp(x: Double) -> Tensor:
    high = x.high + x.low
    low = x.low - (high - x.high)
    return torch.exp(high) * (1 + low.clamp(-0.5, 0.5))  # a larger low belongs to exp(high) = 0 or inf


def _leading_bits(factor: float, bits: int) -> float:
    mantissa, exponent = math.frexp(factor)
    return math.ldexp(round(math.ldexp(mantissa, bits)), exponent - bits)


def _scale(factor: float, x: Double) -> Double:
    """The product factor * x without rounding, after Dekker; exact at once for powers of two."""
    if factor == 0 or abs(math.frexp(factor)[0]) == 0.5:
        return Double(factor * x.high, factor * x.low)
    bits = 26 if x.high.dtype == torch.float64 else 12
    first = _leading_bits(factor, bits)
    second = _leading_bits(factor - first, bits)
    rest = factor - first - second
    split = x.high * (2.0 ** (bits + 1 if bits == 26 else bits) + 1)
    upper = split - (split - x.high)
    lower = x.high - upper
    high, low_1 = _two_sum(first * upper, first * lower)
    high, low_2 = _two_sum(high, second * upper)
    return Double(high, low_1 + low_2 + (second * lower + rest * x.high + factor * x.low))


def _evaluate(term: Term) -> Tensor:
    """The term multiplied out, in two halves so that a subnormal exponential costs no digits."""
    half = _exp(Double(term.exponent.high / 2, term.exponent.low / 2))
    return term.mantissa * half * half


def add_terms(first: Term, second: Term) -> Term:
    """The sum of two terms, over the larger of their exponents."""
    largest = _double(torch.maximum(first.exponent.high, second.exponent.high))
    parts = [term.mantissa * _exp(_add(term.exponent, _negative(largest))) for term in (first, second)]
    return Term(parts[0] + parts[1], largest)


def log_difference(at: Contrast, coefficient: float) -> Term:
    """The term `coefficient * log t` of f': its difference is linear in u - b."""
    return Term(coefficient * at.difference, at.log_p)


def power_difference(at: Contrast, coefficient: float, power: float, offset: float = 0.0) -> Term:
    """The term `coefficient * t**(power + offset)` of f': e^(su) - e^(sb), from the larger of the two.

    The two parts of the power are kept apart where their sum would be rounded.
    """
    change = (power + offset) * at.difference
    rising = change > 0
    mantissa = torch.where(rising, -torch.expm1(-change.clamp_min(0)), torch.expm1(change.clamp_max(0)))
    larger = _where(rising, at.ratio, at.base)
    exponent = _add(at.log_p, _scale(power, larger))
    return Term(coefficient * mantissa, _add(exponent, _scale(offset, larger)) if offset else exponent)


def relative_power_difference(at: Contrast, alpha: float) -> Term:
    """The term `(t**(alpha - 1) - 1) / (alpha - 1)` of f', which is log t in the limit of alpha = 1."""
    return log_difference(at, 1.0) if alpha == 1 else power_difference(at, 1 / (alpha - 1), alpha, -1.0)


def _ordered(at: Contrast, shift: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whether u > b, the smaller and the larger of u and b, shifted, and 1 - exp(-|u - b|)."""
    rising = at.difference > 0
    ratio, base = at.ratio.high + shift, at.base.high + shift
    gap = torch.where(rising, -torch.expm1(-at.difference.clamp_min(0)), -torch.expm1(at.difference.clamp_max(0)))
    return rising, torch.where(rising, base, ratio), torch.where(rising, ratio, base), gap


def softplus_difference(at: Contrast, coefficient: float, shift: float, sign: float) -> Term:
    """The term `coefficient * log(1 + e^v)` of f' with v = sign * (u + shift)."""
    flipped = at if sign > 0 else Contrast(at.log_p, _negative(at.ratio), _negative(at.base), -at.difference)
    rising, lower, upper, gap = _ordered(flipped, sign * shift)
    near = upper < 40
    close = torch.log1p(torch.exp(torch.where(near, upper, 0.0)) * gap * torch.sigmoid(-lower))
    far = torch.minimum(flipped.difference.abs(), upper) - torch.log1p(torch.exp(-lower.abs()))
    size = torch.where(near, close, far)
    return Term(coefficient * torch.where(rising, size, -size), at.log_p)


def sigmoid_difference(at: Contrast, coefficient: float, power: int, shift: float) -> Term:
    """The term `coefficient * (1 + e^v)**(-power)` of f' with v = u + shift and a whole power."""
    rising, lower, upper, gap = _ordered(at, shift)
    first, last = torch.sigmoid(-lower), torch.sigmoid(-upper)
    size = gap * first * torch.sigmoid(upper)
    total = size * sum(first**k * last ** (power - 1 - k) for k in range(power))
    return Term(coefficient * torch.where(rising, -total, total), at.log_p)


def sign_difference(at: Contrast, coefficient: float) -> Term:
    """The term `coefficient * sign(t - 1)` of f', the subgradient 0 at t = 1."""
    signs = [torch.sign(place.high + place.low) for place in (at.ratio, at.base)]
    return Term(coefficient * (signs[0] - signs[1]), at.log_p)


def _soft_place(log_ratio: Tensor, width: float) -> tuple[Tensor, Tensor, Tensor]:
    """x = t - 1, sqrt(x^2 + width^2) and width, all divided by max(1, t) so that none overflows."""
    x = torch.where(log_ratio < 0, torch.expm1(log_ratio.clamp_max(0)), -torch.expm1(-log_ratio.clamp_min(0)))
    scaled_width = width * torch.exp(-log_ratio.clamp_min(0))
    return x, torch.sqrt(x**2 + scaled_width**2), scaled_width


def soft_sign_difference(at: Contrast, coefficient: float, width: float) -> Term:
    """The term `coefficient * x / sqrt(x**2 + width**2)` of f' with x = t - 1.

    On one side of t = 1 the difference of two of them is written as a product (`stable-soft-sign-difference`).
    """
    rising, lower, upper, gap = _ordered(at, 0.0)
    x_1, root_1, _ = _soft_place(lower, width)
    x_2, root_2, width_2 = _soft_place(upper, width)
    above, apart = lower >= 0, (lower < 0) & (upper > 0)
    smaller = torch.where(above, 1 - gap, 1.0)  # the smaller over the larger of the two t, where they are the units
    part = smaller + (x_2**2 + (smaller * x_1) ** 2 + width_2**2) / (root_1 * root_2 + x_1 * x_2)
    close = width**2 * gap * part / (root_1 * root_2 * (root_2 + smaller * root_1))
    size = torch.where(apart, x_2 / root_2 - x_1 / root_1, close)
    places = _where(rising, at.base, at.ratio), _where(rising, at.ratio, at.base)
    exponent = _where(above, _scale(-2.0, places[0]), places[1])
    exponent = _where(apart, _double(torch.zeros_like(lower)), exponent)
    return Term(coefficient * torch.where(rising, size, -size), _add(at.log_p, exponent))


NODES = (  # Gauss-Legendre quadrature on [0, 1]: positions and weights
    (0.005299532504175033, 0.013576229705877048),
    (0.02771248846338371, 0.031126761969323947),
    (0.06718439880608412, 0.04757925584124639),
    (0.12229779582249849, 0.06231448562776694),
    (0.19106187779867811, 0.07479799440828837),
    (0.2709916111713863, 0.08457825969750127),
    (0.35919822461037054, 0.09130170752246179),
    (0.4524937450811813, 0.09472530522753425),
    (0.5475062549188188, 0.09472530522753425),
    (0.6408017753896295, 0.09130170752246179),
    (0.7290083888286137, 0.08457825969750127),
    (0.8089381222013219, 0.07479799440828837),
    (0.8777022041775016, 0.06231448562776694),
    (0.9328156011939158, 0.04757925584124639),
    (0.9722875115366163, 0.031126761969323947),
    (0.994700467495825, 0.013576229705877048),
)


def _double_exponential(step: float, reach: int) -> tuple[tuple[float, float], ...]:
    """Positions and weights on [0, 1] after Takahasi and Mori: they crowd towards both ends, where a function may bend.

    The position is the logistic function of pi sinh(k * step), and the weight its derivative in k.
    """
    places = [(k * step, math.exp(-math.pi * math.sinh(k * step))) for k in range(-reach, reach + 1)]
    return tuple((1 / (1 + e), step * math.pi * math.cosh(k) / (1 + e) / (1 + 1 / e)) for k, e in places)


CROWDED_NODES = _double_exponential(1 / 24, 78)
AT_ONCE = 1 << 14  # numbers: below it, a step of Python costs more than sixteen times the arithmetic


def _quadrature(
    function: Callable[[Tensor | float], Tensor], like: Tensor, nodes: tuple[tuple[float, float], ...] = NODES
) -> Tensor:
    """The integral over 0 <= x <= 1 of a function of x whose values look like `like`; small ones go in one batch.

    The terms are added one by one either way, so that a result does not depend on the size of its batch.
    """
    if not like.is_cpu or like.numel() > AT_ONCE:
        return sum((share * function(node) for node, share in nodes), torch.zeros_like(like))
    rule = torch.tensor(nodes, dtype=like.dtype, device=like.device).T.reshape(2, len(nodes), *[1] * like.ndim)
    return sum((rule[1] * function(rule[0])).unbind(), torch.zeros_like(like))


def _power(base: Tensor, exponent: float) -> Tensor:
    """base ** exponent for base >= 0; at 0 its limit or 0, with the derivative 0."""
    return torch.where(base > 0, torch.where(base > 0, base, 1.0) ** exponent, float(exponent == 0))


def puri_vincze_difference(at: Contrast, exponent: float) -> Term:
    """The f' of Puri and Vincze's family, `sign(v) * abs(v)**(k - 1) * (k - (k - 1) * v) / 2`, v = (t - 1)/(t + 1).

    Its derivative in v is `k * (k - 1) * abs(v)**(k - 2) * (1 - v) / 2` (`stable-puri-vincze-slope`): where v does not
    change much, that is integrated, and nothing cancels.
    """
    if exponent == 1:
        return sign_difference(at, 0.5)
    rising, lower, upper, gap = _ordered(at, 0.0)
    start, end, rest = torch.tanh(lower / 2), torch.tanh(upper / 2), 2 * torch.sigmoid(-lower)
    step = 2 * gap * torch.sigmoid(-lower) * torch.sigmoid(upper)
    bends = _quadrature(lambda x: _power((start + x * step).abs(), exponent - 2) * (rest - x * step), step)
    close = exponent * (exponent - 1) / 2 * step * bends
    slopes = [v.sign() * _power(v.abs(), exponent - 1) * (exponent - (exponent - 1) * v) / 2 for v in (start, end)]
    nearest, farthest = torch.minimum(start.abs(), end.abs()), torch.maximum(start.abs(), end.abs())
    size = torch.where((start * end >= 0) & (2 * nearest >= farthest), close, slopes[1] - slopes[0])
    return Term(torch.where(rising, size, -size), at.log_p)


def sigmoid_power_difference(at: Contrast, beta: float) -> Term:
    """The term `sigmoid(beta * u)**g / g` of f' with g = 1 - 1/beta, which is log sigmoid(u) in the limit of beta 1."""
    power = (beta - 1) / beta
    inner = Contrast(at.log_p, _scale(beta, at.ratio), _scale(beta, at.base), beta * at.difference)
    change = softplus_difference(inner, -1.0, 0.0, -1.0).mantissa
    rising = change > 0
    size = torch.where(
        rising,
        relative_expm1(-abs(power), change.clamp_min(0)),
        -relative_expm1(-abs(power), -change.clamp_max(0)),
    )
    larger = _where(rising if power > 0 else ~rising, at.ratio, at.base)
    below = larger.high < 0
    bounded = torch.log1p(torch.exp(beta * torch.where(below, larger.high, -larger.high)))
    below_one = _where(below, larger, _double(torch.zeros_like(larger.high)))
    exponent = _add(_scale(beta, below_one), _negative(below_one))
    return Term(size * torch.exp(-power * bounded), _add(at.log_p, exponent))


def relative_expm1(power: float, log_ratio: Tensor) -> Tensor:
    """(e^(power * y) - 1) / power, which is y in the limit of power 0."""
    return log_ratio if power == 0 else torch.expm1(power * log_ratio) / power


def quadrature_radius(power: float) -> float:
    """The abs(y), at most 1, up to which the quadrature is exact to rounding for what grows like e^(power * y)."""
    return min(1.0, 8 / abs(power)) if power else 1.0


def alpha_tail(log_ratio: Tensor, alpha: float) -> Tensor:
    """The alpha family's f(e^y), from whichever of its two forms stays finite at alpha = 0 and 1.

    For alpha < 0 it is divided by e^(alpha y).
    """
    if alpha < 0:
        shrunk = torch.exp(-alpha * log_ratio) * torch.expm1(log_ratio) - relative_expm1(-alpha, log_ratio)
        return shrunk / (1 - alpha)
    if alpha >= 0.5:
        return (torch.exp(log_ratio) * relative_expm1(alpha - 1, log_ratio) - torch.expm1(log_ratio)) / alpha
    return (torch.expm1(log_ratio) - relative_expm1(alpha, log_ratio)) / (1 - alpha)


def mixture(log_ratio: Tensor, share: float) -> Tensor:
    """1 - share + share * e^y, added so that a share near 1 costs no digits."""
    return (1 - share) + share * torch.exp(log_ratio)


def log_mixture(log_ratio: Tensor, share: float) -> Tensor:
    """The logarithm of 1 - share + share * e^y for y <= 0, from the form that does not cancel."""
    if share < 0.5:
        return torch.log1p(share * torch.expm1(log_ratio))
    return torch.log(mixture(log_ratio, share))


def soft_distance(change: Tensor, width: Tensor | float) -> Tensor:
    """(sqrt(x^2 + width^2) - width)/2, from the form that does not cancel."""
    return change**2 / (2 * (torch.sqrt(change**2 + width**2) + width))


def puri_vincze_value(log_ratio: Tensor, exponent: float) -> Tensor:
    """Puri and Vincze's f(e^y), `abs(t - 1) * abs(v)**(k - 1) / 2` with v = tanh(y/2)."""
    return torch.expm1(log_ratio).abs() * _power(torch.tanh(log_ratio / 2).abs(), exponent - 1) / 2


def _entropy(log_odds: Tensor) -> Tensor:
    """The entropy of a coin with these log-odds, at most 0, in nats."""
    return torch.log1p(torch.exp(log_odds)) - log_odds * torch.sigmoid(log_odds)


def _lifted_mean(log_ratio: Tensor, beta: float) -> Tensor:
    """log(((1 + t^beta)/2)^(1/beta) / ((1 + t)/2)) / (1 - 1/beta) at t = e^y, for y <= -1.

    Near beta = 1 it is the integral of log 2 less an entropy (`stable-power-mean`).
    """
    power = (beta - 1) / beta
    if 0.5 <= beta <= 2:
        return math.log(2) - _quadrature(lambda x: _entropy(log_ratio / (1 - power * x)), log_ratio)
    rise = torch.log1p(torch.exp(beta * log_ratio)) / beta - torch.log1p(torch.exp(log_ratio))
    return math.log(2) + rise / power


def power_mean_tail(log_ratio: Tensor, beta: float) -> Tensor:
    """Österreicher and Vajda's f(e^y) for y <= -1, as the mean (1 + t)/2 times a relative excess."""
    power = (beta - 1) / beta
    mean: Tensor = (1 + torch.exp(log_ratio)) * math.exp2(-power)
    return mean * relative_expm1(power, _lifted_mean(log_ratio, beta))


def power_mean_limit(beta: float) -> float:
    """Österreicher and Vajda's f(0)."""
    return math.log(2) if beta == 1 else -math.expm1((1 - beta) / beta * math.log(2)) * beta / (beta - 1)


def power_mean_value(log_ratio: Tensor, beta: float) -> Tensor:
    """Österreicher and Vajda's f(e^y) for abs(y) <= 1 and beta not near 1, from hyperbolic cosines."""
    power, half = (beta - 1) / beta, log_ratio / 2
    rise = torch.log1p(torch.sinh(beta * half) ** 2) / (2 * beta) - torch.log1p(torch.sinh(half) ** 2) / 2
    return torch.exp(half) * torch.cosh(half) * math.exp2(1 - power) * torch.expm1(rise) / power


def scaled(definition: Definition, factor: float) -> Definition:
    """The multiple factor * D of a divergence, for a positive factor."""

    def slope_difference(at: Contrast) -> Term:
        term = definition.slope_difference(at)
        return Term(factor * term.mantissa, term.exponent)

    def tails(log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        at_zero, at_infinity = definition.tails(log_ratio)
        return factor * at_zero, factor * at_infinity

    limits = (factor * definition.limits[0], factor * definition.limits[1])
    return definition._replace(slope_difference=slope_difference, tails=tails, limits=limits, lean=None, near=None)


class Slope(NamedTuple):
    """f'(e^u) and its derivative in u for any generator, both divided by exp(growth(u)) so that neither overflows.

    Where `guarded`, f' may bend between the nodes of a quadrature, which is then compared with the plain difference.
    """

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    growth: Callable[[Tensor], Tensor]
    guarded: bool = False


def general_difference(at: Contrast, slope: Slope) -> Term:
    """The slope difference of any generator: a plain difference, or a quadrature where u and b are close.

    f' increases, so its derivative in u is nowhere negative and the quadrature adds without cancelling.
    """
    ratio, base = at.ratio.high, at.base.high

    def growth(log_ratio: Tensor) -> Tensor:
        return slope.growth(log_ratio).clamp_max(FAR)

    largest = torch.maximum(growth(ratio), growth(base))

    def scaled(function: Callable[[Tensor], Tensor], log_ratio: Tensor) -> Tensor:
        return function(log_ratio) * torch.exp(growth(log_ratio) - largest)

    step = at.difference.clamp(-0.5, 0.5)
    close = step * _quadrature(lambda x: scaled(slope.derivative, base + x * step), step)
    bends = scaled(slope.derivative, ratio), scaled(slope.derivative, base)
    smooth = torch.maximum(*bends) <= 16 * torch.minimum(*bends)
    slopes = scaled(slope.value, ratio), scaled(slope.value, base)
    far = slopes[0] - slopes[1]
    if slope.guarded:
        sizes = torch.stack([part.abs() for part in (*slopes, *bends)]).amax(0)
        smooth = smooth & ((close - far).abs() <= 64 * torch.finfo(far.dtype).eps * sizes)
    mantissa = torch.where(smooth & (at.difference.abs() < 0.5), close, far)
    overflows = mantissa.isinf() & (largest > FAR**0.25)  # as the exponential beside it does, whatever it is
    mantissa = torch.where(overflows, torch.sign(mantissa), mantissa)
    beyond = (largest >= FAR) & (mantissa != 0)  # of all probabilities
    exponent = _where(beyond, _double(torch.full_like(largest, FAR)), _add(at.log_p, _double(largest)))
    return Term(mantissa, exponent)


def general_near(log_ratio: Tensor, slope: Slope) -> Tensor:
    """f(e^y) of any generator for abs(y) <= 1, an integral in which nothing cancels (`stable-value-bend`)."""

    def integrand(x: Tensor | float) -> Tensor:
        place = x * log_ratio
        bend = slope.derivative(place) * torch.exp(slope.growth(place))
        return bend * torch.exp(place) * torch.expm1((1 - x) * log_ratio)

    return log_ratio * _quadrature(integrand, log_ratio)


def two_sided(sides: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[Tensor], Tensor]:
    """A function of u from its two sides in y = -abs(u): the first for u < 0, the second from 0 on."""

    def function(log_ratio: Tensor) -> Tensor:
        below, above = sides(log_ratio.clamp_max(0))[0], sides(-log_ratio.clamp_min(0))[1]
        return torch.where(log_ratio < 0, below, above)

    return function


def _working(first: Tensor, second: Tensor, wide: bool = False) -> tuple[Tensor, Tensor]:
    """Half precision is computed in float32, everything else in the wider of the two; all in float64 where `wide`."""
    dtype = torch.float64 if wide or torch.float64 in (first.dtype, second.dtype) else torch.float32
    return first.to(dtype), second.to(dtype)


def _finite(log_prob: Tensor) -> Tensor:
    return log_prob.clamp_min(-FAR)


def _from_gauge_point(log_p: Tensor, log_q: Tensor) -> Contrast:
    """The contrast of u with 0, where the gauge puts f'(1) = 0."""
    log_p, log_q = _finite(log_p), _finite(log_q)
    ratio = _two_sum(log_p, -log_q)
    return Contrast(_double(log_p), ratio, _double(torch.zeros_like(log_p)), ratio.high + ratio.low)


def weight(definition: Definition, log_p: Tensor, log_q: Tensor) -> Tensor:
    """The weights w = p f'(p/q) in the gauge f'(1) = 0 (:eq:`eq-weight`).

    Args:
        definition: one of `DIVERGENCES`, or a member of a family.
        log_p: log-probabilities of the classifier, shape (..., classes), floating point. Nothing is checked here.
        log_q: log-probabilities of the target, the same shape.

    Returns:
        Shape (..., classes), the dtype of `log_p`.
    """
    p, q = _working(log_p, log_q, definition.wide)
    return _evaluate(definition.slope_difference(_from_gauge_point(p, q))).to(log_p.dtype)


def _integrated(definition: Definition, ratio: Tensor) -> Tensor:
    """f(e^u) as the integral of f'(e^s) e^s from 0 to u, for |u| <= radius: no two of its parts cancel."""

    def integrand(x: Tensor | float) -> Tensor:
        place = x * ratio
        return _evaluate(definition.slope_difference(_from_gauge_point(place, torch.zeros_like(place))))

    return ratio * _quadrature(integrand, ratio)


def _integrated_terms(definition: Definition, log_p: Tensor, log_q: Tensor, ratio: Tensor) -> Tensor:
    """q f(p/q) as the integral of p f'(p/q) over all log-ratios from 0 to u: no two of its parts cancel.

    It is taken from each of the `breaks` to the next. The nodes crowd towards them, where f may bend sharply, and
    towards u, where it may be steep.
    """
    ordinary, start, side = ratio.abs() < FAR / 2, _finite(log_q), torch.sign(ratio)
    size = torch.where(ordinary, ratio, 0.0).abs()
    total = torch.zeros_like(size)
    for lower, upper in zip((0.0, *definition.breaks), (*definition.breaks, FAR), strict=True):
        step = size.clamp_max(upper) - size.clamp_max(lower)
        near = torch.where(step > 0, size.clamp_max(lower), 0.0)  # where nothing is left, nothing shall overflow

        def integrand(x: Tensor | float, near: Tensor = near, step: Tensor = step) -> Tensor:
            place = side * (near + x * step)
            at = Contrast(_two_sum(start, place), _double(place), _double(torch.zeros_like(place)), place)
            return _evaluate(definition.slope_difference(at))

        total = total + side * step * _quadrature(integrand, step, CROWDED_NODES)
    ends = [torch.full_like(ratio, limit).masked_fill(ordinary, 0.0) for limit in definition.limits]
    beyond = torch.where(ratio < 0, torch.exp(log_q) * ends[0], torch.exp(log_p) * ends[1])
    return torch.where(ordinary, total, beyond)


def _tail(definition: Definition, end: int, log_prob: Tensor, log_ratio: Tensor) -> Tensor:
    """q f(e^y), or p f(e^-y)/e^-y, where y is far below 0: its limit where one probability is 0 or beyond all range."""
    ordinary = log_ratio > -FAR / 2
    inside = log_ratio.where(ordinary, -1.0)  # elsewhere a derivative may be NaN, which 0 times it would be as well
    factor = definition.tails(inside)[end]
    if definition.growth is not None:
        growth = definition.growth(inside)[end]
        ordinary = ordinary & (growth < FAR)
        log_prob = log_prob + growth.where(ordinary, 0.0)
    return torch.exp(log_prob) * factor.where(ordinary, definition.limits[end])


def value(definition: Definition, log_p: Tensor, log_q: Tensor) -> Tensor:
    """The divergence sum_i q_i f(p_i / q_i), nowhere negative (:eq:`eq-value`).

    Args:
        definition: one of `DIVERGENCES`, or a member of a family.
        log_p: log-probabilities of the classifier, shape (..., classes), floating point. Nothing is checked here.
        log_q: log-probabilities of the target, the same shape; -inf where the target is 0.

    Returns:
        Shape (...), the dtype of `log_p`.

    Raises:
        ValueError: there is only a printed weight, and no f-divergence behind it.
    """
    if not definition.is_divergence:
        raise ValueError("value: this weight belongs to no f-divergence, so there is no value")
    p, q = _working(log_p, log_q, definition.wide)
    ratio, radius = _finite(p) - _finite(q), definition.radius
    if definition.breaks:
        return _integrated_terms(definition, p, q, ratio).sum(-1).to(log_p.dtype)
    middle = ratio.clamp(-radius, radius)
    near = torch.exp(q) * (_integrated(definition, middle) if definition.near is None else definition.near(middle))
    at_zero = _tail(definition, 0, q, ratio.clamp(-FAR, -radius))
    at_infinity = _tail(definition, 1, p, -ratio.clamp(radius, FAR))
    far = torch.where(ratio < 0, at_zero, at_infinity)
    return torch.where(ratio.abs() <= radius, near, far).sum(-1).to(log_p.dtype)


def _centred(logits: Tensor, top: Tensor) -> Double:
    """The differences logits - top, at least -WIDEST."""
    within = logits - top > -WIDEST
    widest = _double(torch.full_like(logits, -WIDEST))
    return _where(within, _two_sum(torch.where(within, logits, top), -top), widest)


def _sum(positive: Tensor) -> Double:
    """The sum over the classes of numbers not far above 1, their leading halves added without rounding."""
    grid = 2.0 ** (12 if positive.dtype == torch.float64 else 11) * 1.5
    leading = (positive + grid) - grid
    high, low = _two_sum(leading.sum(-1, keepdim=True), (positive - leading).sum(-1, keepdim=True))
    return Double(high, low)


LOG_2 = (0.693145751953125, 1.42860682030941723212e-6)  # its leading 16 bits, and the rest


def _log1p(x: Double) -> Double:
    """log(1 + x) for x >= 0: as m log 2 + log r with r between 0.7 and 1.5, whose rounding is small."""
    total = _two_sum(x.high, torch.ones_like(x.high))
    power = torch.floor(torch.log2(total.high.detach()) + 0.5)
    scale = torch.exp2(-power)
    inexact = total.low + x.low
    small = torch.log1p(torch.where(power == 0, x.high, total.high * scale - 1))
    rest = torch.where(power == 0, x.low, inexact) / total.high
    return Double(*_two_sum(power * LOG_2[0], small + power * LOG_2[1] + rest))


def _at_pivot(logits: Tensor, log_q: Tensor) -> Contrast:
    """The contrast of every class with the most probable one, from differences of inputs alone."""
    top, pivot = logits.max(-1, keepdim=True)
    centred = _centred(logits, top)
    others = _exp(centred).masked_fill(torch.zeros_like(logits, dtype=torch.bool).scatter(-1, pivot, True), 0)
    log_top = _negative(_log1p(_sum(others)))
    log_p = _add(centred, log_top)
    log_q = _finite(log_q)
    top_q = log_q.gather(-1, pivot)
    difference = _add(centred, _negative(_two_sum(log_q, -top_q)))
    ratio = _add(log_p, _double(-log_q))
    return Contrast(log_p, ratio, _add(log_top, _double(-top_q)), difference.high + difference.low)


def _times_exp(mantissa: Tensor, exponent: Double) -> Tensor:
    """mantissa * exp(exponent), 0 where the mantissa is 0 however large the exponent."""
    high = torch.where(mantissa == 0, exponent.high.clamp_max(60), exponent.high)
    return mantissa * _exp(Double(high, exponent.low))


def _product(mantissa: Tensor, exponent: Tensor) -> Tensor:
    """mantissa * exp(exponent), as exp(rest) and two powers of two: one rounding, and no overflow but its own."""
    exponent = torch.where(mantissa == 0, exponent.clamp_max(60), exponent)
    power = torch.round(exponent.detach() / LOG_2[0])
    rest = (exponent - power * LOG_2[0]) - power * LOG_2[1]
    half = torch.floor(power / 2)
    return mantissa * torch.exp(rest.clamp(-1, 1)) * torch.exp2(half) * torch.exp2(power - half)


def _centre_bounded(term: Term, log_p: Double) -> Tensor:
    part = _evaluate(term)
    return part - _exp(log_p) * part.sum(-1, keepdim=True)


def _centre(term: Term, log_p: Double) -> Tensor:
    nothing = term.mantissa == 0  # the pivot, above all: its exponent must not set the scale
    exponent = term.exponent.high.masked_fill(nothing, -FAR)
    scale = torch.where(nothing.all(-1, keepdim=True), term.exponent.high, exponent)
    largest = scale.amax(-1, keepdim=True)
    total = _sum(_times_exp(term.mantissa, _add(term.exponent, _double(-largest))))
    mean = total.high + total.low
    mean_exponent = _add(log_p, _double(largest))
    top = torch.maximum(exponent, mean_exponent.high)
    own = _times_exp(term.mantissa, _add(term.exponent, _double(-top)))
    return _product(own - mean * _exp(_add(mean_exponent, _double(-top))), top)


def _change(reuse: bool, tensor: Tensor, operation: str, *arguments: object, **keywords: float) -> Tensor:
    """The result of an operation on a tensor that nobody needs any more, in its memory where that may be reused."""
    result: Tensor = getattr(tensor, operation + "_" * reuse)(*arguments, **keywords)
    return result


def _may_reuse(*inputs: Tensor) -> bool:
    """Whether memory may be overwritten: not while somebody differentiates, compiles or transforms."""
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)):
        return False
    return torch._C._functorch.peek_interpreter_stack() is None


def lean_exp(x: Tensor, factor: float = 1.0, overwrite: bool = False) -> Tensor:
    """exp(factor * x) for x <= 0; on the CPU, float32 goes by exp2, which is several times as fast.

    Args:
        x: at most 0, any shape, float32 or float64. Nothing is checked here.
        factor: above 0.
        overwrite: whether the memory of `x` may be taken; it is not while somebody differentiates, compiles or
            transforms.

    Returns:
        Shape and dtype of `x`.
    """
    reuse = _may_reuse(x)
    quick = x.dtype == torch.float32 and x.is_cpu and not torch.compiler.is_compiling()
    if quick:
        factor *= math.log2(math.e)
    return _change(reuse, _change(reuse and overwrite, x, "mul", factor), "exp2" if quick else "exp")


def lean_log1p(x: Tensor, reuse: bool) -> Tensor:
    """log(1 + x) for x >= 0 to the rounding of 1 + x, in the form that is quicker: with and without a compiler."""
    return torch.log(1 + x) if torch.compiler.is_compiling() else _change(reuse, x, "log1p")


def lean_sigmoid(inverse: Tensor, factor: float, power: int) -> Tensor:
    """(1 + factor * t)**(-power) from 1/t, less 1 where a small factor keeps it near 1."""
    total = inverse + factor
    share = inverse / total
    if factor >= 1:
        return share**power
    return -factor / total * sum(share**k for k in range(power))


def centred_logits(logits: Tensor) -> Tensor:
    """The logits less their largest, in which plain arithmetic begins; half precision becomes float32.

    Args:
        logits: finite, shape (..., classes), floating point. Nothing is checked here.

    Returns:
        The shape of `logits`, nowhere above 0, float32 or float64.
    """
    working = logits if logits.dtype == torch.float64 else logits.float()
    return working - working.amax(-1, keepdim=True)


def lean_powers(centred: Tensor, tau_marginal: float, overwrite: bool) -> tuple[Tensor, Tensor]:
    """exp(logits) and exp(tau_marginal * logits), from which plain arithmetic goes on; for 1/2, one is a square.

    Args:
        centred: what `centred_logits` returns, shape (..., classes). Nothing is checked here.
        tau_marginal: temperature of the logits in the normaliser.
        overwrite: as in `lean_exp`.

    Returns:
        Both in the shape and dtype of `centred`.
    """
    if tau_marginal == 0.5:
        marginal = lean_exp(centred, tau_marginal, overwrite)
        return marginal.square(), marginal
    return lean_exp(centred), lean_exp(centred, tau_marginal, overwrite)


def _normalised(powers: Tensor, reuse: bool) -> Tensor:
    """The softmax, which torch.softmax has to 11 ulp only."""
    return _change(reuse, powers, "div", powers.sum(-1, keepdim=True))


def _lean_slope(lean: Lean, log_ratio: Tensor | None, inverse: Tensor, reuse: bool) -> Tensor:
    """f'(t) without its part -1/t, from 1/t and, where that is needed, log t up to a constant."""
    if log_ratio is None or not lean.logarithm:
        assert lean.slope is not None
        return lean.slope(inverse, reuse)
    part = _change(reuse, _change(reuse, log_ratio, "clamp_min", -FAR), "mul", lean.logarithm)
    return part if lean.slope is None else part + lean.slope(inverse, reuse)


def _lean_centre(h: Tensor, p: Tensor, reuse: bool) -> Tensor:
    """p (h - sum p h)."""
    part = _change(reuse, h, "mul", p)
    return _change(reuse, part, "addcmul", p, part.sum(-1, keepdim=True), value=-1.0)


def lean_gradient(definition: Definition, logits: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of `logit_gradient` in plain arithmetic, for a definition that has a `lean` slope.

    It is several times as fast. Its error is a few units in the last place of the largest probability or weight, which
    may be all of the gradient where that is much smaller.

    Args:
        definition: one of `DIVERGENCES`, or a member of a family, whose `lean` is not None.
        logits: finite, shape (..., classes), floating point. Nothing is checked here.
        log_q: log-probabilities of the target, the same shape; -inf where the target is 0.

    Returns:
        The gradient, shape (..., classes), the dtype of `logits`; and, shape (..., 1), whether its largest component
        is a 16th of the largest probability and weight at least, so that it has lost no more than four bits.
    """
    lean = definition.lean
    assert lean is not None
    working, target = _working(logits, log_q)
    reuse = _may_reuse(working, target)
    centred = centred_logits(working)
    p, q = _normalised(lean_exp(centred), reuse), lean_exp(target)
    gradient, scale = torch.zeros_like(p), p.amax(-1, keepdim=True)
    if lean.slope is not None or lean.logarithm:
        h = _lean_slope(lean, centred - _finite(target), q / p.clamp_min(torch.finfo(p.dtype).tiny), reuse)
        scale = torch.maximum(scale, (p * h).abs().amax(-1, keepdim=True)) if lean.logarithm else scale
        at_top = torch.add(h.detach(), centred.detach(), alpha=FAR).amax(-1, keepdim=True)
        gradient = _lean_centre(_change(reuse, h, "sub", at_top), p, reuse)
    if lean.inverse:
        gradient = gradient + lean.inverse * (p * q.sum(-1, keepdim=True) - q)
    largest = torch.maximum(gradient.amax(-1, keepdim=True), -gradient.amin(-1, keepdim=True))
    return gradient.to(logits.dtype), 16 * largest >= scale


def _at_label(reuse: bool, labels: Tensor, off: Tensor, on: Tensor) -> Tensor:
    """The tensor `off` with the entries of the labels replaced."""
    return _change(reuse, off, "scatter", -1, labels, on)


def _slope_from_top(
    lean: Lean, centred: Tensor | None, p: Tensor, index: Tensor, is_top: Tensor, q_label: float, q_other: float
) -> Tensor:
    """f'(t) without its part -1/t, less its value at the most probable class, which may be the label.

    At the target's common value f' increases with p, so that its largest value belongs to the most probable class.
    """
    reuse = _may_reuse(p)
    own_p, own_ratio = p.gather(-1, index), None
    if centred is not None and lean.logarithm:
        own_ratio = centred.gather(-1, index) - math.log(q_label / q_other)
    inverse = p
    if lean.slope is not None:
        floor = torch.finfo(p.dtype).tiny
        inverse = _change(reuse, _change(reuse, p.clamp_min(floor), "reciprocal"), "mul", q_other)
        own_p = own_p.clamp_min(floor)
    own = _lean_slope(lean, own_ratio, q_label / own_p, reuse)
    h = _lean_slope(lean, centred, inverse, reuse)
    top = torch.where(is_top, own, h.amax(-1, keepdim=True))
    return _at_label(reuse, index, _change(reuse, h, "sub", top), own - top)


def _from_target(p: Tensor, index: Tensor, q_label: float, q_other: float) -> Tensor:
    """p - q, in the memory of p; where the label is likely, its 1 - p is the sum of the others and loses no digits."""
    reuse, own = _may_reuse(p), p.gather(-1, index)
    others = _at_label(reuse, index, p, torch.zeros_like(own))
    rest = others.sum(-1, keepdim=True)
    at_label = torch.where(own < 0.5, own - q_label, (1 - q_label) - rest)
    return _at_label(reuse, index, _change(reuse, others, "sub", q_other), at_label)


def smoothed_gradient(
    lean: Lean, powers: Tensor, labels: Tensor, q_label: float, q_other: float, centred: Tensor | None = None
) -> Tensor:
    """The gradient of `logit_gradient` for a label-smoothed target, of two values, in plain arithmetic.

    Args:
        lean: that of a definition in `DIVERGENCES`, or of a member of a family.
        powers: exponentials of logits whose largest is 0, shape (..., classes). Nothing is checked here, and the memory
            is taken unless somebody differentiates, compiles or transforms.
        labels: integers from 0 to classes - 1, shape (...).
        q_label: the target at the label.
        q_other: the target at every other class; above 0 where the divergence is infinite at 0.
        centred: the logits of `powers`, needed and their memory taken where `lean` has a logarithm.

    Returns:
        Shape and dtype of `powers`.
    """
    reuse, index = _may_reuse(powers), labels.long().unsqueeze(-1)
    is_top = powers.gather(-1, index) == 1
    p = _normalised(powers, reuse)
    if lean.slope is None and not lean.logarithm:
        return _change(reuse, _from_target(p, index, q_label, q_other), "mul", lean.inverse)
    gradient = _lean_centre(_slope_from_top(lean, centred, p, index, is_top, q_label, q_other), p, reuse)
    return gradient + lean.inverse * _from_target(p, index, q_label, q_other) if lean.inverse else gradient


def tempered_gradient(marginal: Tensor, labels: Tensor, tau_joint: float, tau_marginal: float) -> Tensor:
    """tau_joint e_y - tau_marginal softmax(tau_marginal * logits) (:eq:`eq-tempered-gradient`); no e_y - p cancels.

    Args:
        marginal: exp(tau_marginal * logits) of logits whose largest is 0, shape (..., classes). Nothing is checked
            here, and the memory is taken unless somebody differentiates, compiles or transforms.
        labels: integers from 0 to classes - 1, shape (...).
        tau_joint: temperature of the label's logit.
        tau_marginal: temperature of the logits in the normaliser.

    Returns:
        Shape and dtype of `marginal`.
    """
    reuse, index = _may_reuse(marginal), labels.long().unsqueeze(-1)
    own = marginal.gather(-1, index)
    others = _at_label(reuse, index, marginal, torch.zeros_like(own))
    rest = others.sum(-1, keepdim=True)
    scale = -tau_marginal / (rest + own)
    gradient = _change(reuse, others, "mul", scale)
    return _at_label(reuse, index, gradient, (tau_joint - tau_marginal) - scale * rest)


def logit_gradient(definition: Definition, logits: Tensor, log_q: Tensor) -> Tensor:
    """The gradient w - p * sum(w) of the divergence in the logits (:eq:`eq-logit-gradient`).

    With k the most probable class and h_i = f'(t_i) - f'(t_k) it equals p_i (h_i - sum_j p_j h_j), :eq:`eq-pivot`: no
    1 - p_k is ever formed, so the result keeps its leading digits however close p is to one-hot.

    Args:
        definition: one of `DIVERGENCES`, or a member of a family.
        logits: finite, shape (..., classes), floating point. Nothing is checked here.
        log_q: log-probabilities of the target, the same shape; -inf where the target is 0.

    Returns:
        Shape (..., classes), the dtype of `logits`.
    """
    working, target = _working(logits, log_q, definition.wide)
    at = _at_pivot(working, target)
    term = definition.slope_difference(at)
    centre = _centre_bounded if definition.bounded else _centre
    return centre(term, at.log_p).to(logits.dtype)
