"""The digits experiment in miniature: its splits, its statistics, and every row from noise to table."""

import math

import pytest
import torch

from fguidance import Guidance
from fguidance.diffusion import Schedule
from lab import digits, digits_figures
from lab.digits_data import load
from lab.digits_metrics import jackknife_error
from lab.digits_networks import Denoiser, GuidingClassifier
from lab.digits_training import (
    ClassifierTraining,
    DenoiserTraining,
    predicted_clean_images,
)

SMALL = digits.Config(
    denoiser=DenoiserTraining(width=8, steps=5, warmup=2),
    guiding=ClassifierTraining(steps=20, seed=1),
    judging=ClassifierTraining(steps=20, seed=2),
    calibration_repeats=1,
    sampling_steps=3,
    samples_per_class=4,
    jackknife_groups=4,
)


@pytest.fixture(scope="module")
def run():
    data = digits.load_data(SMALL)
    trained = digits.train(data, SMALL)
    rows = digits.variants(SMALL, temperature=2.0)
    return data, trained, rows, digits.draw(trained, rows, SMALL)


def test_the_parts_are_disjoint_stratified_and_complete() -> None:
    data = load(calibration=200, test=500, seed=0)
    parts = (data.train, data.calibration, data.test)
    assert [len(part) for part in parts] == [1097, 200, 500]
    images = torch.cat([part.images for part in parts]).flatten(1)
    whole = load(calibration=100, test=100, seed=1)
    others = torch.cat([whole.train.images, whole.calibration.images, whole.test.images]).flatten(1)
    assert sorted(images.tolist()) == sorted(others.tolist())
    assert images.min() == -1
    assert images.max() == 1
    for part in parts:
        shares = part.labels.bincount() / len(part)
        assert shares.sub(0.1).abs().max() < 0.02


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    error = jackknife_error(lambda left_out: values[~left_out].mean(), 200, groups=200)
    assert error.item() == pytest.approx(values.std().item() / math.sqrt(200), rel=1e-9)
    grouped = jackknife_error(lambda left_out: values[~left_out].mean(), 200, groups=20)
    assert grouped.item() == pytest.approx(error.item(), rel=0.5)


def test_predicted_clean_images_belong_to_their_labels() -> None:
    """At step 0 hardly any noise is added, so even an untrained denoiser's prediction is the image itself."""
    data = load(calibration=200, test=500, seed=0)
    schedule = Schedule.linear(1000).respace(2)
    predicted, labels, steps = predicted_clean_images(Denoiser(8), schedule, data.calibration, repeats=2, seed=0)
    near = steps == 0
    clean = data.calibration.images.repeat(2, 1, 1, 1)
    assert (predicted - clean)[near].abs().mean() < 0.05 < (predicted - clean)[~near].abs().mean()
    assert labels.equal(data.calibration.labels.repeat(2))


def test_turning_the_sign_mirrors_at_the_guidance_without_divergence() -> None:
    torch.manual_seed(0)
    classifier, x, labels = GuidingClassifier(8), torch.rand(3, 1, 8, 8), torch.tensor([1, 2, 3])
    plain, printed = Guidance(alpha=0.0), Guidance(divergence="js_printed", alpha=0.5)
    turned = digits.SignTurned(printed, plain).gradient(classifier, x, labels)
    middle = (turned + printed.gradient(classifier, x, labels)) / 2
    torch.testing.assert_close(middle, plain.gradient(classifier, x, labels))
    assert (turned - middle).abs().max() > 0


def test_every_row_is_drawn_and_measured(run) -> None:
    data, trained, rows, images = run
    assert list(images) == [row.key for row in rows]
    for drawn in images.values():
        assert drawn.shape == (40, 1, 8, 8)
        assert drawn.abs().max() <= 1
    results = digits.evaluate(trained, data, images, SMALL)
    assert results.values.shape == results.errors.shape == (len(rows), 4)
    assert results.values.isfinite().all()
    assert (results.differences[results.keys.index("ma")] == 0).all()
    torch.testing.assert_close(results.differences, results.values - results.values[results.keys.index("ma")])
    table = digits_figures.results_table(results, rows).splitlines()
    assert len(table) == len(rows) + 3
    assert len(digits_figures.differences_table(results, rows).splitlines()) == len(rows) - 2 + 2
    assert len(digits_figures.compared_with_baseline(results, rows).splitlines()) == 4


def test_a_row_is_off_the_line_when_its_errors_do_not_reach_it(run) -> None:
    data, trained, rows, images = run
    scaled = digits.other_strengths(SMALL, temperature=2.0)
    results = digits.evaluate(trained, data, images | digits.draw(trained, scaled, SMALL), SMALL)
    line = scaled + rows[2:3]
    assert "none" in digits_figures.off_the_line(results, rows[2:3], line)
    results.values[results.keys.index("ma_uncalibrated")] = -10.0
    found = digits_figures.off_the_line(results, rows[1:3], line)
    assert found.count("Ma et al. (T = 1)") == 2 == found.count("Off the line")
    assert "T = 1), Ma" not in found


def test_rows_share_their_noise(run) -> None:
    _, trained, rows, images = run
    again = digits.draw(trained, [row for row in rows if row.key in ("unguided", "rkl")], SMALL)
    assert again["unguided"].equal(images["unguided"])
    assert again["rkl"].equal(images["rkl"])
    assert not images["rkl"].equal(images["ma"])
