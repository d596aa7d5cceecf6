"""Features by any network, and by a TorchScript file whose hash may be asked for."""

import hashlib
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fguidance.evaluation import extract_features, load_feature_network

IMAGES = torch.arange(5 * 4 * 3 * 2).to(torch.uint8).view(5, 4, 3, 2)


def flat(images: Tensor) -> Tensor:
    return images.flatten(1).float()


class Inception(nn.Module):
    """What the published file looks like from outside."""

    def forward(self, images: Tensor, return_features: bool = False) -> Tensor:
        return images.float().mean((2, 3)) if return_features else images.float().flatten(1)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    torch.jit.script(Inception()).save(str(tmp_path / "inception.pt"))
    return tmp_path / "inception.pt"


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_images_go_through_in_batches_and_in_order(batch_size) -> None:
    sizes: list[int] = []

    def watched(images: Tensor) -> Tensor:
        sizes.append(len(images))
        assert images.shape[1:] == (2, 4, 3)
        assert images.dtype == torch.uint8
        return flat(images)

    found = extract_features(watched, IMAGES, batch_size=batch_size)
    assert found.equal(flat(IMAGES.permute(0, 3, 1, 2)))
    assert max(sizes) == min(batch_size, 5)
    assert extract_features(flat, IMAGES, layout="NHWC", device="cpu").equal(flat(IMAGES))


def test_no_graph_is_kept_and_half_precision_becomes_float32() -> None:
    layer = nn.Linear(24, 3)
    found = extract_features(lambda images: layer(flat(images)).half(), IMAGES)
    assert (found.dtype, found.requires_grad) == (torch.float32, False)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_file(script: Path) -> None:
    network = load_feature_network(script, hashlib.sha256(script.read_bytes()).hexdigest().upper())
    torch.testing.assert_close(extract_features(network, IMAGES), IMAGES.float().mean((1, 2)))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_file_that_is_another_is_refused(script: Path) -> None:
    with pytest.raises(ValueError, match=r"has the SHA-256 [0-9a-f]{64} and not 00ff"):
        load_feature_network(script, "00ff")


def test_a_file_of_neither_kind_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("nothing")
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        archive.writestr("program/constants.pkl", b"")
    told = {
        "weights.pt": "the state dict does not fit Inception: it lacks Conv2d_1a_3x3",
        "text.pt": r"text\.pt cannot be read as weights",
        "program.pt": r"program\.pt is no TorchScript program",
    }
    for name, match in told.items():
        with pytest.raises(ValueError, match=match):
            load_feature_network(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*missing\.pt"):
        load_feature_network(tmp_path / "missing.pt")


def test_convolutions_are_in_full_float32_while_features_are_computed() -> None:
    convolutions = torch.backends.cudnn.conv if hasattr(torch.backends.cudnn, "conv") else torch.backends.cudnn
    name = "fp32_precision" if hasattr(convolutions, "fp32_precision") else "allow_tf32"
    before, seen = getattr(convolutions, name), []

    def watching(images: Tensor) -> Tensor:
        seen.append(getattr(convolutions, name))
        return flat(images)

    extract_features(watching, IMAGES)
    assert seen == ["ieee" if name == "fp32_precision" else False]
    with pytest.raises(ValueError, match="network returned"):
        extract_features(lambda images: images.float(), IMAGES)
    assert getattr(convolutions, name) == before != seen[0]


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"images": IMAGES.float()}, TypeError, "images has dtype torch.float32"),
        ({"images": IMAGES[0]}, ValueError, "images has shape"),
        ({"images": IMAGES[:0]}, ValueError, "not empty"),
        ({"layout": "CHWN"}, ValueError, "layout is 'CHWN'"),
        ({"batch_size": 0}, ValueError, "batch_size must be a whole number"),
        ({"network": lambda images: images.float()}, ValueError, r"network returned the shape \(5, 2, 4, 3\)"),
        ({"network": lambda images: flat(images) / 0}, ValueError, "all of it finite"),
    ],
)
def test_bad_arguments_are_named(changes, error, match) -> None:
    with pytest.raises(error, match=match):
        extract_features(**({"network": flat, "images": IMAGES} | changes))
