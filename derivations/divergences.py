"""The table of divergences: name, generator f(t) with t = p/q, and where it comes from. A new one is a new row."""

from dataclasses import dataclass

import sympy as sp

from fguidance.symbolic.forms import Difference, Hypotenuse, Over, Power, RelativePower, Sigmoid, Softplus, p, q, u
from fguidance.symbolic.parsing import t

alpha = sp.Symbol("alpha", real=True)
power = sp.Symbol("lambda_", real=True)
order, skew, blend = sp.symbols("order skew blend", positive=True)
width, exponent, beta = sp.symbols("width exponent beta", positive=True)
LOW, HIGH = sp.Integer(-64), sp.Integer(64)
ODDS = sp.log(skew / (1 - skew))
GAP = Difference(p, q, u)
MIXTURE = blend * p + (1 - blend) * q
ROOT = Hypotenuse(GAP, width * q)
HYPOTENUSE = Hypotenuse(p, q)
SHARE = sp.tanh(u / 2)
TURN = (t - 1) / (t + 1)
LIFT = (beta - 1) / beta
RISE = sp.log(2) + (Softplus(-beta * sp.Abs(u)) / beta - Softplus(-sp.Abs(u))) / LIFT

PERIMETER = sp.sqrt(1 + t**2) - (1 + t) / sp.sqrt(2)
SLOPE = sp.Symbol("v", real=True)
LAMBERT = sp.LambertW(sp.exp(1 - SLOPE))
GAN = "Goodfellow et al. 2014; Nowozin, Cseke and Tomioka 2016"
ALPHA_SLOPE = (t ** (alpha - 1) - 1) / (alpha - 1)


@dataclass(frozen=True)
class Stated:
    """The stable form of a generator where it is not found from its terms; emission proves each part of it.

    Attributes:
        weight: p f'(p/q) up to a multiple of p, for each condition on a family's parameter; the last holds otherwise.
        value: q f(p/q) in the gauge f'(1) = 0, likewise.
        is_precise: whether the value is precise near p = q too, so that nothing is integrated there.
        is_smooth: whether f is twice differentiable; in a family a condition on the parameter.
        limits: f(0) and the limit of f(t)/t at infinity, where SymPy's own are not readable.
    """

    weight: tuple[tuple[sp.Basic, sp.Expr], ...]
    value: tuple[tuple[sp.Basic, sp.Expr], ...]
    is_precise: bool = False
    is_smooth: sp.Basic = sp.true
    limits: tuple[sp.Expr, sp.Expr] | None = None


def always(expression: sp.Expr) -> tuple[tuple[sp.Basic, sp.Expr], ...]:
    """An expression that holds for every parameter."""
    return ((sp.true, expression),)


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
    """A divergence D_f = sum_i q_i f(p_i / q_i), or a family of them.

    Attributes:
        name: the name in code.
        title: the name in words.
        generator: f(t), t = p/q.
        source: where it comes from.
        family: what there is to know of its parameter.
        stated: its stable form, where that is not found from the terms of f.
        slope: f' in the gauge as a reader would write it, where SymPy does not; proved where it is shown.
        accuracy: the bound of a component of the force in float64 where it is not 8 ulp of the largest weight or
            probability, and 256 of itself for logits at least 10 apart.
        conjugate: sup over t > 0 of v t - f(t), in v = `SLOPE`, where it has a closed form; proved where it is shown.
    """

    name: str
    title: str
    generator: sp.Expr
    source: str
    family: Family | None = None
    stated: Stated | None = None
    slope: sp.Expr | None = None
    accuracy: str = ""
    conjugate: sp.Expr | None = None

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
    Row(
        "rkl", "KL(q, p): the paper's reverse KL", -sp.log(t), "arXiv:2511.05844; Csiszár 1967",
        conjugate=-1 - sp.log(-SLOPE),
    ),
    Row(
        "fkl", "KL(p, q): the paper's forward KL", t * sp.log(t), "arXiv:2511.05844; Csiszár 1967",
        conjugate=sp.exp(SLOPE - 1),
    ),
    Row(
        "js",
        "Jensen-Shannon",
        (t * sp.log(t) - (1 + t) * sp.log((1 + t) / 2)) / 2,
        "arXiv:2511.05844 (corrected); Lin 1991",
        conjugate=-sp.log(2 - sp.exp(2 * SLOPE)) / 2,
    ),
    Row("hellinger", "squared Hellinger", (sp.sqrt(t) - 1) ** 2, "Hellinger 1909", conjugate=SLOPE / (1 - SLOPE)),
    Row("pearson", "Pearson's chi-squared", (t - 1) ** 2, "Pearson 1900", conjugate=SLOPE + SLOPE**2 / 4),
    Row("neyman", "Neyman's chi-squared", (t - 1) ** 2 / t, "Neyman 1949", conjugate=2 - 2 * sp.sqrt(1 - SLOPE)),
    Row("jeffreys", "Jeffreys", (t - 1) * sp.log(t), "Jeffreys 1946", conjugate=LAMBERT + 1 / LAMBERT + SLOPE - 2),
    Row(
        "triangular", "triangular discrimination", (t - 1) ** 2 / (t + 1), "Vincze 1981; Le Cam 1986",
        conjugate=4 - SLOPE - 4 * sp.sqrt(1 - SLOPE),
    ),
    Row(
        "lin_k", "Lin's K of q from p, KL(q, (p + q)/2)", -sp.log((1 + t) / 2), "Lin 1991",
        conjugate=-1 - SLOPE - sp.log(-2 * SLOPE),
    ),
    Row("lin_k_reverse", "Lin's K of p from q, KL(p, (p + q)/2)", t * sp.log(2 * t / (1 + t)), "Lin 1991"),
    Row(
        "gan", "the GAN objective's divergence, twice JS", t * sp.log(t) - (t + 1) * sp.log((t + 1) / 2), GAN,
        conjugate=-sp.log(2 - sp.exp(SLOPE)),
    ),
    Row(
        "symmetric_chi_squared",
        "symmetric chi-squared, Pearson's plus Neyman's",
        (t - 1) ** 2 * (t + 1) / t,
        "Dragomir, Šunde and Buşe 2000",
    ),
    Row(
        "vajda_chi4",
        "Vajda's chi^4",
        (t - 1) ** 4,
        "Vajda 1973",
        stated=Stated(always(4 * p * Over(GAP, q) ** 3), always(q * Over(GAP, q) ** 4), is_precise=True),
        conjugate=SLOPE + 3 * sp.Abs(SLOPE / 4) ** sp.Rational(4, 3),
    ),
    Row(
        "arithmetic_geometric",
        "Taneja's arithmetic-geometric mean divergence",
        (t + 1) / 2 * sp.log((t + 1) / (2 * sp.sqrt(t))),
        "Taneja 1995",
    ),
    Row(
        "perimeter",
        "Österreicher's perimeter divergence",
        PERIMETER,
        "Österreicher 1996",
        stated=Stated(
            always(-q * Over(p, HYPOTENUSE) * Over(q, HYPOTENUSE + p)), always(HYPOTENUSE - (p + q) / sp.sqrt(2))
        ),
        conjugate=1 / sp.sqrt(2) - sp.sqrt(1 - (SLOPE + 1 / sp.sqrt(2)) ** 2),
    ),
    Row(
        "exponential",
        "exponential divergence",
        sp.exp(t - 1) - t,
        "ours: the exponential in the gauge f'(1) = 0",
        stated=Stated(always(p * sp.exp(Over(p, q) - 1)), always(q * sp.exp(Over(p, q) - 1) - p)),
        accuracy="8 + 4 t ulp, t the largest p/q, of the largest weight or probability",
        conjugate=(1 + SLOPE) * sp.log(1 + SLOPE),
    ),
    Row(
        "total_variation",
        "total variation distance",
        sp.Abs(t - 1) / 2,
        "Csiszár 1967; Ali and Silvey 1966",
        stated=Stated(always(p * sp.sign(u) / 2), always(sp.Abs(GAP) / 2), is_precise=True, is_smooth=sp.false),
    ),
    Row(
        "alpha",
        "alpha family",
        (t**alpha - alpha * t - (1 - alpha)) / (alpha * (alpha - 1)),
        "Cressie and Read 1984; Amari 1985",
        Family(alpha, sp.Rational(1, 2), LOW, HIGH, specials=(sp.S.Zero, sp.S.One), as_alpha=(sp.S.One, alpha)),
        Stated(
            (
                (sp.Abs(alpha - 1) < sp.S.Half, p * RelativePower(u, alpha - 1)),
                (sp.true, Power(p, q, u, alpha) / (alpha - 1)),
            ),
            (
                (alpha < sp.S.Half, (GAP - q * RelativePower(u, alpha)) / (1 - alpha)),
                (sp.true, (p * RelativePower(u, alpha - 1) - GAP) / alpha),
            ),
        ),
        conjugate=((1 + (alpha - 1) * SLOPE) ** (alpha / (alpha - 1)) - 1) / alpha,
    ),
    Row(
        "amari",
        "Amari's alpha-divergences",
        4 * (1 - t ** ((1 + alpha) / 2)) / (1 - alpha**2),
        "Amari 1985",
        Family(alpha, sp.S.Zero, LOW, HIGH, specials=(-sp.S.One, sp.S.One), as_alpha=(sp.S.One, (1 + alpha) / 2)),
        conjugate=2 / (1 + alpha) * ((alpha - 1) * SLOPE / 2) ** ((1 + alpha) / (alpha - 1)) - 4 / (1 - alpha**2),
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
        conjugate=2 / (power + 1) * (1 / (power + 1) + power * SLOPE / 2) ** ((power + 1) / power),
    ),
    Row(
        "tsallis",
        "Tsallis relative entropies",
        (t**order - t) / (order - 1),
        "Tsallis 1998",
        Family(order, sp.Integer(2), sp.S.Zero, HIGH, is_open=True, specials=(sp.S.One,), as_alpha=(order, order)),
        conjugate=((1 + (order - 1) * SLOPE) / order) ** (order / (order - 1)),
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
        Stated(
            always(-skew * p * Softplus(-u - ODDS)),
            always(
                -skew * p * (Softplus(-u - ODDS) + sp.log(skew))
                - (1 - skew) * q * (Softplus(u + ODDS) + sp.log(1 - skew))
            ),
            limits=((skew - 1) * sp.log(1 - skew), -skew * sp.log(skew)),
        ),
        conjugate=(skew - 1) * sp.log((1 - skew * sp.exp(SLOPE / skew)) / (1 - skew)),
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
        Stated(
            always(-skew / (1 - skew) * p * Sigmoid(-u - ODDS)),
            always(skew * GAP - q * (Softplus(u + ODDS) + sp.log(1 - skew))),
            limits=(-skew - sp.log(1 - skew), skew),
        ),
        conjugate=-1 - (1 - skew) / skew * SLOPE - sp.log(-SLOPE / skew),
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
        Stated(
            always(p * Over(GAP, MIXTURE) * Over(blend * p + (2 - blend) * q, MIXTURE)),
            always(GAP * Over(GAP, MIXTURE)),
            is_precise=True,
        ),
        accuracy="8 ulp of the largest weight or probability",
        conjugate=SLOPE + (2 - 2 * sp.sqrt(1 - blend * SLOPE) - blend * SLOPE) / blend**2,
    ),
    Row(
        "softened_total_variation",
        "total variation with a rounded kink",
        (sp.sqrt((t - 1) ** 2 + width**2) - width) / 2,
        "ours: total variation with the absolute value of Charbonnier et al. 1997",
        Family(width, sp.Rational(1, 2), sp.S.Zero, HIGH, is_open=True),
        Stated(
            always(p * Over(GAP, 2 * ROOT)),
            always(GAP * Over(GAP, 2 * (ROOT + width * q))),
            is_precise=True,
        ),
        accuracy="8 + 8/width ulp of the largest weight or probability",
        conjugate=SLOPE + width / 2 * (1 - sp.sqrt(1 - 4 * SLOPE**2)),
    ),
    Row(
        "puri_vincze",
        "Puri and Vincze's divergences, with the factor that makes k = 1 total variation",
        sp.Abs(t - 1) ** exponent / (t + 1) ** (exponent - 1) / 2,
        "Puri and Vincze 1990; Kafka, Österreicher and Vincze 1991",
        Family(exponent, sp.Rational(3, 2), sp.S.One, HIGH / 2),
        Stated(
            always(p * sp.sign(u) * sp.Abs(SHARE) ** (exponent - 1) * (exponent - (exponent - 1) * SHARE) / 2),
            always((p + q) * sp.Abs(SHARE) ** exponent / 2),
            is_precise=True,
            is_smooth=exponent >= 2,
        ),
        sp.sign(t - 1) * sp.Abs(TURN) ** (exponent - 1) * (exponent - (exponent - 1) * TURN) / 2,
        accuracy="8 ulp of the largest weight or probability for an exponent of 2 and more; less below 2, p near q",
    ),
    Row(
        "osterreicher_vajda",
        "Österreicher and Vajda's divergences: Hellinger's at beta 1/2, GAN's at 1, total variation at infinity",
        ((1 + t**beta) ** (1 / beta) - 2 ** (1 / beta - 1) * (1 + t)) * beta / (beta - 1),
        "Österreicher and Vajda 2003",
        Family(beta, sp.Integer(4), sp.Rational(1, 16), HIGH, specials=(sp.S.One,)),
        Stated(
            always(p * RelativePower(-Softplus(-beta * u), LIFT)),
            always((p + q) * 2**-LIFT * RelativePower(RISE, LIFT)),
        ),
        sp.Mul(1 / LIFT, (t**beta / (1 + t**beta)) ** LIFT - sp.Rational(1, 2) ** LIFT, evaluate=False),
        accuracy="8 + 2^(1/beta) ulp of the largest weight or probability",
    ),
)

JS_PRINTED = PrintedRow(
    "js_printed",
    "the weight printed for JS",
    -2 * sp.tanh(u / 2),
    "arXiv:2511.05844, as printed: (q - p)/m with m = (p + q)/2",
)
