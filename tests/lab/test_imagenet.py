"""The ImageNet chapter's tables, and its comparisons with the published programs."""

import json
from pathlib import Path

import pytest

from lab import imagenet, published


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(imagenet, "RESULTS", tmp_path)
    return tmp_path


def test_a_row_that_no_run_filled_says_so_and_a_recorded_run_fills_its_own_alone(results: Path) -> None:
    lines = imagenet.table(imagenet.all_tables()[2]).splitlines()
    assert len(lines) == 2 + 9
    assert lines[-1] == "| JS, ResNet-101 | 2.13 | 0.79 | 0.60 | not run | `js` | 4.4 |"
    measures = {"frechet_distance": 2.5, "precision": 0.81, "recall": None, "inception_score": 9.0, "agreement": None}
    (results / "table3-js.json").write_text(json.dumps({"measures": measures, "date": "2026-01-01"}))
    lines = imagenet.table(imagenet.all_tables()[2]).splitlines()
    assert "| 2.50 / 0.81 / – |" in lines[-1]
    assert sum("not run" in line for line in lines) == 8


def test_a_row_whose_weights_nobody_published_says_so(results: Path) -> None:
    lines = [line for one in imagenet.all_tables() for line in imagenet.table(one).splitlines()[2:]]
    told = [line for line in lines if "not run; no weights are published" in line]
    needed = imagenet.needed_files().splitlines()[2:]
    assert len(told) == len(needed) == 4
    assert "| `table3/entropy_aware` | `ed_dpm_classifier_imagenet128.pt` |" in needed
    assert imagenet.unpublished(imagenet.load_config("imagenet128/table3/js")) == []


def test_a_row_without_its_files_is_left_out(results: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("FGUIDANCE_CACHE", str(results / "empty"))
    imagenet.run_everything(results / "runs")
    assert list(results.glob("*.json")) == []
    told = capsys.readouterr().out
    assert told.count("imagenet128/table") == 15
    assert "fguidance fetch" in told


def test_the_cost_of_classifier_free_guidance_is_twice_the_models() -> None:
    found = imagenet.costs()
    assert found["unguided"].model_parameters == 421_529_606
    # Of its second labels' table the network has one row more, which is looked up and costs nothing.
    assert found["classifier_free"].model == 2 * found["unguided"].model
    assert found["js"].classifier > found["ma_resnet50"].classifier > 0
    assert len(imagenet.cost_table(found).splitlines()) == 2 + len(found)
    imagenet.hours_chart(found)


def test_memory_has_a_line_for_each_row() -> None:
    lines = imagenet.memory_table().splitlines()
    assert len(lines) == 2 + len(imagenet.ROWS)
    for line in lines[2:]:
        weights, model, classifier, step = map(float, line.strip("| ").split(" | ")[1:])
        assert step == pytest.approx(weights + max(model, classifier), abs=0.11)


def test_the_comparisons_with_the_published_programs() -> None:
    assert max(published.network_differences().values()) < 1e-5
    assert max(published.schedule_difference(steps) for steps in (25, 250)) < 1e-12
