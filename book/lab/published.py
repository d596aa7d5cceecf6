"""The comparisons with the published programs, on the numbers that were computed with those."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fguidance import Guidance
from fguidance.diffusion import (
    ADMClassifierConfig,
    ADMConfig,
    Schedule,
    StepRecord,
    load_adm_classifier,
    load_adm_unet,
    sample,
)

FIXTURES = Path(__file__).parents[2] / "tests" / "fixtures"
SMALL = {
    "image_size": 16, "in_channels": 3, "model_channels": 32, "num_res_blocks": 1, "attention_downsampling": (2,),
    "channel_mult": (1, 2), "num_classes": 10,
}  # fmt: skip


def arrays(name: str) -> dict[str, Tensor]:
    """The arrays of a file of numbers that the published programs computed."""
    return {key: torch.from_numpy(value) for key, value in np.load(FIXTURES / name, allow_pickle=False).items()}


def state(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in it."""
    return {key.removeprefix("state/"): value for key, value in given.items() if key.startswith("state/")}


def relative(found: Tensor, expected: Tensor) -> float:
    """How far two arrays are apart, as a share of the second."""
    return float((found - expected).norm() / expected.norm())


def schedule_difference(steps: int) -> float:
    """The largest relative difference in any table of the respaced schedule."""
    given, ours = arrays(f"schedule_linear1000_to_{steps}.npz"), Schedule.linear(1000).respace(steps)
    shared = [name for name in given if hasattr(ours, name)]
    return max(relative(getattr(ours, name).double(), given[name].double()) for name in shared)


def network_differences() -> dict[str, float]:
    """Of the two networks of Dhariwal & Nichol, small and with random weights."""
    unet, classifier = arrays("adm_unet_small.npz"), arrays("adm_classifier_small.npz")
    model = load_adm_unet(state(unet), ADMConfig(**SMALL, out_channels=6, num_heads=4))
    noise_aware = load_adm_classifier(state(classifier), ADMClassifierConfig(**SMALL, num_head_channels=32))
    return {
        "UNet": relative(model(unet["x"], unet["t"], unet["y"]), unet["out"]),
        "noise-aware classifier": relative(noise_aware(classifier["x"], classifier["t"]), classifier["logits"]),
    }


def chain_differences() -> list[float]:
    """The largest difference of any pixel after each of the 25 steps of Ma et al.'s guided chain."""
    unet, given = arrays("adm_unet_small.npz"), arrays("elucd_guided_chain_25.npz")
    records: list[StepRecord] = []
    sample(
        load_adm_unet(state(unet), ADMConfig(**SMALL, out_channels=6, num_heads=4)),
        Schedule.linear(1000).respace(25),
        given["y"],
        guidance=Guidance(alpha=0.0, tau_joint=given["tau1"].item(), tau_marginal=given["tau2"].item()),
        classifier=lambda x: x.flatten(1) @ given["classifier_weight"].T,
        guidance_scale=given["scale"].item(),
        sine_gamma=given["gamma"].item(),
        initial_noise=given["x_T"],
        step_noise=given["noise"],
        progress=False,
        callback=records.append,
    )
    pairs = zip(records, given["samples"], strict=True)
    return [float((record.sample - expected).abs().max()) for record, expected in pairs]
