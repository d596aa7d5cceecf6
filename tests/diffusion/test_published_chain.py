"""The whole guided chain of the published program, step by step."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fguidance.diffusion import Schedule, StepRecord, sample
from fguidance.guidance import Guidance
from lab.published_weights import arrays, state_of
from tests.diffusion.plain_adm_unet import plain_adm_unet


@pytest.fixture(scope="module")
def network() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    state = state_of(arrays("adm_unet_small.npz"))
    return lambda x, t, y: plain_adm_unet(state, x, t, y)


def _chain(network, **changes) -> list[StepRecord]:
    given, records = arrays("elucd_guided_chain_25.npz"), []
    settings = {
        "guidance": Guidance(alpha=0.0, tau_joint=given["tau1"].item(), tau_marginal=given["tau2"].item()),
        "classifier": lambda x: x.flatten(1) @ given["classifier_weight"].T,
        "guidance_scale": given["scale"].item(),
        "sine_gamma": given["gamma"].item(),
        "initial_noise": given["x_T"],
        "step_noise": given["noise"],
    }
    schedule = Schedule.linear(1000).respace(25)
    sample(network, schedule, given["y"], progress=False, callback=records.append, **settings | changes)
    return records


def test_the_plain_network_is_the_published_one(network) -> None:
    given = arrays("adm_unet_small.npz")
    torch.testing.assert_close(network(given["x"], given["t"], given["y"]), given["out"], rtol=0, atol=1e-5)


def chain_is_equal(network: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    given = arrays("elucd_guided_chain_25.npz")
    records = _chain(network)
    assert [record.timestep for record in records] == given["timestep_map"].flip(0).tolist()
    for record, images, clean in zip(records, given["samples"], given["pred_xstart"], strict=True):
        torch.testing.assert_close(record.sample, images, rtol=0, atol=1e-4)
        torch.testing.assert_close(record.predicted_clean, clean, rtol=0, atol=1e-4)


def test_every_step_equals_the_published_programs(network) -> None:
    chain_is_equal(network)


@pytest.mark.parametrize(
    "change",
    [{"sine_gamma": 0.0}, {"sine_gamma": 0.33}, {"guidance_scale": 1.1}, {"guidance": Guidance(tau_marginal=0.6)}],
    ids=lambda change: next(iter(change)),
)
def test_the_comparison_notices_another_setting(network, change) -> None:
    given = arrays("elucd_guided_chain_25.npz")
    assert (_chain(network, **change)[-1].sample - given["samples"][-1]).abs().max() > 1e-3
