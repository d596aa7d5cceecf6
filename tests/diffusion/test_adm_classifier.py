"""The published noise-aware classifier: it computes what the published program does, with exactly its weights."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fguidance.diffusion import ADMClassifierConfig, load_adm_classifier
from lab.published_weights import arrays, shapes, state_of

SMALL = ADMClassifierConfig(
    image_size=16, in_channels=3, model_channels=32, num_res_blocks=1, attention_downsampling=(2,), channel_mult=(1, 2),
    num_head_channels=32, num_classes=10,
)  # fmt: skip
PUBLISHED = "adm_imagenet128_classifier"
MILLIONS = 42_568_040


@pytest.fixture(scope="module")
def given() -> dict[str, Tensor]:
    return arrays("adm_classifier_small.npz")


@pytest.fixture
def state(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return state_of(given)


def off_by(network: Callable[..., Tensor], given: dict[str, Tensor]) -> float:
    found = network(given["x"], given["t"])
    return float((found - given["logits"]).norm() / given["logits"].norm())


def test_it_computes_what_the_published_program_does(given, state) -> None:
    network = load_adm_classifier(state, SMALL)
    assert off_by(network, given) < 1e-4
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_exactly_the_published_keys_and_shapes() -> None:
    listed = {name: torch.empty(shape, device="meta") for name, shape in shapes(PUBLISHED).items()}
    network = load_adm_classifier(listed, ADMClassifierConfig.imagenet128())
    assert sum(parameter.numel() for parameter in network.parameters()) == MILLIONS


class TestRefused:
    def test_another_network(self, state) -> None:
        with pytest.raises(ValueError, match=r"lacks out\.2\.positional_embedding$"):
            load_adm_classifier({k: v for k, v in state.items() if k != "out.2.positional_embedding"}, SMALL)
        with pytest.raises(ValueError, match=r"out\.2\.c_proj\.weight is \(10, 64, 1\) and not \(11, 64, 1\)"):
            load_adm_classifier(state, replace(SMALL, num_classes=11))

    @pytest.mark.parametrize(
        ("change", "message"),
        (
            ({"num_head_channels": 48}, "model_channels 32 times 2 of channel_mult must be a multiple of num_head_ch"),
            ({"num_head_channels": 64, "attention_downsampling": (1,)}, "times 1 .* multiple of num_head_channels=64"),
            ({"num_head_channels": 0}, "num_head_channels must be a whole number of at least 1, not 0"),
        ),
    )
    def test_a_shape_that_no_network_has(self, change: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            replace(SMALL, **change)
