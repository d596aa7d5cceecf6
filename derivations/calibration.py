"""The measure that the paper's loss is named after, and the loss that its name suggests.

smECE_sigma is the mean absolute residual after smoothing by a reflected Gaussian (Błasiok & Nakkiran 2023); the binned
loss puts the root around the mean of a bin, where the paper has it around each sample.
"""

import sympy
from sympy import Expr, Function, I, Rational, S, Symbol, exp, oo, pi, sqrt, symbols

from derivations.claim import OURS, Claim
from derivations.proof import fill, require, require_zero
from derivations.smooth_ece import beta, confidence, correct

SOURCE = "Błasiok & Nakkiran 2023, arXiv:2309.12236"

sigma, tau = symbols("sigma tau", positive=True)
k = Symbol("k", integer=True)
s, z = symbols("s z", real=True)
GAUSSIAN = exp(-(z**2) / (2 * sigma**2)) / (sqrt(2 * pi) * sigma)
DAMPING = exp(-((pi * k * sigma) ** 2) / 2)
LIPSCHITZ = 1 + sqrt(2 / pi) / sigma
TWICE = sqrt(sigma**2 + tau**2)
FLOOR = sqrt(beta)

excess, count = symbols("G n_b", real=True)
share = Function("m")
ROOT = sqrt(excess**2 + beta * count**2)
BINNED_SLOPE = (
    excess * (share(confidence) + share(confidence).diff(confidence) * (confidence - correct))
    + beta * count * share(confidence).diff(confidence)
) / ROOT


def binned_loss_bounds(floor: Expr = FLOOR, largest: Expr = S.One) -> Claim:
    """The binned loss is at most the paper's and at least sqrt(beta), which it reaches where bins are calibrated."""
    name = "binned-loss-bounds"
    first, second, other, one = symbols("x_1 x_2 y_1 y_2", real=True)
    product = (first**2 + other**2) * (second**2 + one**2) - (first * second + other * one) ** 2
    require_zero(name, product - (first * one - other * second) ** 2)
    gap = Symbol("g", real=True)
    require_zero(name, (gap**2 + beta - floor**2) - gap**2)
    size = Symbol("g", nonnegative=True)
    above = sympy.expand((size + sqrt(beta)) ** 2 - (size**2 + beta))
    require(name, above.is_nonnegative, above)
    require(name, (largest - 1).is_nonnegative, "one sample alone in each bin: the two losses are equal")
    return Claim(
        id=name,
        title="The binned loss lies between the binned error and the paper's loss",
        statement=fill(
            r"""
            Let sample $i$ belong to bin $b$ with the share $m_b(\hat p_i) \ge 0$, $\sum_b m_b = 1$. With
            $n_b = \sum_i m_b(\hat p_i)$ and the gap $g_b = \mathrm{conf}_b - \mathrm{acc}_b$ of the bin's means,

            $$\max\Big(<floor>,\; \sum_b \frac{n_b}{n} \lvert g_b \rvert\Big) \;\le\;
            \sum_b \frac{n_b}{n} \sqrt{g_b^2 + \beta} \;\le\;
            \min\Big(L,\; \sum_b \frac{n_b}{n} \lvert g_b \rvert + \sqrt{\beta}\Big) ,$$

            where $L$ is the paper's loss. The first is an equality where every bin is calibrated.
            """,
            floor=floor,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            A bin's term is a length: $n_b \sqrt{g_b^2 + \beta} = \big\lVert \sum_i m_b(\hat p_i)\, (d_i, \sqrt\beta)
            \big\rVert$ with $d_i = \hat p_i - a_i$. The triangle inequality makes it at most
            $\sum_i m_b(\hat p_i) \sqrt{d_i^2 + \beta}$, and the sum over the bins, with $\sum_b m_b = 1$, is $n L$. In
            the plane the triangle inequality is that of Cauchy and Schwarz, which is
            $<product> = (x_1 y_2 - y_1 x_2)^2 \ge 0$. The lower bounds are $g^2 + \beta - (<floor>)^2 = g^2 \ge 0$ and
            $\sqrt{g^2 + \beta} \ge \lvert g \rvert$; the upper one is $(\lvert g\rvert + \sqrt\beta)^2 -
            (g^2 + \beta) = <above> \ge 0$. One sample in each bin shows that no smaller multiple of $L$ will do. So
            the paper's loss *is* the binned loss with a bin for each sample, and what bins average is what it lacks.
            """,
            product=product,
            floor=floor,
            above=above.subs(size, Symbol(r"\lvert g\rvert", nonnegative=True)),
        ),
        equation="eq-binned-smooth-ece-loss",
    )


def binned_loss_gradient(claimed: Expr = BINNED_SLOPE) -> Claim:
    """The derivative of a bin's term in one confidence: the residual grows, and the sample moves between bins."""
    name = "binned-loss-gradient"
    others, rest = symbols("G_0 n_0", real=True)
    inside = share(confidence)
    bin_excess, bin_count = others + inside * (confidence - correct), rest + inside
    term = sqrt(bin_excess**2 + beta * bin_count**2)
    require_zero(name, term.diff(confidence) - claimed.subs({excess: bin_excess, count: bin_count}))
    return Claim(
        id=name,
        title="Gradient of the binned loss",
        statement=fill(
            r"""
            With $G_b = \sum_i m_b(\hat p_i) (\hat p_i - a_i)$ the binned loss is
            $\frac1n \sum_b \sqrt{G_b^2 + \beta n_b^2}$, and the derivative of a bin's term in one confidence is

            $$<claimed> .$$
            """,
            claimed=claimed,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            A confidence enters a bin's term through $G_b = G_0 + m(\hat p) (\hat p - a)$ and
            $n_b = n_0 + m(\hat p)$, for any share $m$; SymPy differentiates $<term>$. Where memberships are fixed,
            $m' = 0$, every sample of a bin is pulled in the same direction, whether it was right or wrong.
            """,
            term=term,
        ),
        equation="eq-binned-smooth-ece-loss",
    )


def cosine_kernel(damping: Expr = DAMPING) -> Claim:
    """The Gaussian reflected at 0 and 1 is diagonal in cosines."""
    name = "reflected-gaussian-cosines"
    frequency = Symbol("omega", real=True)
    transform = sympy.integrate(GAUSSIAN * exp(I * frequency * z), (z, -oo, oo))
    require_zero(name, sympy.simplify(transform.subs(frequency, pi * k) / damping) - 1)
    mass = sympy.integrate(GAUSSIAN, (z, 0, oo))
    require_zero(name, mass - Rational(1, 2))
    return Claim(
        id=name,
        title="The reflected Gaussian kernel in cosines",
        statement=fill(
            r"""
            The Gaussian of standard deviation $\sigma$, reflected at 0 and 1 as often as it takes,
            $K_\sigma(t, s) = \sum_{l} \phi_\sigma(t - s - 2l) + \phi_\sigma(t + s - 2l)$, is

            $$K_\sigma(t, s) = 1 + 2 \sum_{k \ge 1} <damping> \cos(\pi k t) \cos(\pi k s) ,$$

            and $\int_0^1 K_\sigma(t, s)\, dt = 1$ for every $s$ in $[0, 1]$, also at its ends.
            """,
            damping=damping,
        ),
        source=f"{OURS}, of the kernel in {SOURCE}",
        verdict="verified",
        proof=fill(
            r"""
            As a function of $t$, $K_\sigma(\cdot, s)$ is the convolution of $\phi_\sigma$ with masses at
            $\pm s + 2l$, an even measure of period 2 whose cosine coefficients are $2 \cos(\pi k s)$ (and 1 for
            $k = 0$). Convolution multiplies the coefficient of $\cos(\pi k t)$ by
            $\int \phi_\sigma(z) e^{i \pi k z} dz$, which SymPy integrates to $<damping>$. The integral over $[0, 1]$
            leaves $k = 0$ alone. At $s = 0$ the mass and its mirror image fall together: counted once, half of the
            kernel would be missing, as $\int_0^\infty \phi_\sigma = <mass>$.
            """,
            damping=damping,
            mass=mass,
        ),
        equation="eq-cosine-kernel",
    )


def smooth_error_decreases(second: Expr = TWICE) -> Claim:
    """smECE_sigma does not grow with sigma, so exactly one bandwidth equals its error."""
    name = "smooth-ece-decreases"
    both = DAMPING * DAMPING.subs(sigma, tau) / DAMPING.subs(sigma, second)
    require_zero(name, sympy.simplify(both) - 1)
    return Claim(
        id=name,
        title="smECE does not grow with the bandwidth",
        statement=fill(
            r"""
            For $\sigma_1 \le \sigma_2$, $\mathrm{smECE}_{\sigma_2} \le \mathrm{smECE}_{\sigma_1} \le
            \frac1n \sum_i \lvert a_i - \hat p_i \rvert$. Exactly one $\sigma \ge 0$ has
            $\mathrm{smECE}_\sigma = \sigma$, and it is at most 1.
            """
        ),
        source=f"{OURS}, after {SOURCE}",
        verdict="verified",
        proof=fill(
            r"""
            By {ref}`The reflected Gaussian kernel in cosines <ledger-reflected-gaussian-cosines>` smoothing with
            $\sigma$ and then with $\tau$ multiplies each coefficient by the two factors, whose product is that of
            $<second>$. So what is smoothed with $\sigma_2$ is what was smoothed with $\sigma_1$, smoothed again. A
            non-negative kernel of mass 1 makes no integral of an absolute value larger:
            $\int \lvert \int K(t, s) r(s) ds \rvert dt \le \int \lvert r(s) \rvert \int K(t, s)\, dt\, ds$. The same
            step from the samples themselves gives the upper bound, which is at most 1. So
            $\mathrm{smECE}_\sigma - \sigma$ decreases strictly, from at least 0 at $\sigma = 0$ to at most 0 at
            $\sigma = 1$. With {ref}`Bounds of the Smooth ECE loss <ledger-smooth-ece-bounds>` the paper's loss is an
            upper bound of smECE, as it is of the binned ECE: a loose one for a good classifier.
            """,
            second=second,
        ),
        equation="eq-smooth-ece",
    )


def smooth_error_gradient(bound: Expr = LIPSCHITZ) -> Claim:
    """The derivative of smECE in one confidence, at a fixed bandwidth and through the rule; and how large it can be."""
    name = "smooth-ece-gradient-in-confidence"
    kernel = Function("K")
    residual = (correct - confidence) * kernel(confidence)
    slope = residual.diff(confidence)
    require_zero(name, slope - ((correct - confidence) * kernel(confidence).diff(confidence) - kernel(confidence)))
    total = 2 * sympy.integrate(-GAUSSIAN.diff(z), (z, 0, oo))
    require_zero(name, 1 + total - bound)
    p_slope, width_slope, moved = symbols(r"S_{\hat{p}} S_\sigma \sigma'", real=True)
    (solved,) = sympy.solve(moved - (p_slope + width_slope * moved), moved)
    require_zero(name, solved - p_slope / (1 - width_slope))
    return Claim(
        id=name,
        title="Gradient of smECE, and how far it can move",
        statement=fill(
            r"""
            With $r(t) = \frac1n \sum_i K_\sigma(t, \hat p_i) (a_i - \hat p_i)$,

            $$\frac{\partial\, \mathrm{smECE}_\sigma}{\partial \hat p_i} = \frac1n \int_0^1 \operatorname{sign} r(t)\,
            \big[ (a_i - \hat p_i)\, \partial_s K_\sigma(t, s) - K_\sigma(t, s) \big]_{s = \hat p_i} dt ,$$

            so that $\lvert \Delta\, \mathrm{smECE}_\sigma \rvert$ is at most
            $\big( <bound> \big) \frac1n \sum_i \lvert \Delta \hat p_i \rvert$. Where $\sigma$ is the bandwidth that
            equals its error, it moves by
            $\frac{\partial_{\hat p}\, \mathrm{smECE}_\sigma}{1 - \partial_\sigma\, \mathrm{smECE}_\sigma}$, which is
            no more.
            """,
            bound=bound,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            The summand of one sample has the derivative $<slope>$; the sign of $r$ is constant almost everywhere. A
            reflected kernel folds the Gaussian, so
            $\int_0^1 \lvert \partial_s K_\sigma \rvert dt \le \int \lvert \phi_\sigma' \rvert = <total>$, the
            residual is at most 1, and the kernel has mass 1. For the rule, differentiate $\sigma = S(\hat p, \sigma)$
            and solve; $\partial_\sigma S \le 0$ by
            {ref}`smECE does not grow with the bandwidth <ledger-smooth-ece-decreases>`.
            """,
            slope=slope,
            total=total,
        ),
        equation="eq-smooth-ece",
    )


PROVERS = (
    binned_loss_bounds,
    binned_loss_gradient,
    cosine_kernel,
    smooth_error_decreases,
    smooth_error_gradient,
)
