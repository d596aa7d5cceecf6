"""The tempered log-probability of Ma et al.: its gradient, and when it is the logarithm of a probability.

log p_{tau_1,tau_2}(y|x) = tau_1 f_y(x) - log sum_i exp(tau_2 f_i(x)), for any two temperatures.
"""

import sympy
from sympy import Expr, S, Sum, Symbol, exp, log

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
from derivations.proof import fill, require, require_zero

height = Symbol("h", positive=True)
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
    two_classes = (exp(tau_1 * height) + 1) / (exp(tau_2 * height) + 1)
    excess = sympy.numer(sympy.together(two_classes - 1))
    require_zero(name, excess.subs(tau_1, tau_2))
    require(name, excess.diff(tau_1).is_positive, excess)
    return Claim(
        id=name,
        title="When the tempered probabilities sum to one",
        statement=r"$\sum_y p_{\tau_1,\tau_2}(y|x) = 1$ for all logits if and only if $\tau_1 = \tau_2$.",
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            With equal temperatures the sum is $<numerator>$ divided by itself. With two classes and logits
            $(h, 0)$, $h > 0$, the sum is $<two>$, which is one where $<excess> = 0$. The left side is zero at
            $\tau_1 = \tau_2$ and grows strictly with $\tau_1$, its derivative being $<growth> > 0$, so it is
            zero nowhere else. At the reported setting $\tau_1 = 1$, $\tau_2 = 1/2$, and with $h = \log 4$, the
            sum is $<example>$. The source's name is kept; nothing that follows needs the sum to be one.
            """,
            numerator=numerator,
            two=two_classes,
            excess=excess,
            growth=excess.diff(tau_1),
            example=sympy.simplify(two_classes.subs({tau_1: 1, tau_2: S.Half, height: log(4)})),
        ),
        equation="eq-tempered",
    )


PROVERS = (tempered_gradient, normalisation)
