"""The tempered log-probability of Ma et al.: its gradient, and when it is the logarithm of a probability.

log p_{tau_1,tau_2}(y|x) = tau_1 f_y(x) - log sum_i exp(tau_2 f_i(x)), for any two temperatures.
"""

import sympy
from sympy import Expr, S, Sum, Symbol, exp, log, symbols

from derivations.claim import OURS, PAPER, Claim
from derivations.notation import (
    Logit,
    N,
    label,
    logit_gradient,
    mean_gradient,
    partition,
    tau_1,
    tau_2,
    tempered,
    x,
    y,
)
from derivations.proof import fill, require_zero

height = Symbol("h", positive=True)
T = Symbol("T", positive=True)
SCALED = tau_1 / T, tau_2 / T
GRADIENT = tau_1 * label - tau_2 * tempered


def tempered_gradient(claimed: Expr = GRADIENT) -> Claim:
    """The label's gradient times tau_1 less tau_2 times the mean under softmax(tau_2 f), for every N."""
    name = "tempered-gradient"
    log_probability = tau_1 * Logit(y, x) - log(partition(tau_2))
    stated = claimed.subs({label: logit_gradient(y), tempered: mean_gradient(tau_2)})
    require_zero(name, log_probability.diff(x) - stated)
    return Claim(
        id=name,
        title="Gradient of the tempered log-probability",
        statement=fill(
            r"$\nabla_x \log p_{\tau_1,\tau_2}(y|x) = <claimed>$ for all $\tau_1, \tau_2$.", claimed=claimed
        ),
        source=f"{PAPER}, Proposition 2, after Ma et al. 2024",
        verdict="verified",
        proof=fill(
            r"""
            SymPy differentiates $<value>$ along one coordinate $x$, with $N$ a symbol:

            $$<derivative> .$$

            The constant $\tau_2$ leaves the sum, and $e^{\tau_2 f_k} / \sum_j e^{\tau_2 f_j}$ is
            $p_{\tau_2}(k|x)$.
            """,
            value=log_probability,
            derivative=log_probability.diff(x),
        ),
        equation="eq-tempered-gradient",
    )


def normalisation(joint: Expr = tau_1, marginal: Expr = tau_1) -> Claim:
    """The tempered probabilities sum to one for all logits if the temperatures agree, and only then."""
    name = "tempered-normalisation"
    numerator = Sum(exp(joint * Logit(y, x)), (y, 1, N))
    require_zero(name, numerator / Sum(exp(marginal * Logit(y, x)), (y, 1, N)) - 1)
    equal = sympy.simplify(N * exp(tau_1 * height) / (N * exp(tau_2 * height)))
    require_zero(name, sympy.expand_log(log(equal), force=True) - (tau_1 - tau_2) * height)
    return Claim(
        id=name,
        title="When the tempered probabilities sum to one",
        statement=r"$\sum_y p_{\tau_1,\tau_2}(y|x) = 1$ for all logits if and only if $\tau_1 = \tau_2$.",
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            With equal temperatures the sum is $<numerator>$ divided by itself. With $N$ logits that are all $h$ the sum
            is $<equal>$, whose logarithm is $(\tau_1 - \tau_2) h$: it is one for $h = 1$ only if the temperatures are
            equal. At the reported setting $\tau_1 = 1$, $\tau_2 = 1/2$ with two classes and logits $(\log 4, 0)$ the
            sum is $<example>$. The source's name is kept; nothing that follows needs the sum to be one.
            """,
            numerator=numerator,
            equal=equal,
            example=sympy.simplify((exp(tau_1 * height) + 1) / (exp(tau_2 * height) + 1)).subs(
                {tau_1: 1, tau_2: S.Half, height: log(4)}
            ),
        ),
        equation="eq-tempered",
    )


def temperature_scaling(scaled: tuple[Expr, Expr] = SCALED, push: Expr = tau_1 - tau_2) -> Claim:
    """Guiding by f/T is dividing both temperatures by T, and unequal ones add a push on the label's logit."""
    name = "tempered-scaling"
    divided = log_tempered(tau_1, tau_2).replace(Logit, lambda *place: Logit(*place) / T)
    require_zero(name, divided - log_tempered(*scaled))
    calibrated = log_tempered(tau_2, tau_2)
    require_zero(name, log_tempered(tau_1, tau_2) - calibrated - push * Logit(y, x))
    halved = {tau_1: S.One, tau_2: S.Half}
    return Claim(
        id=name,
        title="Temperature scaling and the two temperatures",
        statement=fill(
            r"""
            The tempered score of a classifier whose logits are divided by $T$ is that of the classifier itself with
            $\tau_1 / T$ and $\tau_2 / T$. For any temperatures,

            $$\log p_{\tau_1,\tau_2}(y|x) = \log p_{\tau_2,\tau_2}(y|x) + (<push>)\, f_y(x) :$$

            the first term is the log-probability of the classifier that is scaled by $T = 1/\tau_2$, the second pushes
            the label's logit whatever the others are.
            """,
            push=push,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            With $f/T$ for $f$ in $<value>$ every $\tau f$ becomes $(\tau/T) f$. The difference of the two sides of
            the second line is zero term by term. So the setting $\tau_1 = 1$, $\tau_2 = 1/2$ is calibration at $T = 2$
            and a push of $<halved>$ times the label's logit. A calibrated classifier of its own is guided by
            $\tau_1 = \tau_2$; dividing by $T$ then changes the gradient by the factor $1/T$, and the probabilities over
            which the other logits' mean is taken.
            """,
            value=log_tempered(tau_1, tau_2),
            halved=push.subs(halved),
        ),
        equation="eq-tempered",
    )


def decomposition(free: Expr = tau_1 - tau_2) -> Claim:
    """The tempered score through p alone, but for a multiple of the free energy: it is no function of p."""
    name = "tempered-decomposition"
    total, powers = symbols("Z S", positive=True)  # the sums of e^f and of e^(tau_2 f)
    log_p = Logit(y, x) - log(total)
    through_p = tau_1 * log_p - log(powers * exp(-tau_2 * log(total))) + free * log(total)
    require_zero(name, sympy.expand_log(through_p, force=True) - (tau_1 * Logit(y, x) - log(powers)))
    shifted = Symbol("c", real=True)
    require_zero(name, tau_1 * (Logit(y, x) + shifted) - tau_2 * shifted - tau_1 * Logit(y, x) - free * shifted)
    return Claim(
        id=name,
        title="The tempered score and the free energy",
        statement=fill(
            r"""
            With $Z = \sum_j e^{f_j}$ and the Rényi entropy
            $H_\tau(p) = \frac{1}{1 - \tau} \log \sum_j p_j^\tau$ of $p = \mathrm{softmax}(f)$,

            $$\log p_{\tau_1,\tau_2}(y|x) = \tau_1 \log p_y - (1 - \tau_2) H_{\tau_2}(p) + (<free>) \log Z .$$

            Two classifiers with the same $p$, whose logits differ by $c(x)$, have scores that differ by
            $(<free>)\, c(x)$: for $\tau_1 \neq \tau_2$ the tempered score is no function of $p$.
            """,
            free=free,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            As $\log p_j = f_j - \log Z$, the sum of the $p_j^{\tau_2}$ is $Z^{-\tau_2} \sum_j e^{\tau_2 f_j}$, for
            every $N$. Put that and $\log p_y$ into the right side, and SymPy reduces its difference from $<value>$ to
            zero. Adding $c$ to every logit adds $\tau_1 c$ to the first term of that and $\tau_2 c$ to the logarithm.
            What $p$ alone determines loses its force at certainty, so all that survives there is the free energy's,
            whose gradient is $(<free>) \sum_j p_j \nabla f_j$. A head that gives log-probabilities has $Z = 1$ and
            keeps none.
            """,
            value=log_tempered(tau_1, tau_2),
            free=free,
        ),
        equation="eq-tempered",
    )


def log_tempered(joint: Expr, marginal: Expr) -> Expr:
    """The tempered log-probability of the label."""
    return joint * Logit(y, x) - log(partition(marginal))


PROVERS = (tempered_gradient, normalisation, temperature_scaling, decomposition)
