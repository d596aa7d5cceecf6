"""A description as text: what `fguidance derive` prints."""

import re
from collections.abc import Iterator

import sympy as sp

from fguidance.describe import Description

NOT_FOUND = "not found in the time allowed"
WIDTH = 22


def as_text(found: Description) -> str:
    """The whole description, a line for each fact, then the code and the formulas in LaTeX.

    Args:
        found: what `describe` gave.

    Returns:
        Text that ends without a newline.
    """
    facts = "\n".join(f"{name:{WIDTH}}{text}" for name, text in _facts(found))
    latex = "\n".join(f"{name.replace('_', ' '):{WIDTH}}{formula}" for name, formula in found.latex.items())
    parts = [facts, *_code(found), f"LaTeX\n\n{latex}"]
    return "\n\n".join(parts)


def _facts(found: Description) -> Iterator[tuple[str, str]]:
    yield "generator f(t)", _shown(found.generator)
    yield "gauge-fixed", _shown(found.gauge_fixed)
    yield "slope f'(t)", _shown(found.slope)
    yield "weight p f'(p/q)", _shown(found.weight)
    yield "dual t f(1/t)", _shown(found.dual)
    yield "conjugate f*(s)", _shown(found.conjugate)
    if found.conjugate is not None:
        yield "which holds for", _slopes(found.conjugate_range)
    yield "domain", found.domain
    zero, infinity = found.end_values or (None, None)
    yield "f(t) at 0", _shown(zero)
    yield "f(t)/t at infinity", _shown(infinity)
    yield "saturation exponent", _shown(found.saturation_exponent)
    yield "t f'(t) at 0", _shown(found.saturation_limit)
    yield "weight is bounded", _shown(found.weight_is_bounded)
    yield "largest value", _shown(found.largest_value)
    yield "curvature f''(1)", _shown(found.curvature)


def _slopes(ends: tuple[sp.Expr, sp.Expr] | None) -> str:
    """The slopes for which the formula of the conjugate holds, and what it is for the others."""
    if ends is None:
        return f"slopes s that f' takes; they were {NOT_FOUND}"
    low, high = ends
    smaller = "" if low == -sp.oo else "; for smaller s, f* is constant"
    if high == sp.oo:
        return "all s" if low == -sp.oo else f"s > {low}{smaller}"
    return f"{'' if low == -sp.oo else f'{low} < '}s < {high}{smaller}; for larger s, f* is infinite"


def _shown(part: "sp.Expr | bool | None") -> str:
    if isinstance(part, bool):
        return "yes" if part else "no"
    return NOT_FOUND if part is None else re.sub(r"\boo\b", "infinity", str(part))


def _code(found: Description) -> Iterator[str]:
    for title, text in (("PyTorch", found.torch), ("NumPy", found.numpy)):
        yield f"{title}\n\n{NOT_FOUND if text is None else text.strip()}"
    yield f"Accuracy\n\n{found.accuracy}"
