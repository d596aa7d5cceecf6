"""Inception computes what torch-fidelity's program does, with exactly the published keys; each peculiarity counts."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fguidance.evaluation import extract_features, load_feature_network, load_inception
from fguidance.evaluation.inception import Inception, stretched
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
    features = network(inception_images()[name])
    assert distance(features, published[f"features_{name}"]) < 1e-5
    assert distance(network.head(features), published[f"logits_{name}"]) < 1e-5


def test_it_has_exactly_the_published_keys_and_shapes() -> None:
    with torch.device("meta"):
        found = {key: tuple(value.shape) for key, value in Inception().state_dict().items()}
    assert found == shapes("inception")


class TestStretched:
    def test_pixels_that_exist_stay_and_the_border_is_repeated(self) -> None:
        row = torch.tensor([0.0, 10, 40])
        found = stretched(row.expand(1, 1, 3, 3), 6)
        assert found[0, 0, 0].tolist() == [0, 5, 10, 25, 40, 40]
        assert found[0, 0].equal(found[0, 0, :1].expand(6, 6))

    def test_rows_and_columns_have_their_own_sizes(self) -> None:
        image = torch.arange(8.0).view(1, 1, 2, 4)
        assert stretched(image, 4)[0, 0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [4, 5, 6, 7]]

    def test_the_same_size_changes_nothing(self) -> None:
        image = torch.rand(2, 3, 7, 7, generator=torch.Generator().manual_seed(0))
        assert stretched(image, 7).equal(image)


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

    def test_it_is_ready_for_inference(self, network: Inception) -> None:
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    "images",
    [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(1, 1, 8, 8, dtype=torch.uint8)],
)
def test_other_images_are_refused(network: Inception, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"images has torch\..* it must have torch\.uint8 and \(batch, 3, height"):
        network(images)
