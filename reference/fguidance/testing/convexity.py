"""Convexity of a generator, proved: f'' >= 0 by ball arithmetic on a wide interval and by leading terms beyond it.

The enclosures come from python-flint (the extra `testing`); its exponents are unbounded, so that nothing overflows.
"""

import collections
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import sympy as sp

from fguidance.symbolic.evaluate import Arithmetic, Function, evaluate
from fguidance.testing.exact import t
from fguidance.time_limit import TimeLimitError, within

BITS = 256
REACH = 40.0
MAXIMUM_BALLS = 20_000
NARROWEST = 2.0**-40
FAR = (60.0, 120.0, 250.0, 500.0)
"""Distances in log t at which a negative sign beyond the interval is shown at a point."""

Sign = Literal["positive", "nonnegative", "negative", "nonpositive", "unknown"]


@dataclass(frozen=True)
class Certificate:
    """What is known about the sign of f'' on t > 0.

    Attributes:
        status: certified (f'' >= 0 throughout), refuted (f'' < 0 at `point`) or undecided (`where` says where).
        interval: the ends of log t between which every ball was enclosed.
        ends: the sign of the leading term of f'' towards 0 and towards infinity. It holds near those ends; how near is
            not part of the proof.
        point: log t at which f'' is certainly negative, or None.
        where: the place or the reason that is left open, or empty.
        balls: how many balls were enclosed.
    """

    status: Literal["certified", "refuted", "undecided"]
    interval: tuple[float, float]
    ends: tuple[Sign, Sign]
    point: float | None
    where: str
    balls: int

    @property
    def refuting_t(self) -> float | None:
        """The t at which f'' < 0, or None."""
        return None if self.point is None else math.exp(self.point)


@functools.lru_cache(maxsize=1)
def _arithmetic() -> Arithmetic:
    try:
        from flint import arb, fmpq
    except ImportError as error:
        raise ImportError("certify_convexity needs python-flint: pip install 'fguidance[testing]'") from error

    constants: dict[sp.Expr, Callable[[], Any]] = {sp.pi: arb.pi, sp.E: arb.const_e}

    def number(expression: sp.Expr) -> Function | None:
        if expression.is_Rational:
            return lambda _: arb(fmpq(int(expression.p), int(expression.q)))
        return None if expression.args else lambda _: constants[expression]()

    def power(exponent: sp.Expr) -> Function:
        if exponent.is_Integer:
            return lambda base: base ** int(exponent)
        if exponent.q == 2:
            return lambda base: base.sqrt() ** int(exponent.p)
        return lambda base: base ** arb(fmpq(int(exponent.p), int(exponent.q)))

    functions: dict[type, Function] = {
        sp.exp: arb.exp, sp.log: arb.log, sp.tanh: arb.tanh, sp.atan: arb.atan, sp.Abs: abs,
    }  # fmt: skip
    return Arithmetic(number, number, power, functions)


def _at(expression: sp.Expr, ball: Any) -> Any:
    return evaluate(expression, t, ball, _arithmetic())


@functools.lru_cache(maxsize=1024)
def _bend_in_log(expression: sp.Expr) -> sp.Expr:
    return t * sp.diff(expression, t)


@dataclass(frozen=True)
class _Box:
    """The log-ratios within `radius` of `centre`, and the ball of t = e^u."""

    centre: float
    radius: float

    @functools.cached_property
    def ball(self) -> Any:
        from flint import arb

        return arb(self.centre, self.radius).exp()

    @functools.cached_property
    def middle(self) -> Any:
        from flint import arb

        return arb(self.centre).exp()

    def sign(self, expression: sp.Expr) -> Sign:
        """The sign of an expression throughout the box, by its structure and then by enclosures."""
        if expression == t:
            return "positive"
        if isinstance(expression, sp.Mul):
            return _product([self.sign(factor) for factor in expression.args])
        if isinstance(expression, sp.Pow) and expression.exp.is_Rational and expression.has(t):
            return self._power_sign(expression.base, expression.exp)
        if isinstance(expression, sp.exp):
            return "positive" if _at(expression.args[0], self.ball).is_finite() else "unknown"
        found: Sign = "unknown"
        if isinstance(expression, sp.Add):
            found = _sum([self.sign(term) for term in expression.args])
        found = found if found != "unknown" else _sign_of(_at(expression, self.ball))
        if found != "unknown" or not isinstance(expression, sp.Add):
            return found
        from flint import arb  # the mean value theorem in log t, which is the narrower one on a small box

        slope = _at(_bend_in_log(expression), self.ball)
        return _sign_of(_at(expression, self.middle) + slope * arb(0, self.radius))

    def _power_sign(self, base: sp.Expr, exponent: sp.Rational) -> Sign:
        inner = self.sign(base)
        if exponent.q != 1:
            return "positive" if inner == "positive" else "unknown"
        even = exponent.p % 2 == 0
        if inner in ("positive", "negative"):
            return "positive" if even else inner
        if exponent < 0 or not _at(base, self.ball).is_finite():
            return "unknown"
        return "nonnegative" if even else inner


def _sign_of(ball: Any) -> Sign:
    if not ball.is_finite():
        return "unknown"
    return "positive" if ball > 0 else "negative" if ball < 0 else "nonnegative" if ball == 0 else "unknown"


def _product(signs: list[Sign]) -> Sign:
    if "unknown" in signs:
        return "unknown"
    strict = set(signs) <= {"positive", "negative"}
    if sum(sign in ("negative", "nonpositive") for sign in signs) % 2 == 1:
        return "negative" if strict else "nonpositive"
    return "positive" if strict else "nonnegative"


def _sum(signs: list[Sign]) -> Sign:
    if set(signs) <= {"positive", "nonnegative"}:
        return "positive" if "positive" in signs else "nonnegative"
    if set(signs) <= {"negative", "nonpositive"}:
        return "negative" if "negative" in signs else "nonpositive"
    return "unknown"


def certify_convexity(generator: sp.Expr, seconds: float = 10.0) -> Certificate:
    """Prove or refute f'' >= 0 on t > 0.

    Args:
        generator: f(t), an expression in `fguidance.testing.exact.t` made of what `parse_generator` knows.
        seconds: processor time for SymPy's rewriting and for the balls together, before the answer is undecided.

    Returns:
        The certificate; between log t = -40 and 40 it is a proof by enclosures, beyond them it rests on the leading
        terms at both ends.

    Raises:
        ImportError: python-flint is not installed.
        ValueError: `generator` depends on something else than t.
    """
    if generator.free_symbols != {t}:
        raise ValueError(f"generator {generator} must depend on t, and on nothing else")
    _arithmetic()
    progress, second = _Progress(), sp.diff(generator, t, 2)
    try:
        if second.has(sp.DiracDelta, sp.Heaviside, sp.sign, sp.Abs, sp.Piecewise, sp.Derivative, sp.Subs):
            progress.where = "f is not twice differentiable everywhere: a subgradient is needed"
        else:
            return within(seconds, "convexity", lambda: _certify(second, progress))
    except TimeLimitError:
        progress.where = f"not done within {seconds:g} s, {progress.where}"
    return Certificate("undecided", (-REACH, REACH), ("unknown", "unknown"), None, progress.where, progress.balls)


@dataclass
class _Progress:
    balls: int = 0
    where: str = "while f'' was being simplified"


def _forms(second: sp.Expr) -> list[sp.Expr]:
    """Ways to write f''; in one of them the enclosures may cancel less than in another."""

    def factored(expression: sp.Expr) -> sp.Expr:
        return sp.factor(sp.together(expression))

    known, found = tuple(_arithmetic().functions), []
    for rewrite in (factored, lambda e: factored(e.rewrite(sp.exp)), sp.simplify):
        try:
            form = within(1.0, "rewriting", functools.partial(rewrite, second))
        except (TimeLimitError, NotImplementedError, ArithmeticError, sp.PolynomialError):
            continue
        if all(isinstance(part, known) for part in form.atoms(sp.Function)):
            found.append(form)
    return list(dict.fromkeys([*sorted(found, key=sp.count_ops), second]))


def _certify(second: sp.Expr, progress: _Progress) -> Certificate:
    from flint import ctx

    forms = _forms(second)
    precision, ctx.prec = ctx.prec, BITS
    try:
        point = _search(forms, progress)
        ends = (_end_sign(forms, -1), _end_sign(forms, 1))
        point = point if point is not None else _negative_far_out(forms, ends)
    finally:
        ctx.prec = precision
    if point is not None:
        return Certificate("refuted", (-REACH, REACH), ends, point, "", progress.balls)
    open_ends = [name for name, sign in zip(("0", "infinity"), ends, strict=True) if sign not in _CONVEX]
    where = progress.where or ("the sign of f'' towards " + " and ".join(open_ends) if open_ends else "")
    return Certificate("undecided" if where else "certified", (-REACH, REACH), ends, None, where, progress.balls)


_CONVEX = ("positive", "nonnegative")


def _search(forms: list[sp.Expr], progress: _Progress) -> float | None:
    """Bisect until every box is settled: a log t where f'' < 0, or None, with `progress.where` if one is left open."""
    boxes = collections.deque([_Box(0.0, REACH)])
    while boxes:
        box = boxes.popleft()  # the widest first, so that all are as wide when the first is left open
        progress.balls += 1
        progress.where = f"near log t = {box.centre:.9g}"
        if any(box.sign(form) in _CONVEX for form in forms) or _touches_zero_at_one(forms[0], box):
            continue
        if any(_at(form, box.middle) < 0 for form in forms):
            return box.centre
        if box.radius < NARROWEST or progress.balls >= MAXIMUM_BALLS:
            return None
        boxes.extend(_Box(box.centre + side * box.radius / 2, box.radius / 2) for side in (-1, 1))
    progress.where = ""
    return None


def _touches_zero_at_one(form: sp.Expr, box: _Box) -> bool:
    """Whether f'' >= 0 in a box around t = 1 because an even derivative is the first that does not vanish there."""
    if not abs(box.centre) <= box.radius or box.radius > 1:
        return False
    for order in range(5):
        if box.sign(form) == "positive":
            return order % 2 == 0
        if not form.subs(t, 1).equals(0):
            return False
        form = _bend_in_log(form)
    return False


def _end_sign(forms: list[sp.Expr], end: int) -> Sign:
    """The sign of f'' towards t = 0 (end = -1) or infinity (1), factor by factor from limits."""
    for form in forms:
        factors = sp.Mul.make_args(form)
        try:
            found = within(1.0, "limit", lambda: _product([_factor_sign(factor, end) for factor in factors]))  # noqa: B023
        except (TimeLimitError, NotImplementedError, ArithmeticError, ValueError, TypeError):
            continue
        if found != "unknown":
            return found
    return "unknown"


def _factor_sign(factor: sp.Expr, end: int) -> Sign:
    base, exponent = factor.as_base_exp()
    if isinstance(factor, sp.exp) or base == t:
        return "positive"
    if exponent.is_Integer and exponent % 2 == 0:
        return "positive" if exponent < 0 else "nonnegative"
    if isinstance(base, sp.Add):  # all terms of one sign, such as 1 + t
        total = _sum([_sign_of_limit(term, end) for term in base.args])
        if total != "unknown":
            return total
    return _sign_of_limit(base, end)


def _sign_of_limit(expression: sp.Expr, end: int) -> Sign:
    """The sign of the limit, where that is 0 of the leading term."""
    if expression.is_positive or expression.is_negative:
        return "positive" if expression.is_positive else "negative"
    limit = sp.limit(expression, t, 0, "+") if end < 0 else sp.limit(expression, t, sp.oo)
    if limit == 0:
        towards_zero = expression if end < 0 else expression.subs(t, 1 / t)
        limit = sp.expand(towards_zero).leadterm(t)[0]
        if limit.free_symbols:
            limit = sp.limit(limit, t, 0, "+")
    return "positive" if limit.is_extended_positive else "negative" if limit.is_extended_negative else "unknown"


def _negative_far_out(forms: list[sp.Expr], ends: tuple[Sign, Sign]) -> float | None:
    """A log t beyond the interval with f'' < 0, where a leading term is negative or unknown."""
    for side, sign in zip((-1, 1), ends, strict=True):
        for distance in FAR if sign not in _CONVEX else ():
            if any(_at(form, _Box(side * distance, 0.0).middle) < 0 for form in forms):
                return side * distance
    return None
