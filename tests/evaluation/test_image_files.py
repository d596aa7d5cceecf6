"""Sample files: what the published evaluator reads, and what is refused."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fguidance.evaluation import read_reference, read_samples, to_uint8, write_samples

IMAGES = torch.arange(2 * 4 * 4 * 3).to(torch.uint8).view(2, 4, 4, 3)
LABELS = torch.tensor([7, 3])


def test_pixels_are_the_published_programs() -> None:
    values = torch.linspace(-1.2, 1.2, 2 * 3 * 4 * 5).view(2, 3, 4, 5)
    found = to_uint8(values)
    assert found.is_contiguous()
    expected = np.clip((values.numpy() + 1) * 127.5, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(found.numpy(), expected)
    assert (int(found.min()), int(found.max())) == (0, 255)


def test_a_file_holds_what_the_published_evaluator_asks_for(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples.npz", IMAGES, LABELS.int())
    with np.load(tmp_path / "samples.npz") as found:
        assert found.files == ["arr_0", "arr_1"]
        assert (found["arr_0"].dtype, found["arr_0"].shape) == (np.uint8, (2, 4, 4, 3))
        assert (found["arr_1"].dtype, found["arr_1"].tolist()) == (np.int64, [7, 3])
    images, labels = read_samples(tmp_path / "samples.npz")
    assert images.equal(IMAGES)
    assert labels is not None
    assert labels.equal(LABELS)
    assert [path.name for path in tmp_path.iterdir()] == ["samples.npz"]
    np.savez(tmp_path / "plain.npz", IMAGES.numpy())
    assert read_samples(tmp_path / "plain.npz")[1] is None


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "samples.npz"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="is not overwritten"):
        write_samples(path, IMAGES, LABELS)
    assert path.read_text() == "mine"


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        write_samples(tmp_path / "samples.npz", IMAGES, LABELS)
    assert list(tmp_path.iterdir()) == []


def test_a_reference_has_statistics_images_or_both(tmp_path: Path) -> None:
    mu, sigma = np.arange(3.0), np.eye(3)
    for name, arrays in {
        "both": {"mu": mu, "sigma": sigma, "arr_0": IMAGES.numpy()},
        "statistics": {"mu": mu, "sigma": sigma},
        "images": {"arr_0": IMAGES.numpy()},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        found = read_reference(tmp_path / f"{name}.npz")
        assert (found.mu is not None, found.sigma is not None, found.images is not None) == (
            "mu" in arrays, "mu" in arrays, "arr_0" in arrays
        )  # fmt: skip
    assert found.images is not None
    assert found.images.equal(IMAGES)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("read", [read_samples, read_reference])
class TestRefused:
    @pytest.mark.parametrize(
        ("arrays", "match"),
        [
            ({"other": np.zeros(2)}, "other"),
            ({"arr_0": IMAGES.numpy().astype(np.float32)}, r"arr_0 is float32 of shape \(2, 4, 4, 3\)"),
            ({"arr_0": IMAGES.numpy()[0]}, r"arr_0 is uint8 of shape \(4, 4, 3\)"),
        ],
    )
    def test_arrays_of_other_kinds(self, read, arrays, match, tmp_path: Path) -> None:
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(ValueError, match=match):
            read(tmp_path / "bad.npz")

    def test_a_pickle_is_not_run(self, read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        np.savez(tmp_path / "hostile.npz", arr_0=np.array([Hostile()], dtype=object))
        (tmp_path / "plain.npz").write_bytes(pickle.dumps(Hostile()))
        for name in ("hostile.npz", "plain.npz"):
            with pytest.raises(ValueError, match=r"cannot be read as an \.npz file of arrays"):
                read(tmp_path / name)
        assert not (tmp_path / "executed").exists()

    def test_a_corrupt_file(self, read, tmp_path: Path) -> None:
        path = tmp_path / "samples.npz"
        np.savez(path, arr_0=IMAGES.numpy())
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[len(whole) // 3] ^= 255
        np.save(tmp_path / "single.npy", IMAGES.numpy())
        for content in (whole[:-40], bytes(damaged), b"", (tmp_path / "single.npy").read_bytes()):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=r"samples\.npz cannot be read"):
                read(path)

    def test_no_file(self, read, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="there is no file"):
            read(tmp_path / "missing.npz")


@pytest.mark.parametrize("labels", [np.zeros(3, np.int64), np.zeros(2), np.zeros((2, 1), np.int64)])
def test_labels_that_do_not_fit(labels, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", IMAGES.numpy(), labels)
    with pytest.raises(ValueError, match="arr_1 is"):
        read_samples(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    "arrays", [{"mu": np.zeros(3)}, {"sigma": np.eye(3)}, {"mu": np.zeros(3), "sigma": np.eye(2)}]
)  # fmt: skip
def test_statistics_that_do_not_fit(arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match="mu and sigma"):
        read_reference(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (torch.zeros(2, 3, 4, 4).int(), TypeError),
        (torch.zeros(3, 4, 4), ValueError),
        (torch.full((2, 3, 4, 4), math.nan), ValueError),
    ],
)
def test_what_is_no_image_is_refused(images, error) -> None:
    with pytest.raises(error, match="images has"):
        to_uint8(images)


@pytest.mark.parametrize(
    ("images", "labels", "error"),
    [(IMAGES.float(), LABELS, TypeError), (IMAGES, LABELS.float(), TypeError), (IMAGES, LABELS[:1], ValueError)],
)
def test_what_no_file_may_hold_is_refused(images, labels, error, tmp_path: Path) -> None:
    with pytest.raises(error, match="images and labels"):
        write_samples(tmp_path / "samples.npz", images, labels)
