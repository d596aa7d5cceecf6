"""Definitions of generators of one's own: their numbers are right, or they are refused with the place."""

import math
import pickle

import mpmath
import pytest
import torch

import fguidance as fg
from fguidance import closed_forms
from fguidance.symbolic import parse_generator
from fguidance.symbolic.numerical import _definitions, define, numbers, places, probes, shortfall
from tests.support import exact
from tests.support.cases import GENERATORS, MEMBERS, random_logits, target

OTHERS = (
    "t*log(t)/4 - (t/4 + 3/4)*log(t/4 + 3/4)", "exp(1/t) - e", "sqrt((t - 1)**2 + 1e-12) - 1e-6", "1e-7*(t - 1)**2",
    "(t**(3/4) - 1)**2", "log(1 + exp(t)) - log(1 + e)", "exp(t**-2) - e",
    "(t + 1)*(t - 1)**2/t*log((t + 1)/(2*sqrt(t)))", "t**3 - 1 + tanh(0)",
)  # fmt: skip


@pytest.mark.parametrize("name", GENERATORS)
def test_a_registered_generator_comes_out_by_the_general_path(name: str) -> None:
    own, registered = fg.Divergence.from_generator(GENERATORS[name], name=name), fg.divergence(name)
    for seed, spread in enumerate((0.1, 3.0, 40.0, 300.0)):
        logits, log_q = random_logits(5, spread, seed), target(5, seed, 0.9)
        log_p = torch.log_softmax(logits, -1)
        for found, expected in (
            (own.value(log_p, log_q), registered.value(log_p, log_q)),
            (own.weight(log_p, log_q), registered.weight(log_p, log_q)),
            (own.logit_gradient(logits, log_q), registered.logit_gradient(logits, log_q)),
        ):
            scale = float(expected.abs().max().clamp_min(log_p.exp().max()))
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13 * scale)


@pytest.mark.parametrize("text", OTHERS)
def test_other_generators_are_accepted(text: str) -> None:
    assert fg.Divergence.from_generator(text).is_smooth


@pytest.mark.parametrize("name", ("js", "pearson", "jeffreys"))
def test_a_right_definition_falls_short_of_nothing_and_a_wrong_one_does(name: str) -> None:
    generator = parse_generator(GENERATORS[name], {})
    right = fg.divergence(name).definition
    assert not shortfall(generator, right)
    value, weight, bend = right.value, right.weight, right.bend
    for part, wrong in (
        ("weight", right._replace(weight=lambda p, q, u: 1.001 * weight(p, q, u) + 1e-9 * p * u)),
        ("value", right._replace(value=lambda p, q, u: value(p, q, u) * (1 + 1e-11))),
        ("value", right._replace(bend=lambda u: 1.0001 * bend(u))),
        ("weight", right._replace(gauge=right.gauge + 1e-9)),
    ):
        found = shortfall(generator, wrong)
        assert f"its {part} comes" in found or (part == "weight" and found)
        assert "log t = " in found


def test_what_no_definition_gets_right_is_refused_with_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = fg.divergence("js").definition._replace(gauge=3.0)
    monkeypatch.setattr("fguidance.symbolic.numerical._definitions", lambda *_: iter((broken,)))
    with pytest.raises(ValueError, match=r"cannot be calculated with: at t = .*log t = .*its (weight|value) comes out"):
        define(parse_generator("t*log(t)", {}))


def test_definitions_come_from_the_quickest_on() -> None:
    generator = parse_generator("sqrt((t - 1)**2 + 1e-12) - 1e-6", {})
    assert not [shortfall(generator, definition) for definition in _definitions(generator)][-1]


def test_probes_agree_with_mpmath() -> None:
    asked = probes(parse_generator("t*log(t)", {}))
    assert len(asked) > 40
    for probe in asked:
        log_p, log_q = (torch.tensor([number], dtype=torch.float64) for number in probe.log_probs)
        expected = exact.weights(MEMBERS["fkl"].reference, log_p, log_q)[0]
        assert mpmath.almosteq(mpmath.mpf(probe.exact[1]), expected, rel_eps=1e-15, abs_eps=1e-300)
    found = numbers(fg.divergence("fkl").definition, asked)
    assert found.shape == (len(asked), 3)
    assert found.isfinite().all()


def test_places_are_the_zeros_near_the_axis() -> None:
    ((place, distance),) = places(parse_generator("sqrt((t - 1)**2 + 1e-6) - 1e-3", {}))
    assert math.isclose(place, 1, rel_tol=1e-9)
    assert math.isclose(distance, 1e-3, rel_tol=1e-9)


def test_what_is_too_large_to_calculate_with_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be 0 or between 1e-30 and 1e\+30"):
        fg.Divergence.from_generator("1e29*(t - 1)**2*10**2")


def test_divergences_survive_pickle_and_compare_equal() -> None:
    own = fg.Divergence.from_generator("t*log(t)")
    scaled = fg.Divergence.from_generator("a*(t - 1)**2", parameters={"a": 2.0})
    for divergence in (fg.divergence("js"), fg.divergence("alpha", alpha=0.3), own, scaled):
        again = pickle.loads(pickle.dumps(divergence))
        assert again == divergence
        assert hash(again) == hash(divergence)
        assert again.label == divergence.label
    assert fg.divergence("js") != fg.divergence("gan")
    assert hash(fg.divergence("js")) != hash(fg.divergence("gan"))
    assert pickle.loads(pickle.dumps(fg.Guidance("js", alpha=0.5))) == fg.Guidance("js", alpha=0.5)


def test_the_nodes_integrate_polynomials() -> None:
    total = sum(share * 2 for _, share in closed_forms.NODES)
    assert math.isclose(total, 1, rel_tol=1e-15)
    for degree in (1, 7, 31):
        found = math.fsum(share * (x**degree + (1 - x) ** degree) for x, share in closed_forms.NODES)
        assert math.isclose(found, 1 / (degree + 1), rel_tol=1e-14)
