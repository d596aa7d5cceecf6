"""The published network in diffusers' clothes computes what the published program does, with exactly its weights."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fguidance.diffusion import ADMConfig, load_adm_unet
from lab.published_weights import arrays, shapes, state_of

SMALL = ADMConfig(
    image_size=16, in_channels=3, model_channels=32, out_channels=6, num_res_blocks=1, attention_downsampling=(2,),
    channel_mult=(1, 2), num_heads=4, num_classes=10,
)  # fmt: skip
PUBLISHED = "adm_imagenet128_unet"
MILLIONS = 421_529_606


@pytest.fixture(scope="module")
def given() -> dict[str, Tensor]:
    return arrays("adm_unet_small.npz")


@pytest.fixture
def state(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return state_of(given)


def off_by(network: Callable[..., Tensor], given: dict[str, Tensor]) -> float:
    found = network(given["x"], given["t"], given["y"])
    return float((found - given["out"]).norm() / given["out"].norm())


def test_it_computes_what_the_published_program_does(given, state) -> None:
    network = load_adm_unet(state, SMALL)
    assert off_by(network, given) < 1e-4
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_exactly_the_published_keys_and_shapes() -> None:
    listed = {name: torch.empty(shape, device="meta") for name, shape in shapes(PUBLISHED).items()}
    network = load_adm_unet(listed, ADMConfig.imagenet128())
    assert sum(parameter.numel() for parameter in network.parameters()) == MILLIONS


class TestRefused:
    def test_another_network(self, state) -> None:
        with pytest.raises(ValueError, match=r"lacks input_blocks\.\S+, .* and \d+ more"):
            load_adm_unet(state, replace(SMALL, num_res_blocks=2))
        with pytest.raises(ValueError, match=r"label_emb\.weight is \(10, 128\) and not \(11, 128\)"):
            load_adm_unet(state, replace(SMALL, num_classes=11))
        with pytest.raises(ValueError, match=r"has besides extra$"):
            load_adm_unet(state | {"extra": torch.zeros(1)}, SMALL)

    @pytest.mark.parametrize(
        ("change", "message"),
        (
            ({"model_channels": 48}, "model_channels 48 times 1 of channel_mult must be a multiple of 32"),
            ({"model_channels": 33}, "model_channels must be even, not 33"),
            ({"channel_mult": (1, 1.5)}, r"model_channels 32 times 1\.5 of channel_mult must be a multiple of 32"),
            ({"channel_mult": (0, 2)}, "model_channels 32 times 0 of channel_mult must be a multiple of 32"),
            ({"num_heads": 3}, "model_channels 32 times 2 of channel_mult must be a multiple of num_heads=3, for"),
            ({"num_heads": 0}, "num_heads must be a whole number of at least 1, not 0"),
            ({"image_size": 15}, "halves an image of size 15 too often"),
            ({"channel_mult": ()}, r"channel_mult \(\) halves"),
            ({"attention_downsampling": (4,)}, r"attention_downsampling must be some of \[1, 2\], not \(4,\)"),
        ),
    )
    def test_a_shape_that_no_network_has(self, change: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            replace(SMALL, **change)
