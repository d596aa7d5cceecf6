"""f' from the inverse ratio q/p, for divergences so gentle that their force needs no doubled precision."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import sympy as sp
from sympy.codegen.cfunctions import log1p

from fguidance.symbolic import Piece, t

inverse = sp.Symbol("inverse", positive=True)
Print = Callable[[sp.Expr], str]
HALF = sp.Rational(1, 2)


class Parts(NamedTuple):
    """The terms of f' by how plain arithmetic takes them: a function of 1/t, a multiple of log t, and of -1/t."""

    slope: tuple[Piece, ...]
    logarithm: sp.Expr
    inverse: sp.Expr


def _is_slope(piece: Piece) -> bool:
    """Whether p times the term of f' stays below p, q or their geometric mean, up to logarithms and a factor."""
    return (
        piece.kernel == "sigmoid_difference"
        or (piece.kernel == "softplus_difference" and piece.arguments[2] == -sp.S.One)
        or (piece.kernel == "power_difference" and piece.arguments[1] == -HALF)
    )


def _is_inverse(piece: Piece) -> bool:
    return piece.kernel == "power_difference" and piece.arguments[1] == -sp.S.One


def parts(pieces: tuple[Piece, ...] | None) -> Parts | None:
    """The parts of f', or None where some term of it is not gentle enough."""
    if pieces is None:
        return None
    slopes = tuple(piece for piece in pieces if _is_slope(piece))
    logarithms = [piece.arguments[0] for piece in pieces if piece.kernel == "log_difference"]
    inverses = [-piece.arguments[0] for piece in pieces if _is_inverse(piece)]
    if len(slopes) + len(logarithms) + len(inverses) < len(pieces):
        return None
    return Parts(slopes, sp.Add(*logarithms), sp.Add(*inverses))


def _term(piece: Piece) -> sp.Expr:
    first, *rest = piece.arguments
    if piece.kernel == "softplus_difference":
        return first * log1p(inverse * sp.exp(-rest[0]))
    if piece.kernel == "power_difference":
        return first * sp.sqrt(inverse)
    return first * (inverse / (inverse + sp.exp(rest[1]))) ** rest[0]


def _code(piece: Piece, reuse: str, write: Print) -> str:
    """The term as source, up to a constant."""
    first, *rest = piece.arguments
    if piece.kernel == "softplus_difference":
        factor = sp.exp(-rest[0])
        inner = "inverse" if factor == 1 else f'_change({reuse}, inverse, "mul", {write(factor)})'
        return f"lean_log1p({inner}, {reuse}).mul_({write(first)})"
    if piece.kernel == "power_difference":
        return f'_change({reuse}, _change({reuse}, inverse, "sqrt"), "mul", {write(first)})'
    return f"lean_sigmoid(inverse, {write(sp.exp(rest[1]))}, {rest[0]}).mul_({write(first)})"


def proof_residual(generator: sp.Expr, found: Parts) -> tuple[sp.Expr, sp.Expr]:
    """The derivatives in t of what is emitted and of f', which must be equal."""
    slope = sum(map(_term, found.slope)).replace(log1p, lambda x: sp.log(1 + x)) if found.slope else sp.S.Zero
    written = slope.subs(inverse, 1 / t) + found.logarithm * sp.log(t) - found.inverse / t
    return sp.diff(written, t), sp.diff(generator, t, 2)


def source(name: str, slope: tuple[Piece, ...], write: Print) -> Iterator[str]:
    """The function that calculates the part in 1/t."""
    yield f"def {name}(inverse: Tensor, reuse: bool) -> Tensor:"
    yield '    """f\'(t) from q/p = 1/t, up to a constant (:eq:`eq-pivot`)."""'
    terms = [_code(piece, "False", write) for piece in slope[:-1]] + [_code(slope[-1], "reuse", write)]
    yield f"    return {' + '.join(terms)}"


def construction(name: str, found: Parts, write: Print) -> str:
    """The `Lean` of the emitted definition."""
    given = {"logarithm": found.logarithm, "inverse": found.inverse}
    numbers = [f"{part}={write(value)}" for part, value in given.items() if value != 0]
    return f"Lean({', '.join([name] * bool(found.slope) + numbers)})"
