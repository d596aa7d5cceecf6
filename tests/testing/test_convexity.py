"""A certificate is right: what is convex is certified, what is not is refuted at a point that shows it."""

import contextlib
from collections.abc import Iterator

import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

import fguidance as fg
from derivations.divergences import DIVERGENCES
from fguidance.testing import convexity
from fguidance.testing.convexity import certify_convexity
from fguidance.testing.exact import as_generator, parse_generator, t

VALUES = (-1.0, 0.25, 0.5, 1.5, 3.0)


def registered() -> Iterator[fg.Divergence]:
    """Every registered divergence; of a family the members at those values that it admits."""
    for row in DIVERGENCES:
        if row.parameter is None:
            yield fg.divergence(row.name)
            continue
        for value in VALUES:
            with contextlib.suppress(ValueError):  # outside the range of the family
                yield fg.divergence(row.name, **{str(row.parameter): value})


ROWS = [pytest.param(member.generator, id=f"{number}-{member.name}") for number, member in enumerate(registered())]
CONVEX = (
    "(t-1)*tanh((t-1)/(t+1))", "log(cosh(t-1))", "(t-1)**4", "(t-1)**64",
    "(t-1)*atan(t-1)",
    "exp(t-1) - t", "sqrt(1+t**2) - (1+t)/sqrt(2)", "1 - t**0.123456", "-log(log(t+2)) + log(log(3))", "exp(1/t) - e",
    "(t-1)**2*log(t)**2 + (t-1)**4", "-log(0.99*t + 0.01)", "t**1.000001 - t",
)  # fmt: skip
CONCAVE_SOMEWHERE = (
    "t*log(t)**2", "(t-1)**3", "(t-1)**2*exp(-t)", "log(t)", "(t-1)**2 + log(t)/10**29", "(t-1)**2 - (t-1)**4/10**9",
    "t*log(t)/(1+log(t)**2)", "sqrt(t) - 1",
)  # fmt: skip
NARROW = (
    # convex but for a window of relative width 1e-5 to 1e-3, between two of the 241 points
    "(t-1)**2/10 - 1/(1+(10**5*(t-1.5))**2)/10**8 + 1/(1+50000**2)/10**8",
    "t*log(t) + 2*(log((t-7)**2 + 10**-10) - log(36 + 10**-10))/10**9*-1",
)


def is_registered_non_smooth(generator: sp.Expr) -> bool:
    return bool(sp.diff(generator, t, 2).has(sp.DiracDelta, sp.Derivative, sp.sign, sp.Piecewise, sp.Heaviside))


class TestCertified:
    @pytest.mark.parametrize("generator", ROWS)
    def test_every_registered_generator(self, generator: sp.Expr) -> None:
        found = certify_convexity(generator)
        if is_registered_non_smooth(generator):
            assert (found.status, found.balls) == ("undecided", 0)
            assert "not twice differentiable" in found.where
            return
        assert (found.status, found.where, found.point) == ("certified", "", None)
        assert found.balls > 0

    @pytest.mark.parametrize("text", CONVEX)
    def test_others(self, text: str) -> None:
        assert certify_convexity(parse_generator(text)).status == "certified"


class TestRefuted:
    @pytest.mark.parametrize("text", CONCAVE_SOMEWHERE)
    def test_with_a_point_that_shows_it(self, text: str) -> None:
        generator = parse_generator(text)
        found = certify_convexity(generator)
        assert found.status == "refuted"
        assert found.point is not None
        bend = sp.diff(generator, t, 2).subs(t, sp.exp(sp.Rational(found.point)))
        assert sp.N(bend, 30, maxn=2000) < 0

    @pytest.mark.parametrize("text", NARROW)
    def test_a_window_that_a_grid_misses(self, text: str) -> None:
        generator = as_generator(text)
        found = certify_convexity(generator)
        assert found.status == "refuted"
        assert found.balls > 1

    @given(st.integers(-12, 12), st.integers(2, 9))
    @settings(max_examples=15)
    def test_a_cubic_that_bends_down_beyond_a_point(self, tenths: int, scale: int) -> None:
        """f'' = 2 - 6 c (t - 1) changes its sign at 1 + 1/(3c)."""
        c = sp.Rational(scale) * sp.Integer(10) ** (tenths // 2)
        assert certify_convexity((t - 1) ** 2 - c * (t - 1) ** 3).status == "refuted"


class TestUndecided:
    def test_a_pole_is_not_certified(self) -> None:
        found = certify_convexity(1 / (t - 2) ** 2 - 1)
        assert found.status == "undecided"
        assert found.where.startswith("near log t = 0.69314")

    def test_a_kink_says_so(self) -> None:
        found = certify_convexity(sp.Abs(t - 1) / 2)
        assert found.status == "undecided"
        assert "subgradient" in found.where

    def test_no_time_left(self) -> None:
        found = certify_convexity((sp.cosh(t - 1).rewrite(sp.exp) - 1) ** 2, seconds=0.5)
        assert found.status == "undecided"
        assert "not done within 0.5 s" in found.where

    def test_balls_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(convexity, "MAXIMUM_BALLS", 3)
        found = certify_convexity(parse_generator(NARROW[0]))
        assert (found.status, found.balls) == ("undecided", 3)

    def test_another_symbol(self) -> None:
        with pytest.raises(ValueError, match="must depend on t"):
            certify_convexity(sp.Symbol("x") ** 2)


class TestSigns:
    @pytest.mark.parametrize(
        ("text", "sign"),
        (
            ("t", "positive"), ("t - 1", "unknown"), ("t - 30", "negative"), ("(t-1)**2", "nonnegative"),
            ("-t", "negative"), ("(t-1)**3", "unknown"), ("1/(t-1)**2", "unknown"), ("(t-1)**2*(t+1)", "nonnegative"),
            ("-(t-1)**2", "nonpositive"), ("(t-1)**2 + (t-2)**4", "nonnegative"), ("(t-1)**2 + 1", "positive"),
            ("exp(-t)", "positive"),
            ("(t-1)**2*(t-30)", "nonpositive"), ("sqrt(t)", "positive"), ("log(t-1)**2", "unknown"),
            ("(30-t)**-1", "positive"),
            ("(t-30)*(t-40)", "positive"), ("-(t-1)**2 - 1", "negative"),
            ("(t-30)**-1", "negative"), ("(t-30)**3", "negative"), ("sqrt(t-1)", "unknown"), ("(t-30)**-2", "positive"),
        ),
    )  # fmt: skip
    def test_of_a_box_from_one_half_to_two(self, text: str, sign: str) -> None:
        box = convexity._Box(0.0, 0.75)
        assert box.sign(parse_generator(text)) == sign

    def test_even_order_of_contact_at_one(self) -> None:
        touching = sp.log(t) ** 2 - sp.log(t) ** 4 / 100
        small = convexity._Box(0.0, 0.01)
        assert convexity._touches_zero_at_one(touching, small)
        assert not convexity._touches_zero_at_one(-touching, small)
        assert not convexity._touches_zero_at_one(sp.log(t) ** 3 + sp.log(t) ** 4, small)
        assert not convexity._touches_zero_at_one(touching, convexity._Box(0.5, 0.01))
