"""The small classifier: its shape, its features, and the weights that fit it."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fguidance.diffusion.small_classifier import SmallClassifier, SmallShape, load_small_classifier

FIELDS = {"image_size": 8, "in_channels": 1, "width": 4, "num_features": 6, "num_classes": 3}
SHAPE = SmallShape(**FIELDS)


@pytest.fixture(autouse=True)
def same_weights() -> None:
    torch.manual_seed(0)


@settings(max_examples=20)
@given(
    quarter=st.integers(1, 4), channels=st.integers(1, 3), width=st.integers(1, 4), features=st.integers(1, 5),
    classes=st.integers(1, 5), batch=st.integers(1, 3),
)  # fmt: skip
def test_any_shape_maps_its_images_to_features_and_logits(
    quarter: int, channels: int, width: int, features: int, classes: int, batch: int
) -> None:
    network = SmallClassifier(SmallShape(4 * quarter, channels, width, features, classes))
    images = torch.linspace(-1, 1, batch * channels * (4 * quarter) ** 2)
    images = images.view(batch, channels, 4 * quarter, 4 * quarter)
    with torch.no_grad():
        hidden, logits = network.features(images), network(images)
    assert hidden.shape == (batch, features)
    assert float(hidden.abs().max()) <= 1
    assert logits.shape == (batch, classes)
    assert logits.equal(network.head(hidden))


def test_it_is_smooth() -> None:
    """Its gradient guides, so nothing in it may have a kink."""
    network = SmallClassifier(SHAPE).double()
    image = torch.linspace(-1, 1, 64, dtype=torch.float64).view(1, 1, 8, 8)

    def largest_jump(points: int) -> float:
        """Of the slope, between neighbours on a line of images from one end of the range to far beyond the other."""
        along = torch.linspace(-20, 20, points, dtype=torch.float64).requires_grad_()
        (slope,) = torch.autograd.grad(network(along.view(-1, 1, 1, 1) * image).sum(), along)
        return float(slope.diff().abs().max())

    assert largest_jump(8001) < 0.6 * largest_jump(4001)


@pytest.mark.parametrize("size", (1, 2, 6, 9))
def test_images_can_be_halved_twice(size: int) -> None:
    with pytest.raises(ValueError, match=f"image_size must be a multiple of 4, not {size}"):
        SmallShape(**(FIELDS | {"image_size": size}))


class TestLoading:
    def test_it_gives_what_the_weights_give(self, tmp_path: Path) -> None:
        network = SmallClassifier(SHAPE)
        images = torch.linspace(-1, 1, 128).view(2, 1, 8, 8)
        torch.save(network.state_dict(), tmp_path / "mine.pt")
        for source in (network.state_dict(), tmp_path / "mine.pt", str(tmp_path / "mine.pt")):
            loaded = load_small_classifier(source, SHAPE)
            assert loaded(images).equal(network(images))
            assert not loaded.training
            assert not any(parameter.requires_grad for parameter in loaded.parameters())

    def test_weights_of_another_shape(self) -> None:
        other = SmallShape(**(FIELDS | {"width": 8}))
        with pytest.raises(ValueError, match=r"does not fit a small classifier of SmallShape.*has other shapes"):
            load_small_classifier(SmallClassifier(other).state_dict(), SHAPE)
