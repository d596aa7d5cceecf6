"""Fashion-MNIST: its files, and the checkpoint that comes with the book."""

import gzip
import struct
from pathlib import Path

import pytest
import torch

from fguidance.evaluation import read_samples
from fguidance.run import load_config
from fguidance.run.evaluate import evaluate_folder
from fguidance.run.job import run_job
from lab import fashion_data
from tests.support.runs import knowledge

LAB = Path(fashion_data.__file__).parent


def idx(*shape: int, kind: int = 8) -> bytes:
    count = torch.tensor(shape).prod().item()
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(range(count))


class TestFiles:
    def test_an_array_is_read_row_by_row(self) -> None:
        found = fashion_data.read_idx(idx(2, 3, 4))
        assert found.equal(torch.arange(24, dtype=torch.uint8).view(2, 3, 4))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "no IDX file of bytes"), (b"\0\0\x08\x03\0\0", "no IDX file of bytes"),
            (idx(3, kind=0x0D), "no IDX file of bytes"), (idx(3, 4)[:-1], r"of shape \(3, 4\) has 11 bytes"),
            (idx(3, 4) + b"1", r"of shape \(3, 4\) has 13 bytes"),
        ],
    )  # fmt: skip
    def test_what_is_no_array_of_bytes(self, content: bytes, message: str) -> None:
        with pytest.raises(ValueError, match=message):
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


class TestTheCheckpoint:
    @pytest.mark.parametrize("name", ("fashion_mnist", "fashion_mnist_noisy"))
    def test_its_networks_know_clothes(self, name: str) -> None:
        part, config = fashion_data.reference(), load_config(str(LAB / f"{name}.toml"))
        error, guiding, judging = knowledge(config, part.images[:80], part.labels[:80])
        assert (error < 0.3, guiding > 0.7, judging > 0.8) == (True, True, True)

    def test_the_same_commands_draw_and_measure_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)  # the files beside the configuration are found from anywhere
        config = load_config(str(LAB / "fashion_mnist.toml"), ["sampling.steps=3", "sampling.shard_size=4"])
        run_job(config, tmp_path / "run", 8)
        measures, _ = evaluate_folder(tmp_path / "run")
        assert measures.frechet_distance > 0
