"""The identities that the emitted code is written in, so that no digit is lost where p is close to one-hot.

All of this is ours. A plain closed form subtracts nearly equal numbers; each identity replaces such a difference
by a product. Here u = log(p/q) of a class, b is that of the pivot class and d = u - b.
"""

from collections.abc import Sequence

import sympy
from sympy import Expr, Function, IndexedBase, Integral, S, Symbol, exp, log, symbols
from sympy.codegen.cfunctions import expm1, log1p
from sympy.printing.latex import LatexPrinter

from derivations.claim import OURS, Claim
from derivations.notation import Generator, Slope, i, p, p_, q, t
from derivations.proof import fill, in_gauge, require, require_zero, sum_over

u, b, d, s = symbols("u b d s", real=True)
own_h, own_p, mean_h = symbols("h_i p_i z_mean", real=True)


class Sigmoid(Function):  # type: ignore[misc]
    """The logistic function 1/(1 + e^-v), kept by name so that a formula prints as the code has it."""

    nargs = 1

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        power = "" if exp is None else f"^{{{exp}}}"
        return rf"\sigma{power}\left({printer._print(self.args[0])}\right)"


PIVOT_FORM = own_p * (own_h - mean_h)
POWER_PRODUCT = exp(s * b) * expm1(s * d)
SOFTPLUS_PRODUCT = log1p(exp(u) * -expm1(-d) * Sigmoid(-b))
SIGMOID_PRODUCT = Sigmoid(-b) * Sigmoid(u) * -expm1(-d)
first, second, width = symbols("x_1 x_2 h", positive=True)
ROOTS = tuple(sympy.sqrt(place**2 + width**2) for place in (first, second))
SOFT_SIGN_PRODUCT = (
    (first - second)
    * width**2
    * (1 + (first**2 + second**2 + width**2) / (ROOTS[0] * ROOTS[1] + first * second))
    / (ROOTS[0] * ROOTS[1] * (ROOTS[0] + ROOTS[1]))
)
v, order = symbols("v k", positive=True)
SLOPE_IN_V = v ** (order - 1) * (order - (order - 1) * v) / 2
BEND_IN_V = order * (order - 1) * v ** (order - 2) * (1 - v) / 2
share = Symbol("a", positive=True)
ENTROPY = log(1 + exp(u / share)) - u / share * Sigmoid(u / share)
DUAL = t * Generator(1 / t)
INTEGRAND = Slope(exp(s)) * exp(s)
Bend = Function("B")
BENT = Bend(s) * (exp(u) - exp(s))


def written_out(expression: Expr, difference: Expr = u - b) -> Expr:
    """The expression in exponentials and logarithms alone, with d = u - b."""
    plain = expression.replace(Sigmoid, lambda v: exp(v) / (1 + exp(v)))
    plain = plain.replace(expm1, lambda v: exp(v) - 1).replace(log1p, lambda v: log(1 + v))
    return sympy.expand(plain.subs(d, difference), power_exp=True)


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


def power_difference(claimed: Expr = POWER_PRODUCT) -> Claim:
    """A difference of two powers of t as a product."""
    name = "stable-power-difference"
    difference = exp(s * u) - exp(s * b)
    mirrored = exp(s * u) * -expm1(-s * d)
    require_zero(name, written_out(difference - claimed), written_out(difference - mirrored))
    return Claim(
        id=name,
        title="Difference of two powers",
        statement=fill(
            r"$<difference> = <claimed> = <mirrored>$ with $d = u - b$.",
            difference=difference,
            claimed=claimed,
            mirrored=mirrored,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            Multiply out $\mathrm{expm1}(v) = e^v - 1$ with $d = u - b$. The code takes the form whose exponential is
            the larger of the two, so that the other factor lies between minus one and one.
            """
        ),
        equation="eq-pivot",
    )


def softplus_difference(claimed: Expr = SOFTPLUS_PRODUCT) -> Claim:
    """A difference of two softplus terms as one log1p."""
    name = "stable-softplus-difference"
    ratio = exp(written_out(claimed)) - (1 + exp(u)) / (1 + exp(b))
    require_zero(name, ratio)
    mirror = {u: -b, b: -u}
    mirrored = claimed.subs(mirror, simultaneous=True)
    require_zero(name, exp(written_out(mirrored)) - (1 + exp(-b)) / (1 + exp(-u)))
    require_zero(name, exp(u) * (1 + exp(-u)) - (1 + exp(u)))
    return Claim(
        id=name,
        title="Difference of two softplus terms",
        statement=fill(
            r"""
            With $d = u - b$ and $\sigma(v) = 1/(1 + e^{-v})$, $\log(1 + e^u) - \log(1 + e^b) = <claimed>$, and
            mirrored $\log(1 + e^{-b}) - \log(1 + e^{-u}) = <mirrored>$.
            """,
            claimed=claimed,
            mirrored=mirrored,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            Compare the exponentials:
            $1 + e^u (1 - e^{-d}) \frac{1}{1 + e^b} = \frac{1 + e^b + e^u - e^b}{1 + e^b}$. The mirrored form puts
            $-b$ for $u$ and $-u$ for $b$, which leaves $d$ as it is. Where $e^u$ would overflow,
            $\log(1 + e^u) = u + \log(1 + e^{-u})$.
            """
        ),
        equation="eq-pivot",
    )


def sigmoid_difference(claimed: Expr = SIGMOID_PRODUCT) -> Claim:
    """A difference of two sigmoids, and of their whole powers, as a product."""
    name = "stable-sigmoid-difference"
    difference = Sigmoid(-b) - Sigmoid(-u)
    require_zero(name, written_out(difference) - written_out(claimed))
    first, last = symbols("A C", positive=True)
    for power in (2, 3, 4):
        geometric = sum(first**n * last ** (power - 1 - n) for n in range(power))
        require_zero(name, first**power - last**power - (first - last) * geometric)
    return Claim(
        id=name,
        title="Difference of two sigmoids",
        statement=fill(
            r"""
            With $d = u - b$, $<difference> = <claimed>$; and for whole powers,
            $A^n - C^n = (A - C) \sum_{l=0}^{n-1} A^l C^{n-1-l}$ with $A = \sigma(-b)$ and $C = \sigma(-u)$.
            """,
            difference=difference,
            claimed=claimed,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            $\frac{1}{1 + e^b} - \frac{1}{1 + e^u} = \frac{e^u - e^b}{(1 + e^b)(1 + e^u)}$, and
            $\sigma(u) (1 - e^{-d}) = \frac{e^u - e^b}{1 + e^u}$. The sum of powers telescopes; SymPy confirms it for
            $n = 2, 3, 4$.
            """
        ),
        equation="eq-pivot",
    )


def soft_sign_difference(claimed: Expr = SOFT_SIGN_PRODUCT) -> Claim:
    """A difference of two slopes of the softened total variation, on one side of t = 1."""
    name = "stable-soft-sign-difference"
    roots = symbols("R_1 R_2", positive=True)
    plain = first / roots[0] - second / roots[1]
    residual = (plain - claimed.subs(dict(zip(ROOTS, roots, strict=True)))).subs(
        width, sympy.sqrt(roots[0] ** 2 - first**2)
    )
    numerator = sympy.fraction(sympy.together(residual))[0]
    relation = roots[1] ** 2 - second**2 - (roots[0] ** 2 - first**2)
    require_zero(name, sympy.rem(sympy.expand(numerator), relation, roots[1]))
    return Claim(
        id=name,
        title="Difference of two softened signs",
        statement=fill(
            r"""
            With $R = \sqrt{x^2 + h^2}$ and $x_1, x_2$ of one sign, $\frac{x_1}{R_1} - \frac{x_2}{R_2} = <claimed>$.
            """,
            claimed=claimed,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            $\frac{x_1}{R_1} - \frac{x_2}{R_2} = \frac{(x_1 - x_2)(h^2 + R_1 R_2 - x_1 x_2)}{R_1 R_2 (R_1 + R_2)}$, and
            $R_1 R_2 - x_1 x_2 = \frac{h^2 (x_1^2 + x_2^2 + h^2)}{R_1 R_2 + x_1 x_2}$: multiply out with
            $R_1^2 - x_1^2 = R_2^2 - x_2^2 = h^2$. Every factor but $x_1 - x_2 = e^u - e^b$ is a sum of positive terms.
            """
        ),
        equation="eq-pivot",
    )


def puri_vincze_slope(slope: Expr = SLOPE_IN_V, bend: Expr = BEND_IN_V) -> Claim:
    """The slope of Puri and Vincze's generator and its derivative, in v = (t - 1)/(t + 1)."""
    name = "stable-puri-vincze-slope"
    x = Symbol("x", positive=True)
    for place, sign, size in ((1 + x, 1, x / (2 + x)), (1 / (1 + x), -1, x / (2 + x))):
        generator = (sign * (t - 1)) ** order / (t + 1) ** (order - 1) / 2
        signed = sign * (slope / v ** (order - 1)).simplify().subs(v, sign * size)
        found = generator.diff(t).subs(t, place) / size ** (order - 1)
        require_zero(name, sympy.simplify(sympy.powdenest(sympy.factor(sympy.simplify(found)), force=True) - signed))
    require_zero(name, sympy.simplify((slope.diff(v) - bend) / v ** (order - 2)))
    return Claim(
        id=name,
        title="The slope in Puri and Vincze's family",
        statement=fill(
            r"""
            With $v = \frac{t - 1}{t + 1} = \tanh \frac u2$, the slope of $\frac{|t-1|^k}{2 (t + 1)^{k-1}}$ is
            $\frac12\, \mathrm{sign}(v) |v|^{k-1} \bigl(k - (k - 1) v\bigr)$, in the gauge as it stands for $k > 1$. For
            $v > 0$ its derivative in $v$ is $<bend>$, and it is not negative on either side.
            """,
            bend=bend,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            $f = \frac{t+1}{2} |v|^k$ and $\frac{dv}{dt} = \frac{2}{(t + 1)^2} = \frac{1 - v}{t + 1}$, checked by SymPy
            at $t = 1 + x$ and $t = \frac{1}{1 + x}$. The derivative $\frac{k (k-1)}{2} |v|^{k-2} (1 - v)$ is the same
            on both sides, and $|v| < 1$: where the slopes of two classes are close, its integral adds terms of one
            sign.
            """
        ),
        equation="eq-pivot",
    )


def power_mean(entropy: Expr = ENTROPY) -> Claim:
    """How the power mean changes with its power: what makes Österreicher and Vajda's family stable at beta = 1."""
    name = "stable-power-mean"
    rise = share * log(1 + exp(u / share))
    require_zero(name, written_out(rise.diff(share) - entropy))
    odds = written_out(Sigmoid(u / share))
    coin = -odds * log(odds) - (1 - odds) * log(1 - odds)
    require_zero(name, sympy.simplify(sympy.expand_log(written_out(entropy) - coin.simplify(), force=True)))
    return Claim(
        id=name,
        title="The power mean and an entropy",
        statement=fill(
            r"""
            $\frac{\partial}{\partial a}\, a \log(1 + e^{u/a}) = <entropy>$, which is the entropy of a coin with the
            log-odds $u/a$ and lies between $0$ and $\log 2$.
            """,
            entropy=entropy,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            Differentiate; with $\sigma = \sigma(u/a)$, $\log(1 + e^{u/a}) = -\log(1 - \sigma)$ and
            $\frac ua = \log \sigma - \log(1 - \sigma)$. With $a = 1/\beta$ the logarithm of the ratio of the power mean
            to the mean, over $1 - 1/\beta$, is the average over the $a$ from $1/\beta$ to one of $\log 2$ less that
            entropy. Nothing in it is singular at $\beta = 1$, and no term is negative.
            """
        ),
        equation="eq-value",
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


PROVERS = (
    pivot,
    power_difference,
    softplus_difference,
    sigmoid_difference,
    soft_sign_difference,
    puri_vincze_slope,
    power_mean,
    value_dual,
    value_integral,
    value_bend,
)
