"""The table of divergences: name, generator f(t) with t = p/q, and where it comes from. A new one is a new row."""

from collections.abc import Callable
from dataclasses import dataclass

import sympy as sp
from sympy.codegen.cfunctions import expm1

from fguidance.symbolic import Piece, log_ratio, t

alpha = sp.Symbol("alpha", real=True)
power = sp.Symbol("lambda_", real=True)
order, skew, blend = sp.symbols("order skew blend", positive=True)
width, exponent, beta = sp.symbols("width exponent beta", positive=True)
LOW, HIGH = sp.Integer(-64), sp.Integer(64)
SHIFT = sp.log(skew / (1 - skew))
y_exp = sp.exp(log_ratio)


class LogMixture(sp.Function):  # type: ignore[misc]
    """The logarithm of 1 - share + share * e^y, by the name of the function that calculates it."""

    nargs = 2


class Mixture(sp.Function):  # type: ignore[misc]
    """1 - share + share * e^y, which as a sum of three terms would lose digits for a share near 1."""

    nargs = 2


class SoftDistance(sp.Function):  # type: ignore[misc]
    """(sqrt(x^2 + width^2) - width)/2 of x and width."""

    nargs = 2


class PuriVincze(sp.Function):  # type: ignore[misc]
    """f(e^y) of Puri and Vincze's family, of y and the exponent; it is its own dual."""

    nargs = 2


class PowerMean(sp.Function):  # type: ignore[misc]
    """f(e^y) of Österreicher and Vajda's family, of y and beta; it is its own dual."""

    nargs = 2


class PowerMeanNear(sp.Function):  # type: ignore[misc]
    """The same, as it is calculated for small y."""

    nargs = 2


class PowerMeanLimit(sp.Function):  # type: ignore[misc]
    """f(0) of Österreicher and Vajda's family, of beta."""

    nargs = 1


def _puri_vincze(y: sp.Expr, k: sp.Expr) -> sp.Expr:
    return sp.Abs(sp.exp(y) - 1) ** k / (sp.exp(y) + 1) ** (k - 1) / 2


def _power_mean(y: sp.Expr, b: sp.Expr) -> sp.Expr:
    return ((1 + sp.exp(b * y)) ** (1 / b) - 2 ** (1 / b - 1) * (1 + sp.exp(y))) * b / (b - 1)


NAMED: dict[type[sp.Function], tuple[str, Callable[..., sp.Expr]]] = {
    LogMixture: ("log_mixture", lambda y, share: sp.log(1 - share + share * sp.exp(y))),
    Mixture: ("mixture", lambda y, share: 1 - share + share * sp.exp(y)),
    SoftDistance: ("soft_distance", lambda x, width: (sp.sqrt(x**2 + width**2) - width) / 2),
    PuriVincze: ("puri_vincze_value", _puri_vincze),
    PowerMean: ("power_mean_tail", _power_mean),
    PowerMeanNear: ("power_mean_value", _power_mean),
    PowerMeanLimit: ("power_mean_limit", lambda b: (1 - 2 ** (1 / b - 1)) * b / (b - 1)),
}
"""What a function of the prelude is called there, and what it stands for in a proof."""


PERIMETER = sp.sqrt(1 + t**2) - (1 + t) / sp.sqrt(2)
GAN = "Goodfellow et al. 2014; Nowozin, Cseke and Tomioka 2016"
ALPHA_SLOPE = (t ** (alpha - 1) - 1) / (alpha - 1)


@dataclass(frozen=True)
class Form:
    """How a generator is calculated, where SymPy does not find out by itself; each part is proved when it is emitted.

    Attributes:
        pieces: kernels and arguments whose sum is f', up to a constant.
        tails: f(e^y) and its dual at e^y, in the gauge, for y <= -1.
        near: f(e^y) for |y| <= 1, where the quadrature of f' does not give it.
        near_if: for which parameters `near` is needed.
        limits: f(0) and the limit of f(t)/t at infinity, where a family's are not to be read off the tails.
        is_smooth: whether f is twice differentiable; in a family a condition on the parameter.
    """

    pieces: tuple[Piece, ...]
    tails: tuple[sp.Expr, sp.Expr]
    near: sp.Expr | None = None
    near_if: sp.Basic = sp.true
    limits: tuple[sp.Expr, sp.Expr] | None = None
    is_smooth: sp.Basic = sp.true


@dataclass(frozen=True)
class Family:
    """What a family's row says of its parameter.

    Attributes:
        parameter: the symbol in the generator.
        default: its value unless told.
        low, high: its range; `is_open` excludes both ends.
        specials: values at which the generator is to be read as its limit.
        as_alpha: factor and alpha of the alpha family's multiple that this family is, or nothing.
    """

    parameter: sp.Symbol
    default: sp.Rational
    low: sp.Rational
    high: sp.Rational
    is_open: bool = False
    specials: tuple[sp.Rational, ...] = ()
    as_alpha: tuple[sp.Expr, sp.Expr] | None = None


@dataclass(frozen=True)
class Row:
    """A divergence D_f = sum_i q_i f(p_i / q_i), or a family of them."""

    name: str
    title: str
    generator: sp.Expr
    source: str
    family: Family | None = None
    form: Form | None = None

    @property
    def parameter(self) -> sp.Symbol | None:
        """The parameter of a family."""
        return None if self.family is None else self.family.parameter


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
    Row("lin_k", "Lin's K of q from p, KL(q, (p + q)/2)", -sp.log((1 + t) / 2), "Lin 1991"),
    Row("lin_k_reverse", "Lin's K of p from q, KL(p, (p + q)/2)", t * sp.log(2 * t / (1 + t)), "Lin 1991"),
    Row("gan", "the GAN objective's divergence, twice JS", t * sp.log(t) - (t + 1) * sp.log((t + 1) / 2), GAN),
    Row(
        "symmetric_chi_squared",
        "symmetric chi-squared, Pearson's plus Neyman's",
        (t - 1) ** 2 * (t + 1) / t,
        "Dragomir, Šunde and Buşe 2000",
    ),
    Row("vajda_chi4", "Vajda's chi^4", (t - 1) ** 4, "Vajda 1973"),
    Row(
        "arithmetic_geometric",
        "Taneja's arithmetic-geometric mean divergence",
        (t + 1) / 2 * sp.log((t + 1) / (2 * sp.sqrt(t))),
        "Taneja 1995",
    ),
    Row("perimeter", "Österreicher's perimeter divergence", PERIMETER, "Österreicher 1996"),
    Row("exponential", "exponential divergence", sp.exp(t - 1) - t, "ours: the exponential in the gauge f'(1) = 0"),
    Row(
        "total_variation",
        "total variation distance",
        sp.Abs(t - 1) / 2,
        "Csiszár 1967; Ali and Silvey 1966",
        form=Form(
            (Piece("sign_difference", (sp.S.Half,), sp.S.Half),),
            (-expm1(log_ratio) / 2, -expm1(log_ratio) / 2),
            sp.Abs(expm1(log_ratio)) / 2,
            is_smooth=sp.false,
        ),
    ),
    Row(
        "alpha",
        "alpha family",
        (t**alpha - alpha * t - (1 - alpha)) / (alpha * (alpha - 1)),
        "Cressie and Read 1984; Amari 1985",
        Family(alpha, sp.Rational(1, 2), LOW, HIGH, specials=(sp.S.Zero, sp.S.One), as_alpha=(sp.S.One, alpha)),
    ),
    Row(
        "amari",
        "Amari's alpha-divergences",
        4 * (1 - t ** ((1 + alpha) / 2)) / (1 - alpha**2),
        "Amari 1985",
        Family(alpha, sp.S.Zero, LOW, HIGH, specials=(-sp.S.One, sp.S.One), as_alpha=(sp.S.One, (1 + alpha) / 2)),
    ),
    Row(
        "cressie_read",
        "Cressie and Read's power divergences, scaled as their statistic",
        2 * (t ** (power + 1) - t) / (power * (power + 1)),
        "Cressie and Read 1984",
        Family(
            power,
            sp.Rational(2, 3),
            LOW,
            HIGH - 1,
            specials=(-sp.S.One, sp.S.Zero),
            as_alpha=(sp.Integer(2), power + 1),
        ),
    ),
    Row(
        "tsallis",
        "Tsallis relative entropies",
        (t**order - t) / (order - 1),
        "Tsallis 1998",
        Family(order, sp.Integer(2), sp.S.Zero, HIGH, is_open=True, specials=(sp.S.One,), as_alpha=(order, order)),
    ),
    Row(
        "skewed_js",
        "skewed Jensen-Shannon",
        skew * t * sp.log(t) - (skew * t + 1 - skew) * sp.log(skew * t + 1 - skew),
        "Lin 1991",
        Family(
            skew,
            sp.Rational(1, 4),
            sp.S.Zero,
            sp.S.One,
            is_open=True,
        ),
        Form(
            (Piece("softplus_difference", (-skew, SHIFT, -sp.S.One), skew),),
            (
                skew * log_ratio * y_exp - Mixture(log_ratio, skew) * LogMixture(log_ratio, skew),
                (1 - skew) * log_ratio * y_exp - Mixture(log_ratio, 1 - skew) * LogMixture(log_ratio, 1 - skew),
            ),
        ),
    ),
    Row(
        "skewed_rkl",
        "the skew divergence, KL(q, (1 - skew) q + skew p)",
        -sp.log(1 - skew + skew * t),
        "Lee 1999",
        Family(
            skew,
            sp.Rational(9, 10),
            sp.S.Zero,
            sp.S.One,
            is_open=True,
        ),
        Form(
            (Piece("sigmoid_difference", (-skew / (1 - skew), sp.S.One, SHIFT), skew),),
            (
                skew * expm1(log_ratio) - LogMixture(log_ratio, skew),
                (log_ratio - LogMixture(log_ratio, 1 - skew)) * y_exp - skew * expm1(log_ratio),
            ),
        ),
    ),
    Row(
        "blended_chi_squared",
        "blended chi-squared: Pearson's at blend 0, Neyman's at 1",
        (t - 1) ** 2 / (1 - blend + blend * t),
        "Lindsay 1994; Györfi and Vajda 2001",
        Family(
            blend,
            sp.Rational(1, 4),
            sp.S.Zero,
            sp.S.One,
            is_open=True,
        ),
        Form(
            (
                Piece(
                    "sigmoid_difference",
                    (-1 / (blend * (1 - blend) ** 2), sp.Integer(2), sp.log(blend / (1 - blend))),
                    blend,
                ),
            ),
            (
                expm1(log_ratio) ** 2 / Mixture(log_ratio, blend),
                expm1(log_ratio) ** 2 / Mixture(log_ratio, 1 - blend),
            ),
        ),
    ),
    Row(
        "softened_total_variation",
        "total variation with a rounded kink",
        (sp.sqrt((t - 1) ** 2 + width**2) - width) / 2,
        "ours: total variation with the absolute value of Charbonnier et al. 1997",
        Family(width, sp.Rational(1, 2), sp.S.Zero, HIGH, is_open=True),
        Form(
            (Piece("soft_sign_difference", (sp.S.Half, width), sp.S.Half),),
            (SoftDistance(expm1(log_ratio), width), SoftDistance(expm1(log_ratio), width * y_exp)),
            SoftDistance(expm1(log_ratio), width),
            limits=(1 / (2 * (sp.sqrt(1 + width**2) + width)), sp.S.Half),
        ),
    ),
    Row(
        "puri_vincze",
        "Puri and Vincze's divergences, with the factor that makes k = 1 total variation",
        sp.Abs(t - 1) ** exponent / (t + 1) ** (exponent - 1) / 2,
        "Puri and Vincze 1990; Kafka, Österreicher and Vincze 1991",
        Family(exponent, sp.Rational(3, 2), sp.S.One, HIGH / 2),
        Form(
            (Piece("puri_vincze_difference", (exponent,), sp.S.One),),
            (PuriVincze(log_ratio, exponent), PuriVincze(log_ratio, exponent)),
            PuriVincze(log_ratio, exponent),
            is_smooth=exponent >= 2,
        ),
    ),
    Row(
        "osterreicher_vajda",
        "Österreicher and Vajda's divergences: Hellinger's at beta 1/2, GAN's at 1, total variation at infinity",
        ((1 + t**beta) ** (1 / beta) - 2 ** (1 / beta - 1) * (1 + t)) * beta / (beta - 1),
        "Österreicher and Vajda 2003",
        Family(beta, sp.Integer(4), sp.Rational(1, 16), HIGH, specials=(sp.S.One,)),
        Form(
            (Piece("sigmoid_power_difference", (beta,), sp.S.One),),
            (PowerMean(log_ratio, beta), PowerMean(log_ratio, beta)),
            PowerMeanNear(log_ratio, beta),
            beta > 2,
            (PowerMeanLimit(beta), PowerMeanLimit(beta)),
        ),
    ),
)

JS_PRINTED = PrintedRow(
    "js_printed",
    "the weight printed for JS",
    -2 * sp.tanh(sp.Symbol("log_ratio", real=True) / 2),
    "arXiv:2511.05844, as printed: (q - p)/m with m = (p + q)/2",
)
