"""Evaluation: the measures are those of the functions it is made of, and the record says of what and how."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fguidance.evaluation import (
    Reference,
    feature_statistics,
    frechet_distance,
    inception_score,
    precision_recall,
    write_samples,
)
from fguidance.run import networks
from fguidance.run.assets import file_sha256
from fguidance.run.evaluate import Measures, digits_images, evaluate_folder, load_reference, measure, read_measures
from fguidance.run.folder import identity, open_folder
from fguidance.run.networks import load_judge
from tests.support.runs import CPU, contents, tiny

NUMBER = 12
FEATURES = 64
JUDGE = load_judge(tiny().features)


def made_up(seed: int, number: int = NUMBER) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (number, 8, 8, 1), dtype=torch.uint8, generator=generator)


IMAGES, LABELS = made_up(0), torch.arange(NUMBER) % 10
OTHER = made_up(1, 15)


def judged(images: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits, all at once and without the code under test."""
    with torch.no_grad():
        features = JUDGE.network.body(images.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return features, JUDGE.network.head(features)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    open_folder(folder, identity(tiny(), NUMBER, CPU))
    write_samples(folder / "samples.npz", IMAGES, LABELS)
    return folder


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.npz"
    np.savez(path, arr_0=OTHER.numpy())
    return path


class TestMeasures:
    @pytest.mark.parametrize("batch_size", (5, 64))
    def test_they_are_those_of_the_functions(self, folder: Path, reference: Path, batch_size: int) -> None:
        found, path = evaluate_folder(folder, str(reference), batch_size=batch_size)
        features, logits = judged(IMAGES)
        of_reference, _ = judged(OTHER)
        precision, recall = precision_recall(of_reference, features, 3)
        distance = frechet_distance(*feature_statistics(features), *feature_statistics(of_reference))
        assert found.frechet_distance == pytest.approx(distance, rel=1e-4)
        assert (found.precision, found.recall) == (precision, recall)
        assert found.inception_score == pytest.approx(inception_score(logits)[0], rel=1e-5)
        assert found.agreement == float((logits.argmax(1) == LABELS).double().mean())
        assert path.parent == folder
        assert re.fullmatch(r"evaluation-reference-[0-9a-f]{8}\.json", path.name)

    def test_given_statistics_stand_for_those_of_the_images(self, folder: Path, tmp_path: Path) -> None:
        mu, sigma = np.linspace(-1, 1, FEATURES), np.diag(np.linspace(1, 2, FEATURES))
        np.savez(tmp_path / "both.npz", mu=mu, sigma=sigma, arr_0=OTHER.numpy())
        np.savez(tmp_path / "statistics.npz", mu=mu, sigma=sigma)
        features, _ = judged(IMAGES)
        expected = frechet_distance(*feature_statistics(features), torch.from_numpy(mu), torch.from_numpy(sigma))
        both, _ = evaluate_folder(folder, str(tmp_path / "both.npz"))
        statistics, _ = evaluate_folder(folder, str(tmp_path / "statistics.npz"))
        assert both.frechet_distance == pytest.approx(expected, rel=1e-6)
        assert statistics.frechet_distance == both.frechet_distance
        assert (statistics.precision, statistics.recall) == (None, None)
        assert (both.precision, both.recall) == precision_recall(judged(OTHER)[0], features, 3)

    def test_the_configurations_reference_is_the_digits(self, folder: Path) -> None:
        pytest.importorskip("sklearn")
        found, path = evaluate_folder(folder)
        assert path.name == "evaluation-digits.json"
        again, _ = evaluate_folder(folder, "digits")
        assert found == again
        of_reference, features = judged(digits_images())[0], judged(IMAGES)[0]
        distance = frechet_distance(*feature_statistics(features), *feature_statistics(of_reference))
        assert found.frechet_distance == pytest.approx(distance, rel=1e-4)
        assert (found.precision, found.recall) == precision_recall(of_reference, features, 3)

    def test_another_inception_file_judges_in_place_of_the_configurations(
        self, folder: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Inception(nn.Module):
            def forward(self, images: Tensor) -> Tensor:
                return images.float().flatten(1)[:, ::4]

            def logits(self, images: Tensor) -> Tensor:
                return images.float().flatten(1)[:, :3]

        (tmp_path / "mine.pth").write_bytes(b"weights")
        monkeypatch.setattr(networks, "load_feature_network", lambda path: Inception())
        monkeypatch.setattr(networks, "NUM_FEATURES", 16)
        found, path = evaluate_folder(folder, str(reference), features=str(tmp_path / "mine.pth"))
        flat = [images.permute(0, 3, 1, 2).flatten(1)[:, ::4].float() for images in (IMAGES, OTHER)]
        mine, theirs = map(feature_statistics, flat)
        assert found.frechet_distance == pytest.approx(frechet_distance(*mine, *theirs), rel=1e-6)
        record, digest = json.loads(path.read_text()), file_sha256(tmp_path / "mine.pth")
        assert (record["features"], record["features_sha256"]) == (str(tmp_path / "mine.pth"), digest)
        assert path.name.endswith(f"-{digest[:8]}.json")
        assert found.agreement is None

    @pytest.mark.parametrize(("label", "agreement"), ((0, 1.0), (1, 0.0)))
    def test_agreement_is_with_the_labels_that_were_asked_for(self, label: int, agreement: float) -> None:
        labels = (judged(IMAGES)[1].argmax(1) + label) % 10
        assert measure(JUDGE, IMAGES, labels, Reference(None, None, OTHER), 64, CPU).agreement == agreement


class TestRecord:
    def test_it_says_of_what_and_how(self, folder: Path, reference: Path) -> None:
        before = contents(folder)
        found, path = evaluate_folder(folder, str(reference))
        record = json.loads(path.read_text())
        assert Measures(**record["measures"]) == found
        assert record["run"] == identity(tiny(), NUMBER, CPU).digest
        assert record["config"] == tiny().model_dump(mode="json")
        assert record["samples_sha256"] == file_sha256(folder / "samples.npz")
        assert record["reference_sha256"] == file_sha256(reference)
        assert (record["num_samples"], record["neighbours"], record["reference"]) == (NUMBER, 3, str(reference))
        assert {"date", "device", "seconds"} <= set(record)
        assert record["versions"]["torch"] == torch.__version__
        assert read_measures(path) == record
        after = contents(folder)
        assert {name: after[name] for name in before} == before
        assert set(after) - set(before) == {path.name}

    @pytest.mark.parametrize(
        "content", (b"", b"[]", b"{}", b'{"measures": 3}', b'{"measures": {"recall": 1}}', b"\xff")
    )
    def test_a_corrupt_one(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "evaluation-x.json"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"evaluation-x\.json is no record of an evaluation"):
            read_measures(path)


class TestRefused:
    def require(self, folder: Path, reference: Path | str, error: type[Exception], match: str) -> None:
        before = contents(folder)
        with pytest.raises(error, match=match):
            evaluate_folder(folder, str(reference))
        assert contents(folder) == before

    def test_statistics_of_another_width(self, folder: Path, tmp_path: Path) -> None:
        width = FEATURES - 1
        np.savez(tmp_path / "other.npz", mu=np.zeros(width), sigma=np.eye(width))
        self.require(folder, tmp_path / "other.npz", ValueError, f"are not of the judge's {FEATURES} features")

    @pytest.mark.parametrize("shape", ((5, 8, 8, 3), (5, 16, 16, 1)))
    def test_images_of_another_shape(self, folder: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
        np.savez(tmp_path / "other.npz", arr_0=np.zeros(shape, np.uint8))
        self.require(folder, tmp_path / "other.npz", ValueError, "the reference's images are .*, not ")

    def test_no_reference_is_named(self) -> None:
        with pytest.raises(ValueError, match="no reference is named"):
            load_reference("")

    def test_a_run_that_is_not_finished(self, folder: Path) -> None:
        (folder / "samples.npz").unlink()
        self.require(folder, "", FileNotFoundError, r"is not finished: there is no samples\.npz")


def test_the_digits_have_all_of_their_sixteen_shades() -> None:
    pytest.importorskip("sklearn")
    images = digits_images()
    assert images.shape == (1797, 8, 8, 1)
    assert images.dtype == torch.uint8
    assert len(images.unique()) == 17
    assert (int(images.min()), int(images.max())) == (0, 255)
