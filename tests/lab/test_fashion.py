"""Fashion-MNIST: its files, and the checkpoint that comes with the book."""

import gzip
import struct
from pathlib import Path

import pytest
import torch

from fguidance.diffusion import Schedule
from fguidance.evaluation import read_samples
from fguidance.run import load_config
from fguidance.run.evaluate import evaluate_folder
from fguidance.run.job import run_job
from fguidance.run.networks import load_classifier, load_judge, load_model
from lab import fashion_data
from lab.parts import Part

LAB = Path(fashion_data.__file__).parent


def idx(*shape: int, kind: int = 8) -> bytes:
    count = torch.tensor(shape).prod().item()
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(range(count))


class TestFiles:
    def test_an_array_is_read_row_by_row(self) -> None:
        found = fashion_data.read_idx(idx(2, 3, 4))
        assert found.equal(torch.arange(24, dtype=torch.uint8).view(2, 3, 4))

    @pytest.mark.parametrize("content", (b"", b"\0\0\x08", b"\0\0\x08\x03\0\0", idx(3, kind=0x0D), b"\x1f\x8b\x08\x00"))
    def test_what_is_no_array_of_bytes(self, content: bytes) -> None:
        with pytest.raises(ValueError, match="no IDX file of bytes"):
            fashion_data.read_idx(content)

    @pytest.mark.parametrize("content", (idx(3, 4)[:-1], idx(3, 4) + b"1"))
    def test_one_of_another_length(self, content: bytes) -> None:
        with pytest.raises(ValueError, match=r"of shape \(3, 4\) has 1[13] bytes"):
            fashion_data.read_idx(content)

    def test_another_content_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fashion_data, "DEBIAN", tmp_path)
        name = "t10k-labels-idx1-ubyte"
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(3)))
        with pytest.raises(ValueError, match="the SHA-256 of its content is"):
            fashion_data.content(name)

    @pytest.mark.skipif(not fashion_data.DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
    def test_the_reference_is_of_the_test_images(self) -> None:
        parts = fashion_data.load(4000, seed=0)
        assert [len(part) for part in (parts.train, parts.calibration, parts.test)] == [56_000, 4000, 10_000]
        assert parts.calibration.labels.bincount().tolist() == [400] * 10
        images, labels = read_samples(LAB / "fashion_mnist_reference.npz")
        assert labels.equal(parts.test.labels[: len(labels)])
        pixels = (parts.test.images[: len(labels)] + 1) * 127.5
        assert pixels.round().permute(0, 2, 3, 1).to(torch.uint8).equal(images)


@pytest.fixture(scope="module")
def test_images() -> Part:
    return fashion_data.reference()


class TestTheCheckpoint:

    @pytest.mark.parametrize("name", ("fashion_mnist", "fashion_mnist_noisy"))
    def test_its_networks_know_clothes(self, name: str, test_images: Part) -> None:
        config, part = load_config(str(LAB / f"{name}.toml")), Part(test_images.images[:80], test_images.labels[:80])
        schedule, step = Schedule.linear(1000), torch.full((len(part),), 100)
        noise = torch.randn(part.images.shape, generator=torch.Generator().manual_seed(0))
        x_t = schedule.add_noise(part.images, noise, step)
        predicted = load_model(config.model)(x_t, step, part.labels)
        assert predicted.shape == (80, 2, 28, 28)
        assert (predicted[:, :1] - noise).square().mean() < 0.3
        classifier = load_classifier(config.classifier)
        logits = classifier(x_t, step) if config.classifier.input == "noisy" else classifier(part.images)
        assert (logits.argmax(1) == part.labels).double().mean() > 0.7
        pixels = ((part.images + 1) * 127.5).round().to(torch.uint8)
        judged = load_judge(config.features).features_and_logits(pixels)[:, -10:]
        assert (judged.argmax(1) == part.labels).double().mean() > 0.8

    def test_the_same_commands_draw_and_measure_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # the files beside the configuration are found from anywhere
        config = load_config(str(LAB / "fashion_mnist.toml"), ["sampling.steps=3", "sampling.shard_size=4"])
        run_job(config, tmp_path / "run", 8)
        measures, _ = evaluate_folder(tmp_path / "run")
        assert measures.frechet_distance > 0
