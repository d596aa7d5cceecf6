"""Which divergences keep a force when the classifier is certain: decided by one limit.

The source motivates its divergences by vanishing gradients. Everything here is ours: as p tends to one-hot, the
force of D_f survives if and only if t f'(t) does not tend to zero at t -> 0+.
"""

from collections.abc import Mapping

import sympy
from sympy import Expr, Rational, S, Symbol, oo, symbols

from derivations.claim import OURS, Claim
from derivations.divergences import ALPHA_SLOPE, DIVERGENCES, alpha
from derivations.notation import t, tau_1, tau_2
from derivations.proof import ProofFailed, fill, in_gauge, normal_form, require_zero, tex
from fguidance.symbolic import near_zero, tidied_slope

a = Symbol("a", positive=True)
(ALPHA,) = (row.generator for row in DIVERGENCES if row.name == "alpha")
BELOW_ZERO, BETWEEN, ABOVE_ONE = -a, a / (1 + a), 1 + a

EXPONENTS: dict[str, tuple[Expr, Expr]] = {
    "rkl": (-S.One, -S.One),
    "fkl": (S.Zero, S.Zero),
    "js": (S.Zero, S.Zero),
    "hellinger": (S.Zero, -Rational(1, 2)),
    "pearson": (S.Zero, S.Zero),
    "neyman": (-oo, -S(2)),
    "jeffreys": (-S.One, -S.One),
    "triangular": (S.Zero, S.Zero),
    "lin_k": (S.Zero, S.Zero),
    "lin_k_reverse": (S.Zero, S.Zero),
    "gan": (S.Zero, S.Zero),
    "symmetric_chi_squared": (-oo, -S(2)),
    "vajda_chi4": (S.Zero, S.Zero),
    "arithmetic_geometric": (-Rational(1, 4), -S.One),
    "perimeter": (S.Zero, S.Zero),
    "exponential": (S.Zero, S.Zero),
    "total_variation": (S.Zero, S.Zero),
}
GENERATORS = {row.name: row.generator for row in DIVERGENCES if row.name in EXPONENTS}
ALPHA_EXPONENTS: dict[Expr, tuple[Expr, Expr]] = {
    BELOW_ZERO: (-oo, alpha - 1),
    BETWEEN: (S.Zero, alpha - 1),
    ABOVE_ONE: (S.Zero, S.Zero),
}

L, q_k, q_i = symbols("L q_k q_i", real=True)
ON_OTHERS, ON_VERTEX = q_i * L, -(1 - q_k) * L


def gauge_slope(generator: Expr) -> Expr:
    """The slope f'(t) in the gauge f'(1) = 0, as one fraction; as it is below 1 if there is a kink."""
    return normal_form(near_zero(in_gauge(generator).diff(t)))


def limit_and_exponent(slope: Expr) -> tuple[Expr, Expr]:
    """The limit of t f'(t) at zero, and the power of t that f' grows with there (a logarithm counts as none)."""
    limit = sympy.limit(sympy.expand(t * slope), t, 0, "+")
    exponent = sympy.limit(sympy.together(t * slope.diff(t) / slope), t, 0, "+")
    return limit, sympy.factor(exponent)


def _force_near_vertex(classes: int) -> tuple[list[Expr], Expr, dict[Expr, Expr], Expr]:
    """The force at every class but k and at k, the substitution that takes p to one-hot, and q_k."""
    model = symbols(f"p_1:{classes}", positive=True)
    targets = symbols(f"q_1:{classes}", positive=True)
    products = symbols(f"a_1:{classes}", real=True)
    slope_at_vertex = Symbol("b", real=True)
    vertex = 1 - sum(model)
    total = vertex * slope_at_vertex + sum(b * c for b, c in zip(targets, products, strict=True))
    others = [b * c - d * total for b, c, d in zip(targets, products, model, strict=True)]
    limit = {**dict.fromkeys(model, S.Zero), **dict.fromkeys(products, L)}
    limit |= {b: Symbol(b.name) for b in targets}
    return others, vertex * slope_at_vertex - vertex * total, limit, 1 - sum(limit[b] for b in targets)


def saturation(on_others: Expr = ON_OTHERS, on_vertex: Expr = ON_VERTEX) -> Claim:
    """The limit of the force at a one-hot p, for an undefined generator."""
    name = "saturation"
    for classes in (2, 3, 4):
        others, vertex, limit, vertex_target = _force_near_vertex(classes)
        for n, component in enumerate(others, start=1):
            require_zero(name, component.subs(limit) - on_others.subs(q_i, Symbol(f"q_{n}")))
        require_zero(name, vertex.subs(limit) - on_vertex.subs(q_k, vertex_target))
    return Claim(
        id=name,
        title="The force at one-hot p",
        statement=fill(
            r"""
            Let $L = \lim_{t \to 0^+} t f'(t)$ be finite and $q > 0$. As $p$ tends to one-hot on a class $k$ (the
            label or not), the force $F_i = \partial D_f/\partial f_i$ tends to $<others>$ for $i \neq k$ and to
            $<vertex>$ for $k$. So it survives if and only if $L \neq 0$.
            """,
            others=on_others,
            vertex=on_vertex,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            For $i \neq k$ write $a_i = t_i f'(t_i)$ with $t_i = p_i/q_i \to 0$, so that $a_i \to L$ and
            $w_i = p_i f'(t_i) = q_i a_i$. For $k$, $t_k \to 1/q_k$ and $w_k = p_k b$ with $b = f'(t_k)$, which stays
            finite. Then
            $F_i = q_i a_i - p_i \bigl(p_k b + \sum_{j \neq k} q_j a_j\bigr)$. The bracket is bounded and
            $p_i \to 0$, so $F_i \to q_i L$ for every $N$. The components sum to zero, so
            $F_k \to -\sum_{i \neq k} q_i L = -(1 - q_k) L$. All of this is polynomial in $p$, $q$, $a$ and $b$, and
            SymPy confirms the limits for $N = 2, 3, 4$. Of the vertex only a finite $f'(1/q_k)$ was used. The
            multiple of $t - 1$ that the gauge adds changes $t f'(t)$ by a multiple of $t$, so $L$ does
            not depend on it. If $t f'(t)$ is unbounded, so is the force.
            """
        ),
        equation="eq-saturation",
    )


def _check(name: str, slope: Expr, claimed: tuple[Expr, Expr], at: Expr | None = None) -> None:
    """Stop unless limit and exponent of one slope are the claimed ones (for alpha a function of a > 0)."""
    actual = limit_and_exponent(slope)
    expected = tuple(value if at is None else sympy.S(value).subs(alpha, at) for value in claimed)
    for ours, theirs in zip(actual, expected, strict=True):
        if ours != theirs and normal_form(ours - theirs) != 0:
            raise ProofFailed(name, f"{slope}: the limit and the exponent are {actual}, not {expected}")


def _row(generator: str, slope: Expr, limit: Expr, exponent: Expr) -> str:
    kept = "vanishes" if limit == 0 else "grows without bound" if limit.is_infinite else "survives"
    return f"| {generator} | ${tex(slope)}$ | ${tex(limit)}$ | ${tex(exponent)}$ | {kept} |"


def exponents(
    claimed: Mapping[str, tuple[Expr, Expr]] = EXPONENTS,
    alpha_family: Mapping[Expr, tuple[Expr, Expr]] = ALPHA_EXPONENTS,
) -> Claim:
    """The limit and the exponent of every registered generator without a parameter and of the alpha family."""
    name = "saturation-exponents"
    slopes = {generator: gauge_slope(f) for generator, f in GENERATORS.items()}
    for generator, slope in slopes.items():
        _check(name, slope, claimed[generator])
    family = ALPHA_SLOPE
    require_zero(name, sympy.powsimp(sympy.expand(in_gauge(ALPHA).diff(t) - family)))
    for value, expected in alpha_family.items():
        _check(name, family.subs(alpha, value), expected, at=value)
    rows = [_row(generator, tidied_slope(GENERATORS[generator]), *claimed[generator]) for generator in slopes]
    ranges = (r"alpha, $\alpha < 0$", r"alpha, $0 < \alpha < 1$", r"alpha, $\alpha > 1$")
    rows += [_row(text, family, *row) for text, row in zip(ranges, alpha_family.values(), strict=True)]
    head = "| generator | $f'(t)$ in the gauge | $\\lim t f'(t)$ | exponent $s$ | force at one-hot $p$ |"
    return Claim(
        id=name,
        title="Saturation exponents",
        statement="With $f'(t) \\sim t^s$ as $t \\to 0^+$ in the gauge, a logarithm counting as $s = 0$:\n\n"
        + "\n".join([head, "| --- | --- | --- | --- | --- |", *rows]),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            SymPy computes $L = \lim_{t \to 0^+} t f'(t)$ and $s = \lim_{t \to 0^+} t f''(t)/f'(t)$ for every slope of
            the table. In the alpha family it does so with $a > 0$ free and $\alpha = <below>$, $\alpha = <between>$ and
            $\alpha = <above>$; $\alpha \to 0$ is RKL and $\alpha \to 1$ is FKL. Here the force survives
            where $s \le -1$; where $s < -1$ it grows like $t^{s + 1}$, so that in floating point it may overflow.
            """,
            below=BELOW_ZERO,
            between=BETWEEN,
            above=ABOVE_ONE,
        ),
        equation="eq-saturation",
    )


def the_three(survivors: frozenset[str] = frozenset({"rkl"})) -> Claim:
    """Of RKL, FKL and JS only RKL keeps a force at one-hot p."""
    name = "saturation-rkl-fkl-js"
    limits = {g: limit_and_exponent(gauge_slope(GENERATORS[g]))[0] for g in ("rkl", "fkl", "js")}
    kept = {generator for generator, limit in limits.items() if limit != 0}
    if kept != survivors:
        raise ProofFailed(name, f"the limits of t f'(t) are {limits}")
    return Claim(
        id=name,
        title="Which of the three keep a force",
        statement=fill(
            r"""
            Let $q > 0$. As $p$ tends to one-hot, the forces of FKL and JS vanish too; of the three divergences only RKL
            keeps one.
            """
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            The limits are $<rkl>$ for RKL, $<fkl>$ for FKL and $<js>$ for JS. With
            {ref}`The force at one-hot p <ledger-saturation>`, the RKL force tends to $<others>$ on every
            class but $k$ and to $<vertex>$ on $k$. With $k$ the label, the guidance $-\alpha F$ pulls $p$ back from
            one-hot towards $q$; with $k$ a wrong class, it raises the label by $\alpha q_y$, for $\epsilon > 0$
            more than any other. At $\epsilon = 1$ the target itself is one-hot, and at certainty of the label
            RKL keeps no force. A force that survives is no cure by itself: for $\tau_1 = \tau_2 = 1$ the RKL score
            is at rest where $p = (e_y + \alpha q)/(1 + \alpha)$. And the limit need not exist:
            $f'(t) = 2 - (2 + \sin \log t)/t$ increases, and $t f'(t)$ oscillates between $-3$ and $-1$.
            """,
            rkl=limits["rkl"],
            fkl=limits["fkl"],
            js=limits["js"],
            others=ON_OTHERS.subs(L, limits["rkl"]),
            vertex=ON_VERTEX.subs(L, limits["rkl"]),
        ),
        equation="eq-saturation",
    )


def tempered_saturation(on_label: Expr = tau_1 - tau_2, on_wrong_class: Expr = -tau_2) -> Claim:
    """What the tempered log-probability's own gradient tends to at one-hot p."""
    name = "tempered-saturation"
    ratio = Symbol("r", positive=True)
    vertex = sympy.limit(1 / (1 + ratio**tau_2), ratio, 0, "+")
    require_zero(name, tau_1 - tau_2 * vertex - on_label, -tau_2 * vertex - on_wrong_class)
    require_zero(name, 1 - vertex)
    return Claim(
        id=name,
        title="The tempered gradient at one-hot p",
        statement=fill(
            r"""
            As $p$ tends to one-hot on the label, the gradient of the tempered log-probability in the logits tends to
            $<on_label>$ on the label and to zero elsewhere. On a wrong class $k$ it tends to $<tau>$ on the
            label and to $<on_wrong_class>$ on $k$. So it vanishes only on the label and only for $\tau_1 = \tau_2$.
            """,
            on_label=on_label,
            tau=tau_1,
            on_wrong_class=on_wrong_class,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            In the logits the gradient is $\tau_1 [i = y] - \tau_2\, p_{\tau_2}(i)$
            ({ref}`Gradient of the tempered log-probability <ledger-tempered-gradient>`), and
            $p_{\tau_2}(k) = 1/\bigl(1 + \sum_{j \neq k} (p_j/p_k)^{\tau_2}\bigr)$. Each ratio $r = p_j/p_k$ tends to
            zero, so does $r^{\tau_2}$, and $p_{\tau_2}(k) \to <vertex>$. What survives on the label,
            $(\tau_1 - \tau_2) \nabla f_y$, changes the label's logit alone, and raises it if $\tau_1 > \tau_2$. It
            is no function of $p$: see {ref}`The tempered score and the free energy <ledger-tempered-decomposition>`.
            """,
            vertex=vertex,
        ),
        equation="eq-tempered-gradient",
    )


PROVERS = (saturation, exponents, the_three, tempered_saturation)
