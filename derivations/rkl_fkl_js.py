"""The weights of RKL, FKL and JS, and two guidances that they turn out to be.

The paper names the generator -log t RKL and states its weight -q; it names t log t FKL, whose weight is said to
contain log(p/q); JS compares both with the mixture m = (p + q)/2. What it prints as the weight of JS has a file
of its own, js_printed.
"""

import sympy
from sympy import Expr, Rational, S, Sum, exp, log, symbols

from derivations.claim import OURS, PAPER, Claim
from derivations.divergences import DIVERGENCES
from derivations.notation import N, i, logit_gradient, m, mean, mean_gradient, p, p_, probability, q, q_, t, x
from derivations.proof import fill, in_gauge, normal_form, require, require_zero, sum_over, weight_of

RKL, FKL, JS = (row.generator for name in ("rkl", "fkl", "js") for row in DIVERGENCES if row.name == name)

target_mean = symbols(r"\sum_i{q_i\nabla{f_i}}", real=True)
H = symbols("H", real=True)

CROSS_ENTROPY_LESS_ENTROPY = -q * log(p) + q * log(q)
FKL_WEIGHT = p * log(p / q)
CEILING_LESS_ENTROPY = log(N) - H
JS_WEIGHT = p / 2 * log(p / m)
JS_CEILING = p * log(2) / 2


def rkl_weight(claimed: Expr = -q, gauged: Expr = p - q) -> Claim:
    """The generator -log t has weight -q, and p - q in the gauge."""
    name = "rkl-weight"
    require_zero(name, weight_of(RKL) - claimed, weight_of(in_gauge(RKL)) - gauged)
    return Claim(
        id=name,
        title="The RKL weight",
        statement=fill(
            r"""
            The generator $<f>$ has the weight $w_f(q, p) = <claimed>$. (Ours: in the gauge it is $<gauged>$.)
            """,
            f=RKL,
            claimed=claimed,
            gauged=gauged,
        ),
        source=f"{PAPER}, divergences of Proposition 2",
        verdict="verified",
        proof=fill(
            r"""
            $f'(t) = <slope>$, so $p f'(p/q) = <weight>$. In the gauge the slope is $<gauge_slope>$ and the
            weight $<gauged>$: the two differ by $p$, which carries no force
            ({ref}`The gauge <ledger-gauge>`).
            """,
            slope=RKL.diff(t),
            weight=weight_of(RKL),
            gauge_slope=in_gauge(RKL).diff(t),
            gauged=normal_form(weight_of(in_gauge(RKL))),
        ),
        equation="eq-weight",
    )


def rkl_gradient(claimed: Expr = target_mean - mean) -> Claim:
    """Minus the gradient of KL(q || p): the target's mean gradient less the model's, for every N."""
    name = "rkl-gradient"
    divergence = Sum(q_[i] * log(q_[i] / probability(i)), (i, 1, N))
    actual = sum_over(normal_form(-divergence.diff(x).function), {q_[i]: S.One})
    meaning = {target_mean: Sum(q_[i] * logit_gradient(i), (i, 1, N)), mean: mean_gradient()}
    require_zero(name, actual - claimed.subs(meaning))
    return Claim(
        id=name,
        title="The RKL gradient",
        statement=fill(
            r"""
            $-\nabla_x \mathrm{KL}(q_y\,\Vert\,p) =
            \sum_i q_y(i)\, \nabla f_i - \sum_j p(j|x)\, \nabla f_j$.
            """
        ),
        source=f"{PAPER}, Proposition 2 (RKL)",
        verdict="verified",
        proof=fill(
            r"""
            SymPy differentiates $-\sum_i q_i \log(q_i/p_i)$ along one coordinate, with $N$ a symbol. Term $i$
            is $<term>$; its second part does not depend on $i$ but for $q_i$, and $\sum_i q_i = 1$, so the sum
            is

            $$<actual> .$$
            """,
            term=sympy.expand(normal_form(-divergence.diff(x).function)),
            actual=actual,
        ),
        equation="eq-proposition-2",
    )


def rkl_is_cross_entropy(claimed: Expr = CROSS_ENTROPY_LESS_ENTROPY) -> Claim:
    """RKL is the cross-entropy with the smoothed label less the target's entropy, which no image changes."""
    name = "rkl-is-cross-entropy"
    divergence = q * RKL.subs(t, p / q)
    require_zero(name, divergence - claimed)
    require_zero(name, (claimed + q * log(p)).diff(p))
    one_hot = sympy.limit(divergence.subs(p, Rational(1, 2)), q, 0, "+")
    require_zero(name, one_hot)
    return Claim(
        id=name,
        title="RKL guidance is label-smoothed cross-entropy guidance",
        statement=fill(
            r"""
            $D_{\mathrm{RKL}}(q_y\,\Vert\,p) = -\sum_i q_y(i) \log p(i|x) - H(q_y)$, so RKL guidance and
            guidance by $-\alpha$ times the cross-entropy with the smoothed label have the same force.
            """
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            Term by term, $q f(p/q) = <term>$. The sum of the first part is the cross-entropy, the sum of the
            second is $-H(q)$, and it contains no $p$: its gradient in $x$ is zero. At $\epsilon = 1$ the
            terms with $q = 0$ vanish (limit $<one_hot>$ as $q \to 0^+$) and the divergence is
            $-\log p(y|x)$: RKL guidance then adds $\alpha$ times the ordinary log-probability of the label.
            """,
            term=claimed,
            one_hot=one_hot,
        ),
        equation="eq-divergence",
    )


def fkl_weight(claimed: Expr = FKL_WEIGHT) -> Claim:
    """The generator t log t has weight p log(p/q) in the gauge."""
    name = "fkl-weight"
    require_zero(name, weight_of(in_gauge(FKL)) - claimed)
    return Claim(
        id=name,
        title="The FKL weight",
        statement=fill(
            r"""
            The weight of the generator $<f>$ contains $\log(p/q)$. (Ours: in the gauge it is $<claimed>$.)
            """,
            f=FKL,
            claimed=claimed,
        ),
        source=f"{PAPER}, divergences of Proposition 2",
        verdict="verified",
        proof=fill(
            r"""
            $f'(t) = <slope>$, so $p f'(p/q) = <weight>$; the gauge removes the summand $p$, which carries no
            force.
            """,
            slope=FKL.diff(t),
            weight=weight_of(FKL),
        ),
        equation="eq-weight",
    )


def fkl_is_entropy(claimed: Expr = CEILING_LESS_ENTROPY) -> Claim:
    """At epsilon = 0 the target is uniform and FKL is log N minus the entropy."""
    name = "fkl-entropy"
    uniform = 1 / N
    divergence = sum_over(p_[i] * sympy.expand_log(log(p_[i] / uniform)), {p_[i]: S.One})
    entropy = -Sum(p_[i] * log(p_[i]), (i, 1, N))
    require_zero(name, divergence - claimed.subs(H, entropy))
    return Claim(
        id=name,
        title="FKL with a uniform target is entropy regularisation",
        statement=fill(
            r"""
            At $\epsilon = 0$ the target is uniform, $u = 1/N$, and
            $D_{\mathrm{FKL}} = \mathrm{KL}(p\,\Vert\,u) = <claimed>$: FKL guidance of strength $\alpha$ is an
            entropy bonus of strength $\lambda = \alpha$.
            """,
            claimed=claimed,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            $\sum_i p_i \log(N p_i) = <divergence>$, using $\sum_i p_i = 1$, and the sum is $-H$. So
            $-\alpha D_{\mathrm{FKL}} = \alpha H - \alpha \log N$, and the constant has no gradient.
            """,
            divergence=divergence,
        ),
        equation="eq-entropy",
    )


def js_weight(claimed: Expr = JS_WEIGHT) -> Claim:
    """The Jensen-Shannon divergence has weight (p/2) log(p/m), already in the gauge."""
    name = "js-weight"
    definition = p / 2 * log(p / m) + q / 2 * log(q / m)
    require_zero(name, q * JS.subs(t, p / q) - definition)
    require_zero(name, JS.diff(t).subs(t, 1), weight_of(JS) - claimed)
    return Claim(
        id=name,
        title="The weight of the Jensen-Shannon divergence",
        statement=fill(
            r"""
            With $m = (p + q)/2$, the divergence
            $\frac12 \mathrm{KL}(p\,\Vert\,m) + \frac12 \mathrm{KL}(q\,\Vert\,m)$ has the weight
            $\frac{p}{2} \log\frac{p}{m}$.
            """
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            Its generator is $f(t) = <f>$: SymPy confirms $q f(p/q) = \frac{p}{2} \log\frac{p}{m} +
            \frac{q}{2} \log\frac{q}{m}$. The slope is $f'(t) = <slope>$, zero at $t = 1$, and at
            $t = p/q$ it is $\frac12 \log\frac{2p}{p + q} = \frac12 \log\frac{p}{m}$.
            """,
            f=JS,
            slope=normal_form(JS.diff(t)),
        ),
        equation="eq-weight",
    )


def js_weight_bounds(lower: Expr = -q / 4, upper: Expr = JS_CEILING) -> Claim:
    """The weight of JS lies between -q/4 and (log 2) p/2."""
    name = "js-weight-bounds"
    inner = 2 * t / (1 + t)
    headroom = sympy.factor(exp(2 * upper / p) - inner)
    require(name, headroom.is_positive, headroom)
    gap = log(t) - (1 - 1 / t)
    require_zero(name, gap.subs(t, 1), gap.diff(t) - (t - 1) / t**2)
    tangent = sympy.factor(t / 2 * (1 - 1 / inner))
    margin = sympy.factor(tangent - (lower / q))
    require(name, margin.is_nonnegative, margin)
    return Claim(
        id=name,
        title="The weight of the Jensen-Shannon divergence is bounded",
        statement=fill(
            r"""
            $<lower> \le \frac{p}{2} \log\frac{p}{m} \le <upper>$, and the weight vanishes as $q \to p$.
            """,
            lower=lower,
            upper=upper,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            With $t = p/q$ the weight is $q \cdot \frac{t}{2} \log <inner>$. Above: $2 - <inner> = <headroom> > 0$.
            Below: $\log s \ge 1 - 1/s$ for all $s > 0$, because the difference is zero at $s = 1$ and its
            derivative $<growth>$ has the sign of $s - 1$. So the weight is at least
            $q \cdot <tangent> \ge <lower>$, the second difference being $q \cdot <margin>$. At $p = q$ the
            logarithm is zero.
            """,
            inner=inner,
            headroom=headroom,
            growth=sympy.factor(gap.diff(t)).subs(t, symbols("s", positive=True)),
            tangent=tangent,
            lower=lower,
            margin=margin,
        ),
        equation="eq-weight",
    )


PROVERS = (
    rkl_weight,
    rkl_gradient,
    rkl_is_cross_entropy,
    fkl_weight,
    fkl_is_entropy,
    js_weight,
    js_weight_bounds,
)
