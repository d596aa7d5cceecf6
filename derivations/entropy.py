"""The entropy bonus lambda H(p(.|x)): its gradient in the logits, and what is left of it at one-hot p.

The source adds the bonus and calls it adaptive; it is not known to us by formula. The gradient here is ours.
"""

import sympy
from sympy import Expr, S, Sum, log, symbols

from derivations.claim import OURS, Claim
from derivations.notation import N, i, p, p_, p_k
from derivations.proof import fill, require_zero, sum_over

H = symbols("H", real=True)
GRADIENT = -p_k * (log(p_k) + H)


def _term_residuals() -> list[Expr]:
    """Term i of the entropy differentiated in the logit f_k, less v_i ([i = k] - p_k), for every N.

    The symbols are a = e^{f_k}, b = e^{f_i} and R, the sum of e^{f_j} over all other classes.
    """
    a, b, rest = symbols("a b R", positive=True)
    term, v = -p * log(p), -p * (log(p) + 1)
    own, other, vertex = a / (a + rest), b / (a + b + rest), a / (a + b + rest)
    same = a * term.subs(p, own).diff(a) - v.subs(p, own) * (1 - own)
    different = a * term.subs(p, other).diff(a) + v.subs(p, other) * vertex
    return [same, different]


def entropy_gradient(claimed: Expr = GRADIENT) -> Claim:
    """The gradient of the entropy in the logits, for every N."""
    name = "entropy-gradient"
    require_zero(name, *_term_residuals())
    v = -p_[i] * (log(p_[i]) + 1)
    negative_entropy = Sum(p_[i] * log(p_[i]), (i, 1, N))
    total = sum_over(v, {p_[i]: S.One, p_[i] * log(p_[i]): -H})
    actual = v.subs(p_[i], p_k) - p_k * total
    require_zero(name, actual - claimed)
    return Claim(
        id=name,
        title="Gradient of the entropy",
        statement=fill(
            r"""
            For $H = -\sum_i p_i \log p_i$, $\partial H/\partial f_k = <claimed>$.
            """,
            claimed=claimed,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            Term $i$ of $H$ has the derivative $v_i ([i = k] - p_k)$ in the logit $f_k$, with
            $v_i = <v>$; SymPy confirms it for every $N$, by lumping all other classes together. The sum over
            $i$ is $v_k - p_k \sum_i v_i$, and $\sum_i v_i = <total>$ because $<negative> = -H$ and
            $\sum_i p_i = 1$. So a class is raised if it is rarer than $e^{-H}$ and lowered if it is more probable.
            """,
            v=v,
            total=total,
            negative=negative_entropy,
        ),
        equation="eq-entropy-gradient",
    )


def entropy_saturation(component: Expr = GRADIENT) -> Claim:
    """The entropy's force vanishes at one-hot p, on every class."""
    name = "entropy-saturation"
    entropy_limit = sympy.limit(-p * log(p), p, 0, "+")
    require_zero(name, entropy_limit)
    on_others = sympy.limit(component.subs({p_k: p, H: entropy_limit}), p, 0, "+")
    on_vertex = component.subs({p_k: 1, H: entropy_limit})
    require_zero(name, on_others, on_vertex)
    return Claim(
        id=name,
        title="The entropy's force at one-hot p",
        statement=r"As $p$ tends to one-hot, $\partial H/\partial f_k$ tends to zero for every $k$.",
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            $\lim_{p \to 0^+} p \log p = <limit>$, so $H \to 0$, and the gradient $<gradient>$ tends to $<others>$ where
            $p_k \to 0$ and to $<vertex>$ where $p_k \to 1$. An entropy bonus does not cure a vanishing
            gradient; it is FKL with a uniform target ({ref}`proved here <ledger-fkl-entropy>`), and FKL does not.
            """,
            limit=entropy_limit,
            gradient=component,
            others=on_others,
            vertex=on_vertex,
        ),
        equation="eq-entropy-gradient",
    )


PROVERS = (entropy_gradient, entropy_saturation)
