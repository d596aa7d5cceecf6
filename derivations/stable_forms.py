"""The identities that the emitted code is written in, so that no digit is lost where p is close to one-hot or to q.

All of this is ours. A plain closed form subtracts nearly equal numbers; these identities do not. u is log(p/q).
"""

from collections.abc import Sequence

from sympy import Expr, Function, IndexedBase, Integral, S, Symbol, exp, symbols

from derivations.claim import OURS, Claim
from derivations.notation import Generator, Slope, i, p, p_, q, t
from derivations.proof import fill, in_gauge, require, require_zero, sum_over

u, s = symbols("u s", real=True)
own_h, own_p, mean_h = symbols("h_i p_i z_mean", real=True)


PIVOT_FORM = own_p * (own_h - mean_h)
DUAL = t * Generator(1 / t)
INTEGRAND = Slope(exp(s)) * exp(s)
Bend = Function("B")
BENT = Bend(s) * (exp(u) - exp(s))


def _pivot_residuals(classes: int, claimed: Expr) -> Sequence[Expr]:
    """w - p sum(w) less the claimed form, for an undefined f; the last class is the pivot."""
    others, targets = symbols(f"p_1:{classes}", positive=True), symbols(f"q_1:{classes + 1}", positive=True)
    model = [*others, 1 - sum(others)]
    slopes = [Slope(a / c) for a, c in zip(model, targets, strict=True)]
    weights = [a * slope for a, slope in zip(model, slopes, strict=True)]
    h = [slope - slopes[-1] for slope in slopes]
    mean = sum(a * c for a, c in zip(others, h[:-1], strict=True))
    return [
        w - a * sum(weights) - claimed.subs({own_h: c, own_p: a, mean_h: mean}, simultaneous=True)
        for w, a, c in zip(weights, model, h, strict=True)
    ]


def pivot(claimed: Expr = PIVOT_FORM) -> Claim:
    """The force from differences to a pivot class: 1 - p_k is never formed."""
    name = "stable-pivot"
    for classes in (2, 3, 4):
        require_zero(name, *_pivot_residuals(classes, claimed))
    h, slope_at_pivot, mean = IndexedBase("h"), Symbol("b"), Symbol("z_mean", real=True)
    weight = p_[i] * (h[i] + slope_at_pivot)
    total = sum_over(weight, {p_[i]: S.One, h[i] * p_[i]: mean})
    require_zero(name, weight - p_[i] * total - claimed.subs({own_h: h[i], own_p: p_[i], mean_h: mean}))
    return Claim(
        id=name,
        title="The pivot form of the force",
        statement=fill(
            r"""
            Let $k$ be any class and $h_i = f'(t_i) - f'(t_k)$, so that $h_k = 0$. Then
            $w_i - p_i \sum_j w_j = p_i \bigl(h_i - \sum_{j \neq k} p_j h_j\bigr)$ for every $i$, and for the pivot
            itself $w_k - p_k \sum_j w_j = -p_k \sum_{j \neq k} p_j h_j$.
            """
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            Write $b = f'(t_k)$, so that $w_i = <weight>$ and $\sum_j w_j = b + \sum_j p_j h_j$. The two terms
            $p_i b$ cancel, and $h_k = 0$ takes $k$ out of the sum. That is the gauge at work: subtracting
            $f'(t_k)$ from the slope changes no force. SymPy confirms it for every $N$ with $h$ free, and for
            $N = 2, 3, 4$ with $f$ undefined. With $k$ the most probable class the sum runs over the small
            probabilities alone: neither $1 - p_k$ nor $w_k - p_k \sum_j w_j$ is formed as a difference.
            """,
            weight=weight,
        ),
        equation="eq-pivot",
    )


def value_dual(dual: Expr = DUAL) -> Claim:
    """A term of the divergence from the other side: q f(p/q) = p f*(q/p)."""
    name = "stable-value-dual"
    require_zero(name, p * dual.subs(t, q / p) - q * Generator(p / q))
    slope = dual.diff(t).subs(t, 1)
    require_zero(name, slope.subs({Generator(S.One): 0, Slope(S.One): 0}))
    return Claim(
        id=name,
        title="The dual generator",
        statement=fill(
            r"""
            With $f^*(t) = <dual>$, $q f(p/q) = p f^*(q/p)$. If $f$ is in the gauge with $f(1) = 0$, so is $f^*$.
            """,
            dual=dual,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            $p \cdot \frac{q}{p} f\left(\frac{p}{q}\right) = q f(p/q)$. The slope of $f^*$ at one is $<slope>$. With
            $q f(t)$ where $p < q$ and $p f^*(1/t)$ where $p > q$, the large one of $t$ and $1/t$ is never formed.
            """,
            slope=slope,
        ),
        equation="eq-value",
    )


def value_integral(integrand: Expr = INTEGRAND) -> Claim:
    """The generator in the gauge as an integral of its slope; each term of the divergence is non-negative."""
    name = "stable-value-integral"
    require_zero(name, Generator(exp(u)).diff(u) - integrand.subs(s, u))
    require_zero(name, in_gauge(Generator(t)).diff(t).subs(t, 1))
    integral = Integral(integrand, (s, 0, u))
    require(name, integral.subs(u, 0).doit() == 0, integral)
    return Claim(
        id=name,
        title="Each term of the divergence is non-negative",
        statement=fill(
            r"""
            In the gauge $f'(1) = 0$ with $f(1) = 0$, $f(e^u) = <integral> \ge 0$. So $D_f = \sum_i q_i f(p_i/q_i)$ is
            a sum of non-negative terms, and if $f$ is strictly convex at one, it is zero only at $p = q$.
            """,
            integral=integral,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            Both sides are zero at $u = 0$, and $\frac{d}{du} f(e^u) = <integrand>$. The slope of a convex $f$ is
            non-decreasing and zero at one, so the integrand has the sign of $s$ and the integral is not negative for
            either sign of $u$. If $f$ is strictly convex at one it is positive for $u \neq 0$. Summing in the
            gauge therefore cancels nothing, and the integral keeps the relative accuracy of a small value.
            """,
            integrand=integrand.subs(s, u),
        ),
        equation="eq-value",
    )


def value_bend(integrand: Expr = BENT) -> Claim:
    """The generator in the gauge as an integral of the derivative of its slope."""
    name = "stable-value-bend"
    require_zero(name, integrand.subs(s, u), integrand.diff(u) - exp(u) * Bend(s))
    require_zero(name, Generator(exp(u)).diff(u) - exp(u) * Slope(exp(u)))
    integral = Integral(integrand, (s, 0, u))
    require(name, integral.subs(u, 0).doit() == 0, integral)
    return Claim(
        id=name,
        title="A term of the divergence from the bend of its generator",
        statement=fill(
            r"""
            With $B(s) = \frac{d}{ds} f'(e^s)$, in the gauge $f'(1) = 0$ with $f(1) = 0$, $f(e^u) = <integral>$.
            """,
            integral=integral,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            Both sides are zero at $u = 0$. The integrand vanishes at $s = u$, so the derivative of the right-hand side
            in $u$ is $\int_0^u <change>\, ds = e^u \bigl(f'(e^u) - f'(1)\bigr)$, and $\frac{d}{du} f(e^u) = <slope>$.
            $B = e^s f''(e^s)$ is nowhere negative and $e^u - e^s$ has the sign of $u$: a quadrature adds terms of one
            sign, and takes no difference of slopes.
            """,
            change=integrand.diff(u),
            slope=Generator(exp(u)).diff(u),
        ),
        equation="eq-value",
    )


PROVERS = (pivot, value_dual, value_integral, value_bend)
