"""The comparisons with the published programs, on the numbers that were computed with those."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fguidance import Guidance
from fguidance.diffusion import (
    ADMClassifier,
    ADMClassifierConfig,
    ADMConfig,
    ADMUNet,
    Schedule,
    StepRecord,
    load_adm_classifier,
    load_adm_unet,
    load_resnet,
    sample,
)
from fguidance.diffusion.sampler import Model
from fguidance.evaluation import load_inception
from lab.published_weights import arrays, chain_noise, inception_images, made_weights, resnet_images, state_of

UNET, CLASSIFIER = "adm_unet_small.npz", "adm_classifier_small.npz"
SMALL = {
    "image_size": 16, "in_channels": 3, "model_channels": 32, "num_res_blocks": 1, "attention_downsampling": (2,),
    "channel_mult": (1, 2), "num_classes": 10,
}  # fmt: skip


def relative(found: Tensor, expected: Tensor) -> float:
    """How far two arrays are apart, as a share of the second."""
    return float((found - expected).norm() / expected.norm())


def schedule_difference(steps: int) -> float:
    """The largest relative difference in any table of the respaced schedule."""
    given, ours = arrays(f"schedule_linear1000_to_{steps}.npz"), Schedule.linear(1000).respace(steps)
    shared = [name for name in given if hasattr(ours, name)]
    return max(relative(getattr(ours, name).double(), given[name].double()) for name in shared)


def network_differences() -> dict[str, float]:
    """Of the networks that the experiment needs, with random weights; those of Dhariwal & Nichol are small ones."""
    return adm_differences() | resnet_differences() | inception_differences()


def resnet_differences() -> dict[str, float]:
    """Of the off-the-shelf classifiers with smooth activations, whole."""
    found = {}
    for depth in (50, 101):
        network, given = load_resnet(made_weights(f"resnet{depth}"), depth, 3.0), arrays(f"resnet{depth}_outputs.npz")
        found[f"ResNet-{depth}, smooth"] = relative(network(resnet_images()), given["softplus3_logits"])
    return found


def inception_differences() -> dict[str, float]:
    """Of the network on whose features samples are compared, whole, on images that it stretches."""
    network, given = load_inception(made_weights("inception", gain=4)), arrays("inception_outputs.npz")
    features = network(inception_images()["square"])
    return {
        "Inception, features": relative(features, given["features_square"]),
        "Inception, logits": relative(network.head(features), given["logits_square"]),
    }


def adm_differences() -> dict[str, float]:
    """Of the diffusion model and the noise-aware classifier."""
    unet, classifier = arrays(UNET), arrays(CLASSIFIER)
    return {
        "UNet": relative(small_unet()(unet["x"], unet["t"], unet["y"]), unet["out"]),
        "noise-aware classifier": relative(small_classifier()(classifier["x"], classifier["t"]), classifier["logits"]),
    }


def small_unet() -> ADMUNet:
    """The small diffusion model whose weights and outputs are known."""
    return load_adm_unet(state_of(arrays(UNET)), ADMConfig(**SMALL, out_channels=6, num_heads=4))


def small_classifier() -> ADMClassifier:
    """The small noise-aware classifier."""
    return load_adm_classifier(state_of(arrays(CLASSIFIER)), ADMClassifierConfig(**SMALL, num_head_channels=32))


def adm_chain(name: str, guidance_scale: float | None = None, rounding: float = 0.0) -> list[Tensor]:
    """Every sixth sample of a chain of 25 steps in the manner of Dhariwal & Nichol: the published networks, small.

    Args:
        name: "ancestral", "ddim", "ddim_noisy" (with as much noise as there may be) or "ddim_unguided".
        guidance_scale: another one than the published program was given.
        rounding: normal noise added to each output of the UNet, as a share of that output's root mean square.
    """
    given, (first, noise, labels) = arrays("adm_chains_25.npz"), chain_noise(25)
    guided = {
        "guidance": Guidance(alpha=0.0, tau_joint=1.0, tau_marginal=1.0),
        "classifier": small_classifier(),
        "classifier_input": "noisy",
        "guidance_scale": given["guidance_scale"].item() if guidance_scale is None else guidance_scale,
    }
    unet, errors, records = small_unet(), torch.Generator().manual_seed(0), list[StepRecord]()

    def rounded(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        output = unet(x_t, t, y)
        return output + rounding * output.square().mean().sqrt() * torch.randn(output.shape, generator=errors)

    sample(
        rounded,
        Schedule.linear(1000).respace(25),
        labels,
        initial_noise=first,
        step_noise=noise,
        sampler="ancestral" if name == "ancestral" else "ddim",
        eta=1.0 if name == "ddim_noisy" else 0.0,
        progress=False,
        callback=records.append,
        **({} if name == "ddim_unguided" else guided),
    )
    return [record.sample for record in records[::6]]


def largest(found: Iterable[Tensor], expected: Iterable[Tensor]) -> list[float]:
    """The largest difference of any pixel, of each pair of arrays."""
    return [float((one - other).abs().max()) for one, other in zip(found, expected, strict=True)]


def guided_steps(network: Model | None = None, **changes: Any) -> list[StepRecord]:
    """By how much each of the 25 steps of Ma et al.'s guided chain misses the published program's.

    Each step begins at the image that the published program had there, so nothing accumulates.

    Args:
        network: another one than `small_unet`.
        changes: other arguments of :func:`fguidance.diffusion.sample` than the published program was given.

    Returns:
        A record per step with the differences of the two images. That of the predicted clean image is multiplied by the
        root of alpha bar, as the prediction divides the network's rounding by it: by 1/157 at the first step.
    """
    given, schedule, found = arrays("elucd_guided_chain_25.npz"), Schedule.linear(1000).respace(25), list[StepRecord]()

    def compare(record: StepRecord) -> None:
        images, clean = given["samples"][len(found)], given["pred_xstart"][len(found)]
        off = (record.predicted_clean - clean) * schedule.alphas_cumprod[record.step].sqrt().item()
        found.append(replace(record, sample=record.sample - images, predicted_clean=off))
        record.sample.copy_(images)  # the sampler's own images: its next step begins there

    settings = {
        "guidance": Guidance(alpha=0.0, tau_joint=given["tau1"].item(), tau_marginal=given["tau2"].item()),
        "classifier": lambda x: x.flatten(1) @ given["classifier_weight"].T,
        "guidance_scale": given["scale"].item(),
        "sine_gamma": given["gamma"].item(),
        "initial_noise": given["x_T"],
        "step_noise": given["noise"],
    }
    sample(network or small_unet(), schedule, given["y"], progress=False, callback=compare, **settings | changes)
    return found
