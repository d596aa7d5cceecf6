"""Inception computes what torch-fidelity's program does, with exactly the published keys; each peculiarity counts."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fguidance.evaluation import extract_features, load_feature_network, load_inception
from fguidance.evaluation.inception import Inception
from lab.published_weights import arrays, inception_images, made_weights, shapes


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return made_weights("inception", gain=4)


@pytest.fixture(scope="module")
def network(weights: dict[str, Tensor]) -> Inception:
    return load_inception(weights)


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    return arrays("inception_outputs.npz")


def distance(found: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest number."""
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", ["square", "high"])
def test_features_and_logits_are_the_published_ones(
    network: Inception, published: dict[str, Tensor], name: str
) -> None:
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    features = network(inception_images()[name])
    assert distance(features, published[f"features_{name}"]) < 1e-5
    assert distance(network.head(features), published[f"logits_{name}"]) < 1e-5


def test_it_has_exactly_the_published_keys_and_shapes() -> None:
    with torch.device("meta"):
        found = {key: tuple(value.shape) for key, value in Inception().state_dict().items()}
    assert found == shapes("inception")


class TestLoading:
    def test_files_are_read(self, weights: dict[str, Tensor], network: Inception, tmp_path: Path) -> None:
        image = inception_images()["high"].permute(0, 2, 3, 1)
        for name, zipped in (("new.pth", True), ("old.pt", False)):
            torch.save(weights, tmp_path / name, _use_new_zipfile_serialization=zipped)
            found = load_feature_network(tmp_path / name)
            assert extract_features(found, image).equal(extract_features(network, image))

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"fc.bias": torch.zeros(1000)}, r"does not fit Inception: it has other shapes: fc\.bias is \(1000,\)"),
            ({"Mixed_8a.conv.weight": torch.zeros(1)}, r"it has besides Mixed_8a\.conv\.weight"),
        ],
    )
    def test_weights_of_another_network_are_refused(self, weights: dict[str, Tensor], change, match) -> None:
        with pytest.raises(ValueError, match=match):
            load_inception(weights | change)


@pytest.mark.parametrize(
    "images",
    [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(1, 1, 8, 8, dtype=torch.uint8)],
)
def test_other_images_are_refused(network: Inception, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"images has torch\..* it must have torch\.uint8 and \(batch, 3, height"):
        network(images)
