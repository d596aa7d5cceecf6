"""From the generator f(t) of a divergence to its stable numerical form, in SymPy.

A generator comes as text, which is parsed against a whitelist and never evaluated, or as a SymPy expression in one
positive symbol t = p/q. From it follow the gauge f'(1) = 0, the dual, the limits at both ends, the saturation
exponent, and the slope over what it grows like.
"""

import functools
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from fractions import Fraction

import mpmath
import sympy as sp
from mpmath import mpf
from sympy.codegen.rewriting import expm1_opt, log1p_opt, optimize
from sympy.core.cache import clear_cache

from fguidance.symbolic.evaluate import MPMATH, evaluate
from fguidance.symbolic.kinks import SAME, jump, smooth_parts
from fguidance.symbolic.parsing import in_t, parse_generator, t
from fguidance.time_limit import OutOfTime, Result, TimeLimitError, within

log_ratio = sp.Symbol("log_ratio", real=True)
Sides = tuple[sp.Expr, sp.Expr]
"""An expression for u < 0 and one for u > 0, both in y = -abs(u) = `log_ratio`."""
ENDS = (sp.Integer(0), sp.oo)
SECONDS = 2.2
"""Processor time for the checks of a generator; what is derived from it has as much, and what the checks left."""
ROUNDING = 1e-15
"""What floating-point numbers, in a SymPy expression or as parameters, may leave of f(1); text is exact."""


def as_generator(source: str | sp.Expr, parameters: Mapping[str, float] | None = None, kinks: bool = False) -> sp.Expr:
    """A checked generator in the symbol t.

    Args:
        source: text for `parse_generator`, or a SymPy expression in exactly one symbol.
        parameters: values of further names that the text may use.
        kinks: whether f' may jump, as that of abs(t - 1) does.

    Returns:
        f(t), an expression in t that passes `check_generator`.

    Raises:
        TypeError: neither a string nor a SymPy expression, or parameters for an expression.
        ValueError: unparsable, more than one symbol, f(1) != 0, not convex on t > 0, or not checked within 2.2 s of
            processor time.
    """
    if not isinstance(source, str | sp.Expr):
        raise TypeError(f"generator must be a string or a SymPy expression, not {type(source).__name__}")
    if parameters and not isinstance(source, str):
        raise TypeError("parameters belong to a generator given as a string")

    has_floats = isinstance(source, sp.Expr) and source.has(sp.Float)

    def checked() -> sp.Expr:
        expression = parse_generator(source, parameters) if isinstance(source, str) else in_t(source)
        check_generator(expression, ROUNDING if parameters or has_floats else 0.0, kinks)
        return expression

    return understandable(source if isinstance(source, str) else "expression", checked)


def derived_from(
    source: str | sp.Expr, parameters: Mapping[str, float] | None, derive: Callable[[sp.Expr], Result]
) -> tuple[sp.Expr, Result]:
    """A generator that passes the checks, and what `derive` makes of it, in twice `SECONDS` together.

    Raises:
        TypeError: as `as_generator`.
        ValueError: as `as_generator`, or what `derive` does is too much for SymPy or takes too long.
    """
    began = time.thread_time()
    generator = as_generator(source, parameters, kinks=True)
    left = SECONDS - (time.thread_time() - began)
    return generator, understandable(generator, lambda: derive(generator), SECONDS + max(left, 0.0))


def understandable(generator: object, work: Callable[[], Result], seconds: float | None = None) -> Result:
    """Bound SymPy's work in time, and say in a ValueError what was too much for it and for which generator."""
    with _ANALYSIS:
        precision = mpmath.mp.prec
        try:
            return within(seconds or SECONDS, f"generator {generator!s:.200} cannot be analysed", work)
        except (ArithmeticError, MemoryError, RecursionError, NotImplementedError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"generator {generator!s:.200} cannot be analysed: {reason}") from error
        except (OutOfTime, TimeLimitError):
            clear_cache()  # an interrupted question about an assumption is kept there as undecided
            raise
        finally:
            mpmath.mp.prec = precision


_ANALYSIS = threading.RLock()
"""Taken by each analysis: mpmath has one precision for all threads."""


def check_generator(generator: sp.Expr, rounding: float = 0.0, kinks: bool = False) -> None:
    """Check that f(1) = 0, and at 241 points from 1e-12 to 1e12 that f'' >= 0 and f' increases from each to the next.

    `fguidance.testing.convexity.certify_convexity` proves what is sampled here.

    Args:
        generator: f(t), an expression in t with exact numbers.
        rounding: how far f(1) may be from 0. Unless that is given, it must be 0 exactly if it is rational, and to 60
            decimal places otherwise.
        kinks: whether f' may jump, upwards.

    Raises:
        ValueError: it is not so, or it depends on anything but t; the message says where.
    """
    if generator.free_symbols != {t}:
        raise ValueError(f"generator {generator} must depend on t, and on nothing else")
    at_one = generator.subs(t, 1)
    if not abs(sp.N(at_one, 30)) <= (rounding or (0 if at_one.is_Rational else 1e-60)):
        raise ValueError(f"generator {generator} must have f(1) = 0, not {sp.N(at_one, 6)}")
    first = sp.diff(generator, t)
    if sp.diff(first, t).has(sp.DiracDelta, sp.Derivative, sp.Subs) and not kinks:
        raise ValueError(
            f"generator {generator} must be twice differentiable on t > 0 and be written without an abs() whose "
            "argument changes its sign, even where a power smooths the kink"
        )
    parts = smooth_parts(generator)
    if (fall := jump(parts, 1)) < -SAME:
        raise ValueError(f"generator {generator} is not convex: f' jumps by {sp.N(fall, 6)} at a kink")
    seconds = [(sp.diff(part.expression, t, 2), part) for part in parts]
    points = [sp.Rational(1013, 1000) * sp.Integer(10) ** sp.Rational(k, 10) for k in range(-120, 121)]
    bends = [
        _sign(generator, "f''({})", second, (point,))
        for point in points
        for second, part in seconds
        if part.low < point <= part.high
    ]
    rises = [_sign(generator, "f'({}) - f'({})", first, pair[::-1]) for pair in itertools.pairwise(points)]
    if not any(bends) and not any(rises):
        raise ValueError(f"generator {generator} is linear: its divergence is zero")


def _sign(generator: sp.Expr, what: str, function: sp.Expr, points: tuple[sp.Expr, ...]) -> bool:
    """Whether the value, or the difference of two values, is positive; 0 where 400 digits do not tell."""
    coarse, places = mpf(0), [f"{sp.N(point, 6)}" for point in points]
    for digits in (40, 80, 160, 400):
        with mpmath.workdps(digits):
            try:
                values = [evaluate(function, t, mpf(point._to_mpmath(mpmath.mp.prec + 10)), MPMATH) for point in points]
            except OverflowError:
                return False
            except ZeroDivisionError:
                raise ValueError(f"generator {generator} is not finite at t = {places[0]}") from None
            fine = values[0] - values[1] if len(values) == 2 else values[0]
            if not mpmath.isfinite(fine) or mpmath.im(fine):
                raise ValueError(f"generator {generator} is not real at t = {places[0]}")
            if digits > 40 and abs(fine - coarse) <= abs(fine) / 1000:
                break
            coarse = fine
    else:
        return False
    if fine < 0:
        raise ValueError(f"generator {generator} is not convex: {what.format(*places)} = {mpmath.nstr(fine, 6)}")
    return bool(fine > 0)


def on_one_side(expression: sp.Expr, at: sp.Expr) -> sp.Expr:
    """The expression with every absolute value and every sign resolved as it is at t = `at`."""

    def sign(inner: sp.Expr) -> sp.Expr:
        return sp.S.One if inner.subs(t, at) >= 0 else sp.S.NegativeOne

    return expression.replace(sp.Abs, lambda inner: sign(inner) * inner).replace(sp.sign, sign)


def near_zero(expression: sp.Expr) -> sp.Expr:
    """The expression as it is for t close to 0, without absolute values."""
    return on_one_side(expression, sp.Rational(1, 10**9))


def far_out(expression: sp.Expr) -> sp.Expr:
    """The expression as it is for large t, without absolute values."""
    return on_one_side(expression, sp.Integer(10**9))


def gauge_fixed(generator: sp.Expr) -> sp.Expr:
    """f(t) - f'(1)(t - 1): the same divergence with f'(1) = 0, so that f >= 0 (:eq:`eq-gauge`).

    At a kink in t = 1 the slope is the mean of those on both sides.
    """
    return generator - sp.diff(generator, t).subs(t, 1) * (t - 1)


def dual(generator: sp.Expr) -> sp.Expr:
    """The dual t f(1/t): the generator with the two distributions swapped (:eq:`eq-value`)."""
    return sp.expand(t * generator.subs(t, 1 / t))


def slope(generator: sp.Expr) -> sp.Expr:
    """f'(t) in the gauge f'(1) = 0 (:eq:`eq-gauge`)."""
    return sp.diff(gauge_fixed(generator), t)


def tidied_slope(generator: sp.Expr) -> sp.Expr:
    """f'(t) in the gauge f'(1) = 0, its logarithms joined, for a reader."""
    plain = slope(generator)
    if plain.has(sp.Abs):
        return plain
    expanded = sp.expand(sp.expand_log(plain, force=True))
    parts = sp.collect(expanded, expanded.atoms(sp.log), evaluate=False)
    rest = parts.pop(sp.S.One, sp.S.Zero)
    numbers = {logarithm: sp.simplify(coefficient) for logarithm, coefficient in parts.items()}
    if numbers and all(isinstance(key, sp.log) and number.is_Rational for key, number in numbers.items()):
        unit = functools.reduce(sp.gcd, numbers.values())
        inner = sp.Mul(*(logarithm.args[0] ** (number / unit) for logarithm, number in numbers.items()))
        return unit * sp.log(sp.factor(sp.together(inner))) + sp.factor(sp.together(rest))
    coefficient, rest = sp.factor(sp.expand_log(slope(generator), force=True)).as_coeff_Mul()
    joined = sp.simplify(sp.logcombine(rest, force=True))
    tidied = coefficient * joined.replace(sp.log, lambda inner: sp.log(sp.factor(sp.together(inner))))
    return min(tidied, plain, key=sp.count_ops)


def weight(generator: sp.Expr, p: sp.Symbol, q: sp.Symbol) -> sp.Expr:
    """w = p f'(p/q) in the gauge f'(1) = 0 (:eq:`eq-weight`)."""
    found = tidied_slope(generator).subs(t, p / q).replace(sp.log, lambda inner: sp.log(sp.simplify(inner)))
    logarithms, rest = found.as_independent(sp.log, as_Add=True)[::-1]
    joined = sp.factor(sp.together(rest))
    return p * (logarithms + (joined if sp.count_ops(p * joined) <= 1.3 * sp.count_ops(p * rest) else rest))


@functools.lru_cache(maxsize=256)
def end_values(generator: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """The limits of f(t) at 0 and of f(t)/t at infinity, in the gauge f'(1) = 0 (:eq:`eq-value`)."""
    fixed = gauge_fixed(generator)
    return sp.limit(near_zero(fixed), t, 0, "+"), sp.limit(sp.expand(far_out(fixed) / t), t, sp.oo)


def saturation_limit(generator: sp.Expr) -> sp.Expr:
    """The limit of t f'(t) at 0; unless it is 0, the force survives a one-hot classifier (:eq:`eq-saturation`)."""
    return sp.limit(sp.expand(t * near_zero(slope(generator))), t, 0, "+")


@functools.lru_cache(maxsize=256)
def growth_powers(generator: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """The powers of t with which f' grows at 0 (the saturation exponent s, :eq:`eq-saturation`) and at infinity.

    Args:
        generator: f(t), an expression in t.

    Returns:
        s <= 0 and r >= 0; logarithms and constants count as 0.
    """
    sides = near_zero(slope(generator)), far_out(slope(generator))
    bends = [t * sp.diff(side, t) for side in sides]
    at_zero, at_infinity = (_elasticity_limit(*pair) for pair in zip(bends, sides, (-1, 1), strict=True))
    return sp.Min(at_zero, 0), sp.Max(at_infinity, 0)


def _elasticity_limit(bend: sp.Expr, rise: sp.Expr, end: int) -> sp.Expr:
    """The limit of t f''/f' at 0 (end = -1) or infinity (1): read off far out where it is rational, else SymPy's."""
    if bend.free_symbols == {t} and (found := _settled(bend, rise, end)) is not None:
        return found
    return sp.limit(sp.simplify(bend / rise), t, ENDS[end > 0], "+" if end < 0 else "-")


def _settled(bend: sp.Expr, rise: sp.Expr, end: int) -> sp.Expr | None:
    """The rational number within 1e-30 of t f''/f' at log t = 150 and 300, if it is the same; beyond 1e30 infinity."""
    found = []
    with mpmath.workdps(400):
        for distance in (150, 300):
            try:
                bends, rises = (evaluate(part, t, mpmath.exp(end * distance), MPMATH) for part in (bend, rise))
                elasticity = bends / rises
            except OverflowError:
                return end * sp.oo
            except (ZeroDivisionError, ValueError):
                return None
            near = Fraction(mpmath.nstr(elasticity, 40)).limit_denominator(10**6)
            close = abs(elasticity - mpf(near.numerator) / near.denominator) < mpf(10) ** -30
            found.append(sp.Rational(near.numerator, near.denominator) if close else None)
    if abs(elasticity) > 10**30:
        return sp.oo if elasticity > 0 else -sp.oo
    return found[1] if found[0] == found[1] else None


def in_log_ratio(expression: sp.Expr) -> sp.Expr:
    """The expression at t = e^y, in y = `log_ratio`, written with expm1 and log1p."""
    written = sp.expand_log(sp.powsimp(sp.expand(expression.subs(t, sp.exp(log_ratio)))), force=True)
    return optimize(sp.expand(written, power_exp=False), (log1p_opt,) if is_steep(written) else (expm1_opt, log1p_opt))


def is_steep(expression: sp.Expr) -> bool:
    """Whether SymPy's factorisation, which expm1_opt uses too, would meet a polynomial of a degree over 100."""
    exponents = {number for part in expression.atoms(sp.Pow, sp.exp) for number in part.exp.atoms(sp.Rational)}
    return any(max(abs(number.p), number.q) > 100 for number in exponents)


def factored(expression: sp.Expr) -> sp.Expr:
    """SymPy's factors, or the expression as it is where finding them would take too long."""
    return expression if is_steep(expression) else sp.factor(expression)


def tails(generator: sp.Expr) -> Sides:
    """f(e^y) and its dual at e^y in the gauge, as expressions in y = `log_ratio` for y <= -1 (:eq:`eq-value`)."""
    fixed = gauge_fixed(generator)
    swapped = dual(fixed)
    return in_log_ratio(fixed), in_log_ratio(tidied(swapped))


@functools.lru_cache(maxsize=256)
def _growth(generator: sp.Expr) -> tuple[tuple[sp.Expr, sp.Expr], ...]:
    """At 0 and at infinity, the power of t with which f' grows, or the exponent E of e^E(t) where no power does."""
    try:
        powers = growth_powers(generator)
    except (NotImplementedError, ValueError, TypeError, RecursionError):
        powers = -sp.oo, sp.oo
    grown = zip(powers, ENDS, strict=True)
    none = sp.Integer(0)
    return tuple(
        (power, none) if power.is_Rational else (none, exponential_growth(slope(generator), end))
        for power, end in grown
    )


def exponential_growth(slope_of_t: sp.Expr, end: sp.Expr = sp.oo) -> sp.Expr:
    """The fastest growing exponent E of the terms e^E(t) in f' towards 0 or infinity, 0 where there is none."""
    side = "-" if end == sp.oo else "+"
    exponents = [part.args[0] for part in sp.expand(slope_of_t, power_exp=False).atoms(sp.exp)]
    growing = [exponent for exponent in exponents if sp.limit(exponent, t, end, side) == sp.oo]
    fastest = [e for e in growing if all(sp.limit(e - other, t, end, side) >= 0 for other in growing)]
    return fastest[0] if fastest else sp.Integer(0)


def _without_poles(expression: sp.Expr) -> sp.Expr:
    """The expression with negative powers of t taken out of sums, so that none overflows as t goes to 0."""
    if not expression.args or not expression.has(t):
        return expression
    inner = expression.func(*map(_without_poles, expression.args))
    base, exponent = inner.as_base_exp()
    argument = inner.args[0] if isinstance(inner, sp.log) else base
    terms = sp.Add.make_args(sp.expand(argument)) if isinstance(argument, sp.Add) else ()
    power = sp.Min(0, *(term.as_coeff_exponent(t)[1] for term in terms))
    if power == 0 or not power.is_Rational:
        return inner
    cleared = sp.expand(argument * t**-power)
    if isinstance(inner, sp.log):
        return sp.log(cleared) + power * sp.log(t)
    return cleared**exponent * t ** (power * exponent)


def tidied(expression: sp.Expr) -> sp.Expr:
    """An expression in t from which no negative power of t overflows as t goes to 0."""
    if expression.is_rational_function(t):
        return sp.factor(sp.together(expression))
    return sp.powsimp(_without_poles(expression))


def _divided(expression: sp.Expr, power: sp.Expr, exponent: sp.Expr) -> sp.Expr:
    """The expression over t^power e^exponent."""
    if power == 0 and exponent == 0:
        return expression
    return tidied(sp.powsimp(sp.expand(sp.expand(expression) * t**-power * sp.exp(-exponent))))


@functools.lru_cache(maxsize=256)
def scaled_slope(generator: sp.Expr) -> tuple[Sides, Sides]:
    """f'(e^u), less its limit at infinity if that is finite, divided by exp(growth), so that neither overflows.

    Returns:
        The two sides of the quotient and those of the growth.
    """
    at_zero, at_infinity = _growth(generator)
    constant = sp.limit(slope(generator), t, sp.oo)
    anchored = factored(slope(generator) - (constant if constant.is_finite else 0))
    left, right = _divided(anchored, *at_zero), _divided(anchored, *at_infinity)
    growth = (
        at_zero[0] * log_ratio + at_zero[1].subs(t, sp.exp(log_ratio)),
        -at_infinity[0] * log_ratio + at_infinity[1].subs(t, sp.exp(-log_ratio)),
    )
    return (in_log_ratio(left), in_log_ratio(tidied(right.subs(t, 1 / t)))), growth


@functools.lru_cache(maxsize=256)
def scaled_tails(generator: sp.Expr) -> tuple[Sides, Sides]:
    """f(e^u) for u < 0 and e^-u f(e^u) for u > 0, in the gauge, divided by exp(growth) so that neither overflows.

    Returns:
        The two sides of the quotient and those of the growth, for abs(u) >= 1.
    """
    (at_zero, _), (at_infinity, exponent) = _growth(generator)
    at_zero = sp.Min(at_zero + 1, 0)
    if at_zero == at_infinity == exponent == 0:
        return tails(generator), (sp.Integer(0), sp.Integer(0))
    fixed = gauge_fixed(generator)
    left = in_log_ratio(_divided(fixed, at_zero, sp.Integer(0)))
    right = in_log_ratio(tidied(_divided(fixed / t, at_infinity, exponent).subs(t, 1 / t)))
    return (left, right), (at_zero * log_ratio, -at_infinity * log_ratio + exponent.subs(t, sp.exp(-log_ratio)))
