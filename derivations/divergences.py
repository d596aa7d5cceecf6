"""The table of divergences: name, generator f(t) with t = p/q, and where it comes from. A new one is a new row."""

from dataclasses import dataclass

import sympy as sp

from fguidance.symbolic import t

alpha = sp.Symbol("alpha", real=True)
ALPHA_SLOPE = (t ** (alpha - 1) - 1) / (alpha - 1)


@dataclass(frozen=True)
class Row:
    """A divergence D_f = sum_i q_i f(p_i / q_i); a family has a parameter and its default."""

    name: str
    title: str
    generator: sp.Expr
    source: str
    parameter: sp.Symbol | None = None
    default: sp.Rational | None = None


@dataclass(frozen=True)
class PrintedRow:
    """A weight that the paper prints and that belongs to no f-divergence: a function of u = log p - log q."""

    name: str
    title: str
    weight: sp.Expr
    source: str


DIVERGENCES: tuple[Row, ...] = (
    Row("rkl", "KL(q, p): the paper's reverse KL", -sp.log(t), "arXiv:2511.05844; Csiszár 1967"),
    Row("fkl", "KL(p, q): the paper's forward KL", t * sp.log(t), "arXiv:2511.05844; Csiszár 1967"),
    Row(
        "js",
        "Jensen-Shannon",
        (t * sp.log(t) - (1 + t) * sp.log((1 + t) / 2)) / 2,
        "arXiv:2511.05844 (corrected); Lin 1991",
    ),
    Row("hellinger", "squared Hellinger", (sp.sqrt(t) - 1) ** 2, "Hellinger 1909"),
    Row("pearson", "Pearson's chi-squared", (t - 1) ** 2, "Pearson 1900"),
    Row("neyman", "Neyman's chi-squared", (t - 1) ** 2 / t, "Neyman 1949"),
    Row("jeffreys", "Jeffreys", (t - 1) * sp.log(t), "Jeffreys 1946"),
    Row("triangular", "triangular discrimination", (t - 1) ** 2 / (t + 1), "Vincze 1981; Le Cam 1986"),
    Row(
        "alpha",
        "alpha family",
        (t**alpha - alpha * t - (1 - alpha)) / (alpha * (alpha - 1)),
        "Cressie and Read 1984; Amari 1985",
        parameter=alpha,
        default=sp.Rational(1, 2),
    ),
)

JS_PRINTED = PrintedRow(
    "js_printed",
    "the weight printed for JS",
    -2 * sp.tanh(sp.Symbol("log_ratio", real=True) / 2),
    "arXiv:2511.05844, as printed: (q - p)/m with m = (p + q)/2",
)
