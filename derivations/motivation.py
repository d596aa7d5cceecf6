"""What the source says to motivate its score, in the logits: when guidance vanishes, and what a divergence adds to it.

Two results are ours: guidance by the predicted clean image is overconfident even for an exact classifier, and where the
other classes are alike every method is log p guidance with another scale.
"""

import sympy
from sympy import Expr, Rational, S, Symbol, exp, sqrt, symbols, tanh

from derivations.claim import OURS, PAPER, Claim
from derivations.divergences import DIVERGENCES
from derivations.notation import alpha, t
from derivations.proof import fill, in_gauge, require, require_zero

(JS,) = (row.generator for row in DIVERGENCES if row.name == "js")
p_y, others = Symbol("p_y", positive=True), Symbol("s", positive=True)
confidence, beta, gap, sharpness = symbols(r"c beta d s", positive=True)
mu, signal, x_t = symbols(r"mu \bar{\alpha} x_t", positive=True)
force_y = Symbol("F_y", real=True)
JUMP = 1 - 2 * confidence
EXTRA = 2 * mu**2 * (1 - signal) * tanh(sqrt(signal) * mu * x_t)
TURN = 1 + exp(t) - t * exp(t)
ONE_SCALE = 1 - alpha * force_y / (1 - p_y)


def vanishing_gradient(upper: Expr = S(2)) -> Claim:
    """The residual e_y - p is as long as 1 - p_y, up to the root of two."""
    name = "vanishing-gradient"
    squares = (1 - p_y) ** 2 + others
    # the squares of the other probabilities sum to at least 0 and at most to the square of their sum, 1 - p_y
    require_zero(name, squares.subs(others, 0) - (1 - p_y) ** 2)
    require_zero(name, squares.subs(others, (1 - p_y) ** 2) - upper * (1 - p_y) ** 2)
    return Claim(
        id=name,
        title="When the gradient vanishes",
        statement=fill(
            r"""
            Where the classifier's prediction is close to one-hot, $\nabla \log p(y|x)$ tends to zero, and sampling
            goes on as if there were no guidance.
            """
        ),
        source=f"{PAPER}, motivation",
        verdict="corrected",
        correction=fill(
            r"""
            In the logits the gradient is the residual $e_y - p$, and
            $(1 - p_y)^2 \le \lVert e_y - p \rVert^2 \le <upper>\, (1 - p_y)^2$. It vanishes as $p$ becomes one-hot
            on the label, and there alone: on a wrong class its length tends to $\sqrt2$, the largest that there is.
            """,
            upper=upper,
        ),
        counterexample=r"$p$ one-hot on a class $k \neq y$: $e_y - p = e_y - e_k$ has the length $\sqrt2$.",
        proof=fill(
            r"""
            $\lVert e_y - p \rVert^2 = (1 - p_y)^2 + \sum_{i \neq y} p_i^2$. The last sum is at least $0$ and at most
            $\bigl(\sum_{i \neq y} p_i\bigr)^2 = (1 - p_y)^2$, with equality where one other class has it all.
            """
        ),
        equation="eq-residual",
    )


def differentiable_loss(jump: Expr = JUMP) -> Claim:
    """Where the label ties with another class for the top, the Smooth ECE loss jumps, unless both have one half."""
    name = "smooth-ece-differentiable"
    right, wrong = sqrt((1 - confidence) ** 2 + beta), sqrt(confidence**2 + beta)
    require_zero(name, sympy.expand(right**2 - wrong**2) - jump)
    require(name, sympy.solve(jump, confidence) == [Rational(1, 2)], jump)
    return Claim(
        id=name,
        title="Where the Smooth ECE loss is differentiable",
        statement=r"$\beta > 0$ makes the Smooth ECE loss differentiable.",
        source=f"{PAPER}, Smooth ECE loss",
        verdict="corrected",
        correction=fill(
            r"""
            It does in the confidence. In the logits it does where one class alone is the top. Where the label ties with
            another class, both of probability $c$, the loss of the sample jumps between $\sqrt{(1 - c)^2 + \beta}$ and
            $\sqrt{c^2 + \beta}$, which agree only for $c = \frac12$: for two classes it is continuous, for more it
            need not be.
            """
        ),
        counterexample=r"$N = 3$, $p = (0.4, 0.4, 0.2)$: the residual jumps between $0.6$ and $0.4$.",
        proof=fill(
            r"""
            Which class is the top decides whether the answer is right, so at a tie the residual changes from $1 - c$
            to $c$. The squares of the two losses differ by $<jump>$, whose only zero is $c = \frac12$.
            """,
            jump=jump,
        ),
        equation="eq-smooth-ece-loss",
    )


def overconfidence_weakens(turn: Expr = TURN) -> Claim:
    """A sharper classifier guides more strongly until its logits are far apart."""
    name = "overconfidence-weakens"
    strength = sharpness / (1 + exp(sharpness * gap))
    slope = strength.diff(sharpness) * (1 + exp(sharpness * gap)) ** 2
    require_zero(name, sympy.expand(slope - turn.subs(t, sharpness * gap)))
    place = sympy.nsolve(turn, t, 1.3)
    wrong = (sharpness / (1 + exp(-sharpness * gap))).diff(sharpness)
    require(name, sympy.simplify(wrong * (1 + exp(-sharpness * gap)) ** 2).is_positive, wrong)
    return Claim(
        id=name,
        title="Overconfidence and the strength of guidance",
        statement="An overconfident classifier guides more weakly.",
        source=f"{PAPER}, motivation",
        verdict="corrected",
        correction=fill(
            r"""
            Take two classes whose logits are $d$ apart, and sharpen the classifier by $s$. Where it prefers the
            label, the gradient of $\log p_y$ in $d$ grows with $s$ until $s d = <place>$, a confidence of $<sure>$,
            and falls beyond. Where it prefers the other class, it grows without end.
            """,
            place=sympy.N(place, 4),
            sure=sympy.N(1 / (1 + exp(-place)), 3),
        ),
        counterexample=r"At $d = 0.1$, doubling $s$ from $1$ to $2$ changes the gradient from $0.475$ to $0.900$.",
        proof=fill(
            r"""
            With $\log p_y = -\log(1 + e^{-s d})$ the gradient in $d$ is $\frac{s}{1 + e^{s d}}$, whose derivative in
            $s$ has the sign of $<turn>$ at $t = s d$. With $-d$ in place of $d$ the derivative is positive for every
            $s$.
            """,
            turn=turn,
        ),
        equation="eq-residual",
    )


def js_strengthens(rises: bool = False) -> Claim:
    """The push of JS on the label, as a classifier becomes sure of a wrong class."""
    name = "js-strengthens"
    slope = in_gauge(JS).diff(t)
    pushes = []
    for sure in (Rational(1, 2), Rational(9, 10), Rational(99, 100), Rational(9999, 10000)):
        model = [sure, *[(1 - sure) / 9] * 9]  # the first class is the wrong one, the second the label
        target = [Rational(1, 100), Rational(91, 100), *[Rational(1, 100)] * 8]
        weights = [a * slope.subs(t, a / b) for a, b in zip(model, target, strict=True)]
        pushes.append(sympy.N(-(weights[1] - model[1] * sum(weights)), 30))
    require(name, (pushes == sorted(pushes)) == rises and pushes == sorted(pushes, reverse=True), pushes)
    return Claim(
        id=name,
        title="JS where the prediction is far from the target",
        statement="The correction by JS strengthens as predictions deviate from the target.",
        source=f"{PAPER}, divergences of Proposition 2",
        verdict="refuted",
        counterexample=fill(
            r"""
            Ten classes, $\epsilon = 0.9$, a classifier that is sure of a wrong class to $0.5$, $0.9$, $0.99$ and
            $0.9999$: JS pushes the label's logit by $<first>$, $<second>$, $<third>$ and $<fourth>$ (times $\alpha$).
            """,
            first=sympy.N(pushes[0], 3),
            second=sympy.N(pushes[1], 3),
            third=sympy.N(pushes[2], 3),
            fourth=sympy.N(pushes[3], 3),
        ),
        proof=fill(
            r"""
            SymPy computes $-F_y = p_y \sum_i w_i - w_y$ with the weights of JS. As $p$ tends to one-hot the force of JS
            vanishes, on a wrong class as on the right one: {ref}`The force at one-hot p <ledger-saturation>`.
            """
        ),
        equation="eq-logit-gradient",
    )


def predicted_image(extra: Expr = EXTRA) -> Claim:
    """The exact classifier of clean data, asked of the predicted clean image, is surer than the exact posterior."""
    name = "predicted-image-overconfident"
    label = Symbol("y", real=True)
    covariance, variance = sqrt(signal), signal + (1 - signal)
    given_label = label * mu + covariance / variance * (x_t - sqrt(signal) * label * mu)
    exact = sympy.expand(((x_t + sqrt(signal) * mu) ** 2 - (x_t - sqrt(signal) * mu) ** 2) / (2 * variance))
    require_zero(name, exact - 2 * sqrt(signal) * mu * x_t)
    mean_label = (1 - exp(-exact)) / (1 + exp(-exact))
    require_zero(name, sympy.simplify((mean_label - tanh(exact / 2)).rewrite(exp)))
    predicted = sympy.expand(given_label).subs(label, tanh(exact / 2))
    require_zero(name, sympy.expand(2 * mu * predicted - exact - extra))
    at = {mu: 2, signal: Rational(1, 5), x_t: 1}
    sure = [1 / (1 + exp(-odds.subs(at))) for odds in (exact, exact + extra)]
    return Claim(
        id=name,
        title="Guidance by the predicted image is overconfident",
        statement=fill(
            r"""
            Let clean data be normal with means $\pm\mu$ and variance one, $x_t = \sqrt{\bar\alpha}\, x_0 +
            \sqrt{1 - \bar\alpha}\, z$, and $\hat x_0 =
            \mathbb{E}[x_0|x_t]$. The exact classifier of clean data, asked of $\hat
            x_0$, has the log-odds of the exact $p(y|x_t)$, which are $<exact>$, and $<extra>$ more. For $\bar\alpha
            < 1$ and $x_t > 0$ that is positive: it is overconfident without any fault of its own.
            """,
            exact=exact,
            extra=extra,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            Given $y = \pm 1$, $x_t$ is normal with mean $\sqrt{\bar\alpha}\, y \mu$ and variance
            $\bar\alpha + 1 - \bar\alpha = 1$, which gives the exact log-odds, and
            $\mathbb{E}[x_0|x_t, y] = <given>$ by regression. The mean of $y$ is $\tanh$ of half the log-odds. So
            $\hat x_0 = <predicted>$, and the classifier of clean data has the log-odds $2 \mu \hat x_0$. At $\mu = 2$,
            $\bar\alpha = 0.2$ and $x_t = 1$ it says $<claimed>$ where $<true>$ is right.
            """,
            given=sympy.collect(sympy.expand(given_label), label * mu),
            predicted=predicted,
            claimed=sympy.N(sure[1], 4),
            true=sympy.N(sure[0], 3),
        ),
        equation="eq-forward-process",
    )


def one_scale(scale: Expr = ONE_SCALE) -> Claim:
    """Where the other classes are alike, every force is a multiple of the residual."""
    name = "one-scale"
    number = Symbol("N", integer=True, positive=True)
    on_others = -force_y / (number - 1)  # alike, and the components sum to zero
    residual = 1 - p_y, -(1 - p_y) / (number - 1)
    for entry, component in zip(residual, (force_y, on_others), strict=True):
        require_zero(name, entry - alpha * component - scale * entry)
    return Claim(
        id=name,
        title="One scale for every method",
        statement=fill(
            r"""
            For $N = 2$, and for any $N$ where the classes but $y$ have equal logits and equal targets, guidance by
            $\log p - \alpha D_f$ is guidance by $\log p$ with the scale $<scale>$.
            """,
            scale=scale,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            There the force has the same component on every other class. As its components sum to zero
            ({ref}`The force in the logits <ledger-logit-gradient>`) that is $<others>$, and the residual $e_y - p$ has
            $1 - p_y$ on the label and $<rest>$ elsewhere. So $e_y - p - \alpha F$ is $<scale>$ times the residual,
            class by class. The same holds of every force that ignores a shift of the logits and is alike on those
            classes.
            """,
            others=on_others,
            rest=residual[1],
            scale=scale,
        ),
        equation="eq-logit-gradient",
    )


PROVERS = (
    vanishing_gradient, differentiable_loss, overconfidence_weakens, js_strengthens, predicted_image, one_scale,
)  # fmt: skip
