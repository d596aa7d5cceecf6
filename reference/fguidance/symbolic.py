"""From the generator f(t) of a divergence to its stable numerical form, in SymPy.

A generator comes as text, which is parsed against a whitelist and never evaluated, or as a SymPy expression in one
positive symbol t = p/q. From it follow the gauge f'(1) = 0, the dual, the limits at both ends, the saturation
exponent, and the pieces whose slope differences lose no digits.
"""

import ast
import contextlib
import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sympy as sp
from sympy.codegen.rewriting import expm1_opt, log1p_opt, optimize
from sympy.printing.pytorch import TorchPrinter

t = sp.Symbol("t", positive=True)
log_ratio = sp.Symbol("log_ratio", real=True)

MAXIMUM_LENGTH = 500
MAXIMUM_DEPTH = 40
MAXIMUM_DIGITS = 30
MAXIMUM_EXPONENT = 64
MAXIMUM_DEGREE = 64
MAXIMUM_NESTING = 3
LARGEST_NUMBER = 1e300
FUNCTIONS = {
    "sqrt": sp.sqrt, "log": sp.log, "exp": sp.exp, "abs": sp.Abs, "tanh": sp.tanh, "atan": sp.atan,
}  # fmt: skip
_OPERATORS = {ast.Add: sp.Add, ast.Mult: sp.Mul}


def _place(text: str, node: ast.AST) -> str:
    column = getattr(node, "col_offset", 0)
    return f"generator {text!r}, column {column + 1}"


def _number(text: str, node: ast.Constant) -> sp.Expr:
    literal = (ast.get_source_segment(text, node) or "").lower()
    if isinstance(node.value, bool) or not isinstance(node.value, int | float) or literal[:1] not in "0123456789.":
        raise ValueError(f"{_place(text, node)}: {literal!r} is not a number")
    if len(literal) > MAXIMUM_DIGITS or literal.startswith(("0x", "0b", "0o")) or "e" in literal:
        raise ValueError(
            f"{_place(text, node)}: write numbers in decimal digits, at most {MAXIMUM_DIGITS}, without an exponent"
        )
    return sp.Rational(literal.replace("_", ""))


def _power(text: str, node: ast.BinOp, base: sp.Expr, exponent: sp.Expr) -> sp.Expr:
    if not exponent.is_Rational or abs(exponent) > MAXIMUM_EXPONENT:
        raise ValueError(f"{_place(text, node)}: an exponent must be a number of size at most {MAXIMUM_EXPONENT}")
    if base.is_Number and ((base == 0 and exponent <= 0) or (base < 0 and not exponent.is_Integer)):
        raise ValueError(f"{_place(text, node)}: {base} to the power {exponent} is not a real number")
    return base**exponent


def _degree(expression: sp.Expr) -> sp.Expr:
    """The degree in t, powers multiplied out, functions passed through: a measure of what SymPy may have to expand."""
    if isinstance(expression, sp.Pow) and expression.exp.is_Rational:
        return abs(expression.exp) * _degree(expression.base)
    parts = [_degree(part) for part in expression.args]
    if isinstance(expression, sp.Mul):
        return sum(parts)
    return max(parts, default=sp.Integer(expression == t))


def _nesting(expression: sp.Expr) -> int:
    """How many functions stand inside one another."""
    deepest = max((_nesting(part) for part in expression.args), default=0)
    return deepest + (isinstance(expression, sp.Function) and expression.has(t))


def _require_manageable(what: str, expression: sp.Expr) -> sp.Expr:
    if _degree(expression) > MAXIMUM_DEGREE:
        raise ValueError(f"{what}: the degree in t must be at most {MAXIMUM_DEGREE}")
    if _nesting(expression) > MAXIMUM_NESTING:
        raise ValueError(f"{what}: functions may be nested at most {MAXIMUM_NESTING} deep")
    for number in (part for part in sp.preorder_traversal(expression) if part.is_number and part != 0):
        size = abs(sp.N(number, 15))
        if not (size.is_Float and 1 / LARGEST_NUMBER < size < LARGEST_NUMBER):
            raise ValueError(f"{what}: a constant is not a real number of size at most {LARGEST_NUMBER:g}")
    return expression


def _build(text: str, node: ast.AST, names: Mapping[str, sp.Expr]) -> sp.Expr:
    if isinstance(node, ast.Constant):
        return _number(text, node)
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        operand = _build(text, node.operand, names)
        return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.BinOp):
        return _require_manageable(_place(text, node), _build_operation(text, node, names))
    if isinstance(node, ast.Call):
        return _require_manageable(_place(text, node), _build_call(text, node, names))
    what = f"the name {node.id!r}" if isinstance(node, ast.Name) else type(node).__name__
    allowed = f"numbers, {', '.join(names)}, + - * / ** and {', '.join(FUNCTIONS)}"
    raise ValueError(f"{_place(text, node)}: {what} is not allowed; use {allowed}")


def _build_operation(text: str, node: ast.BinOp, names: Mapping[str, sp.Expr]) -> sp.Expr:
    left, right = _build(text, node.left, names), _build(text, node.right, names)
    if isinstance(node.op, ast.Pow):
        return _power(text, node, left, right)
    if isinstance(node.op, ast.Div):
        if right == 0:
            raise ValueError(f"{_place(text, node)}: division by zero")
        return left / right
    if isinstance(node.op, ast.Sub):
        return left - right
    if type(node.op) not in _OPERATORS:
        raise ValueError(f"{_place(text, node)}: the operator {type(node.op).__name__} is not allowed")
    return _OPERATORS[type(node.op)](left, right)


def _build_call(text: str, node: ast.Call, names: Mapping[str, sp.Expr]) -> sp.Expr:
    name = node.func.id if isinstance(node.func, ast.Name) else type(node.func).__name__
    if name not in FUNCTIONS or len(node.args) != 1 or node.keywords:
        raise ValueError(f"{_place(text, node)}: call one of {', '.join(FUNCTIONS)} with one argument, not {name!r}")
    return FUNCTIONS[name](_build(text, node.args[0], names))


def _depth(text: str) -> int:
    return max(itertools.accumulate((c in "([{") - (c in ")]}") for c in text), default=0)


def parse_generator(text: str, parameters: Mapping[str, float] | None = None) -> sp.Expr:
    """Parse a generator f(t) written with numbers, t, + - * / ** and a few functions; nothing is evaluated.

    Args:
        text: for example ``"(sqrt(t) - 1)**2"``; at most 500 ASCII characters.
        parameters: values of further names that `text` may use.

    Returns:
        The SymPy expression in `fguidance.symbolic.t`.

    Raises:
        TypeError: `text` is not a string.
        ValueError: anything outside the whitelist; the message names the place.
    """
    if not isinstance(text, str):
        raise TypeError(f"generator must be a string or a SymPy expression, not {type(text).__name__}")
    if not text.strip():
        raise ValueError("generator must not be empty")
    if len(text) > MAXIMUM_LENGTH:
        raise ValueError(f"generator must have at most {MAXIMUM_LENGTH} characters, not {len(text)}")
    for column, character in enumerate(text):
        if not (" " <= character <= "~"):
            raise ValueError(f"generator, column {column + 1}: {character!a} is not a printable ASCII character")
    if _depth(text) > MAXIMUM_DEPTH or max(map(len, _sign_runs(text)), default=0) > MAXIMUM_DEPTH:
        raise ValueError(f"generator is nested deeper than {MAXIMUM_DEPTH} levels")
    text = text.strip()
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise ValueError(f"generator {text!r}, column {max(error.offset or 1, 1)}: {error.msg}") from None
    names = {"t": t} | {name: sp.Rational(str(number)) for name, number in (parameters or {}).items()}
    return _checked_number(text, _build(text, tree.body, names))


def _sign_runs(text: str) -> list[str]:
    squeezed = text.replace(" ", "")
    return ["".join(group) for sign, group in itertools.groupby(squeezed, lambda c: c in "+-*~") if sign]


def _checked_number(text: str, expression: sp.Expr) -> sp.Expr:
    if expression.has(sp.zoo, sp.nan, sp.oo, sp.I) or sp.count_ops(expression) > MAXIMUM_LENGTH:
        raise ValueError(f"generator {text!r} is not a finite real expression")
    return expression


def as_generator(source: str | sp.Expr) -> sp.Expr:
    """A checked generator in the symbol t.

    Args:
        source: text for `parse_generator`, or a SymPy expression in exactly one symbol.

    Returns:
        f(t), an expression in t that passes `check_generator`.

    Raises:
        TypeError: neither a string nor a SymPy expression.
        ValueError: unparsable, more than one symbol, f(1) != 0, or not convex on t > 0.
    """
    if isinstance(source, str):
        expression = parse_generator(source)
    elif isinstance(source, sp.Expr):
        if len(source.free_symbols) != 1:
            raise ValueError(f"generator {source} must be an expression in exactly one symbol")
        expression = source.subs(source.free_symbols.pop(), t)
        _require_known(expression)
        _require_manageable(f"generator {expression}", expression)
    else:
        raise TypeError(f"generator must be a string or a SymPy expression, not {type(source).__name__}")
    with understandable(expression):
        check_generator(expression)
    return expression


def _require_known(expression: sp.Expr) -> None:
    known = (sp.Add, sp.Mul, sp.Pow, sp.Symbol, sp.Number, sp.NumberSymbol, sp.log, sp.exp, sp.Abs, sp.tanh, sp.atan)
    for part in sp.preorder_traversal(expression):
        if not isinstance(part, known) or part in (sp.oo, -sp.oo, sp.zoo, sp.nan):
            raise ValueError(f"generator {expression}: {part} is not allowed; use powers and {', '.join(FUNCTIONS)}")


@contextlib.contextmanager
def understandable(generator: sp.Expr) -> Iterator[None]:
    """Turn what SymPy raises on an expression that is too much for it into a ValueError that names the generator."""
    try:
        yield
    except (OverflowError, MemoryError, RecursionError, NotImplementedError, TypeError) as error:
        raise ValueError(f"generator {generator} cannot be analysed: {type(error).__name__}: {error}") from error


def check_generator(generator: sp.Expr) -> None:
    """Check that f(1) = 0 and that f is convex at 241 points from 1e-12 to 1e12, strictly at one of them.

    Args:
        generator: f(t), an expression in t.

    Raises:
        ValueError: it is not, or it depends on anything but t; the message says where.
    """
    if generator.free_symbols != {t}:
        raise ValueError(f"generator {generator} must depend on t, and on nothing else")
    if abs(sp.N(generator.subs(t, 1), 30)) > 1e-20:
        raise ValueError(f"generator {generator} must have f(1) = 0, not {sp.N(generator.subs(t, 1), 6)}")
    second = sp.diff(generator, t, 2)
    if second.has(sp.DiracDelta, sp.Derivative, sp.Subs):
        raise ValueError(f"generator {generator} must be twice differentiable on t > 0")
    signs = [
        _curvature_sign(generator, second, sp.Rational(1013, 1000) * 10 ** sp.Rational(k, 10)) for k in range(-120, 121)
    ]
    if not any(signs):
        raise ValueError(f"generator {generator} is linear: its divergence is zero")


def _curvature_sign(generator: sp.Expr, second: sp.Expr, point: sp.Expr) -> bool:
    """Whether f'' is positive at a point; evalf raises its own precision until the digits are certain."""
    bend = second.evalf(20, subs={t: point.evalf(30)})
    place = sp.N(point, 6)
    if not bend.is_real:
        raise ValueError(f"generator {generator} is not real at t = {place}")
    if bend < -1e-40:
        raise ValueError(f"generator {generator} is not convex: f''({place}) = {sp.N(bend, 6)}")
    return bool(bend > 0)


def gauge_fixed(generator: sp.Expr) -> sp.Expr:
    """f(t) - f'(1)(t - 1): the same divergence with f'(1) = 0, so that f >= 0 (:eq:`eq-gauge`)."""
    return generator - sp.diff(generator, t).subs(t, 1) * (t - 1)


def dual(generator: sp.Expr) -> sp.Expr:
    """The dual t f(1/t): the generator with the two distributions swapped (:eq:`eq-value`)."""
    return sp.expand(t * generator.subs(t, 1 / t))


def slope(generator: sp.Expr) -> sp.Expr:
    """f'(t) in the gauge f'(1) = 0 (:eq:`eq-gauge`)."""
    return sp.diff(gauge_fixed(generator), t)


def tidied_slope(generator: sp.Expr) -> sp.Expr:
    """f'(t) in the gauge f'(1) = 0, its logarithms joined, for a reader."""
    coefficient, rest = sp.factor(sp.expand_log(slope(generator), force=True)).as_coeff_Mul()
    joined = sp.simplify(sp.logcombine(rest, force=True))
    return coefficient * joined.replace(sp.log, lambda inner: sp.log(sp.factor(sp.together(inner))))


def weight(generator: sp.Expr, p: sp.Symbol, q: sp.Symbol) -> sp.Expr:
    """w = p f'(p/q) in the gauge f'(1) = 0 (:eq:`eq-weight`)."""
    found = tidied_slope(generator).subs(t, p / q).replace(sp.log, lambda inner: sp.log(sp.simplify(inner)))
    return p * (found if found.has(sp.log) else sp.factor(sp.together(found)))


@functools.cache
def end_values(generator: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """The limits of f(t) at 0 and of f(t)/t at infinity, in the gauge f'(1) = 0 (:eq:`eq-value`)."""
    fixed = gauge_fixed(generator)
    return sp.limit(fixed, t, 0, "+"), sp.limit(sp.expand(fixed / t), t, sp.oo)


def saturation_limit(generator: sp.Expr) -> sp.Expr:
    """The limit of t f'(t) at 0; unless it is 0, the force survives a one-hot classifier (:eq:`eq-saturation`)."""
    return sp.limit(sp.expand(t * slope(generator)), t, 0, "+")


def growth_powers(generator: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """The powers of t with which f' grows at 0 (the saturation exponent s, :eq:`eq-saturation`) and at infinity.

    Args:
        generator: f(t), an expression in t.

    Returns:
        s <= 0 and r >= 0; logarithms and constants count as 0.
    """
    elasticity = sp.simplify(t * sp.diff(slope(generator), t) / slope(generator))
    at_zero, at_infinity = sp.limit(elasticity, t, 0, "+"), sp.limit(elasticity, t, sp.oo)
    return sp.Min(at_zero, 0), sp.Max(at_infinity, 0)


@dataclass(frozen=True)
class Piece:
    """One term of f' whose slope difference is exact: a kernel of the generated code and its arguments."""

    kernel: str
    arguments: tuple[sp.Expr, ...]
    derivative_sign: sp.Expr


def _piece(term: sp.Expr) -> Piece | None:
    coefficient, body = term.as_independent(t, as_Add=False)
    if body == sp.log(t):
        return Piece("log_difference", (coefficient,), coefficient)
    power = body.as_base_exp()[1] if body.as_base_exp()[0] == t else None
    if power is not None:
        return Piece("power_difference", (coefficient, power), coefficient * power)
    inner, exponent = (body.args[0], None) if isinstance(body, sp.log) else body.as_base_exp()
    linear = sp.Poly(inner, t) if inner.is_polynomial(t) else None
    if linear is None or linear.degree() != 1 or not all(c.is_positive for c in linear.all_coeffs()):
        return None
    rate, constant = linear.all_coeffs()
    shift = sp.log(rate / constant)
    if exponent is None:
        return Piece("softplus_difference", (coefficient, shift, sp.Integer(1)), coefficient)
    if exponent.is_Integer and exponent < 0:
        return Piece("sigmoid_difference", (coefficient * constant**exponent, -exponent, shift), -coefficient)
    return None


def _joined(pieces: list[Piece]) -> list[Piece]:
    """a log t + b log(1 + kt) with a > 0 > b, as (a + b) log t and a falling softplus of -u: both increase."""
    logs = [piece for piece in pieces if piece.kernel == "log_difference"]
    falling = [p for p in pieces if p.kernel == "softplus_difference" and p.derivative_sign.is_negative]
    if not logs or not falling:
        return pieces
    rest = [piece for piece in pieces if piece not in (*logs, *falling)]
    slope_left = sum(piece.arguments[0] for piece in (*logs, *falling))
    if slope_left != 0:
        rest.append(Piece("log_difference", (slope_left,), slope_left))
    for piece in falling:
        coefficient, shift, _ = piece.arguments
        rest.append(Piece("softplus_difference", (coefficient, shift, sp.Integer(-1)), -coefficient))
    return rest


@functools.cache
def pieces(generator: sp.Expr) -> tuple[Piece, ...] | None:
    """f' as a sum of increasing pieces, or None where it is no such sum.

    Pieces that all increase can be added without cancelling; `derivations.stable_forms` proves each kernel.
    """
    derivative = sp.expand(sp.expand_log(sp.diff(generator, t), force=True))
    if derivative.is_rational_function(t):
        derivative = sp.apart(sp.together(derivative), t)
    elif sp.simplify(derivative) != derivative:
        derivative = sp.expand(sp.expand_log(sp.expand(sp.simplify(derivative)), force=True))
    found = [_piece(term) for term in sp.Add.make_args(derivative) if term.has(t)]
    if any(piece is None for piece in found):
        return None
    joined = _joined([piece for piece in found if piece is not None])
    return tuple(joined) if all(piece.derivative_sign.is_positive for piece in joined) else None


def _in_log_ratio(expression: sp.Expr) -> sp.Expr:
    written = sp.expand_log(sp.powsimp(sp.expand(expression.subs(t, sp.exp(log_ratio)))), force=True)
    return optimize(sp.expand(written, power_exp=False), (expm1_opt, log1p_opt))


def tails(generator: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """f(e^y) and its dual at e^y in the gauge, as expressions in y = `log_ratio` for y <= -1 (:eq:`eq-value`)."""
    fixed = gauge_fixed(generator)
    swapped = dual(fixed)
    return _in_log_ratio(fixed), _in_log_ratio(swapped if pieces(generator) else _tidied(swapped))


class _PlainTorchPrinter(TorchPrinter):  # type: ignore[misc]
    """SymPy's printer, with expm1 and log1p and with plain float literals for every constant."""

    def _print(self, expression: sp.Basic, **settings: object) -> str:
        if isinstance(expression, sp.Expr) and expression.is_number and not expression.is_Integer:
            return repr(float(expression))
        return str(super()._print(expression, **settings))

    def _print_expm1(self, expression: sp.Expr) -> str:
        return f"torch.expm1({self._print(expression.args[0])})"

    def _print_log1p(self, expression: sp.Expr) -> str:
        return f"torch.log1p({self._print(expression.args[0])})"


@dataclass(frozen=True)
class ScaledSlope:
    """f'(e^u) and its derivative in u, both divided by exp(growth), so that none of them overflows.

    Each pair holds the expression for u < 0 and that for u > 0, all in y = -abs(u) = `log_ratio`.
    """

    value: tuple[sp.Expr, sp.Expr]
    derivative: tuple[sp.Expr, sp.Expr]
    growth: tuple[sp.Expr, sp.Expr]


def _finite_growth_powers(generator: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """The growth powers, 0 where SymPy finds no finite limit: then the plain function is used as it is."""
    try:
        at_zero, at_infinity = growth_powers(generator)
    except (NotImplementedError, ValueError, TypeError, RecursionError):
        return sp.Integer(0), sp.Integer(0)
    zero = sp.Integer(0)
    return at_zero if at_zero.is_Rational else zero, at_infinity if at_infinity.is_Rational else zero


def _exponential_growth(slope_of_t: sp.Expr) -> sp.Expr:
    """The fastest growing exponent E of the terms e^E(t) in f', 0 where there is none."""
    growing = [part.args[0] for part in slope_of_t.atoms(sp.exp) if sp.limit(part.args[0], t, sp.oo) == sp.oo]
    fastest = [e for e in growing if all(sp.limit(e - other, t, sp.oo) >= 0 for other in growing)]
    return fastest[0] if fastest else sp.Integer(0)


def _lowest_power(expression: sp.Expr) -> sp.Expr:
    return sp.Min(0, *(term.as_coeff_exponent(t)[1] for term in sp.Add.make_args(expression)))


def _without_poles(expression: sp.Expr) -> sp.Expr:
    """The expression with negative powers of t taken out of sums, so that none overflows as t goes to 0."""
    if not expression.args or not expression.has(t):
        return expression
    inner = expression.func(*map(_without_poles, expression.args))
    base, exponent = inner.as_base_exp()
    argument = inner.args[0] if isinstance(inner, sp.log) else base
    power = _lowest_power(sp.expand(argument)) if isinstance(argument, sp.Add) else sp.Integer(0)
    if power == 0 or not power.is_Rational:
        return inner
    cleared = sp.expand(argument * t**-power)
    if isinstance(inner, sp.log):
        return sp.log(cleared) + power * sp.log(t)
    return cleared**exponent * t ** (power * exponent)


def _tidied(expression: sp.Expr) -> sp.Expr:
    if expression.is_rational_function(t):
        return sp.factor(sp.together(expression))
    return sp.powsimp(_without_poles(expression))


def _divided(expression: sp.Expr, power: sp.Expr, exponent: sp.Expr) -> sp.Expr:
    if power == 0 and exponent == 0:
        return expression
    return _tidied(sp.powsimp(sp.expand(sp.expand(expression) * t**-power * sp.exp(-exponent))))


def scaled_slope(generator: sp.Expr) -> ScaledSlope:
    """f' in the gauge where it vanishes at infinity if its limit there is finite, otherwise at t = 1."""
    at_infinity = sp.limit(slope(generator), t, sp.oo)
    anchored = slope(generator) - at_infinity if at_infinity.is_finite else slope(generator)
    powers = _finite_growth_powers(generator)
    exponent = _exponential_growth(anchored)

    def both_sides(expression: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
        left = _divided(expression, powers[0], sp.Integer(0))
        right = _divided(expression, powers[1], exponent).subs(t, 1 / t)
        return _in_log_ratio(left), _in_log_ratio(_tidied(right))

    growth = (powers[0] * log_ratio, -powers[1] * log_ratio + exponent.subs(t, sp.exp(-log_ratio)))
    derivative = both_sides(sp.factor(t * sp.diff(generator, t, 2)))
    return ScaledSlope(both_sides(sp.factor(anchored)), derivative, growth)


def print_torch(expression: sp.Expr) -> str:
    """The expression as PyTorch source."""
    return str(_PlainTorchPrinter({"fully_qualified_modules": True}).doprint(expression))
