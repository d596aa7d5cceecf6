"""Text to a SymPy expression in t against a whitelist, by a small parser: nothing is compiled or evaluated.

The grammar is Python's: sums of products of signed powers, functions, parentheses; but ``^`` is taken for ``**``.
Lengths, depths, degrees and constants are bounded, so that whatever is accepted is also manageable.
"""

import functools
import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real

import sympy as sp

t = sp.Symbol("t", positive=True)

MAXIMUM_LENGTH = 500
MAXIMUM_DEPTH = 40
MAXIMUM_DIGITS = 30
MAXIMUM_EXPONENT = 64
MAXIMUM_DEGREE = 64
MAXIMUM_NESTING = 3
LARGEST_NUMBER = 1e30  # float32 can hold its products with probabilities
_LARGEST = sp.Integer(10) ** 30
FUNCTIONS: dict[str, Callable[..., sp.Expr]] = {
    "sqrt": sp.sqrt, "log": sp.log, "ln": sp.log, "exp": sp.exp, "abs": sp.Abs, "tanh": sp.tanh, "atan": sp.atan,
    "log1p": lambda x: sp.log(1 + x), "expm1": lambda x: sp.exp(x) - 1, "log2": lambda x: sp.log(x) / sp.log(2),
    "sinh": lambda x: (sp.exp(x) - sp.exp(-x)) / 2, "cosh": lambda x: (sp.exp(x) + sp.exp(-x)) / 2,
    "max": lambda x, y: (x + y + sp.Abs(x - y)) / 2, "min": lambda x, y: (x + y - sp.Abs(x - y)) / 2,
}  # fmt: skip
REWRITTEN: dict[type, Callable[..., sp.Expr]] = {
    sp.sinh: FUNCTIONS["sinh"], sp.cosh: FUNCTIONS["cosh"], sp.sech: lambda x: 1 / FUNCTIONS["cosh"](x),
    sp.csch: lambda x: 1 / FUNCTIONS["sinh"](x), sp.coth: lambda x: 1 / sp.tanh(x),
    sp.Max: lambda *x: functools.reduce(FUNCTIONS["max"], x), sp.Min: lambda *x: functools.reduce(FUNCTIONS["min"], x),
}  # fmt: skip
"""SymPy's functions that a SymPy expression may hold too, in terms of those of the grammar."""
TWO_ARGUMENTS = ("max", "min")
CONSTANTS = {"pi": sp.pi, "e": sp.E}
RESERVED = {"t", "Abs", *FUNCTIONS, *CONSTANTS}
KINDS = {
    sp.Add, sp.Mul, sp.Pow, sp.Symbol, sp.Dummy, sp.log, sp.exp, sp.Abs, sp.tanh, sp.atan, type(sp.pi), type(sp.E),
    sp.Integer, sp.Rational, sp.Float, type(sp.S.Zero), type(sp.S.One), type(sp.S.NegativeOne), type(sp.S.Half),
    *REWRITTEN,
}  # fmt: skip
_HINTS = {
    ",": "only max and min take two arguments", "=": "write the expression alone",
    ".": "attributes are not allowed", "%": "it is not arithmetic on real numbers", "//": "write / to divide",
    "[": "use round parentheses", "{": "use round parentheses", "'": "strings are not allowed",
    '"': "strings are not allowed", "#": "comments are not allowed", ";": "write one expression",
}  # fmt: skip
_TOKEN = re.compile(
    r" *(?:(?P<number>(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)|(?P<name>[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<sign>\*\*|//|[-+*/()^,])|(?P<other>[^ ])|(?P<end>$))"
)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int


def _tokens(text: str) -> list[_Token]:
    found = [
        _Token(str(m.lastgroup), m[str(m.lastgroup)], m.start(str(m.lastgroup)) + 1) for m in _TOKEN.finditer(text)
    ]
    return [*itertools.takewhile(lambda token: token.kind != "end", found), _Token("end", "", len(text.rstrip()) + 1)]


def _shortened(text: str, column: int, width: int = 80) -> str:
    start = max(0, min(column - width // 2, len(text) - width))
    return ("..." if start else "") + text[start : start + width] + ("..." if start + width < len(text) else "")


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, names: Mapping[str, sp.Expr]) -> None:
        self.text, self.names = text, names
        self.tokens, self.position, self.depth = _tokens(text), 0, 0

    def error(self, token: _Token, rule: str) -> ValueError:
        part = f"{token.text!r} " if token.text else "the end of the text " if token.kind == "end" else ""
        return ValueError(
            f"generator {_shortened(self.text, token.column)!r}, column {token.column}: {part}{rule}".rstrip()
        )

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def take(self, *texts: str) -> _Token | None:
        """The next token if it is one of these signs, which is then behind us."""
        token = self.next
        if token.kind != "sign" or token.text not in texts:
            return None
        self.position += 1
        return token

    def unexpected(self, token: _Token) -> ValueError:
        following = self.tokens[self.position + 1] if self.position + 1 < len(self.tokens) else token
        if token.kind in ("name", "number") and self.position:
            return self.error(token, "is out of place: write * to multiply")
        if token.kind == "other" or token.text in ("//", ","):
            hint = _HINTS.get(token.text, "it is not a sign of the grammar")
            return self.error(token, f"is not allowed: {hint}; use numbers, t, + - * / ** ^ and {', '.join(FUNCTIONS)}")
        return self.error(token, f"is out of place{f' before {following.text!r}' if following.text else ''}")

    def whole(self) -> sp.Expr:
        found = self.sum()
        if self.next.kind != "end":
            raise self.unexpected(self.next)
        return found

    def sum(self) -> sp.Expr:
        terms = [self.product()]
        while sign := self.take("+", "-"):
            term = self.product()
            terms.append(term if sign.text == "+" else -term)
        return sp.Add(*terms)

    def product(self) -> sp.Expr:
        factors = [self.signed()]
        while sign := self.take("*", "/"):
            place, factor = self.next, self.signed()
            if sign.text == "/" and factor == 0:
                raise self.error(place, "is a division by zero")
            factors.append(factor if sign.text == "*" else 1 / factor)
        return sp.Mul(*factors)

    def signed(self) -> sp.Expr:
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise self.error(self.next, f"is nested deeper than {MAXIMUM_DEPTH} levels")
        sign = self.take("+", "-")
        found = self.signed() if sign else self.power()
        self.depth -= 1
        return -found if sign and sign.text == "-" else found

    def power(self) -> sp.Expr:
        start, base = self.next, self.atom()
        if not self.take("**", "^"):
            return base
        place, exponent = self.next, self.signed()
        if not exponent.is_Rational or abs(exponent) > MAXIMUM_EXPONENT:
            raise self.error(place, f"is in an exponent: it must be a number of size at most {MAXIMUM_EXPONENT}")
        if base.is_number and not _is_real_power(base, exponent):
            raise self.error(start, f"to the power {exponent} is not a real number")
        return self.manageable(start, base**exponent)

    def manageable(self, start: _Token, expression: sp.Expr) -> sp.Expr:
        if complaint := unmanageable(expression):
            raise self.error(start, f"is or begins what cannot be used: {complaint}")
        return expression

    def atom(self) -> sp.Expr:
        token = self.next
        if self.take("("):
            return self.closed(token, self.sum())
        self.position += 1
        if token.kind == "number":
            return self.number(token)
        if token.kind == "name":
            return self.call(token) if self.take("(") else self.named(token)
        self.position -= 1
        if token.kind == "end":
            raise self.error(token, "comes where a number, t or a function is missing")
        raise self.unexpected(token)

    def closed(self, opening: _Token, inside: sp.Expr) -> sp.Expr:
        if self.take(")"):
            return inside
        if self.next.kind == "end":
            raise self.error(opening, "is never closed")
        raise self.unexpected(self.next)

    def number(self, token: _Token) -> sp.Expr:
        mantissa, _, exponent = token.text.lower().partition("e")
        if len(mantissa) > MAXIMUM_DIGITS or len(exponent) > 3:
            raise self.error(token, f"is too long: at most {MAXIMUM_DIGITS} digits and 2 in a decimal exponent")
        if self.next.kind == "name" and self.next.column == token.column + len(token.text):
            raise self.error(self.next, "follows a number: write * to multiply, and numbers in decimal digits")
        if mantissa.endswith("_") or "__" in mantissa:
            raise self.error(token, "is not a number")
        return self.manageable(token, sp.Rational(token.text.replace("_", "")))

    def named(self, token: _Token) -> sp.Expr:
        if token.text in self.names:
            return self.names[token.text]
        if token.text in FUNCTIONS:
            raise self.error(token, "is a function: it needs an argument in parentheses")
        raise self.error(token, f"is not a name that is known here: use {', '.join(self.names)}")

    def call(self, token: _Token) -> sp.Expr:
        name = "abs" if token.text == "Abs" else token.text  # SymPy prints Abs
        if name not in FUNCTIONS:
            raise self.error(token, f"is not a function that can be used: they are {', '.join(FUNCTIONS)}")
        opening = self.tokens[self.position - 1]
        two = name in TWO_ARGUMENTS
        if self.take(")"):
            raise self.error(token, f"needs {'two arguments' if two else 'one argument'}")
        arguments = [self.sum()]
        if two and not self.take(","):
            raise self.error(token, "needs two arguments")
        if two:
            arguments.append(self.sum())
        argument = self.closed(opening, arguments[0])
        if (
            argument.is_number
            and name in ("log", "ln", "log2", "sqrt", "log1p")
            and not FUNCTIONS[name](argument).is_real
        ):
            raise self.error(token, f"of {argument} is not a real number")
        return self.manageable(token, FUNCTIONS[name](*arguments))


def _is_real_power(base: sp.Expr, exponent: sp.Expr) -> bool:
    if base.is_zero:
        return bool(exponent > 0)
    return bool(exponent.is_Integer or base.is_positive)


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


def unmanageable(expression: sp.Expr) -> str:
    """What is too much about an expression for the analysis, or nothing."""
    if _degree(expression) > MAXIMUM_DEGREE:
        return f"the degree in t must be at most {MAXIMUM_DEGREE}"
    if _nesting(expression) > MAXIMUM_NESTING:
        return f"functions may be nested at most {MAXIMUM_NESTING} deep"
    numbers = {part for part in sp.postorder_traversal(expression) if part.is_number and part != 0}
    for number in sorted(numbers, key=sp.count_ops):
        size = abs(sp.N(number, 40))
        if not size.is_Float or not number.is_real:
            return "a constant is not a real number"
        if not 1 / _LARGEST <= size <= _LARGEST:
            found = "a constant is" if number.is_Rational else f"{number!s:.40} is"
            least, most = 1 / LARGEST_NUMBER, LARGEST_NUMBER
            return f"{found} {str(sp.N(size, 6)).lower()} in size, but must be 0 or between {least:g} and {most:g}"
    return ""


def _require_text(text: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"generator must be a string or a SymPy expression, not {type(text).__name__}")
    if not text.strip():
        raise ValueError("generator must not be empty")
    if len(text) > MAXIMUM_LENGTH:
        raise ValueError(f"generator must have at most {MAXIMUM_LENGTH} characters, not {len(text)}")
    for column, character in enumerate(text):
        if not (" " <= character <= "~"):
            raise ValueError(f"generator, column {column + 1}: {character!a} is not a printable ASCII character")


def _named_numbers(parameters: Mapping[str, float]) -> dict[str, sp.Expr]:
    for name, number in parameters.items():
        if not re.fullmatch("[A-Za-z_][A-Za-z_0-9]*", name):
            raise ValueError(f"parameters: {name!r} cannot be the name of a parameter")
        if name in RESERVED:
            raise ValueError(f"parameters: {name!r} has a meaning of its own and cannot be the name of a parameter")
        if isinstance(number, bool) or not isinstance(number, Real | sp.Rational) or not math.isfinite(number):
            raise ValueError(f"parameters: {name} must be a finite number, not {number!r}")
    return {name: sp.Rational(str(number)) for name, number in parameters.items()}


def parse_generator(text: str, parameters: Mapping[str, float] | None = None) -> sp.Expr:
    """Parse a generator f(t) written with numbers, t, + - * / ** ^ and a few functions; nothing is evaluated.

    Args:
        text: for example ``"(sqrt(t) - 1)**2"``; at most 500 ASCII characters. `pi` and `e` are known, and the
            functions are those of `FUNCTIONS`.
        parameters: values of further names that `text` uses.

    Returns:
        The SymPy expression in `fguidance.symbolic.t`.

    Raises:
        TypeError: `text` is not a string.
        ValueError: anything outside the whitelist; the message names the column and quotes what is wrong there. Or a
            parameter whose name is taken or does not occur.
    """
    _require_text(text)
    parser = _Parser(text, {"t": t, **CONSTANTS, **_named_numbers(parameters or {})})
    expression = parser.whole()
    used = {token.text for token in parser.tokens if token.kind == "name"}
    if unused := [name for name in parameters or () if name not in used]:
        raise ValueError(f"parameters: {unused[0]} does not occur in generator {_shortened(text, 1)!r}")
    complaint = unmanageable(expression)
    if not complaint and (expression.has(sp.zoo, sp.nan, sp.oo, sp.I) or sp.count_ops(expression) > MAXIMUM_LENGTH):
        complaint = "it is not a finite real expression"
    if complaint:
        raise ValueError(f"generator {_shortened(text, 1)!r}: {complaint}")
    return expression


def require_known(expression: sp.Expr) -> None:
    """Raise ValueError unless every part of a SymPy expression is of the grammar; no method of a stranger is called."""
    if type(expression) not in KINDS:
        allowed = f"use numbers, powers and {', '.join(FUNCTIONS)}"
        raise ValueError(f"generator: an expression of type {type(expression).__name__} is not allowed; {allowed}")
    for part in expression.args:
        require_known(part)
    if type(expression) is sp.Pow and not (expression.exp.is_Rational or expression.exp.is_Float):
        raise ValueError(f"generator: the exponent of {expression} must be a number; write exp(t*log(2)) for 2**t")


def in_t(expression: sp.Expr) -> sp.Expr:
    """A SymPy expression in one symbol, as an expression in t with exact numbers.

    Raises:
        ValueError: parts outside the grammar, more than one symbol, or a symbol that cannot be a positive number.
    """
    require_known(expression)
    if len(expression.free_symbols) != 1:
        raise ValueError(f"generator {expression} must be an expression in exactly one symbol")
    (symbol,) = expression.free_symbols
    if symbol.is_commutative is not True or symbol.is_positive is False or symbol.is_rational is not None:
        raise ValueError(f"generator {expression}: {symbol} must be able to stand for every positive number")
    exact = {number: sp.Rational(str(number)) for number in expression.atoms(sp.Float)}
    found = expression.xreplace({**exact, symbol: t})
    for kind, written in REWRITTEN.items():
        found = found.replace(kind, written)
    if complaint := unmanageable(found):
        raise ValueError(f"generator {found}: {complaint}")
    return found
