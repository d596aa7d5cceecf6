"""What is derived from a generator at run time, where the plain forms lose digits, overflow or miss a bend."""

import functools
import math
from collections.abc import Callable

import mpmath
import pytest
import sympy as sp
import torch
from mpmath import mpf

import fguidance as fg
from fguidance import _generated, numerical, symbolic
from fguidance.parsing import t
from tests.support import exact
from tests.support.cases import DOUBLE, HALF, SINGLE, Case, Member, random_logits, target
from tests.test_divergence import EXTREMES

Function = Callable[[mpf], mpf]


def root(width: str) -> tuple[Function, Function]:
    """The slope and the generator of sqrt((t - 1)^2 + width^2) - width."""
    return (
        lambda x: (x - 1) / mpmath.sqrt((x - 1) ** 2 + mpf(width) ** 2),
        lambda x: mpmath.sqrt((x - 1) ** 2 + mpf(width) ** 2) - mpf(width),
    )


def power(a: str) -> tuple[Function, Function]:
    return (
        lambda x: x ** (mpf(a) - 1) / (mpf(a) - 1),
        lambda x: (x ** mpf(a) - 1) / (mpf(a) * (mpf(a) - 1)),
    )


def turned(rate: float) -> tuple[Function, Function]:
    """(t - 1) atan(rate (t - 1))."""
    return (
        lambda x: mpmath.atan(rate * (x - 1)) + (x - 1) * rate / (1 + (rate * (x - 1)) ** 2),
        lambda x: (x - 1) * mpmath.atan(rate * (x - 1)),
    )


def _exp(x: mpf) -> mpf:
    return mpmath.exp(x) if x > -(10**6) else mpf(0)


def softplus(x: mpf) -> mpf:
    return max(x, mpf(0)) + mpmath.log1p(_exp(-abs(x)))


RATE = 10**20
GENERATORS: dict[str, tuple[str, dict[str, float], tuple[Function, Function]]] = {
    "a bend of width 0.1": ("sqrt((t-1)**2+0.01)-0.1", {}, root("0.1")),
    "a bend of width 1e-2": ("sqrt((t-1)**2+1e-4)-0.01", {}, root("0.01")),
    "a bend of width 1e-6": ("((t-1)**2+1e-12)**0.5-1e-6", {}, root("0.000001")),
    "an arc tangent": ("(t-1)*atan(50*(t-1))", {}, turned(50)),
    "a hidden kink": ("atan(1e20*(t-1))*(t-1)", {}, turned(RATE)),
    "a power very near 0": ("(t**a-1)/(a*(a-1))", {"a": 1e-9}, power("1e-9")),
    "a power near 0": ("(t**a-1)/(a*(a-1))", {"a": 1e-5}, power("0.00001")),
    "a power near 1": ("(t**a-1)/(a*(a-1))", {"a": 0.9999}, power("0.9999")),
    "a power nearer to 1": ("(t**a-1)/(a*(a-1))", {"a": 0.999999}, power("0.999999")),
    "a power just above 1": ("(t**a-1)/(a*(a-1))", {"a": 1 + 2.0**-40}, power(f"{1 + 2.0**-40:.50g}")),
    "a power above 1": ("(t**a-1)/(a*(a-1))", {"a": 1.00001}, power("1.00001")),
    "a falling softplus": (
        "log(1+exp(-t))-log(1+exp(-1))", {},
        (lambda x: -1 / (1 + 1 / _exp(-x)) if x < 10**6 else mpf(0), lambda x: softplus(-x) - softplus(mpf(-1))),
    ),
    "a rising softplus": (
        "log(1+exp(t))-log(1+e)", {}, (lambda x: 1 / (1 + _exp(-x)), lambda x: softplus(x) - softplus(mpf(1)))
    ),
    "a hyperbolic cosine": (
        "log(cosh(t-1))", {}, (lambda x: mpmath.tanh(x - 1), lambda x: softplus(2 * (x - 1)) - (x - 1) - mpmath.log(2))
    ),
    "a pole at zero": (
        "1/log(1+t)-1/log(2)", {},
        (lambda x: -1 / ((1 + x) * mpmath.log1p(x) ** 2), lambda x: 1 / mpmath.log1p(x) - 1 / mpmath.log(mpf(2))),
    ),
    "an exponential and a number": (
        "exp(t)/exp(1) - t", {}, (lambda x: mpmath.exp(x - 1) - 1, lambda x: mpmath.exp(x - 1) - x)
    ),
}  # fmt: skip
BENDS = {"a bend of width 1e-2": 1e2 / 4, "a bend of width 1e-6": 1e6 / 4, "an arc tangent": 50, "a hidden kink": 2048}
"""What a quarter of an ulp in log p changes in the force, in ulp."""
every_generator = pytest.mark.parametrize("name", GENERATORS)
full_precision = pytest.mark.parametrize("dtype", (SINGLE, DOUBLE), ids=str)
WIDELY_DIFFERENT = (1e-10, 3e-7, 2e-5, 7e-4, 0.02, 0.15, 0.7, 1.3, 2.6, 4.0, 11.0, 45.0, 100.0, 300.0, 600.0)


@functools.cache
def made(name: str) -> Member:
    """Derived once in a process: mutants of what calculates with it, which are forked, derive nothing again."""
    text, parameters, functions = GENERATORS[name]
    return Member(fg.Divergence.from_generator(text, name, parameters or None), exact.from_slope(*functions))


def _rounding_of_the_ratio(name: str, ratio: float) -> float:
    """Half an ulp of u changes what grows like e^t by u t/2 ulp of its own."""
    return 1 + abs(ratio) * (math.exp(min(ratio, 700)) if name == "an exponential and a number" else 1)


class TestWhatWasWrong:
    """Generators that once gave wrong numbers without a word, against mpmath."""

    @every_generator
    @full_precision
    def test_value_and_weight(self, name: str, dtype: torch.dtype) -> None:
        member = made(name)
        for size in WIDELY_DIFFERENT:
            for ratio in (size, -size):
                if name == "an exponential and a number" and ratio > 5:
                    continue
                log_p = torch.tensor([min(ratio, 0.0)], dtype=dtype)
                log_q = log_p - ratio
                allowed = 256 * _rounding_of_the_ratio(name, ratio)
                (correct,) = exact.weights(member.reference, log_p, log_q)
                found = _generated.weight(member.divergence.definition, log_p, log_q)
                assert exact.error_in_ulp(found, [correct], correct) <= allowed, (ratio, found, correct)
                correct = exact.value(member.reference, log_p, log_q)
                found = _generated.value(member.divergence.definition, log_p, log_q)[None]
                assert exact.error_in_ulp(found, [correct], correct) <= 4 * allowed, (ratio, found, correct)

    @every_generator
    @full_precision
    def test_value_of_distributions(self, name: str, dtype: torch.dtype) -> None:
        member = made(name)
        for p in ((0.5, 0.5), (0.501, 0.499), (0.95, 0.05), (1e-3, 0.999)):
            for q in ((0.95, 0.05), (0.5, 0.5)):
                log_p, log_q = (torch.tensor(x, dtype=DOUBLE).log().to(dtype) for x in (p, q))
                correct = exact.value(member.reference, log_p, log_q)
                found = member.divergence.value(log_p, log_q)[None]
                allowed = 1024 if name != "an exponential and a number" else 2**14
                scale = correct if p != q else mpf(torch.finfo(dtype).eps)
                assert exact.error_in_ulp(found, [correct], scale) <= allowed, (p, q, found, correct)

    @every_generator
    @full_precision
    def test_force(self, name: str, dtype: torch.dtype) -> None:
        member = made(name)
        for seed, spread in enumerate((1e-6, 1e-3, 0.1, 0.3, 1.0, 3.0, 8.0)):
            for epsilon in (0.0, 0.15, 0.5, 0.9):
                case = Case(random_logits(5, spread, seed).to(dtype), target(5, 0, epsilon, dtype))
                correct = exact.logit_gradient(member.reference, case.logits, case.log_q)
                found = member.divergence.logit_gradient(case.logits, case.log_q)
                allowed = 32 + BENDS.get(name, 0)
                assert exact.error_in_ulp(found, correct.gradient, correct.largest_part) <= allowed

    @every_generator
    @full_precision
    @pytest.mark.parametrize("logits", ((80.0, 0.0), (0.0, 80.0), (300.0, 0.0), (0.0, 12.0), (3.0, -2.0)), ids=str)
    def test_force_at_saturation(
        self, name: str, dtype: torch.dtype, logits: tuple[float, float]
    ) -> None:
        member, log_q = made(name), torch.tensor([0.9, 0.1], dtype=DOUBLE).log().to(dtype)
        case = Case(torch.tensor(logits, dtype=dtype), log_q)
        correct = exact.logit_gradient(member.reference, case.logits, log_q)
        found = member.divergence.logit_gradient(case.logits, log_q)
        assert exact.error_in_ulp(found, correct.gradient, correct.largest_component) <= 1024

    @every_generator
    @pytest.mark.parametrize("dtype", HALF, ids=str)
    def test_half_precision(self, name: str, dtype: torch.dtype) -> None:
        case = Case(random_logits(4, 2.0, 3).to(dtype), target(4, 1, 0.5, dtype))
        correct = exact.logit_gradient(made(name).reference, case.logits, case.log_q)
        found = made(name).divergence.logit_gradient(case.logits, case.log_q)
        assert found.dtype == dtype
        assert exact.error_in_ulp(found, correct.gradient, correct.largest_part) <= 0.6

    @every_generator
    @full_precision
    def test_shape_and_dtype(self, name: str, dtype: torch.dtype) -> None:
        divergence = made(name).divergence
        log_p = torch.log_softmax(torch.linspace(0, 1, 24, dtype=dtype).sin().reshape(2, 3, 4), -1)
        log_q = target(4, 1, 0.5).to(dtype).expand(2, 3, 4)
        assert divergence.value(log_p, log_q).shape == (2, 3)
        for found in (divergence.value(log_p, log_q), divergence.weight(log_p, log_q)):
            assert found.dtype == dtype
        torch.testing.assert_close(divergence.value(log_p, log_q)[1, 2], divergence.value(log_p[1, 2], log_q[1, 2]))

    @every_generator
    def test_value_is_differentiable(self, name: str) -> None:
        divergence = made(name).divergence
        logits = torch.tensor([0.3, -0.4, 0.2], dtype=DOUBLE, requires_grad=True)
        log_q = target(3, 0, 0.5)
        value = divergence.value(torch.log_softmax(logits, -1), log_q)
        (found,) = torch.autograd.grad(value, logits)
        torch.testing.assert_close(found, divergence.logit_gradient(logits.detach(), log_q), rtol=1e-7, atol=1e-9)

    @every_generator
    def test_distributions_with_zeros(self, name: str) -> None:
        divergence = made(name).divergence
        one_hot = torch.tensor([0.0, -math.inf], dtype=DOUBLE)
        half = torch.tensor([0.5, 0.5], dtype=DOUBLE).log()
        assert divergence.value(one_hot, one_hot) == 0
        for first, second, side in ((one_hot, half, 0), (half, one_hot, 1)):
            found, end = divergence.value(first, second), divergence.definition.limits[side]
            reference, log_2 = made(name).reference, torch.tensor([math.log(2)], dtype=DOUBLE)
            own = exact.value(reference, *((half[:1] + log_2, half[:1]) if side == 0 else (half[:1], half[:1] + log_2)))
            assert float(found) == pytest.approx(float(own) + end / 2, rel=1e-13)


ENDS = [(family, value) for family, values in EXTREMES.items() for value in (values[0], values[-1])]
TOO_LONG = (("puri_vincze", 32.0), ("osterreicher_vajda", 64.0))


class TestChoice:
    """The quickest form that is right is taken, and nothing that was right is refused."""

    @pytest.mark.parametrize(
        "text",
        ("t*log(t)", "-log(t)", "(t-1)**2", "(t-1)**4", "exp(t-1)-t", "sqrt(1+t**2)-(1+t)/2**0.5", "-log(0.99*t+0.01)"),
    )
    def test_the_plain_form_where_it_does(self, text: str) -> None:
        definition = fg.Divergence.from_generator(text).definition
        assert (definition.breaks, definition.wide) == ((), False)

    def test_float64_where_float32_loses_its_digits_only(self) -> None:
        definition = fg.Divergence.from_generator("-1000000*t**0.999/999 + 1000*t + 1000/999 + (t-1)**2").definition
        assert (definition.breaks, definition.wide) == ((), True)

    def test_integrated_where_only_the_value_is_wrong(self) -> None:
        definition = fg.Divergence.from_generator("(t**a-1)/(a*(a-1)) + (t-1)**2", parameters={"a": 1e-5}).definition
        assert (definition.breaks, definition.wide, definition.near) == (numerical.BREAKS, False, None)

    @pytest.mark.parametrize(
        ("text", "is_one"),
        (("1 - t**1e-9", True), ("3*t**40 - 3", True), ("-5*sqrt(t) + 5", True), ("t*log(t)", False),
         ("t**3 + 1/t - 2", False), ("(t-1)**2/(t+1)", False)),
    )  # fmt: skip
    def test_a_single_power_is_a_member_of_the_alpha_family(self, text: str, is_one: bool) -> None:
        assert (numerical._power(symbolic.as_generator(text)) is not None) == is_one

    def test_parts_end_where_the_generator_bends(self) -> None:
        generator = symbolic.as_generator("sqrt((t-3)**2 + 1e-4) - sqrt(4 + 1e-4)")
        breaks = list(numerical._definitions(generator))[1].breaks
        assert breaks == pytest.approx((1, math.log(3), 8, 64))

    @pytest.mark.parametrize(
        "text",
        ("(t-1)**2/(t+1)", "t**5/20 - t/4 + 1/5", "(t/2 + 1/2)*log((t + 1)/(2*sqrt(t)))", "sqrt((t-1)**2+1/4)-1/2",
         "cosh(t-1) - 1", "(t-1)*atan(t-1)", "tanh(t-1)**2 + 3*(t-1)**2", "exp(1/t) - e", "t**-64 - 1", "t**64 - 1"),
    )  # fmt: skip
    def test_what_was_right_is_accepted(self, text: str) -> None:
        assert fg.Divergence.from_generator(text).generator is not None

    @pytest.mark.parametrize(("family", "parameter"), ENDS)
    def test_the_ends_of_every_family_are_accepted(self, family: str, parameter: float) -> None:
        (name,) = fg.divergence_parameters(family)
        registered = fg.divergence(family, **{name: parameter})
        if not registered.is_smooth or (family, parameter) in TOO_LONG:
            pytest.skip("refused for its kink, or since SymPy takes too long")
        own = fg.Divergence.from_generator(registered.generator)
        logits, log_q = random_logits(5, 1.0, 1), target(5, 1, 0.5)
        found, expected = (one.logit_gradient(logits, log_q) for one in (own, registered))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * float(expected.abs().max()))

    def test_a_part_ends_beside_a_bend_at_one(self) -> None:
        generator = symbolic.as_generator("sqrt((t-1)**2 + 1e-12) - 1e-6")
        breaks = list(numerical._definitions(generator))[1].breaks
        assert breaks == pytest.approx((8e-6, 1, 8, 64))


@pytest.mark.parametrize("dtype", (DOUBLE, SINGLE), ids=str)
@pytest.mark.parametrize("margin", (10.0, 80.0, 600.0, 1e4, 1e6))
def test_what_overflows_is_infinite_and_never_nan(dtype: torch.dtype, margin: float) -> None:
    """The force exp(q/p)/p**2 beside a factor that overflows by itself, in float32 from a margin of 44 on."""
    own = fg.Divergence.from_generator("exp(1/t) - e")
    logits = torch.tensor([[margin, 0.0, 0.0], [-margin, 0.0, 0.0]], dtype=dtype)
    log_q = torch.tensor([0.5, 0.25, 0.25], dtype=dtype).log().expand(2, 3)
    force = own.logit_gradient(logits, log_q)
    infinity = math.inf
    assert force.tolist() == [[infinity, -infinity, -infinity], [-infinity, infinity, infinity]]
    log_p = torch.log_softmax(logits, -1)
    assert own.value(log_p, log_q).tolist() == [infinity, infinity]
    assert own.weight(log_p, log_q).isinf().tolist() == [[False, True, True], [True, False, False]]


class TestRefused:
    """What cannot be calculated rightly is refused, with what would have come out."""

    @pytest.mark.parametrize(
        "text", ("t**62*(t-1)**2", "sqrt((t-2)**2+1e-10)-sqrt(1+1e-10)", "sqrt(t**2 + 1e-20) - sqrt(1+1e-20)*t")
    )
    def test_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"cannot be calculated with: at t = .* comes out as .* in float64, not "):
            fg.Divergence.from_generator(text)

    def test_a_definition_that_is_wrong_throughout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plain = numerical._plain

        def doubled(generator: sp.Expr) -> _generated.Definition:
            return _generated.scaled(plain(generator), 2.0)

        monkeypatch.setattr(numerical, "_plain", doubled)
        with pytest.raises(ValueError, match=r"cannot be calculated with: at t = 1 its .* in float64"):
            numerical.define((t - 1) ** 2)
