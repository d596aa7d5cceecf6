"""The Calibration chapter: its minimisers against the ledger's equation, its views, and its tables."""

import matplotlib.pyplot as plt
import pytest
import torch
from torch.nn import functional

import fguidance as fg
from derivations.smooth_ece import SOLVED, c, p
from lab import calibration, calibration_figures, digits_data
from lab.parts import Part


@pytest.fixture(scope="module")
def part() -> Part:
    test = digits_data.load(200, 500, 0).test
    return Part(test.images[:60], test.labels[:60])


@pytest.fixture(scope="module")
def networks() -> calibration.Networks:
    return calibration.networks("digits")


@pytest.mark.parametrize("accuracy", (0.55, 0.8, 0.99))
@pytest.mark.parametrize("beta", (1e-4, 1e-2, 1.0, 100.0))
def test_the_minimiser_solves_the_ledgers_equation(accuracy: float, beta: float) -> None:
    found = calibration.minimiser(accuracy, beta)
    assert accuracy < found < 1
    assert float(SOLVED.subs({c: accuracy, p: found})) == pytest.approx(beta, rel=1e-3)


def test_the_temperature_that_was_divided_out_is_multiplied_back(networks, part: Part) -> None:
    assert networks.temperature == pytest.approx(1.13, abs=0.01)
    scaled = networks.classifier(part.images) / networks.temperature
    torch.testing.assert_close(scaled, networks.classifier.classifier(part.images))


def test_the_views_grow_noisier_and_are_predicted_with_the_label_for_none(networks, part: Part) -> None:
    seen = calibration.views(networks, part, (50, 700), chunk=40)
    assert [(view.step, view.kind) for view in seen] == [
        (50, "noisy"), (50, "predicted"), (700, "noisy"), (700, "predicted")
    ]  # fmt: skip
    errors = [functional.mse_loss(view.images, part.images).item() for view in seen]
    assert errors[1] < errors[0] < errors[2]
    other = Part(part.images, part.labels.flip(0))
    again = calibration.views(networks, other, (700,), chunk=60)
    torch.testing.assert_close(again[1].images, seen[3].images)  # no label reaches the model


def test_what_is_measured_of_a_view(networks, part: Part) -> None:
    view = calibration.View(0, "clean", part.images)
    seen = calibration.look(networks.classifier, view, part.labels)
    assert seen.accuracy == pytest.approx((seen.logits.argmax(1) == part.labels).double().mean().item())
    assert 0 < seen.smooth < seen.loss
    lines = calibration.table([seen, seen]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[-1].startswith(f"| 0 | clean | {seen.accuracy:.3f} |")
    plt.close(calibration_figures.diagrams({"one": seen, "two": seen}, part.labels))
    plt.close(calibration_figures.by_noise({"one": [seen], "two": [seen]}))
    plt.close(calibration_figures.losses(1e-2))
    plt.close(calibration_figures.by_class({"one": seen, "two": seen}, part.labels, [str(k) for k in range(10)]))


def test_errors_by_class_are_those_of_one_class_against_the_rest(networks, part: Part) -> None:
    seen = calibration.look(networks.classifier, calibration.View(0, "clean", part.images), part.labels)
    found = calibration.errors_by_class(seen, part.labels)
    alone = fg.smooth_ece(seen.logits.softmax(-1)[:, 3].contiguous(), part.labels == 3)
    torch.testing.assert_close(found[3], alone)


def test_problems_are_what_they_are_called() -> None:
    problems = calibration.problems(20_000)
    errors = [fg.smooth_ece(*problem).item() for problem in problems.values()]
    assert errors[0] < 0.02
    assert errors[1] == pytest.approx(0.1, abs=0.01)
    assert errors[2] < 0.02
    assert errors[3] < errors[4]
    assert len(calibration.conventions(problems).splitlines()) == 2 + len(problems)
