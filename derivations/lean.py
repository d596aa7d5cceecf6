"""f' from the inverse ratio q/p, for divergences so gentle that their force needs no doubled precision."""

from collections.abc import Callable, Iterator

import sympy as sp
from sympy.codegen.cfunctions import log1p

from fguidance.symbolic import Piece, t

inverse = sp.Symbol("inverse", positive=True)
Print = Callable[[sp.Expr], str]


def _is_lean(piece: Piece) -> bool:
    """Whether a term of f' is bounded towards infinity, and grows like a logarithm at most towards 0."""
    return piece.kernel == "sigmoid_difference" or (
        piece.kernel == "softplus_difference" and piece.arguments[2] == -sp.S.One
    )


def _term(piece: Piece) -> sp.Expr:
    first, *rest = piece.arguments
    if piece.kernel == "softplus_difference":
        return first * log1p(inverse * sp.exp(-rest[0]))
    return first * (inverse / (inverse + sp.exp(rest[1]))) ** rest[0]


def _code(piece: Piece, write: Print) -> str:
    """The term as source; a power is taken of the quotient, whose parts it would overflow."""
    first, *rest = piece.arguments
    if piece.kernel == "softplus_difference":
        factor = sp.exp(-rest[0])
        return f"lean_log1p({'' if factor == 1 else f'({write(factor)}) * '}inverse).mul_({write(first)})"
    power = "" if rest[0] == 1 else f".pow({rest[0]})"
    return f"(inverse / (inverse + {write(sp.exp(rest[1]))})){power}.mul_({write(first)})"


def slope(pieces: tuple[Piece, ...] | None) -> sp.Expr | None:
    """f'(t) in `inverse`, up to a constant, or None where some piece of it is not gentle enough."""
    if pieces is None or not all(map(_is_lean, pieces)):
        return None
    return sum(map(_term, pieces))


def proof_residual(generator: sp.Expr, found: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """The derivatives in t of what is emitted and of f', which must be equal."""
    written = found.replace(log1p, lambda x: sp.log(1 + x)).subs(inverse, 1 / t)
    return sp.diff(written, t), sp.diff(generator, t, 2)


def source(name: str, pieces: tuple[Piece, ...], write: Print) -> Iterator[str]:
    """The function that calculates it."""
    yield f"def {name}(inverse: Tensor) -> Tensor:"
    yield '    """f\'(t) from q/p = 1/t, up to a constant (:eq:`eq-pivot`)."""'
    yield f"    return {' + '.join(_code(piece, write) for piece in pieces)}"
