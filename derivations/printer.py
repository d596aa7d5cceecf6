"""SymPy expressions as PyTorch source: the one printer of emission, and the formulas that claims prove."""

import functools
import re
from collections.abc import Callable

import sympy as sp
from sympy.codegen.cfunctions import expm1, log1p
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.pytorch import TorchPrinter
from torch import Tensor

from derivations import entropy, proposition_2, smooth_ece, tempered, tilted
from derivations.notation import Logit, N, epsilon, force, label, p_k, partition, tau_1, tau_2, total, w_k, x, y
from derivations.notation import alpha as strength
from derivations.notation import tempered as tempered_mean
from fguidance.symbolic import forms

CALLS: dict[type[sp.Basic], str] = {
    forms.Softplus: "softplus", forms.Power: "power", forms.Difference: "difference",
    forms.RelativePower: "relative_power", forms.Sigmoid: "torch.sigmoid", forms.Hypotenuse: "torch.hypot",
    expm1: "torch.expm1", log1p: "torch.log1p",
}  # fmt: skip
"""What the functions of a form are called in the code."""


class FormPrinter(TorchPrinter):  # type: ignore[misc]
    """SymPy's printer with the functions of a form, plain numbers, and Python's arithmetic for parameters alone."""

    def _print(self, expression: sp.Basic, **settings: object) -> str:
        if isinstance(expression, sp.Expr) and expression.is_number and not expression.is_Integer:
            return repr(float(expression))
        if isinstance(expression, sp.Function) and not expression.has(forms.p, forms.q, forms.u, *TENSORS):
            return str(sp.pycode(expression))
        if (name := CALLS.get(type(expression))) is not None:
            return f"{name}({', '.join(map(self._print, expression.args))})"
        return str(super()._print(expression, **settings))

    def _print_Pow(self, expression: sp.Expr, **settings: object) -> str:
        base, exponent = expression.as_base_exp()
        if not expression.has(forms.p, forms.q, forms.u, *TENSORS):
            return str(sp.pycode(expression))
        if exponent == sp.Rational(1, 2):
            return f"torch.sqrt({self._print(base)})"
        if exponent == -1:
            return f"1/{self.parenthesize(base, PRECEDENCE['Pow'], strict=True)}"
        return f"{self.parenthesize(base, PRECEDENCE['Pow'], strict=True)}**{self._print_exponent(exponent)}"

    def _print_exponent(self, exponent: sp.Expr) -> str:
        return self._print(exponent) if exponent.is_Integer and exponent > 0 else f"({self._print(exponent)})"

    def _print_Over(self, expression: sp.Expr) -> str:
        above, below = expression.args
        quotient = f"{self.parenthesize(above, PRECEDENCE['Mul'])}/{self.parenthesize(below, PRECEDENCE['Pow'])}"
        return f"({quotient})"

    def _print_Mul(self, expression: sp.Expr) -> str:
        called, plain = sp.sift(expression.args, lambda factor: type(factor) in CALLS, binary=True)
        factor, symbol = sp.Mul(*plain).as_coeff_Mul()
        if len(called) == 1 and symbol in (forms.p, forms.q):  # the function first: one tensor less at a time
            sign = {1: "", -1: "-"}.get(factor, f"{self._print(factor)}*")
            return f"{sign}{self._print(called[0])}*{symbol}"
        number, rest = expression.as_independent(*expression.free_symbols, as_Add=False)
        if number.is_Rational:
            return str(super()._print_Mul(expression))
        return f"{self._print(number)}*{self.parenthesize(rest, PRECEDENCE['Mul'])}"


def torch_source(expression: sp.Expr) -> str:
    """The expression as PyTorch source, in the names of its symbols."""
    text = str(FormPrinter({"fully_qualified_modules": True}).doprint(expression))
    text = re.sub(r"\(\(([^()]*)\)\)", r"(\1)", text)
    return re.sub(r"(?<!\w)\((\d+\.\d+)\)(?=[*/])", r"\1", text)


def _symbols(names: str) -> tuple[sp.Symbol, ...]:
    return tuple(sp.symbols(names, real=True))


one_hot, own, softmax, logsumexp, p, log_p, bonus = _symbols("one_hot own softmax logsumexp p log_p entropy")
batch, log_prob, distance, confidence, correct, is_top = _symbols("batch log_prob distance confidence correct is_top")
TENSORS = one_hot, own, softmax, logsumexp, p, log_p, bonus, log_prob, distance, confidence, correct, is_top
CODE = {
    tau_1: sp.Symbol("tau_joint"), tau_2: sp.Symbol("tau_marginal"), strength: sp.Symbol("alpha"),
    epsilon: sp.Symbol("epsilon"), N: sp.Symbol("num_classes"), smooth_ece.n: sp.Symbol("n"),
    smooth_ece.beta: sp.Symbol("beta"), label: one_hot, tempered_mean: softmax, force: sp.Symbol("force"),
    w_k: sp.Symbol("w"), p_k: p, total: sp.Symbol("total"), sp.log(p_k): log_p, entropy.H: bonus,
    smooth_ece.confidence: confidence, smooth_ece.correct: correct, smooth_ece.delta: is_top, smooth_ece.p_j: p,
    smooth_ece.d: confidence - correct, tilted.SHARE: softmax, tilted.B: batch,
}  # fmt: skip
"""Symbols of the book's claims, and what they are called in the code: in the logits, the gradient of f_y is one-hot."""
TEMPERED = {Logit(y, x): own, sp.log(partition(tau_2)): logsumexp}
WORDS = {
    "tempered": {"logsumexp": "torch.logsumexp(tau_marginal * logits, -1)"},
    "tilted_weights": {"softmax": "torch.softmax(tilt * log_prob, 0)"},
    "": {"softmax": "torch.softmax(tau_marginal * logits, -1)"},
}


def _formulas() -> dict[str, Callable[[], sp.Expr]]:
    return {
        "target": lambda: (1 - epsilon) / N + epsilon * label,
        "logit_gradient": lambda: proposition_2.LOGIT_FORM,
        "tempered": lambda: tempered.log_tempered(tau_1, tau_2).subs(TEMPERED),
        "tempered_gradient": lambda: tempered.GRADIENT,
        "entropy_gradient": lambda: entropy.GRADIENT,
        "tilted_weights": lambda: tilted.B * tilted.SHARE,
        "score": lambda: proposition_2.score_of(log_prob, distance),
        "score_gradient": lambda: proposition_2.SCORE_GRADIENT,
        "smooth_ece": lambda: smooth_ece.LOSS,
        "smooth_ece_gradient": lambda: smooth_ece.LOGIT_GRADIENT,
    }


@functools.cache
def formula(name: str) -> str:
    """A claim's formula as source, in the names of the code."""
    text = torch_source(_formulas()[name]().subs(CODE))
    for word, source in WORDS.get(name, WORDS[""]).items():
        text = text.replace(word, source)
    return text


def printed(name: str) -> Tensor:
    """The place of a formula in the frame; emission writes the formula there."""
    raise NotImplementedError(f"{name} is a place in a text, and is not called")
