"""Stable forms of a generator: the weight p f'(p/q), the term q f(p/q) and the bend t f'' in p, q and u = log(p/q).

A form subtracts nothing that nearly cancels where that can be avoided, and overflows only where its value does. It is
printed into the reference for a registered divergence, and evaluated as it is for a generator of one's own.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sympy as sp
from sympy.codegen.cfunctions import expm1, log1p
from sympy.codegen.rewriting import expm1_opt, optimize

from fguidance.symbolic.generator import factored, gauge_fixed, is_steep
from fguidance.symbolic.parsing import t

p, q = sp.symbols("p q", positive=True)
u = sp.Symbol("u", real=True)


class Softplus(sp.Function):  # type: ignore[misc]
    """log(1 + e^x)."""

    nargs = 1


class Sigmoid(sp.Function):  # type: ignore[misc]
    """1/(1 + e^-x)."""

    nargs = 1


class Power(sp.Function):  # type: ignore[misc]
    """q (p/q)^a of p, q, u and a."""

    nargs = 4


class Difference(sp.Function):  # type: ignore[misc]
    """p - q of p, q and u."""

    nargs = 3


class RelativePower(sp.Function):  # type: ignore[misc]
    """(e^(a x) - 1)/a of x and a, which is x in the limit of a = 0."""

    nargs = 2


class Over(sp.Function):  # type: ignore[misc]
    """x/y of x and y, calculated as it stands."""

    nargs = 2


class Hypotenuse(sp.Function):  # type: ignore[misc]
    """sqrt(x^2 + y^2) of x and y."""

    nargs = 2


MEANINGS: dict[type[sp.Function], Callable[..., sp.Expr]] = {
    Softplus: lambda x: sp.log(1 + sp.exp(x)),
    Sigmoid: lambda x: sp.exp(x) / (1 + sp.exp(x)),
    Power: lambda p, q, u, a: q * (p / q) ** a,
    Difference: lambda p, q, u: p - q,
    RelativePower: lambda x, a: (sp.exp(a * x) - 1) / a,
    Over: lambda x, y: x / y,
    Hypotenuse: lambda x, y: sp.sqrt(x**2 + y**2),
    sp.tanh: lambda x: (sp.exp(2 * x) - 1) / (sp.exp(2 * x) + 1),
    expm1: lambda x: sp.exp(x) - 1,
    log1p: lambda x: sp.log(1 + x),
}
"""What each function of a form stands for in a proof."""


@dataclass(frozen=True)
class Form:
    """Expressions in p, q and u, in which a divergence is calculated.

    Attributes:
        weight: p f'(p/q) up to a multiple of p, which changes no force.
        gauge: what times p is to be added so that the weight vanishes at p = q.
        value: q f(p/q) in the gauge f'(1) = 0, precise where abs(u) > `radius`.
        bend: t f''(t) at t = e^u for abs(u) <= `radius`; None where `value` is precise everywhere.
        radius: the abs(u), at most 1, up to which q f(p/q) is the integral of the bend.
    """

    weight: sp.Expr
    gauge: sp.Expr
    value: sp.Expr
    bend: sp.Expr | None
    radius: sp.Expr


def written_out(expression: sp.Expr) -> sp.Expr:
    """A form in t = p/q alone, with p = t and q = 1: all of them are homogeneous in p and q."""
    for function, meaning in MEANINGS.items():
        expression = expression.replace(function, meaning)
    return expression.subs({p: t, q: 1, u: sp.log(t)}, simultaneous=True)


def with_softplus(expression: sp.Expr) -> sp.Expr:
    """The expression with log1p(e^x), in which e^x may overflow, as a softplus."""
    return expression.replace(
        lambda part: isinstance(part, log1p) and isinstance(part.args[0], sp.exp),
        lambda part: Softplus(part.args[0].args[0]),
    )


def gauge_of(weight: sp.Expr) -> sp.Expr:
    """What a weight lacks of vanishing at p = q, per p."""
    return -written_out(weight).subs(t, 1)


def bend_of(generator: sp.Expr) -> sp.Expr:
    """t f''(t) at t = e^u, with expm1 where it can be found."""
    bend = factored(t * sp.diff(generator, t, 2)).subs(t, sp.exp(u))
    return bend if is_steep(bend) else optimize(bend, (expm1_opt,))


def radius_of(*expressions: sp.Expr) -> sp.Expr:
    """The abs(u) up to which 16 nodes integrate what grows like the steepest power in the expressions."""
    powers = [abs(part.args[3]) for expression in expressions for part in expression.atoms(Power)]
    steepest = max((power for power in powers if power.is_number), default=sp.Integer(1))
    return sp.Min(1, 8 / sp.Max(steepest, 1))


@functools.lru_cache(maxsize=256)
def termwise(generator: sp.Expr) -> Form | None:
    """The form of a generator whose slope and value are sums of powers of t times logarithms or poles on t < 0.

    Returns:
        None where a term is something else.
    """
    slope, fixed = sp.diff(generator, t), gauge_fixed(generator)
    weight, value = _sum_of_terms(slope, p), _sum_of_terms(fixed, q)
    if weight is None or value is None:
        return None
    weight = sp.Add(*(term for term in sp.Add.make_args(weight) if not (term / p).is_number))
    return Form(weight, gauge_of(weight), value, bend_of(generator), radius_of(weight, value))


def _sum_of_terms(expression: sp.Expr, factor: sp.Expr) -> sp.Expr | None:
    """The factor p or q times an expression in t, from terms that are known; None where one is not."""
    if expression.has(sp.exp, sp.tanh, sp.atan, sp.Abs, sp.sign):
        return None
    terms = [_term(term) for term in _split(expression)]
    if any(term is None for term in terms):
        return None
    total: dict[sp.Expr, dict[sp.Expr, sp.Expr]] = {}
    for coefficient, power, body in (term for term in terms if term is not None):
        for part in sp.Add.make_args(body):
            number, function = part.as_independent(u, as_Add=False)
            same = total.setdefault(power, {})
            same[function] = same.get(function, sp.S.Zero) + coefficient * number
    shift = sp.S.One if factor == p else sp.S.Zero
    parts = (_power(power + shift) * body for power, same in total.items() for body in _joined(same))
    return sp.Add(*(part for whole in parts for part in sp.Add.make_args(sp.expand(whole))))


def _split(expression: sp.Expr) -> Iterator[sp.Expr]:
    """The terms of a sum, in which what a logarithm is multiplied by is in partial fractions."""
    expanded = sp.expand(sp.expand_log(expression, force=True))
    logarithms = sorted(expanded.atoms(sp.log), key=sp.default_sort_key)
    varying = [logarithm for logarithm in logarithms if logarithm.has(t)]
    for logarithm, factor in sp.collect(expanded, varying, evaluate=False).items():
        apart = sp.apart(sp.cancel(sp.together(factor)), t) if factor.is_rational_function(t) else factor
        yield from (logarithm * part for part in sp.Add.make_args(apart) if part != 0)


def _power(exponent: sp.Expr) -> sp.Expr:
    return q if exponent == 0 else p if exponent == 1 else Power(p, q, u, exponent)


def _term(term: sp.Expr) -> tuple[sp.Expr, sp.Expr, sp.Expr] | None:
    """Coefficient, power of t and a function of u whose product is the term."""
    coefficient, rest = term.as_independent(t, as_Add=False)
    power, body = sp.S.Zero, sp.S.One
    for factor in sp.Mul.make_args(rest):
        base, exponent = factor.as_base_exp()
        if base == t and exponent.is_number:
            power += exponent
        elif factor == sp.log(t):
            body *= u
        elif (found := _pole(factor)) is not None:
            body *= found
        elif factor != 1:
            return None
    return coefficient, power, sp.expand(body)


def _pole(factor: sp.Expr) -> sp.Expr | None:
    """log(a + b t), or a whole negative power of a + b t, as a function of u; None for anything else."""
    inner, exponent = (factor.args[0], None) if isinstance(factor, sp.log) else factor.as_base_exp()
    linear = sp.Poly(inner, t) if inner.is_polynomial(t) else None
    if linear is None or linear.degree() != 1 or not all(c.is_positive for c in linear.all_coeffs()):
        return None
    rate, constant = linear.all_coeffs()
    shift = sp.log(rate / constant)
    if exponent is None:
        return sp.log(constant) + Softplus(u + shift)
    if exponent.is_Integer and exponent < 0:
        return constant**exponent * _sigmoid(-u - shift) ** -exponent
    return None


def _softplus(argument: sp.Expr) -> sp.Expr:
    """The function, from the ratio of the probabilities where nothing is added to u."""
    return {u: log1p(Over(p, q)), -u: log1p(Over(q, p))}.get(argument, Softplus(argument))


def _sigmoid(argument: sp.Expr) -> sp.Expr:
    return Over(q, p + q) if argument == -u else Sigmoid(argument)


def _joined(same: dict[sp.Expr, sp.Expr]) -> Iterator[sp.Expr]:
    """The terms of one power of t, with a u + b log(1 + e^(u + s)) joined where the two nearly cancel for large u."""
    left = same.get(u, sp.S.Zero)
    for function, number in same.items():
        if isinstance(function, Softplus) and (left + number).is_number and abs(left + number) < abs(left):
            shift = function.args[0] - u
            yield number * (_softplus(-u - shift) + shift)
            left += number
        elif isinstance(function, Softplus):
            yield number * _softplus(function.args[0])
        elif function != u:
            yield number * function
    yield left * u
