"""The self-check of what is derived from a generator: it lets pass what is right, and nothing that was made wrong."""

import functools
import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from mpmath import mpf
from torch import Tensor

import fguidance as fg
from fguidance import _generated, accuracy, numerical
from fguidance._generated import Contrast, Definition, Term, scaled
from fguidance.accuracy import probes, shortfall
from fguidance.symbolic import as_generator
from tests.support import exact
from tests.support.cases import DIVERGENCES

TEXTS = {
    "t*log(t)": exact.REFERENCES["fkl"],
    "(t-1)**2/t": exact.REFERENCES["neyman"],
    "exp(t-1)-t": exact.REFERENCES["exponential"],
    "sqrt(1+t**2)-(1+t)/2**0.5": exact.REFERENCES["perimeter"],
}
KINKED = ("total_variation", "puri_vincze=1.5", "puri_vincze=3.0")


class TestProbes:
    """The exact numbers are those of a reference that was written by hand."""

    @pytest.mark.parametrize("text", TEXTS)
    def test_value_and_weight(self, text: str) -> None:
        asked = probes(as_generator(text))
        assert len(asked) > 40
        for probe in asked:
            log_p, log_q = (torch.tensor([number], dtype=torch.float64) for number in probe.log_probs)
            expected = exact.value(TEXTS[text], log_p, log_q), *exact.weights(TEXTS[text], log_p, log_q)
            for found, correct in zip(probe.exact[:2], expected, strict=True):
                assert abs(found - correct) <= 1e-15 * abs(correct) + 1e-300

    @pytest.mark.parametrize("text", TEXTS)
    def test_force(self, text: str) -> None:
        for probe in probes(as_generator(text)):
            logits, log_q = (torch.tensor(pair, dtype=torch.float64) for pair in (probe.logits, probe.log_target))
            correct = exact.logit_gradient(TEXTS[text], logits, log_q).gradient[1]
            if abs(correct) < 1e300:
                assert abs(probe.exact[2] - correct) <= 1e-15 * abs(correct) + 1e-300

    def test_they_are_of_both_signs_and_all_sizes(self) -> None:
        ratios = [first - second for first, second in (probe.log_probs for probe in probes(as_generator("t*log(t)")))]
        assert min(ratios) < -600
        assert max(ratios) > 600
        assert {round(math.log10(abs(ratio))) for ratio in ratios} >= {-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3}

    def test_all_inputs_are_float32_numbers(self) -> None:
        for probe in probes(as_generator("(t-1)**2/t")):
            for number in (*probe.log_probs, *probe.logits, *probe.log_target):
                assert float(torch.tensor(number, dtype=torch.float32)) == number

    def test_no_probability_of_the_one_class_exceeds_one(self) -> None:
        assert all(max(probe.log_probs) <= 1e-6 for probe in probes(as_generator("-log(t)")))

    def test_they_go_close_to_where_the_generator_bends(self) -> None:
        near = [first - second - math.log(3) for first, second in
                (probe.log_probs for probe in probes(as_generator("sqrt((t-3)**2+1e-8)-sqrt(4+1e-8)")))]  # fmt: skip
        assert min(map(abs, near)) < 1e-6
        assert sum(abs(gap) < 1e-3 for gap in near) >= 6

    def test_what_overflows_in_mpmath_is_left_out(self) -> None:
        asked = probes(as_generator("exp(exp(t)) - exp(e)"))
        assert 30 < len(asked) < 50
        assert all(-probe.log_probs[0] < accuracy.DEEPEST for probe in asked)

    def test_the_precision_of_mpmath_is_left_as_it_was(self) -> None:
        before = mpmath.mp.prec
        probes(as_generator("t*log(t) + (t-1)**2"))
        assert mpmath.mp.prec == before


@pytest.mark.parametrize("name", [name for name in DIVERGENCES if name not in KINKED])
def test_registered_divergences_pass(name: str) -> None:
    divergence = DIVERGENCES[name].divergence
    assert shortfall(divergence.generator, divergence.definition._replace(wide=True)) is None


RIGHT = as_generator("(t-1)**2/(t+1)")
GENERAL = as_generator("(t-1)**4")


def definition_of(generator: object) -> Definition:
    return numerical.define(generator)


def with_slope(definition: Definition, change: Callable[[Contrast, Term], Term]) -> Definition:
    plain = definition.slope_difference
    return definition._replace(slope_difference=lambda at: change(at, plain(at)))


def with_tails(definition: Definition, change: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Definition:
    plain = definition.tails
    return definition._replace(tails=lambda y: change(y, *plain(y)))


def with_near(definition: Definition, change: Callable[[Tensor, Tensor], Tensor]) -> Definition:
    plain = definition.near
    assert plain is not None
    return definition._replace(near=lambda y: change(y, plain(y)))


def spoiled_at(place: float, width: float, number: float) -> Callable[[Contrast, Term], Term]:
    """A slope difference that is `number` where u is within `width` of `place`."""

    def change(at: Contrast, term: Term) -> Term:
        there = (at.ratio.high - place).abs() < width
        return Term(torch.where(there, number, term.mantissa), term.exponent)

    return change


BROKEN = {
    "a factor": (scaled(definition_of(RIGHT), 1 + 1e-9), "weight"),
    "the weight's sign": (
        with_slope(definition_of(GENERAL), lambda at, term: term._replace(mantissa=-term.mantissa)),
        "force",
    ),
    "a tail at zero": (with_tails(definition_of(RIGHT), lambda y, first, last: (first + 1e-6, last)), "value"),
    "a tail at infinity": (with_tails(definition_of(RIGHT), lambda y, first, last: (first, last * 0.999999)), "value"),
    "a tail far out": (with_tails(definition_of(RIGHT), lambda y, first, last: (first, last + (y < -300))), "value"),
    "the value near one": (with_near(definition_of(GENERAL), lambda y, near: near * (1 + 1e-7)), "value"),
    "the value at one place": (
        with_near(definition_of(GENERAL), lambda y, near: near.where((y - 0.3).abs() > 0.02, 1.0)),
        "value",
    ),
    "NaN at one place": (with_slope(definition_of(GENERAL), spoiled_at(3.0, 0.01, math.nan)), "weight"),
    "inf at one place": (with_slope(definition_of(GENERAL), spoiled_at(-35.0, 0.01, math.inf)), "weight"),
    "0 far out": (with_slope(definition_of(GENERAL), spoiled_at(110.0, 0.01, 0.0)), "weight"),
}


class TestBroken:
    """Whatever is changed in a right definition is found."""

    @pytest.mark.parametrize("generator", (RIGHT, GENERAL), ids=str)
    def test_the_right_one_passes(self, generator: object) -> None:
        assert shortfall(generator, definition_of(generator)) is None

    @pytest.mark.parametrize("name", BROKEN)
    def test_broken(self, name: str) -> None:
        definition, part = BROKEN[name]
        found = shortfall(GENERAL if definition.near is not None else RIGHT, definition)
        assert found is not None
        assert (found.part, found.dtype) == (part, torch.float64)

    @pytest.mark.parametrize("text", ("(t-1)**4/(t+1)**3", "(t-1)**6/(t+1)**5", "1e-20*(t-1)**4/(t+2)**3"))
    def test_where_the_second_derivative_vanishes(self, text: str) -> None:
        """Close to t = 1 a weight may be off by an ulp of p, and nowhere by more."""
        generator = as_generator(text)
        definition = definition_of(generator)
        assert shortfall(generator, definition) is None

        def shifted(at: Contrast, term: Term) -> Term:
            near = (at.ratio.high.abs() < 0.01) & (at.ratio.high != at.base.high)
            return term._replace(mantissa=term.mantissa + torch.where(near, 1e-13, 0.0).to(term.mantissa))

        found = shortfall(generator, with_slope(definition, shifted))
        assert found is not None
        assert found.part in ("weight", "force")

    def test_only_the_force(self) -> None:
        """Wrong where the base is not t = 1, as a value and a weight never ask."""

        def change(at: Contrast, term: Term) -> Term:
            return Term(torch.where(at.base.high != 0, 1.001, 1.0) * term.mantissa, term.exponent)

        found = shortfall(RIGHT, with_slope(definition_of(RIGHT), change))
        assert found is not None
        assert found.part == "force"

    @pytest.mark.parametrize("width", ("1/10", "1/5"))
    def test_a_quadrature_across_a_bend(self, width: str) -> None:
        """Its slopes are right at either end, and the nodes between them miss the bend."""
        generator = as_generator(f"sqrt((t-1)**2+({width})**2)-{width}")
        definition = definition_of(generator)
        slope = definition.slope_difference.keywords["slope"]._replace(guarded=False)
        unguarded = functools.partial(_generated.general_difference, slope=slope)
        found = shortfall(generator, definition._replace(slope_difference=unguarded))
        assert found is not None
        assert (found.part, found.dtype) == ("force", torch.float64)

    def test_only_float32(self) -> None:
        def change(at: Contrast, term: Term) -> Term:
            lost = 1e-4 if term.mantissa.dtype == torch.float32 else 0.0
            return term._replace(mantissa=term.mantissa * (1 + lost))

        broken = with_slope(definition_of(RIGHT), change)
        found = shortfall(RIGHT, broken)
        assert found is not None
        assert found.dtype == torch.float32
        assert shortfall(RIGHT, broken._replace(wide=True)) is None

    def test_a_constant_beyond_float32(self) -> None:
        def change(at: Contrast, term: Term) -> Term:
            if term.mantissa.dtype == torch.float32:
                raise OverflowError("1e40")
            return term

        found = shortfall(RIGHT, with_slope(definition_of(RIGHT), change))
        assert found is not None
        assert found.dtype == torch.float32
        assert math.isnan(found.found)

    def test_what_is_said_of_it(self) -> None:
        definition = with_slope(definition_of(GENERAL), spoiled_at(3.0, 0.01, math.nan))
        found = shortfall(GENERAL, definition)
        assert found is not None
        expected = mpmath.exp(-math.log(4 * (found.place - 1) ** 3)) * 4 * (mpf(found.place) - 1) ** 3
        assert math.isclose(found.place, math.exp(3), rel_tol=1e-6)
        assert math.isclose(found.exact, expected, rel_tol=1e-6)
        assert str(found) == f"at t = {found.place:.9g} its weight comes out as nan in float64, not {found.exact:.15g}"


class TestRefusal:
    """A generator with which nothing calculates rightly is refused by its name, the place and both numbers."""

    def test_message(self) -> None:
        rule = r"generator t\*\*62\*\(t - 1\)\*\*2 cannot be calculated with: "
        with pytest.raises(ValueError, match=rule + "at t = .* its .* comes out as .* in float64, not "):
            fg.Divergence.from_generator("t**62*(t-1)**2")
