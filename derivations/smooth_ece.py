"""The Smooth ECE loss that the paper fine-tunes a classifier with: gradient, bounds, and what it is minimised by.

L = (1/n) sum over bins, sum over samples in the bin of sqrt((p_hat_i - a_i)^2 + beta), where p_hat_i is the largest
probability, a_i is 1 if the largest is the label's and 0 otherwise, and beta > 0. The paper gives the loss; what
follows from it is ours.
"""

import mpmath
import sympy
from sympy import Expr, KroneckerDelta, Piecewise, Rational, S, Symbol, oo, sqrt, symbols

from derivations.claim import OURS, PAPER, Claim
from derivations.notation import p
from derivations.proof import fill, require, require_zero

beta = Symbol("beta", positive=True)
n = Symbol("n", integer=True, positive=True)
correct = Symbol("a", real=True)
confidence, p_j, delta = symbols(r"\hat{p} p_j \delta_{jk}", real=True)
d = Symbol("d", real=True)
c = Symbol("c", positive=True)

LOSS = sqrt(d**2 + beta)
LOGIT_GRADIENT = (
    (confidence - correct) / sqrt((confidence - correct) ** 2 + beta) * confidence * (delta - p_j) / n
)
EXPECTED = c * sqrt((1 - p) ** 2 + beta) + (1 - c) * sqrt(p**2 + beta)
QUARTIC = c**2 * (1 - p) ** 2 * (p**2 + beta) - (1 - c) ** 2 * p**2 * ((1 - p) ** 2 + beta)
SOLVED = p**2 * (1 - p) ** 2 * (2 * c - 1) / ((p - c) * (p + c - 2 * c * p))
FIRST_ORDER = 1 - sqrt(beta) * (1 - c) / sqrt(2 * c - 1)
UPPER_GAP = sqrt(beta)
BIAS_TIMES_BETA = c * (1 - c) * (2 * c - 1) / 2


def bins_cancel(share: Expr = S.One) -> Claim:
    """Every sample is in one bin and counts once: the bins are not there."""
    name = "smooth-ece-bins"
    bins, index, own_bin = symbols("M m m_i", integer=True, positive=True)
    counted = sympy.summation(share * KroneckerDelta(index, own_bin), (index, 1, bins))
    if isinstance(counted, Piecewise):
        counted = counted.args[0].expr
    require_zero(name, counted - 1)
    return Claim(
        id=name,
        title="The bins of the Smooth ECE loss cancel",
        statement=r"$L = \frac1n \sum_{i=1}^n \sqrt{(\hat p_i - a_i)^2 + \beta}$, whatever the bins are.",
        source=f"{OURS}, of the loss in {PAPER}",
        verdict="verified",
        proof=fill(
            r"""
            Exchange the two sums of
            $L = \frac1n \sum_{m=1}^M \sum_i [m = m_i] \sqrt{(\hat p_i - a_i)^2 + \beta}$, where $m_i$ is the bin
            of sample $i$. For every $i$, $\sum_{m=1}^M [m = m_i] = <counted>$ as $1 \le m_i \le M$.
            Nothing is averaged inside a bin before the root is taken, so the loss measures no calibration error
            of bins: it is a smoothed mean absolute error of single samples.
            """,
            counted=counted,
        ),
        equation="eq-smooth-ece-loss",
    )


def loss_gradient(claimed: Expr = LOGIT_GRADIENT) -> Claim:
    """The gradient in the logits of one sample, for every number of classes."""
    name = "smooth-ece-gradient"
    a, b, rest = symbols("A_k A_j R", positive=True)
    top, other = a / (a + b + rest), b / (a + b + rest)
    value = sqrt((top - correct) ** 2 + beta) / n
    in_top = a * value.diff(a) - claimed.subs({confidence: top, p_j: top, delta: 1})
    in_other = b * value.diff(b) - claimed.subs({confidence: top, p_j: other, delta: 0})
    require_zero(name, in_top, in_other)
    wrong = sympy.limit(claimed.subs({delta: 1, p_j: confidence, correct: 0}), confidence, 1)
    require_zero(name, wrong)
    return Claim(
        id=name,
        title="Gradient of the Smooth ECE loss",
        statement=fill(
            r"""
            With $k$ the most probable class of sample $i$ (unique) and $\hat p = p_k$,

            $$\frac{\partial L}{\partial f_j} = <claimed> .$$
            """,
            claimed=claimed,
        ),
        source=f"{OURS}, of the loss in {PAPER}",
        verdict="verified",
        proof=fill(
            r"""
            Where the most probable class is unique, $a$ is constant in a neighbourhood and has no gradient, and
            $\partial \hat p/\partial f_j = \hat p (\delta_{jk} - p_j)$ as for every softmax probability. SymPy
            differentiates in $f_k$ and in another logit $f_j$, with all remaining classes in one constant
            $R$, which covers every number of classes. A consequence: on a sample that is wrong with full
            confidence ($a = 0$, $\hat p \to 1$) the gradient tends to $<wrong>$, where the loss is largest.
            """,
            wrong=wrong,
        ),
        equation="eq-smooth-ece-loss",
    )


def loss_bounds(lower: Expr = S.Zero, upper: Expr = UPPER_GAP) -> Claim:
    """The loss lies between the mean absolute error and that plus sqrt(beta)."""
    name = "smooth-ece-bounds"
    size = Symbol("d", nonnegative=True)
    squared = size**2 + beta
    above_lower = sympy.expand(squared - (size + lower) ** 2)
    below_upper = sympy.expand((size + upper) ** 2 - squared)
    require(name, above_lower.is_nonnegative, above_lower)
    require(name, below_upper.is_nonnegative, below_upper)
    return Claim(
        id=name,
        title="Bounds of the Smooth ECE loss",
        statement=fill(
            r"""
            $\frac1n \sum_i \lvert \hat p_i - a_i\rvert \le L \le
            \frac1n \sum_i \lvert \hat p_i - a_i\rvert + <upper>$.
            """,
            upper=upper,
        ),
        source=f"{OURS}, of the loss in {PAPER}",
        verdict="verified",
        proof=fill(
            r"""
            Let $d = \lvert \hat p_i - a_i\rvert$. Both sides of each inequality are non-negative, so compare squares:
            $(d^2 + \beta) - d^2 = <lower>$ and $(d + <upper>)^2 - (d^2 + \beta) = <gap>$, neither negative. The mean
            over the samples keeps both.
            """,
            lower=above_lower,
            upper=upper,
            gap=below_upper,
        ),
        equation="eq-smooth-ece-loss",
    )


def bounds_binned_error(scale: Expr = S.One) -> Claim:
    """The binned ECE is at most the loss (and at most no smaller multiple of it)."""
    name = "smooth-ece-bounds-binned"
    first, second = symbols("d_1 d_2", real=True)
    triangle = sympy.expand((abs(first) + abs(second)) ** 2 - (first + second) ** 2)
    require_zero(name, triangle - 2 * (abs(first) * abs(second) - first * second))
    count = Symbol("n_m", positive=True)
    require_zero(name, count / n * (first / count) - first / n)
    # One wrong sample of confidence one in one bin: the binned error is one, and the loss sqrt(1 + beta).
    margin = scale * sqrt(1 + beta) - 1
    require(name, sympy.limit(margin, beta, 0) >= 0, "one wrong sample of confidence one exceeds the bound")
    perfect = 2 * c * (1 - c)
    mean_error = c * (1 - c) + (1 - c) * c
    require_zero(name, perfect - mean_error)
    return Claim(
        id=name,
        title="The Smooth ECE loss bounds the binned ECE",
        statement=fill(
            r"""
            For any bins,
            $\mathrm{ECE} = \sum_m \frac{n_m}{n} \lvert \mathrm{acc}_m - \mathrm{conf}_m\rvert \le L$.
            """
        ),
        source=f"{OURS}, of the loss in {PAPER}",
        verdict="verified",
        proof=fill(
            r"""
            In a bin of $n_m$ samples, $\frac{n_m}{n} \lvert \mathrm{acc}_m - \mathrm{conf}_m \rvert =
            \frac1n \bigl\lvert \sum_{i \in m} (\hat p_i - a_i) \bigr\rvert$, the factor $n_m$ cancelling. By the
            triangle inequality this is at most $\frac1n \sum_{i \in m} \lvert \hat p_i - a_i\rvert$: for two terms
            $(\lvert d_1\rvert + \lvert d_2\rvert)^2 - (d_1 + d_2)^2 = <triangle> \ge 0$, for more by induction. Sum
            over the bins and use {ref}`Bounds of the Smooth ECE loss <ledger-smooth-ece-bounds>`. One wrong sample of
            confidence one shows that no smaller multiple of $L$ bounds the ECE as $\beta \to 0$. The bound is
            loose for a good classifier: with confidence and accuracy both $c$ the ECE tends to zero and $L$ to at
            least $<perfect>$.
            """,
            triangle=triangle,
            perfect=perfect,
        ),
        equation="eq-smooth-ece-loss",
    )


def not_proper(overconfident: bool = True, solved: Expr = SOLVED) -> Claim:
    """The expected loss at accuracy c is not minimised by the confidence c, but strictly above it."""
    name = "smooth-ece-not-proper"
    curvature = sympy.simplify(LOSS.diff(d, 2) * (d**2 + beta) ** Rational(3, 2))
    require_zero(name, curvature - beta)
    slope = EXPECTED.diff(p)
    at_accuracy = c * (1 - c) * (1 / sqrt(beta + c**2) - 1 / sqrt(beta + (1 - c) ** 2))
    require_zero(name, slope.subs(p, c) - at_accuracy, (c**2 - (1 - c) ** 2) - (2 * c - 1))
    require_zero(name, QUARTIC.subs(beta, solved))
    example = {c: Rational(4, 5), p: Rational(9, 10), beta: solved.subs({c: Rational(4, 5), p: Rational(9, 10)})}
    require_zero(name, sympy.simplify(slope.subs(example)))
    minimiser_above = bool(example[p] > example[c]) and bool(at_accuracy.subs(example) < 0)
    require(name, minimiser_above == overconfident, f"the minimiser is {example[p]} at accuracy {example[c]}")
    return Claim(
        id=name,
        title="The Smooth ECE loss is not proper",
        statement=fill(
            r"""
            For a classifier that is right with probability $c \in (\frac12, 1)$ on a set of samples, the
            confidence $\hat p$ that minimises the expected loss is not $c$ but lies strictly between $c$ and one:
            the loss rewards overconfidence.
            """
        ),
        source=f"{OURS}, of the loss in {PAPER}",
        verdict="verified",
        proof=fill(
            r"""
            With $p$ for $\hat p$ the expected loss is $E(p) = <expected>$. It is strictly convex, because
            $\frac{d^2}{dd^2} <loss> = <curvature>\, (d^2 + \beta)^{-3/2} > 0$, so it has one minimiser. Its slope is

            $$E'(p) = <slope> .$$

            At $p = c$ this is $<at_accuracy>$, negative for $c > \frac12$ because $c^2 - (1 - c)^2 = 2c - 1 > 0$;
            at $p = 1$ it is $<at_one> > 0$. Between zero and one the two terms of $E' = 0$ have opposite signs, so the
            equation may be squared:

            $$<quartic> = 0 ,$$

            a quartic in $p$, but linear in $\beta$:

            $$\beta = <solved> .$$

            An exact case: for $c = <c>$ and $\beta = <beta>$ the minimiser is $p = <p>$, where $E'$ vanishes exactly,
            while $E'(c) \approx <value>$.
            """,
            expected=EXPECTED,
            loss=LOSS,
            curvature=curvature,
            slope=slope,
            at_accuracy=at_accuracy,
            at_one=slope.subs(p, 1),
            quartic=QUARTIC,
            solved=solved,
            c=example[c],
            beta=example[beta],
            p=example[p],
            value=sympy.N(at_accuracy.subs(example), 4),
        ),
        equation="eq-smooth-ece-loss",
    )


def _minimiser(accuracy: Rational, smoothing: Rational) -> mpmath.mpf:
    """The minimising confidence to thirty digits: the root of the slope between accuracy and one."""
    slope = sympy.lambdify(p, EXPECTED.diff(p).subs({c: accuracy, beta: smoothing}), "mpmath")
    with mpmath.workdps(40):
        return mpmath.findroot(slope, (mpmath.mpf(accuracy.p) / accuracy.q, 1), solver="anderson", tol=1e-60)


def minimiser_limits(wide: Expr = c, narrow: Expr = S.One, first_order: Expr = FIRST_ORDER) -> Claim:
    """The minimiser tends to c as beta grows, and to one as beta vanishes."""
    name = "smooth-ece-limits"
    step, root = symbols("s r", positive=True)
    accuracy = 1 / (1 + 1 / (1 + root))  # any number between one half and one
    solved = SOLVED.subs(c, accuracy)
    require(name, sympy.limit(solved, p, wide.subs(c, accuracy), "+") == oo, f"beta stays finite at {wide}")
    require_zero(name, sympy.limit(solved, p, narrow, "-"))
    scaled = SOLVED.subs(p, first_order.subs(beta, step**2)) / step**2
    rational = sympy.cancel(scaled.subs(c, (1 + root**2) / 2))  # root is sqrt(2c - 1)
    require_zero(name, sympy.limit(rational, step, 0) - 1, sympy.limit(rational.diff(step), step, 0))
    rows = []
    for smoothing in (Rational(1, 10000), Rational(1, 100), Rational(100)):
        example = {c: Rational(4, 5), beta: smoothing}
        minimiser = _minimiser(example[c], smoothing)
        solved_for = SOLVED.subs({c: example[c], p: sympy.Float(minimiser, 35)})
        require(name, abs(solved_for / smoothing - 1) < Rational(1, 10**20), solved_for)
        nearby = sympy.N(first_order.subs(example), 6) if smoothing < 1 else "-"
        rows.append(f"| ${sympy.N(smoothing, 3)}$ | ${mpmath.nstr(minimiser, 6)}$ | ${nearby}$ |")
    return Claim(
        id=name,
        title="What minimises the Smooth ECE loss",
        statement=fill(
            r"""
            For accuracy $c \in (\frac12, 1)$ the minimising confidence falls strictly from $<narrow>$ to $<wide>$ as
            $\beta$ grows from zero to infinity. For small $\beta$ it is $<first_order> + O(\beta^{3/2})$.
            """,
            narrow=narrow,
            wide=wide,
            first_order=first_order,
        ),
        source=f"{OURS}, of the loss in {PAPER}",
        verdict="verified",
        proof=fill(
            r"""
            For every $\beta > 0$ there is exactly one minimiser in $(c, 1)$
            ({ref}`The Smooth ECE loss is not proper <ledger-smooth-ece-not-proper>`), and for every $p$ in $(c, 1)$
            exactly one positive $\beta = <solved>$. So the two determine one another, continuously and hence
            monotonically; $\beta \to \infty$ as $p \to c^+$ and $\beta \to 0$ as $p \to 1^-$. Putting
            $p = <first_order>$ into the right side and dividing by $\beta$ gives $1 + O(\beta)$, so
            the error is $O(\beta^{3/2})$. For $c = \frac45$, the root of $E'$ found in 40 digits:
            """,
            solved=SOLVED,
            first_order=first_order,
        )
        + "\n\n| $\\beta$ | minimising confidence | to first order |\n| --- | --- | --- |\n"
        + "\n".join(rows),
        equation="eq-smooth-ece-loss",
    )


def smoothing_for_bias(product: Expr = BIAS_TIMES_BETA, proper: Expr = d**2) -> Claim:
    """How large beta must be for a given bias, in closed form; and that the loss is proper in the limit alone."""
    name = "smooth-ece-bias"
    bias = Symbol("delta", positive=True)
    needed = sympy.factor(SOLVED.subs(p, c + bias))
    require_zero(name, sympy.limit(needed * bias, bias, 0) - product)
    worst = sympy.solve(product.diff(c), c)[-1]
    require_zero(name, product.diff(c).subs(c, worst))
    require(name, bool(Rational(1, 2) < worst) and bool(worst < 1), worst)
    step = Symbol("s", positive=True)
    limit = sympy.limit((2 * sqrt(beta) * (LOSS - sqrt(beta))).subs(beta, 1 / step**2), step, 0)
    require_zero(name, limit - proper)
    expected = c * proper.subs(d, p - 1) + (1 - c) * proper.subs(d, p)
    require_zero(name, expected.diff(p).subs(p, c))
    rows = []
    for accuracy in (Rational(3, 5), Rational(4, 5), Rational(19, 20)):
        values = [needed.subs({c: accuracy, bias: Rational(1, size)}) for size in (100, 1000)]
        rows.append(f"| {sympy.N(accuracy, 2)} | " + " | ".join(f"{sympy.N(value, 3)}" for value in values) + " |")
    return Claim(
        id=name,
        title="The smoothing that a given bias needs",
        statement=fill(
            r"""
            The minimising confidence is at most $c + \delta$, for accuracy $c \in (\frac12, 1)$ and $c + \delta < 1$,
            if and only if $\beta \ge <needed>$. For small $\delta$ this is $<product> / \delta$, at most
            $<largest> / \delta$. In the limit of large $\beta$, and in it alone, the loss is proper.
            """,
            needed=needed,
            product=product,
            largest=sympy.nsimplify(sympy.simplify(product.subs(c, worst))),
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            The minimiser falls strictly as $\beta$ grows
            ({ref}`What minimises the Smooth ECE loss <ledger-smooth-ece-limits>`), and the $\beta$ that belongs to a
            minimiser $p$ is known in closed form; put $p = c + \delta$. Multiplied by $\delta$ it tends to $<product>$
            as $\delta \to 0$, which is largest at $c = <worst>$. As $\beta \to \infty$,
            $2 \sqrt\beta \big( <loss> - \sqrt\beta \big) \to <limit>$: the loss becomes an increasing function of the
            Brier score of the confidence, whose expected value is smallest at $p = c$. For a bias of at most 0.01 and
            0.001:
            """,
            product=product,
            worst=worst,
            loss=LOSS,
            limit=limit,
        )
        + "\n\n| accuracy | $\\beta$ for a bias of 0.01 | for 0.001 |\n| --- | --- | --- |\n"
        + "\n".join(rows),
        equation="eq-smooth-ece-loss",
    )


PROVERS = (
    bins_cancel,
    loss_gradient,
    loss_bounds,
    bounds_binned_error,
    not_proper,
    minimiser_limits,
    smoothing_for_bias,
)
