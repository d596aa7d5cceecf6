"""Proposition 2: the gradient of f-divergence guidance, for an undefined generator and any number of classes.

The paper states, for the score S_D = log p_{tau_1,tau_2}(y|x) - alpha D_f(q_y || p(.|x)),

    grad S_D = tau_1 grad f_y - tau_2 sum_i p_{tau_2}(i|x) grad f_i - alpha sum_i w_f(q_y(i), p(i|x)) g_i(x)

with w_f(q, p) = p f'(p/q) and g_i = grad f_i - sum_j p(j|x) grad f_j. The other claims of this file are ours:
what the formula implies for the generator's linear part, for the scale of the weight, and in the logits.
"""

import sympy
from sympy import Expr, Function, IndexedBase, S, Sum, Symbol, exp, log, symbols

from derivations.claim import OURS, PAPER, Claim
from derivations.notation import (
    Generator,
    Logit,
    N,
    Slope,
    alpha,
    force,
    i,
    label,
    logit_gradient,
    mean,
    mean_gradient,
    own,
    p,
    p_,
    p_k,
    partition,
    probability,
    q,
    q_,
    t,
    tau_1,
    tau_2,
    tempered,
    total,
    w_k,
    x,
    y,
)
from derivations.proof import fill, require_zero, sum_over

WEIGHT = p * Slope(p / q)
CENTRED = own - mean
SCORE_GRADIENT = tau_1 * label - tau_2 * tempered - alpha * force
LOGIT_FORM = w_k - p_k * total

c, scale = symbols("c lambda", positive=True)
LINEAR_PART = c * (t - 1)
SUM_TO_ONE = {p_[i]: S.One, q_[i]: S.One}


def divergence_gradient(weight: Expr = WEIGHT, g: Expr = CENTRED) -> Claim:
    """The gradient of D_f is the sum of the weights times the centred gradients, for every N."""
    name = "proposition-2-divergence"
    divergence = Sum(q_[i] * Generator(probability(i) / q_[i]), (i, 1, N))
    stated = weight.subs({p: probability(i), q: q_[i]}, simultaneous=True)
    stated *= g.subs({own: logit_gradient(i), mean: mean_gradient()})
    require_zero(name, divergence.diff(x).function - stated)
    return Claim(
        id=name,
        title="Gradient of the divergence",
        statement=fill(
            r"""
            For any target $q > 0$, any number of classes $N$ and any generator $f$ with a derivative at every
            $p_i/q_i$, $\nabla_x D_f(q\,\Vert\,p) = \sum_{i=1}^N w_f(q_i, p_i)\, g_i$ with
            $w_f(q, p) = <weight>$ and $g_i = <g>$.
            """,
            weight=weight,
            g=g,
        ),
        source=f"{PAPER}, Proposition 2",
        verdict="verified",
        proof=fill(
            r"""
            Let $x$ be one coordinate of the image, $p_i = e^{f_i}/Z$ and $Z = <Z>$. SymPy differentiates
            $D_f = \sum_i q_i f(p_i/q_i)$ term by term, with $f$ and the $f_i(x)$ undefined functions and
            $N$ a symbol. The factor $q_i$ cancels the inner derivative $1/q_i$ of the ratio $p_i/q_i$, so
            that $f'(p_i/q_i)\, \partial_x p_i$ is left of term $i$, with

            $$\partial_x p_i = <slope> = p_i\, g_i .$$

            The difference between this term and $w_f(q_i, p_i)\, g_i$ cancels to zero for every $i$, hence
            for every $N$.
            """,
            Z=partition(),
            slope=sympy.together(probability(i).diff(x)),
        ),
        equation="eq-weight",
    )


def score_of(log_probability: Expr, divergence: Expr) -> Expr:
    """S_D, from the tempered log-probability and the divergence."""
    return log_probability - alpha * divergence


def score_gradient(claimed: Expr = SCORE_GRADIENT) -> Claim:
    """The gradient of the whole score, with the divergence's gradient taken from the claim before."""
    name = "proposition-2"
    divergence = Function("D_f")(x)
    score = score_of(tau_1 * Logit(y, x) - log(partition(tau_2)), divergence)
    meaning = {label: logit_gradient(y), tempered: mean_gradient(tau_2), force: divergence.diff(x)}
    require_zero(name, score.diff(x) - claimed.subs(meaning))
    return Claim(
        id=name,
        title="Gradient of the guidance score",
        statement=fill(
            r"""
            For $S_D(x, y) = \log p_{\tau_1,\tau_2}(y|x) - \alpha D_f(q_y\,\Vert\,p(\cdot|x))$,

            $$\nabla_x S_D = <claimed> .$$
            """,
            claimed=claimed,
        ),
        source=f"{PAPER}, Proposition 2",
        verdict="verified",
        proof=fill(
            r"""
            The score is $<score>$. Its derivative along one coordinate $x$ is

            $$<derivative> ,$$

            whose quotient of two sums is $\tau_2$ times the mean of the $\nabla f_i$ under
            $p_{\tau_2} = \mathrm{softmax}(\tau_2 f)$. Put the gradient of $D_f$ from
            {ref}`Gradient of the divergence <ledger-proposition-2-divergence>` in its place.
            """,
            score=score,
            derivative=score.diff(x),
        ),
        equation="eq-proposition-2",
    )


def nonnegativity(tangent: Expr = t - 1) -> Claim:
    """The divergence is a sum of gaps above the tangent at t = 1, so it is never negative."""
    name = "nonnegativity"
    slope = Symbol("s", real=True)
    gap = Generator(t) - slope * tangent
    summand = (q * gap.subs(t, p / q)).subs({p: p_[i], q: q_[i]}, simultaneous=True)
    rest = sympy.expand(summand - q_[i] * Generator(p_[i] / q_[i]))
    require_zero(name, sum_over(rest, SUM_TO_ONE))
    return Claim(
        id=name,
        title="The divergence is zero at p = q alone",
        statement=fill(
            r"""
            For a strictly convex $f$ with $f(1) = 0$ that has a slope at $1$, and positive distributions,
            $D_f(q\,\Vert\,p) \ge 0$, and $D_f = 0$ only where $p = q$.
            """
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            A strictly convex $f$ lies above its tangent $f'(1)\,(<tangent>)$ but at $1$. The sum
            $\sum_i q_i \left(f(p_i/q_i) - f'(1)\,(p_i/q_i - 1)\right)$ is $D_f$, as SymPy finds with
            $\sum p_i = \sum q_i = 1$, and none of its terms is negative. If it is zero every term is, and every
            $p_i/q_i$ is $1$.
            """,
            tangent=tangent,
        ),
        equation="eq-divergence",
    )


def centred_gradients(under: Expr = p_[i]) -> Claim:
    """The centred gradients have mean zero under p (not under another distribution)."""
    name = "centred-gradients"
    gradient = IndexedBase(r"\nabla{f}")
    mean_under_p = sum_over(p_[i] * gradient[i])
    require_zero(name, sum_over(under * (gradient[i] - mean_under_p), SUM_TO_ONE))
    return Claim(
        id=name,
        title="Centred gradients sum to zero",
        statement=fill(r"$\sum_{i=1}^N <under>\, g_i = 0$.", under=under),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            The mean $M = <mean>$ does not depend on $i$, so the sum is $M - M \sum_i p_i$, and
            $\sum_i p_i = 1$.
            """,
            mean=mean_under_p,
        ),
        equation="eq-proposition-2",
    )


def gauge(linear_part: Expr = LINEAR_PART) -> Claim:
    """Adding c (t - 1) to the generator changes neither the divergence nor the force."""
    name = "gauge"
    at_class = {p: p_[i], q: q_[i]}
    value = (q * linear_part.subs(t, p / q)).subs(at_class)
    weight = (p * linear_part.diff(t).subs(t, p / q)).subs(at_class)
    require_zero(name, sum_over(value, SUM_TO_ONE))
    require_zero(name, weight - p_[i] * sum_over(weight, SUM_TO_ONE))
    slope = Slope(t) + linear_part.diff(t).subs(c, -Slope(S.One))
    require_zero(name, slope.subs(t, 1))
    return Claim(
        id=name,
        title="The gauge f'(1) = 0",
        statement=fill(
            r"""
            The generators $f$ and $f + <part>$ have the same divergence and the same force, for every
            constant $c$. So a divergence whose generator has a slope at $1$ may be written with $f'(1) = 0$.
            """,
            part=linear_part,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            The divergence gains $\sum_i (<value>)$, which is $c - c = 0$ because $p$ and $q$ both sum to
            one. The weight gains $<weight>$, a multiple of $p_i$, and $\sum_i p_i g_i = 0$ by
            {ref}`Centred gradients sum to zero <ledger-centred-gradients>`: the force gains nothing. The
            choice $c = -f'(1)$ gives the slope $<slope>$, which is zero at $t = 1$.
            """,
            value=sympy.expand(value),
            weight=weight,
            slope=slope,
        ),
        equation="eq-gauge",
    )


def homogeneity(degree: Expr = S.One) -> Claim:
    """A weight p f'(p/q) scales with its two arguments; the degree is one."""
    name = "homogeneity"
    scaled = WEIGHT.subs({p: scale * p, q: scale * q}, simultaneous=True)
    require_zero(name, scaled - scale**degree * WEIGHT)
    h = Function("h")
    slope = h(t) / t
    require_zero(name, p * slope.subs(t, p / q) - q * h(p / q))
    return Claim(
        id=name,
        title="Weights are homogeneous of degree one",
        statement=fill(
            r"""
            For every generator, $w_f(\lambda q, \lambda p) = <factor>\, w_f(q, p)$. Conversely every function of
            $q, p > 0$ with this property is $p\, f'(p/q)$ with $f'(t) = w(1, t)/t$; whether that $f$ is convex is
            another question: $w = q$ gives $f = \log t$, which generates no divergence.
            """,
            factor=scale**degree,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            SymPy finds $w_f(\lambda q, \lambda p) = <scaled>$: the ratio inside $f'$ does not see $\lambda$.
            Conversely, a weight of degree one is $w(q, p) = q\, w(1, p/q) = q\, h(p/q)$ with
            $h(t) = w(1, t)$, and $p f'(p/q)$ with $f'(t) = <slope>$ is the same function.
            """,
            scaled=scaled,
            slope=slope,
        ),
        equation="eq-weight",
    )


def _logit_residuals(classes: int, claimed: Expr) -> list[Expr]:
    """What the claim leaves of the gradient in each of the logits of a softmax with so many classes."""
    logits, targets = symbols(f"f_1:{classes + 1}", real=True), symbols(f"q_1:{classes + 1}", positive=True)
    normaliser = sum(exp(logit) for logit in logits)
    probabilities = [exp(logit) / normaliser for logit in logits]
    divergence = sum(b * Generator(a / b) for a, b in zip(probabilities, targets, strict=True))
    weights = [a * Slope(a / b) for a, b in zip(probabilities, targets, strict=True)]
    return [
        divergence.diff(logits[n])
        - claimed.subs({w_k: weights[n], p_k: probabilities[n], total: sum(weights)}, simultaneous=True)
        for n in range(classes)
    ]


def logit_form(claimed: Expr = LOGIT_FORM) -> Claim:
    """The force in the logits is w - p sum(w), and its components sum to zero."""
    name = "logit-gradient"
    for classes in (2, 3, 4):
        require_zero(name, *_logit_residuals(classes, claimed))
    weight, sum_of_weights = IndexedBase("w"), Symbol("W")
    component = claimed.subs({w_k: weight[i], p_k: p_[i], total: sum_of_weights})
    require_zero(name, sum_over(component, {p_[i]: S.One, weight[i]: sum_of_weights}))
    return Claim(
        id=name,
        title="The force in the logits",
        statement=fill(
            r"""
            $\partial D_f / \partial f_k = <claimed>$ with $W = \sum_i w_i$, and these components sum to
            zero.
            """,
            claimed=claimed,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            Take the logit $f_k$ itself as the coordinate in
            {ref}`Gradient of the divergence <ledger-proposition-2-divergence>`: then
            $\nabla f_i = [i = k]$, so $g_i = [i = k] - p_k$ and
            $\sum_i w_i g_i = w_k - p_k \sum_i w_i$, for every $N$. SymPy confirms it for $N = 2, 3, 4$ by
            differentiating $D_f$ in each logit, with $f$ undefined and all targets free symbols. The sum
            over $k$ is $W - W \sum_k p_k = 0$: no divergence moves all logits together.
            """
        ),
        equation="eq-logit-gradient",
    )


def _hessian_gap(classes: int, curvature: Expr) -> list[Expr]:
    """What the claim leaves of the second derivatives at p = q, for the first three orders of a generator at 1."""
    logits, targets = symbols(f"f_1:{classes + 1}", real=True), symbols(f"q_1:{classes + 1}", positive=True)
    first, second, third = symbols("a b c", real=True)
    generator = first * (t - 1) + second * (t - 1) ** 2 / 2 + third * (t - 1) ** 3
    normaliser = sum(exp(logit) for logit in logits)
    total = sum(targets)  # so that the targets may be free
    divergence = sum(b / total * generator.subs(t, exp(f) / normaliser * total / b)
                     for f, b in zip(logits, targets, strict=True))  # fmt: skip
    at_target = {logit: log(b) for logit, b in zip(logits, targets, strict=True)}
    stated = curvature.subs(scale, second)
    return [
        divergence.diff(logits[k], logits[j]).subs(at_target)
        - stated * (targets[k] / total * (1 if k == j else 0) - targets[k] * targets[j] / total**2)
        for k in range(classes)
        for j in range(k, classes)
    ]


def hessian(curvature: Expr = scale) -> Claim:
    """At p = q the divergence is curved like every other, but for the factor f''(1)."""
    name = "hessian-at-agreement"
    for classes in (2, 3):
        require_zero(name, *_hessian_gap(classes, curvature))
    return Claim(
        id=name,
        title="The Hessian where p = q",
        statement=fill(
            r"""
            For an $f$ that is three times differentiable at $1$, the Hessian of $D_f$ in the logits at $p = q$ is
            $f''(1)\,(\mathrm{diag}(q) - q q^\top)$.
            """
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            In the gauge the weights vanish at $p = q$, and
            $\partial w_k/\partial f_j = f''(1)\, \partial p_k/\partial f_j = f''(1)\, q_k ([k = j] - q_j)$ there.
            Their sum over $k$ is zero, so the same is left of $\partial(w_k - p_k W)/\partial f_j$, for every $N$.
            SymPy confirms it for $N = 2$ and $3$ with free targets and a generator of three free coefficients, of
            which only $f''(1)$ is left. Close to its target every divergence is $\frac{f''(1)}{2}$ times the
            variance of the logits' differences under $q$: there they differ by a number alone.
            """
        ),
        equation="eq-logit-gradient",
    )


def targeted(power: Expr = q_[i]) -> Claim:
    """What p(x) e^S is for RKL: a product of the classifier's probabilities, each to a power."""
    name = "rkl-target"
    log_p, entropy = IndexedBase("l", real=True), Symbol("H", real=True)
    rkl = -sum_over(q_[i] * log_p[i]) - entropy
    score = log_p[y] - alpha * rkl
    require_zero(name, score - (log_p[y] + alpha * sum_over(power * log_p[i]) + alpha * entropy))
    return Claim(
        id=name,
        title="The density that RKL guidance aims at",
        statement=fill(
            r"""
            For $\tau_1 = \tau_2 = 1$, $p(x)\, e^{S(x)}$ with the score of RKL is proportional to
            $p(x) \prod_i p(i|x)^{[i = y] + \alpha <power>}$.
            """,
            power=power,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            By {ref}`RKL guidance is label-smoothed cross-entropy guidance <ledger-rkl-is-cross-entropy>` RKL is
            $-\sum_i q_i \log p_i$ less the target's entropy, which no image changes. So
            $S = \log p_y + \alpha \sum_i q_i \log p_i$ but for a constant.
            """
        ),
        equation="eq-score",
    )


PROVERS = (
    divergence_gradient, score_gradient, nonnegativity, centred_gradients, gauge, homogeneity, logit_form, hessian,
    targeted,
)  # fmt: skip
