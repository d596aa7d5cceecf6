"""The Fine-tuning chapter: what each kind sees and changes, that comparisons are paired, and the tables."""

import dataclasses

import pytest
import torch

from lab import calibration, digits_data, finetuning
from lab.calibration import Networks, networks
from lab.finetuning import BEFORE, GUIDED, KINDS, OWN, Config, Kind
from lab.parts import Part, Parts

QUICK = Config(seeds=(0, 1), epochs=1, samples=6, steps=3)


@pytest.fixture(scope="module")
def given() -> Networks:
    return networks("digits")


@pytest.fixture(scope="module")
def parts() -> Parts:
    return digits_data.load(200, 500, 0)


@pytest.fixture(scope="module")
def views(given: Networks, parts: Parts) -> dict[str, Parts]:
    return finetuning.seen(given, parts, seed=0)


class TestWhatIsSeen:
    def test_no_label_reaches_the_model(self, given: Networks) -> None:
        model = finetuning.WithoutLabels(given.model)
        x_t, t = torch.randn(2, 1, 8, 8), torch.tensor([500, 500])
        assert torch.equal(model(x_t, t, torch.tensor([1, 2])), model(x_t, t, torch.tensor([7, 3])))
        none = given.model(x_t, t, torch.full((2,), calibration.NO_LABEL))
        assert torch.equal(model(x_t, t, torch.tensor([1, 2])), none)

    def test_predicted_images_follow_the_seed_and_not_the_labels(self, given: Networks, parts: Parts) -> None:
        part = Part(parts.test.images[:50], parts.test.labels[:50])
        found = finetuning.predicted(given, part, seed=3)
        again = finetuning.predicted(given, Part(part.images, part.labels.flip(0)), seed=3)
        assert torch.equal(found.images, again.images)
        assert not torch.equal(found.images, finetuning.predicted(given, part, seed=4).images)
        assert torch.equal(found.labels, part.labels)
        assert found.images.abs().max() <= 1


class TestCalibrated:
    @pytest.mark.parametrize("kind", KINDS[1:], ids=str)
    def test_the_classifier_that_is_given_stays_as_it_is(self, given: Networks, views, kind: Kind) -> None:
        before = {name: value.clone() for name, value in given.classifier.state_dict().items()}
        found = finetuning.calibrated(kind, given.classifier, views, 0, QUICK)
        assert all(torch.equal(value, before[name]) for name, value in given.classifier.state_dict().items())
        images = views["clean"].test.images
        assert not torch.equal(found(images), given.classifier(images))
        assert not any(parameter.requires_grad for parameter in found.parameters())

    @pytest.mark.parametrize("sees", finetuning.SEES)
    def test_a_temperature_changes_no_decision(self, given: Networks, views, sees: str) -> None:
        found = finetuning.calibrated(Kind("temperature", sees), given.classifier, views, 0, QUICK)
        images = views[sees].test.images
        assert torch.equal(found(images).argmax(-1), given.classifier(images).argmax(-1))
        assert finetuning.own_numbers(found, views[sees].test)["NLL"] < finetuning.own_numbers(
            given.classifier, views[sees].test
        )["NLL"]


class TestRun:
    def test_every_kind_has_a_row_for_each_seed_and_shares_its_noise(self, given: Networks, parts: Parts) -> None:
        kinds = (BEFORE, Kind("temperature", "clean"))
        found = finetuning.run(given, parts, QUICK, kinds)
        assert list(found) == list(kinds)
        names = {*OWN, *(f"predicted {name}" for name in OWN), *GUIDED}
        assert all(set(row) == names for rows in found.values() for row in rows)
        assert found[BEFORE][0]["Fréchet distance"] != found[BEFORE][1]["Fréchet distance"]
        again = finetuning.run(given, parts, dataclasses.replace(QUICK, seeds=(1,)), (BEFORE,))
        assert again[BEFORE][0] == found[BEFORE][1]


RECALL = {BEFORE: (1.0, 3.0, 5.0), Kind("temperature", "clean"): (1.0, 2.0, 3.0)}
ERROR = {BEFORE: (0.5, 0.5, 0.5), Kind("temperature", "clean"): (0.4, 0.2, 0.3)}
FOUND = {
    kind: [{"ECE": error, "recall": recall} for error, recall in zip(ERROR[kind], RECALL[kind], strict=True)]
    for kind in RECALL
}


class TestTables:
    def test_means_and_the_standard_errors_of_what_varies(self) -> None:
        lines = finetuning.table(FOUND, ("ECE", "recall")).replace("\N{NO-BREAK SPACE}", " ").splitlines()
        assert lines[2] == "| as it was |  | 0.500 | 3.000 ± 1.155 |"
        assert lines[3] == "| one temperature | clean | 0.300 ± 0.058 | 2.000 ± 0.577 |"
        assert len({line.count("|") for line in lines}) == 1

    def test_differences_are_paired(self) -> None:
        found = finetuning.difference(FOUND, BEFORE, Kind("temperature", "clean"), "recall")
        # differences 0, 1, 2: mean 1, standard error 1 / sqrt(3), and t at 97.5 % with two degrees of freedom
        assert (found.mean, found.high) == pytest.approx((1.0, 1.0 + 4.302653 / 3**0.5), rel=1e-6)
        assert found.low == pytest.approx(2 - found.high)
        assert str(found) == "+1.000  [-1.484, +3.484]"
