"""The off-the-shelf classifiers compute what torchvision's do on the same weights, in logits and in gradients."""

import math

import pytest
import torch
from torch import Tensor, nn

from fguidance.diffusion import load_resnet
from fguidance.diffusion.resnet import largest_of_nine
from lab.published_weights import arrays, made_weights, resnet_images, shapes

DEPTHS = (50, 101)
CLASSES = (5, 77)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return resnet_images()


@pytest.fixture(scope="module", params=DEPTHS)
def published(request: pytest.FixtureRequest) -> tuple[int, dict[str, Tensor], dict[str, Tensor]]:
    """Depth, weights, and what torchvision computed with them."""
    return request.param, made_weights(f"resnet{request.param}"), arrays(f"resnet{request.param}_outputs.npz")


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_logits(published, images) -> None:
    depth, weights, outputs = published
    assert relative(load_resnet(weights, depth)(images), outputs["relu_logits"]) < 1e-4
    assert relative(load_resnet(weights, depth, softplus_beta=3.0)(images), outputs["softplus3_logits"]) < 1e-4


def test_gradients_in_the_image(published, images) -> None:
    depth, weights, outputs = published
    at = images.clone().requires_grad_()
    log_probs = load_resnet(weights, depth, softplus_beta=3.0)(at).log_softmax(-1)
    (gradient,) = torch.autograd.grad(log_probs[[0, 1], CLASSES].sum(), at)
    norms = gradient.flatten(1).norm(dim=1)
    assert relative(norms, outputs["softplus3_grad_norm"]) < 1e-4
    assert relative(gradient[:, :, :4, :4], outputs["softplus3_grad_corner"]) < 1e-4


class TestPool:
    @pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 7), (5, 16)])
    @pytest.mark.parametrize("shades", [2, 1000])
    def test_values_and_gradients_are_those_of_pytorchs_pool(self, size: tuple[int, int], shades: int) -> None:
        """With two shades most of nine are equal, and the gradient must go to the first of them."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(shades, (2, 3, *size), generator=generator).double().requires_grad_()
        ours, theirs = largest_of_nine(images), nn.functional.max_pool2d(images, 3, 2, 1)
        assert ours.equal(theirs)
        weights = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
        gradients = [torch.autograd.grad((found * weights).sum(), images)[0] for found in (ours, theirs)]
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)

    def test_nan_stays(self) -> None:
        for place in range(9):
            image = torch.arange(9.0)
            image[place] = math.nan
            found = largest_of_nine(image.view(1, 1, 3, 3))
            assert found.isnan().equal(nn.functional.max_pool2d(image.view(1, 1, 3, 3), 3, 2, 1).isnan())
            assert found.isnan().any()

    def test_the_layout_stays(self) -> None:
        image = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last)
        assert largest_of_nine(image).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("depth", DEPTHS)
def test_exactly_the_published_keys_and_shapes(depth: int) -> None:
    listed = {name: torch.empty(shape, device="meta") for name, shape in shapes(f"resnet{depth}").items()}
    network = load_resnet(listed, depth)
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == shapes(f"resnet{depth}")


class TestRefused:
    """Weights of another network, with a message that says what is wrong."""

    def test_another_depth(self) -> None:
        listed = {name: torch.empty(shape, device="meta") for name, shape in shapes("resnet101").items()}
        with pytest.raises(ValueError, match=r"does not fit a ResNet-50: it has besides layer3\.6\..* and \d+ more"):
            load_resnet(listed, 50)
        with pytest.raises(ValueError, match="depth must be one of 50, 101, not 34"):
            load_resnet(listed, 34)
        with pytest.raises(ValueError, match="softplus_beta must be a finite number above 0, not -3"):
            load_resnet(listed, softplus_beta=-3.0)
