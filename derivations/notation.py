"""The symbols of the derivations, named as the book names them.

Mind the two uses of the letter f: f_i is a logit, f(t) is a generator.
"""

from sympy import Expr, Function, IndexedBase, S, Sum, Symbol, exp, symbols
from sympy.printing.latex import LatexPrinter

N = Symbol("N", integer=True, positive=True)
i, j, k, y = symbols("i j k y", integer=True, positive=True)
x = Symbol("x", real=True)
t = Symbol("t", positive=True)
p, q = symbols("p q", positive=True)
m = (p + q) / 2
epsilon, alpha = symbols("epsilon alpha", nonnegative=True)
tau_1, tau_2 = symbols("tau_1 tau_2", positive=True)

# Placeholders for whole terms of a formula. SymPy orders terms by name, the book prints them as below.
own, mean, label, tempered, force = symbols("z_1:6", real=True)
w_k, p_k, total = symbols("a_w b_p c_W", real=True)
WRITTEN = {
    own: r"\nabla f_i",
    mean: r"\sum_j p_j \nabla f_j",
    label: r"\nabla f_y",
    tempered: r"\sum_i p_{\tau_2}(i|x)\, \nabla f_i",
    force: r"\sum_i w_f(q_i, p_i)\, g_i",
    w_k: "w_k",
    p_k: "p_k",
    total: "W",
}

p_ = IndexedBase("p", positive=True)
q_ = IndexedBase("q", positive=True)


class Slope(Function):  # type: ignore[misc]
    """The derivative f'(t) of the undefined generator."""

    nargs = 1

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"f'{power}\left({printer._print(self.args[0])}\right)"


class Generator(Function):  # type: ignore[misc]
    """An undefined generator f(t): nothing about it is used but that it has a derivative."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Expr:
        """The derivative with respect to the only argument."""
        return Slope(self.args[0])

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"f{power}\left({printer._print(self.args[0])}\right)"


class Logit(Function):  # type: ignore[misc]
    """The undefined logit f_i(x) of class i, along one coordinate x of the image."""

    nargs = 2

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        power = "" if exp is None else f"^{{{exp}}}"
        return f"f_{{{printer._print(self.args[0])}}}{power}"


def logit_gradient(index: Expr) -> Expr:
    """The derivative of one logit along the coordinate."""
    return Logit(index, x).diff(x)


def partition(tau: Expr = S.One) -> Expr:
    """The sum of exp(tau f_k) over all N classes."""
    return Sum(exp(tau * Logit(k, x)), (k, 1, N))


def probability(index: Expr) -> Expr:
    """The softmax probability of one class."""
    return exp(Logit(index, x)) / partition()


def mean_gradient(tau: Expr = S.One) -> Expr:
    """The mean of the logits' gradients under softmax(tau f), the constant 1/Z taken out of the sum."""
    return Sum(exp(tau * Logit(k, x)) * logit_gradient(k), (k, 1, N)) / partition(tau)
