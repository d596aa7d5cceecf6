"""The JS weight as the paper prints it, (q - p)/m with m = (p + q)/2.

Printed as a weight w_f it belongs to no generator at all. This file says precisely what it is instead: what it
gives when read as a derivative, how it becomes a true weight, whose force it is up to its sign, and what that
sign does.
"""

from collections.abc import Sequence

import sympy
from sympy import Expr, Rational, S, exp, log, sqrt, symbols

from derivations.claim import OURS, PAPER, Claim
from derivations.notation import N, epsilon, m, p, q, t
from derivations.proof import fill, in_gauge, normal_form, require, require_zero, weight_of

PRINTED = (q - p) / m
KL_TO_MIXTURE = -log((1 + t) / 2)
ARITHMETIC_OVER_GEOMETRIC = 4 * log(m / sqrt(p * q))
DIRECT_SLOPE = 2 * (t - 1) / (t + 1)
TURNING_POINT = 1 + sqrt(2)
TARGET = (Rational(1, 2), Rational(1, 4), Rational(1, 4))
MODEL = (Rational(1, 4), Rational(1, 8), Rational(5, 8))


def with_mixture(expression: Expr) -> Expr:
    """The expression with (p + q)/2 written as m, for the reader."""
    return expression.subs(m, symbols("m", positive=True))


def weights_at(weight: Expr, targets: Sequence[Expr], model: Sequence[Expr]) -> list[Expr]:
    """The weight of every class at one pair of distributions."""
    return [weight.subs({q: b, p: a}, simultaneous=True) for a, b in zip(model, targets, strict=True)]


def force_at(weight: Expr, targets: Sequence[Expr], model: Sequence[Expr]) -> list[Expr]:
    """The gradient in the logits, w - p sum(w), at one pair of distributions."""
    weights = weights_at(weight, targets, model)
    return [normal_form(w - a * sum(weights)) for w, a in zip(weights, model, strict=True)]


def as_printed(weight: Expr = PRINTED) -> Claim:
    """The printed weight is p f'(p/q) for no f, in any gauge."""
    name = "js-weight-as-printed"
    force = force_at(weight, TARGET, MODEL)
    per_probability = [normal_form(component / a) for component, a in zip(force, MODEL, strict=True)]
    gap = normal_form(per_probability[0] - per_probability[1])
    require(name, gap.is_nonzero, "no contradiction: the classes 1 and 2 agree")
    factor = symbols("lambda", positive=True)
    require_zero(name, weight.subs({p: factor * p, q: factor * q}, simultaneous=True) - weight)
    return Claim(
        id=name,
        title="The JS weight as printed",
        statement=fill(
            r"The JS divergence has the weight $w_f(q, p) = <weight>$ with $m = (p + q)/2$.",
            weight=with_mixture(weight),
        ),
        source=f"{PAPER}, divergences of Proposition 2",
        verdict="refuted",
        proof=fill(
            r"""
            Every weight $p f'(p/q)$ is homogeneous of degree one
            ({ref}`Weights are homogeneous <ledger-homogeneity>`); the printed one does not change when $q$ and
            $p$ are both multiplied by $\lambda$, so it has degree zero. No gauge repairs this: the force
            $F_i = w_i - p_i \sum_j w_j$ of any generator has
            $F_1/p_1 - F_2/p_2 = f'(p_1/q_1) - f'(p_2/q_2)$, which must vanish when the two classes have the
            same ratio $p/q$. For the counterexample above it does not. The weight of the Jensen-Shannon
            divergence is $\frac{p}{2} \log\frac{p}{m}$ ({ref}`proved here <ledger-js-weight>`).
            """
        ),
        counterexample=fill(
            r"""
            Three classes, the smoothed target $q = <target>$ ($\epsilon = \frac14$, label 1) and
            $p = <model>$. The classes 1 and 2 have the same ratio $p/q = <ratio>$, so every f-divergence has
            $F_1/p_1 = F_2/p_2$. The printed weight gives $F_1/p_1 = <first>$ and $F_2/p_2 = <second>$.
            """,
            target=TARGET,
            model=MODEL,
            ratio=MODEL[0] / TARGET[0],
            first=per_probability[0],
            second=per_probability[1],
        ),
        equation="eq-weight",
    )


def bounded(bound: Expr = S(2)) -> Claim:
    """What the paper says of the printed weight's size is true of it."""
    name = "js-printed-bounded"
    below, above = sympy.factor(bound - PRINTED), sympy.factor(bound + PRINTED)
    require(name, below.is_positive, below)
    require(name, above.is_positive, above)
    require_zero(name, PRINTED.subs(p, q))
    return Claim(
        id=name,
        title="The printed JS weight is bounded",
        statement=r"The weight $(q - p)/m$ is bounded, and it tends to zero as $q/p \to 1$.",
        source=f"{PAPER}, divergences of Proposition 2",
        verdict="verified",
        proof=fill(
            r"""
            $<bound> - (q - p)/m = <below>$ and $<bound> + (q - p)/m = <above>$ are positive for positive $p$ and
            $q$, so its absolute value stays below $<bound>$. At $p = q$ it is zero, and it is continuous in $q/p$
            there. A small $\lvert p - q \rvert$ is not enough: at $p = 10^{-9}$, $q = 10^{-6}$ the weight is $1.996$.
            """,
            bound=bound,
            below=below,
            above=above,
        ),
        equation="eq-weight",
    )


def as_derivative(slope: Expr = DIRECT_SLOPE, turning_point: Expr = TURNING_POINT) -> Claim:
    """Two readings of the printed weight as a derivative: one is convex everywhere, the other is not."""
    name = "js-weight-as-derivative"
    require_zero(name, slope.subs(t, p / q) + PRINTED)
    curvature = sympy.factor(slope.diff(t))
    require(name, curvature.is_positive, curvature)
    require_zero(name, slope - in_gauge(4 * KL_TO_MIXTURE).diff(t))
    per_target = sympy.factor(slope / t)
    second = sympy.factor(per_target.diff(t))
    require_zero(name, second.subs(t, turning_point))
    require(name, second.subs(t, turning_point - 1).is_positive, "convex before the turning point")
    require(name, second.subs(t, turning_point + 1).is_negative, "not convex after it")
    roots = sympy.solve(sympy.numer(second), t)
    require(name, roots == [turning_point], roots)
    return Claim(
        id=name,
        title="The printed JS weight read as a derivative",
        statement=fill(
            r"""
            Read as $f'$, the printed $(q - p)/m$ gives a generator that is not convex beyond
            $t = <turning_point>$.
            """,
            turning_point=turning_point,
        ),
        source=f"{OURS} (a first reading by hand)",
        verdict="corrected",
        correction=fill(
            r"""
            It depends on what is read as what, and in both cases the sign must be turned first. **Read directly
            as $f'(t)$** it is $<slope>$, convex for all $t > 0$: the slope of $4\,\mathrm{KL}(q\,\Vert\,m)$ in
            the gauge. **Read as the weight $q\, t f'(t)$ per unit of $q$**, so that $t f'(t) = <slope>$, it gives
            $f'(t) = <per_target>$, whose generator is convex up to $t = <turning_point>$ and not beyond.
            """,
            slope=slope,
            per_target=per_target,
            turning_point=turning_point,
        ),
        proof=fill(
            r"""
            With $t = p/q$, $-(q - p)/m = <slope>$. As it stands this has the positive derivative
            $<curvature>$, and it equals the slope of $4 f$ in the gauge for $f(t) = <kl>$, the generator of
            $\mathrm{KL}(q\,\Vert\,m)$. Divided by $t$ it has the derivative $<second>$, whose numerator has the
            single positive root $<turning_point>$; it is positive before and negative after.
            """,
            slope=slope,
            curvature=curvature,
            kl=KL_TO_MIXTURE,
            second=second,
            turning_point=turning_point,
        ),
        equation="eq-weight",
    )


def rescaled(factor: Expr = -p / 2, multiple: Expr = S(2)) -> Claim:
    """Times p/2 and with its sign turned, the printed weight is that of 2 KL(q || m)."""
    name = "js-printed-rescaled"
    require_zero(name, q * KL_TO_MIXTURE.subs(t, p / q) - q * log(q / m))
    actual = normal_form(weight_of(in_gauge(multiple * KL_TO_MIXTURE)))
    require_zero(name, factor * PRINTED - actual)
    difference = normal_form(actual - p / 2 * log(p / m)).subs({p: 1, q: 3})
    require(name, sympy.simplify(difference).is_nonzero, difference)
    return Claim(
        id=name,
        title="The printed JS weight rescaled",
        statement=fill(
            r"""
            $<factor> \cdot (q - p)/m$ is exactly the weight of $<multiple>\,\mathrm{KL}(q\,\Vert\,m)$ in the
            gauge, and not the weight of JS.
            """,
            factor=factor,
            multiple=multiple,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            $\mathrm{KL}(q\,\Vert\,m)$ has the generator $<f>$, since $q f(p/q) = q \log(q/m)$. Put in the gauge
            and multiplied by $<multiple>$, its weight is $<actual>$, which is the product in the claim. The weight
            of JS is $\frac{p}{2} \log\frac{p}{m}$; at $p = 1$, $q = 3$ the two differ by
            $<difference> \neq 0$ (both have degree one, so the scale of $p$ and $q$ does not matter).
            """,
            f=KL_TO_MIXTURE,
            multiple=multiple,
            actual=actual,
            difference=sympy.simplify(difference),
        ),
        equation="eq-weight",
    )


def _logit_residuals(potential: Expr, weight: Expr) -> list[Expr]:
    """Term i of the potential differentiated in the logit f_k, less w_i ([i = k] - p_k), for every N.

    The symbols are a = e^{f_k}, b = e^{f_i} and R, the sum of e^{f_j} over all other classes, so that the
    derivative in f_k is a times that in a.
    """
    a, b, rest = symbols("a b R", positive=True)
    terms = sympy.expand_log(potential)
    own, other, vertex = a / (a + rest), b / (a + b + rest), a / (a + b + rest)
    same = a * terms.subs(p, own).diff(a) - weight.subs(p, own) * (1 - own)
    different = a * terms.subs(p, other).diff(a) + weight.subs(p, other) * vertex
    return [same, different]


def potential(value: Expr = ARITHMETIC_OVER_GEOMETRIC, weight: Expr = -PRINTED) -> Claim:
    """Up to sign the printed force is the gradient of a divergence, though of no f-divergence."""
    name = "js-printed-potential"
    require_zero(name, p * value.diff(p) - weight)
    require_zero(name, *_logit_residuals(value, weight))
    gap = sympy.factor(exp(value / 2) * p * q - p * q)
    require_zero(name, gap - (p - q) ** 2 / 4)
    return Claim(
        id=name,
        title="What the printed JS weight is the weight of",
        statement=fill(
            r"""
            With its sign turned, the printed weight gives the gradient of
            $\Phi(q, p) = \sum_i <value>$, where $m = (p + q)/2$: four times the sum of the logarithms of
            arithmetic over geometric mean. $\Phi \ge 0$, and $\Phi = 0$ only at $p = q$: it is a divergence, though no
            f-divergence.
            """,
            value=with_mixture(value),
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            The step from $\nabla D_f$ to weights only used the chain rule term by term, so a sum
            $\sum_i \phi(q_i, p_i)$ has the weight $p\, \partial\phi/\partial p$; here it is
            $<weight> = -(q - p)/m$. SymPy confirms it for every $N$ by differentiating term $i$ of $\Phi$ in the
            logit $f_k$: the result is $w_i ([i = k] - p_k)$.
            $\Phi \ge 0$ because $m^2 - pq = <gap>$ in every class. No factor $q_i$ weighs the terms, which is why
            the weight has degree zero: $\Phi$ is four times the Jensen difference of Burg's entropy
            $\sum_i \log p_i$, as Jensen-Shannon is that of Shannon's.
            """,
            weight=sympy.factor(weight),
            gap=(p - q) ** 2 / 4,
        ),
        equation="eq-weight",
    )


def printed_sign(weight: Expr = PRINTED) -> Claim:
    """With the sign as printed, guidance increases the potential: it pushes p away from q."""
    name = "js-printed-sign"
    require_zero(name, *_logit_residuals(-ARITHMETIC_OVER_GEOMETRIC, weight))
    targets, model = (Rational(3, 4), Rational(1, 4)), (Rational(1, 4), Rational(3, 4))
    force = [-component for component in force_at(weight, targets, model)]
    require(name, force[0] < 0, force)
    return Claim(
        id=name,
        title="The sign of the printed JS weight",
        statement=fill(
            r"""
            With the sign as printed, the guidance $-\alpha \sum_i w_i g_i$ pushes $p$ away from the target
            $q$ in the sense of the divergence $\Phi$.
            """
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            A convex generator in the gauge has $f'(t) < 0$ for $t < 1$, so its weight is negative where $p < q$
            and guidance raises what is too small. The printed weight is positive where $p < q$. Its force
            $F_k = w_k - p_k \sum_i w_i$ is $-\partial\Phi/\partial f_k$
            ({ref}`What it is the weight of <ledger-js-printed-potential>`), so logits that follow the guidance
            $-\alpha F$ have $\frac{d\Phi}{ds} = \alpha \sum_k F_k^2 \ge 0$. For two classes with $q = <targets>$ and
            $p = <model>$ the guidance at $\alpha = 1$ is $<force>$: the logit that is too small is lowered. We know
            the printed formula, not the sign in the program behind the reported numbers.
            """,
            targets=targets,
            model=model,
            force=tuple(force),
        ),
        equation="eq-weight",
    )


def _force_at_vertex(label: Expr, other: Expr, vertex_is_label: bool) -> tuple[Expr, Expr, Expr]:
    """The printed weight's force on the label, on the class that p sits on, and on every other class."""
    at_vertex = label if vertex_is_label else other
    vertex = PRINTED.subs({q: at_vertex, p: 1})
    empty = PRINTED.subs({q: other}).subs(p, 0)
    on_label = vertex if vertex_is_label else PRINTED.subs({q: label}).subs(p, 0)
    number_of_others = N - 1 if vertex_is_label else N - 2
    total = vertex + number_of_others * empty + (0 if vertex_is_label else on_label)
    vertex_force = normal_form(vertex - total)
    return (vertex_force if vertex_is_label else normal_form(on_label)), vertex_force, normal_form(empty)


def at_one_hot(others: Expr = S(2), vertex: Expr = -2 * (N - 1)) -> Claim:
    """The printed force at one-hot p, for every N and every epsilon below one."""
    name = "js-printed-one-hot"
    other = (1 - epsilon) / N
    on_label, sits_on, elsewhere = _force_at_vertex(other + epsilon, other, vertex_is_label=True)
    require_zero(name, on_label - vertex, sits_on - vertex, elsewhere - others)
    on_label, sits_on, elsewhere = _force_at_vertex(other + epsilon, other, vertex_is_label=False)
    require_zero(name, on_label - others, sits_on - vertex, elsewhere - others)
    empty_target = normal_form(PRINTED.subs(q, 0))
    hard = normal_form(PRINTED.subs({q: 1, p: 1}) - (N - 1) * empty_target)
    return Claim(
        id=name,
        title="The printed JS weight at one-hot p",
        statement=fill(
            r"""
            Let $\epsilon < 1$. As $p$ tends to one-hot on a class $k$, the printed weight's force
            $F_i = w_i - p_i \sum_j w_j$ tends to $<others>$ on every class $i \neq k$ and to $<vertex>$ on $k$,
            whatever $\epsilon$ is and whether $k$ is the label or not. So it does not vanish.
            """,
            others=others,
            vertex=vertex,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            $w$ is continuous at $p = 0$ and $p = 1$ when $q > 0$. A class with $p_i \to 0$ has
            $w_i \to <others>$, and since $p_i \to 0$ the sum does not matter there. On $k$, $p_k \to 1$ and
            $F_k \to -\sum_{i \neq k} w_i = <vertex>$. Guidance adds $-\alpha F$: with the printed sign it lowers all
            other logits by $<others>\alpha$ and raises that of $k$, even if $k$ is wrong; with the sign turned it
            does the opposite, and to the label no more than to any other class. At $\epsilon = 1$ the sign changes:
            a class with $q_i = 0$ has $w_i = <empty_target>$ however small $p_i$ is, so that on the label
            $F \to <hard>$. A force that survives saturation may be why the printed formula had an effect at all; it
            is not the force of JS, which vanishes ({ref}`Which of the three keep a force
            <ledger-saturation-rkl-fkl-js>`).
            """,
            others=others,
            vertex=vertex,
            empty_target=empty_target,
            hard=hard,
        ),
        equation="eq-saturation",
    )


PROVERS = (as_printed, bounded, as_derivative, rescaled, potential, printed_sign, at_one_hot)
