"""The guided chain of the published program, each step from where that program took it."""

import pytest
from torch import Tensor

from fguidance.diffusion import StepRecord
from fguidance.guidance import Guidance
from lab.published import guided_steps
from lab.published_weights import arrays, state_of
from tests.diffusion.plain_adm_unet import plain_adm_unet

ROUNDING = 2e-5
"""Ten times what one step in float32 is off by on any processor tried; pixels and noise are of the size of 1."""


@pytest.fixture(scope="module")
def given() -> dict[str, Tensor]:
    return arrays("adm_unet_small.npz")


def off_by(steps: list[StepRecord]) -> float:
    return max(float(step.sample.abs().max().maximum(step.predicted_clean.abs().max())) for step in steps)


@pytest.mark.parametrize("plain", [False, True])
def test_every_step_equals_the_published_programs(given, plain) -> None:
    steps = guided_steps(lambda x, t, y: plain_adm_unet(state_of(given), x, t, y)) if plain else guided_steps()
    assert [step.timestep for step in steps] == arrays("elucd_guided_chain_25.npz")["timestep_map"].flip(0).tolist()
    assert off_by(steps) < ROUNDING


@pytest.mark.parametrize(
    "change",
    [{"sine_gamma": 0.0}, {"sine_gamma": 0.33}, {"guidance_scale": 1.1}, {"guidance": Guidance(tau_marginal=0.6)}],
    ids=lambda change: next(iter(change)),
)
def test_the_comparison_notices_another_setting(change) -> None:
    assert off_by(guided_steps(**change)) > 100 * ROUNDING
