"""Which divergences the newer families hold at which parameter: members from their papers, bounds of ours."""

from collections.abc import Mapping

import sympy
from sympy import Expr, Rational, S, Symbol, oo, sqrt, symbols

from derivations.claim import OURS, Claim
from derivations.divergences import DIVERGENCES, beta, exponent, width
from derivations.emit import EmissionFailed, require_equal
from derivations.notation import t
from derivations.proof import ProofFailed, fill, normal_form, require, require_zero
from fguidance.symbolic import on_one_side

GENERATORS = {row.name: row.generator for row in DIVERGENCES}
SIDES = (Rational(1, 3), S(3))
x, k, distance, h = symbols("x k d h", positive=True)
SOFTENED = (sqrt(distance**2 + h**2) - h) / 2
LARGEST_GAP = h / 2

Member = tuple[Expr, str]
POWER_MEANS: dict[Expr, Member] = {
    S.Half: (S.One, "hellinger"), S.One: (S.One, "gan"), S(2): (S(2), "perimeter"), oo: (S.One, "total_variation"),
}  # fmt: skip
PURI_VINCZE: dict[Expr, Member] = {S.One: (S.One, "total_variation"), S(2): (S.Half, "triangular")}


def softening(gap: Expr = LARGEST_GAP) -> Claim:
    """The softened total variation lies below the total variation, by at most half its width."""
    name = "softened-total-variation"
    generator = GENERATORS["softened_total_variation"].subs(width, h)
    for side, away in zip(SIDES, (1 - distance, 1 + distance), strict=True):
        kinked = on_one_side(GENERATORS["total_variation"], side)
        require_zero(name, sympy.simplify(generator.subs(t, away) - SOFTENED), kinked.subs(t, away) - distance / 2)
    root = sqrt(distance**2 + h**2)
    below, above = (distance + h) ** 2 - root**2, root**2 - distance**2
    require(name, sympy.expand(below).is_nonnegative and sympy.expand(above).is_nonnegative, (below, above))
    require_zero(name, distance / 2 - (distance - h) / 2 - gap)
    require(name, sympy.limit(distance / 2 - SOFTENED, distance, oo) == gap, gap)
    return Claim(
        id=name,
        title="How far softening moves total variation",
        statement=fill(
            r"""
            With $f_h(t) = \frac12 \bigl(\sqrt{(t-1)^2 + h^2} - h\bigr)$, for all $p$ and $q$,
            $0 \le \mathrm{TV}(q, p) - D_{f_h}(q, p) \le <gap>$. The force of $f_h$ is defined everywhere, and for
            $p_i \ne q_i$ it tends to that of total variation as $h \to 0$.
            """,
            gap=gap,
        ),
        source=OURS,
        verdict="verified",
        proof=fill(
            r"""
            With $d = |t - 1|$, $d^2 \le d^2 + h^2 \le (d + h)^2$, so that $\sqrt{d^2 + h^2}$ lies between $d$ and
            $d + h$ and $\frac d2 - f_h$ between $0$ and $<gap>$; towards $d \to \infty$ it reaches the latter. Weighted
            with $q_i$ and summed, the bounds stay. The slope $\frac{t - 1}{2 \sqrt{(t-1)^2 + h^2}}$ tends to half the
            sign of $t - 1$.
            """,
            gap=gap,
        ),
        equation="eq-divergence",
    )


def _limit(generator: Expr, parameter: Symbol, at: Expr) -> Expr:
    return sympy.limit(generator, parameter, at) if at.is_finite else _far_limit(generator)


def _far_limit(generator: Expr) -> Expr:
    """The limit for an infinite beta at t = e^-x < 1, where t^beta vanishes; the family is its own dual."""
    return sympy.limit(generator.subs(t, sympy.exp(-x)), beta, oo).subs(x, -sympy.log(t))


def _require_member(name: str, found: Expr, member: Member, side: Expr) -> None:
    factor, other = member
    expected = on_one_side(factor * GENERATORS[other], side)
    residual = sympy.simplify(sympy.expand_log(found - expected, force=True))
    if residual != 0 and normal_form(residual) != 0:
        raise ProofFailed(name, f"{found} is not {factor} times {other}: {residual}")


def power_means(members: Mapping[Expr, Member] = POWER_MEANS) -> Claim:
    """Known divergences in Österreicher and Vajda's family, and its duals."""
    name = "osterreicher-vajda-members"
    generator = GENERATORS["osterreicher_vajda"]
    require_zero(name, sympy.simplify(sympy.diff(generator, t).subs(t, 1)))
    try:
        require_equal(name, t * generator.subs(t, 1 / t), generator)
    except EmissionFailed as error:
        raise ProofFailed(name, error) from error
    for at, member in members.items():
        _require_member(name, _limit(generator, beta, at), member, SIDES[0])
    return Claim(
        id=name,
        title="Members of Österreicher and Vajda's family",
        statement=fill(
            r"""
            $f_\beta(t) = <generator>$ is the squared Hellinger distance's generator at $\beta = \frac12$, tends to that
            of the GAN objective (twice Jensen-Shannon) as $\beta \to 1$, is twice that of the perimeter divergence at
            $\beta = 2$, and tends to that of total variation as $\beta \to \infty$.
            """,
            generator=generator,
        ),
        source="Österreicher and Vajda 2003",
        verdict="verified",
        proof=fill(
            r"""
            SymPy takes the limits; for $\beta \to \infty$ at $t = e^{-x} < 1$, where $t^\beta \to 0$ and
            $f_\beta \to 1 - \frac{1 + t}{2}$. $t f_\beta(1/t) = f_\beta(t)$ gives the other side. $f_\beta'(1) = 0$,
            so each is in the gauge as it stands.
            """
        ),
        equation="eq-divergence",
    )


def puri_vincze(members: Mapping[Expr, Member] = PURI_VINCZE, power: Expr = k) -> Claim:
    """Known divergences in Puri and Vincze's family, and how flat it is at agreement."""
    name = "puri-vincze-members"
    generator = GENERATORS["puri_vincze"].subs(exponent, k)
    for at, member in members.items():
        for side in SIDES:
            _require_member(name, on_one_side(generator.subs(k, at), side), member, side)
    near = on_one_side(generator, SIDES[1]).subs(t, 1 + x)
    require_zero(name, sympy.limit(sympy.simplify(x * near.diff(x) / near), x, 0, "+") - power)
    return Claim(
        id=name,
        title="Members of Puri and Vincze's family",
        statement=fill(
            r"""
            $f_k(t) = \frac{|t - 1|^k}{2 (t + 1)^{k - 1}}$ is the generator of total variation for $k = 1$ and half
            that of the triangular discrimination for $k = 2$. At $t = 1$ it behaves like $|t - 1|^{<power>}$: so
            $f''(1)$ is infinite for $k < 2$ and zero for $k > 2$.
            """,
            power=power,
        ),
        source="Puri and Vincze 1990",
        verdict="verified",
        proof=fill(
            r"""
            Put in $k = 1$ and $k = 2$ on both sides of $t = 1$. At $t = 1 + x$ the elasticity $x f_k'/f_k$ tends to
            $<power>$ as $x \to 0$, and $f_k$ is its own dual.
            """,
            power=power,
        ),
        equation="eq-divergence",
    )


PROVERS = (softening, power_means, puri_vincze)
