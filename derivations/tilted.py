"""The tilted score of a batch: its gradient, its limits, and the factor B between it and the sum.

S_tilted(t) = (1/t) log((1/B) sum_b exp(t l_b)) with l_b = log p_{tau_1,tau_2}(y_b|x_b). The paper says that t > 0
favours confident samples and t < 0 unconfident ones, and reports t = -0.2.
"""

import sympy
from sympy import Expr, Function, IndexedBase, Sum, Symbol, exp, log, oo, symbols
from sympy.printing.latex import LatexPrinter

from derivations.claim import OURS, PAPER, Claim
from derivations.notation import x
from derivations.proof import fill, require, require_zero, sum_over

B = Symbol("B", integer=True, positive=True)
b = Symbol("b", integer=True, positive=True)
t = Symbol("t", real=True, nonzero=True)
tilt = Symbol("t", positive=True)
own, other, highest, gap_2, gap_3 = symbols("l_a l_b l_1 d_2 d_3", positive=True)
Z = Symbol("Z", positive=True)
log_probability = IndexedBase(r"\ell", real=True)

SHARE = exp(t * own) / Z
MEAN = Sum(log_probability[b], (b, 1, B)) / B
ODDS = exp(t * (own - other))
LOWEST = highest - gap_2 - gap_3


class LogProbability(Function):  # type: ignore[misc]
    """The undefined log-probability l_b of sample b along one coordinate x of the batch of images."""

    nargs = 2

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"\ell_{{{printer._print(self.args[0])}}}{power}"


def tilted_gradient(share: Expr = SHARE) -> Claim:
    """The gradient is the mean of the samples' gradients under softmax(t l), for every batch size."""
    name = "tilted-gradient"
    value = LogProbability(b, x)
    normaliser = Sum(exp(t * value), (b, 1, B))
    score = log(normaliser / B) / t
    actual = score.diff(x).replace(Sum, lambda summand, limits: sum_over(summand, index=b, size=B))
    stated = sum_over(share.subs({own: value, Z: normaliser}) * value.diff(x), index=b, size=B)
    require_zero(name, actual - stated)
    return Claim(
        id=name,
        title="Gradient of the tilted score",
        statement=fill(
            r"""
            With $\ell_b = \log p_{\tau_1,\tau_2}(y_b|x_b)$ over a batch of any size $B$,
            $\nabla S_{\mathrm{tilted}}(t) = \sum_{b=1}^B s_b \nabla \ell_b$ with
            $s = \mathrm{softmax}(t \ell)$.
            """
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            SymPy differentiates $<score>$ along one coordinate, with $B$ a symbol:

            $$<actual> .$$

            The factors $1/B$ and $t$ have cancelled, and $e^{t \ell_b} / \sum_c e^{t \ell_c}$ is $s_b$. Each $\ell_b$
            depends on its own image only, so sample $b$ moves along $s_b \nabla_{x_b} \ell_b$: tilting
            changes the length of each sample's guidance, not its direction.
            """,
            score=score,
            actual=actual,
        ),
        equation="eq-tilted-gradient",
    )


def tilted_limits(at_zero: Expr = MEAN, at_infinity: Expr = highest, at_minus_infinity: Expr = LOWEST) -> Claim:
    """The tilted score tends to the mean at t = 0, to the maximum at +oo and to the minimum at -oo."""
    name = "tilted-limits"
    cumulant = log(Sum(exp(tilt * log_probability[b]), (b, 1, B)) / B)
    at_start = cumulant.subs(tilt, 0).doit()
    slope = cumulant.diff(tilt).subs(tilt, 0).doit()
    require_zero(name, at_start, slope - at_zero)
    upper = log((1 + exp(-tilt * gap_2) + exp(-tilt * (gap_2 + gap_3))) / 3) / tilt
    lower = -log((1 + exp(-tilt * gap_3) + exp(-tilt * (gap_2 + gap_3))) / 3) / tilt
    require_zero(name, highest + sympy.limit(upper, tilt, oo) - at_infinity)
    require_zero(name, LOWEST + sympy.limit(lower, tilt, oo) - at_minus_infinity)
    require_zero(name, sympy.limit(log(B) / tilt, tilt, oo))
    return Claim(
        id=name,
        title="Limits of the tilted score",
        statement=fill(
            r"""
            $S_{\mathrm{tilted}}(t)$ tends to the mean of the $\ell_b$ as $t \to 0$, to their maximum as
            $t \to +\infty$ and to their minimum as $t \to -\infty$.
            """
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            Let $\kappa(t) = <cumulant>$, so that $S_{\mathrm{tilted}}(t) = \kappa(t)/t$. Then $\kappa(0) = <start>$ and
            $\kappa'(0) = <slope>$, so the quotient tends to the mean. For $t > 0$ take the maximum
            $\ell_{\max}$ out of the sum: $S_{\mathrm{tilted}}(t) = \ell_{\max} + \frac1t \log\frac{A}{B}$ with
            $A = \sum_b e^{t(\ell_b - \ell_{\max})}$ between $1$ and $B$, hence
            $\ell_{\max} - \frac{\log B}{t} \le S_{\mathrm{tilted}}(t) \le \ell_{\max}$, and $\frac{\log B}{t} \to 0$.
            For $t < 0$ the same with the minimum and the inequalities turned. SymPy confirms both limits
            for three samples with free gaps.
            """,
            cumulant=cumulant,
            start=at_start,
            slope=slope,
        ),
        equation="eq-tilted",
    )


def tilted_favours(odds: Expr = ODDS, doubtful: tuple[int, int] = (5, 7)) -> Claim:
    """Which of two samples has the larger share is decided by the tempered scores and the sign of t."""
    name = "tilted-favours"
    ratio = SHARE / SHARE.subs(own, other)
    require_zero(name, sympy.powsimp(ratio / odds) - 1)
    growth = sympy.diff(odds.subs(t, tilt), own)
    require(name, growth.is_positive, growth)
    decline = sympy.diff(odds.subs(t, -tilt), own)
    require(name, decline.is_negative, decline)
    even = (0, 0)
    confidence = [1 / (1 + exp(rest - label)) for label, rest in (even, doubtful)]
    half = sympy.Rational(1, 2)
    score = [label - log(exp(half * label) + exp(half * rest)) for label, rest in (even, doubtful)]
    require(name, confidence[1] < confidence[0], confidence)
    require(name, score[1] > score[0], score)
    return Claim(
        id=name,
        title="What the tilt favours",
        statement=fill(
            r"""
            A tilt $t > 0$ favours confident samples, a tilt $t < 0$ unconfident ones.
            """
        ),
        source=f"{PAPER}, tilted score",
        verdict="corrected",
        correction=fill(
            r"""
            A tilt $t > 0$ gives the larger share to samples with a large $\ell_b = \log p_{\tau_1,\tau_2}(y_b|x_b)$,
            a tilt $t < 0$ to those with a small one. For $\tau_1 = \tau_2 = 1$ these are the confident and the
            unconfident ones; for other temperatures they need not be.
            """
        ),
        counterexample=fill(
            r"""
            At $\tau_1 = 1$, $\tau_2 = \frac12$ a classifier with the logits $<even>$, the label's first, gives
            $p_y = <first>$ and $\ell = <low>$; one with the logits $<doubtful>$ gives $p_y = <second>$ and
            $\ell = <high>$. The less confident has the larger score and, for $t > 0$, the larger share.
            """,
            even=sympy.Tuple(*even),
            doubtful=sympy.Tuple(*doubtful),
            first=confidence[0],
            second=sympy.N(confidence[1], 2),
            low=sympy.N(score[0], 3),
            high=sympy.N(score[1], 4),
        ),
        proof=fill(
            r"""
            The shares of two samples are in the ratio $s_a/s_b = <odds>$, which grows with $\ell_a$ if $t > 0$ and
            falls with it if $t < 0$. At the reported $t = -0.2$ the gradient of the sample with the smaller $\ell$ is
            multiplied by more; how far it is moved is a matter of $\lvert \nabla \ell \rvert$, too.
            """,
            odds=odds.subs({own: Symbol(r"\ell_a"), other: Symbol(r"\ell_b")}),
        ),
        equation="eq-tilted-gradient",
    )


def tilted_batch_factor(factor: Expr = B) -> Claim:
    """Without tilt the batch mean is the usual sum divided by B; this factor rescales the guidance."""
    name = "tilted-batch-factor"
    equal_shares = SHARE.subs(Z, Sum(exp(t * log_probability[b]), (b, 1, B))).subs(t, 0).doit()
    require_zero(name, factor * equal_shares - 1)
    total = Sum(log_probability[b], (b, 1, B))
    require_zero(name, factor * MEAN - total)
    return Claim(
        id=name,
        title="The factor B between the tilted mean and the usual sum",
        statement=fill(
            r"""
            As $t \to 0$, $<factor>\, S_{\mathrm{tilted}}(t)$ and not $S_{\mathrm{tilted}}(t)$ tends to the sum
            $\sum_b \ell_b$ whose gradient untilted guidance uses.
            """,
            factor=factor,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            At $t = 0$ every share is $s_b = <share>$, so sample $b$ is guided by
            $\frac{1}{B} \nabla_{x_b} \ell_b$, while guidance without tilt adds $\nabla_{x_b} \ell_b$ to each sample,
            the gradient of the sum. The shares sum to one at every $t$: the formula as stated weakens the
            guidance $B$ times on average, unless the guidance scale makes up for it.
            """,
            share=equal_shares,
        ),
        equation="eq-tilted",
    )


def batch_of_one(score: Expr = own) -> Claim:
    """A batch of one sample is not tilted at all."""
    name = "tilted-batch-of-one"
    alone = sympy.expand_log(log(exp(t * own)), force=True) / t
    require_zero(name, alone - score)
    share = SHARE.subs(Z, exp(t * own))
    require_zero(name, share - 1)
    pair = exp(t * own) / (exp(t * own) + exp(t * other))
    require(name, sympy.simplify(pair.diff(other)) != 0, pair)
    return Claim(
        id=name,
        title="A batch of one is not tilted",
        statement=fill(
            r"""
            For $B = 1$, $S_{\mathrm{tilted}}(t) = \ell_1$ for every $t$; for $B > 1$ each sample's guidance
            depends on the others in its batch.
            """
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            The only share is $e^{t \ell_1}/e^{t \ell_1} = <share>$ and the score
            $\frac1t \log e^{t \ell_1} = \ell_1$. For two samples
            $\partial s_a / \partial \ell_b = <slope>$, which is not zero: the same image gets a different
            guidance in another batch, so a tilted run is reproducible only with its batches.
            """,
            share=share,
            slope=sympy.factor(pair.diff(other)).subs({own: Symbol(r"\ell_a"), other: Symbol(r"\ell_b")}),
        ),
        equation="eq-tilted",
    )


PROVERS = (tilted_gradient, tilted_limits, tilted_favours, tilted_batch_factor, batch_of_one)
