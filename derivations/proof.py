"""The few tools that all proofs share: close an identity or stop, sum over classes, write formulas."""

import re
from collections.abc import Mapping
from inspect import cleandoc

import sympy
from sympy import Expr

from derivations.notation import WRITTEN, N, i, p, q, t


class ProofFailed(Exception):
    """A proof that does not close.

    Attributes:
        claim_id: The claim whose proof fails.
        residual: What should have vanished, or the condition that does not hold.
    """

    def __init__(self, claim_id: str, residual: object) -> None:
        self.claim_id = claim_id
        self.residual = residual
        super().__init__(f"the proof of {claim_id!r} does not close; left over: {residual}")


def normal_form(expression: Expr) -> Expr:
    """One fraction of polynomials in the expression's atoms, the logarithms of products split."""
    split = expression.replace(sympy.log, lambda argument: sympy.expand_log(sympy.log(sympy.factor(argument))))
    return sympy.cancel(sympy.together(sympy.expand(split)))


def require_zero(claim_id: str, *residuals: Expr) -> None:
    """Stop the proof unless every residual is identically zero."""
    for residual in residuals:
        rest = normal_form(residual)
        if rest != 0:
            raise ProofFailed(claim_id, rest)


def require(claim_id: str, condition: object, reason: object) -> None:
    """Stop the proof unless the condition is certainly true: an undecided inequality counts as false."""
    if condition not in (True, sympy.true):
        raise ProofFailed(claim_id, reason)


def in_gauge(generator: Expr) -> Expr:
    """The generator with the multiple of t - 1 added that makes its slope at t = 1 vanish."""
    return generator - generator.diff(t).subs(t, 1) * (t - 1)


def weight_of(generator: Expr) -> Expr:
    """The weight p f'(p/q) of a generator f(t), as it is: put it in the gauge first if that is meant."""
    return p * generator.diff(t).subs(t, p / q)


def sum_over(summand: Expr, totals: Mapping[Expr, Expr] | None = None, index: Expr = i, size: Expr = N) -> Expr:
    """The sum over index = 1..size, term by term: constants taken out, known totals put in.

    Args:
        summand: An expression in the index.
        totals: What is known of sums, such as ``{p[i]: 1}``.
        index: The summation index, the class unless told.
        size: The number of terms, the number of classes unless told.

    Returns:
        The sum, for every size at once.
    """
    known = {sympy.S.One: size, **(totals or {})}
    result = sympy.S.Zero
    for term in sympy.Add.make_args(sympy.expand(summand)):
        constant, dependent = term.as_independent(index, as_Add=False)
        result += constant * known.get(dependent, sympy.Sum(dependent, (index, 1, size)))
    return result


def tex(expression: object) -> str:
    """LaTeX of a SymPy expression, with p_i for an indexed p and (d_x f_i) for the derivative of a logit."""
    text = str(sympy.latex(expression, symbol_names=WRITTEN))
    text = text.replace(r"\operatorname{expm}_{1}", r"\operatorname{expm1}")
    text = re.sub(r"\\frac\{d\}\{d x\} ((?:f|\\ell)_\{\w+\})", r"(\\partial_x \1)", text)
    return re.sub(r"(?<![A-Za-z}])\{(\\?[A-Za-z]+)\}_\{", r"\1_{", text)


def fill(text: str, **expressions: object) -> str:
    """The text without its indentation, and with every ``<name>`` replaced by the LaTeX of that expression.

    Raises:
        ValueError: If the names in the text and the names given are not the same.
    """
    names = set(re.findall(r"<(\w+)>", text))
    if names != set(expressions):
        raise ValueError(f"the text has {sorted(names)}, the expressions are {sorted(expressions)}")
    return re.sub(r"<(\w+)>", lambda match: tex(expressions[match[1]]), cleandoc(text))
