"""The design space's own arithmetic: places on the map, and the two propositions that the chapter proves."""

import math

import pytest
import sympy as sp
import torch

import fguidance as fg
from fguidance import symbolic
from lab import design_space

t = symbolic.t
DESIGNS = design_space.designs()
IDS = [design.name for design in DESIGNS]


def test_every_registered_divergence_is_on_the_map():
    assert sorted(IDS) == sorted(name for name in fg.divergence_names() if fg.divergence(name).is_divergence)


@pytest.mark.parametrize(
    ("name", "place", "force"),
    [
        ("rkl", (-1, 0), "stays"),
        ("fkl", (0, 0), "vanishes"),
        ("neyman", (-2, 0), "grows"),
        ("hellinger", (-0.5, 0), "fades"),
        ("pearson", (0, 1), "vanishes"),
        ("total_variation", (0, 0), "vanishes"),
    ],
)
def test_places_of_the_textbook_divergences(name: str, place: tuple[float, float], force: str):
    found = design_space.design(name)
    assert (found.at_zero, found.at_infinity) == place
    assert found.force == force


@pytest.mark.parametrize("design", DESIGNS, ids=IDS)
def test_the_alpha_alike_agrees_to_third_order(design: design_space.Design):
    if not design.curvature:
        pytest.skip("no curvature at agreement")
    alike = fg.divergence("alpha", alpha=design.resembles)
    q = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    direction = torch.tensor([2.0, -3.0, 1.0], dtype=torch.float64)
    rest = []
    for step in (1e-3, 5e-4):
        p = q + step * direction
        ours, theirs = (one.value(p.log(), q.log()) for one in (design.divergence, alike))
        rest.append(abs(ours / design.curvature - theirs).item())
    # Halving the distance divides a rest of fourth order by 16, one of third order by 8; what is left may be rounding.
    assert rest[1] <= rest[0] / 12 + 1e-15


@pytest.mark.parametrize("design", DESIGNS, ids=IDS)
def test_the_weight_in_units_of_q_is_t_times_the_slope(design: design_space.Design):
    at = [0.01, 0.5, 3.0]
    expected = [float((t * symbolic.slope(design.divergence.generator)).subs(t, x)) for x in map(sp.Float, at)]
    found = design_space.weight_at(design.divergence, torch.tensor(at, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("design", DESIGNS, ids=IDS)
def test_the_bound_holds_for_random_logits(design: design_space.Design):
    generator = torch.Generator().manual_seed(0)
    logits = 6 * torch.randn(200, 7, generator=generator, dtype=torch.float64)
    log_q = fg.label_smoothed_log_target(torch.zeros(200, dtype=torch.int64), 7, 0.8, torch.float64)
    bound = design_space.force_bound(design, 0.2 / 7)
    force = design.divergence.logit_gradient(logits, log_q)
    assert (force.abs().sum(-1) <= bound * (1 + 1e-9)).all()
    assert math.isinf(bound) == (design.force == "grows")


@pytest.mark.parametrize("design", DESIGNS, ids=IDS)
def test_no_divergence_exceeds_its_largest_value(design: design_space.Design):
    apart = torch.tensor([[1e-9, 1 - 1e-9], [1 - 1e-9, 1e-9]], dtype=torch.float64).log()
    found = design.divergence.value(*apart).item()
    assert found <= design.largest
    assert found > (0.9 * design.largest if math.isfinite(design.largest) else 4)
