"""Convexity of a generator, proved: f'' >= 0 by ball arithmetic on a wide interval and by leading terms beyond it.

The enclosures come from python-flint (the extra `testing`); its exponents are unbounded, so that nothing overflows.
"""

import collections
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import sympy as sp
from flint import arb, ctx, fmpq

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


@dataclass
class Certificate:
    """What is known about the sign of f'' on t > 0.

    Attributes:
        status: certified (f'' >= 0 throughout), refuted (f'' < 0 at `point`) or undecided (`where` says where).
        point: log t at which f'' is certainly negative, or None.
        where: the place or the reason that is left open, or empty.
        balls: how many balls were enclosed.
    """

    status: Literal["certified", "refuted", "undecided"] = "undecided"
    point: float | None = None
    where: str = "while f'' was being simplified"
    balls: int = 0


CONSTANTS: dict[sp.Expr, Callable[[], Any]] = {sp.pi: arb.pi, sp.E: arb.const_e}
FUNCTIONS: dict[type, Function] = {
    sp.exp: arb.exp, sp.log: arb.log, sp.tanh: arb.tanh, sp.atan: arb.atan, sp.Abs: abs,
}  # fmt: skip


def _number(expression: sp.Expr) -> Function | None:
    if expression.is_Rational:
        return lambda _: arb(fmpq(int(expression.p), int(expression.q)))
    return None if expression.args else lambda _: CONSTANTS[expression]()


def _power(exponent: sp.Expr) -> Function:
    if exponent.is_Integer:
        return lambda base: base ** int(exponent)
    if exponent.q == 2:
        return lambda base: base.sqrt() ** int(exponent.p)
    return lambda base: base ** arb(fmpq(int(exponent.p), int(exponent.q)))


ARITHMETIC = Arithmetic(_number, _number, _power, FUNCTIONS)


def _at(expression: sp.Expr, ball: Any) -> Any:
    return evaluate(expression, t, ball, ARITHMETIC)


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
        return arb(self.centre, self.radius).exp()

    @functools.cached_property
    def middle(self) -> Any:
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
        # The mean value theorem in log t is the narrower one on a small box.
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
        terms of f'' towards 0 and infinity, which hold near those ends.

    Raises:
        ValueError: `generator` depends on something else than t.
    """
    if generator.free_symbols != {t}:
        raise ValueError(f"generator {generator} must depend on t, and on nothing else")
    found, second = Certificate(), sp.diff(generator, t, 2)
    if second.has(sp.DiracDelta, sp.Heaviside, sp.sign, sp.Abs, sp.Piecewise, sp.Derivative, sp.Subs):
        found.where = "f is not twice differentiable everywhere: a subgradient is needed"
        return found
    try:
        within(seconds, "convexity", lambda: _certify(second, found))
    except TimeLimitError:
        found.where = f"not done within {seconds:g} s, {found.where}"
    except ValueError as error:  # what the enclosures do not know how to calculate with
        found.where = str(error)
    return found


def _forms(second: sp.Expr) -> list[sp.Expr]:
    """Ways to write f''; in one of them the enclosures may cancel less than in another."""

    def factored(expression: sp.Expr) -> sp.Expr:
        return sp.factor(sp.together(expression))

    found = []
    for rewrite in (factored, lambda e: factored(e.rewrite(sp.exp)), sp.simplify):
        try:
            form = within(1.0, "rewriting", functools.partial(rewrite, second))
        except (TimeLimitError, NotImplementedError, ArithmeticError, sp.PolynomialError):
            continue
        if all(isinstance(part, tuple(FUNCTIONS)) for part in form.atoms(sp.Function)):
            found.append(form)
    return list(dict.fromkeys([*sorted(found, key=sp.count_ops), second]))


def _certify(second: sp.Expr, found: Certificate) -> None:
    forms = _forms(second)
    precision, ctx.prec = ctx.prec, BITS
    try:
        point = _search(forms, found)
        ends = {-1: _end_sign(forms, -1), 1: _end_sign(forms, 1)}
        open_ends = [end for end, sign in ends.items() if sign not in _CONVEX]
        found.point = point if point is not None else _negative_far_out(forms, open_ends)
    finally:
        ctx.prec = precision
    if found.point is not None:
        found.status, found.where = "refuted", ""
    elif open_ends and not found.where:
        found.where = "the sign of f'' towards " + " and ".join("0" if end < 0 else "infinity" for end in open_ends)
    elif not found.where:
        found.status = "certified"


_CONVEX = ("positive", "nonnegative")


def _search(forms: list[sp.Expr], found: Certificate) -> float | None:
    """Bisect until every box is settled: a log t where f'' < 0, or None, with `found.where` if one is left open."""
    boxes = collections.deque([_Box(0.0, REACH)])
    while boxes:
        box = boxes.popleft()  # the widest first, so that all are as wide when the first is left open
        found.balls += 1
        found.where = f"near log t = {box.centre:.9g}"
        if any(box.sign(form) in _CONVEX for form in forms) or _touches_zero_at_one(forms[0], box):
            continue
        if any(_at(form, box.middle) < 0 for form in forms):
            return box.centre
        if box.radius < NARROWEST or found.balls >= MAXIMUM_BALLS:
            return None
        boxes.extend(_Box(box.centre + side * box.radius / 2, box.radius / 2) for side in (-1, 1))
    found.where = ""
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


def _negative_far_out(forms: list[sp.Expr], ends: list[int]) -> float | None:
    """A log t beyond the interval with f'' < 0, towards ends at which a leading term is negative or unknown."""
    points = (end * distance for end in ends for distance in FAR)
    return next((point for point in points if any(_at(form, _Box(point, 0.0).middle) < 0 for form in forms)), None)
