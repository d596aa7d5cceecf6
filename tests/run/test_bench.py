"""The measurement of speed: it runs, it needs no file, and its record says what was measured. No time is asserted."""

import json
import math
from typing import Any

import pytest
import torch

from fguidance.run import assets, bench, load_config
from fguidance.run.bench import random_painter, replace_steps, ways
from fguidance.run.cost import cost
from tests.support.runs import CPU, tiny

REPEATS = 2


@pytest.fixture(autouse=True)
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "locate", lambda name: pytest.fail("a file was asked for"))
    monkeypatch.setattr("fguidance.run.networks.locate", lambda name: pytest.fail("a file was asked for"))


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return bench.bench(tiny(), CPU, REPEATS)


class TestRecord:
    def test_every_way_has_its_speed(self, record: dict[str, Any]) -> None:
        assert set(record["speed"]) == {"unguided", "ma", "js"}
        for speed in record["speed"].values():
            seconds = speed["seconds_per_step"]
            assert seconds > 0
            assert speed["images_per_second"] == pytest.approx(4 / (seconds * 2))
            assert speed["hours_per_table"] == pytest.approx(50_000 / speed["images_per_second"] / 3600)
            assert speed["peak_memory"] is None

    def test_only_what_guides_has_a_share(self, record: dict[str, Any]) -> None:
        shares = {name: speed["guidance_share"] for name, speed in record["speed"].items()}
        assert shares["unguided"] == 0
        assert shares["ma"] > 0
        assert shares["js"] > 0

    def test_it_says_what_was_measured_and_how(self, record: dict[str, Any]) -> None:
        assert record["repeats"] == REPEATS
        assert record["config"] == tiny().model_dump(mode="json")
        assert record["flops_per_step_and_image"] == cost(tiny()).model + cost(tiny()).classifier
        seconds = record["speed"]["js"]["seconds_per_step"]
        assert record["times_faster_than_plain"] == pytest.approx(record["plain_eager_seconds_per_step"] / seconds)
        assert set(record["versions"]) == {"fguidance", "torch", "diffusers"}
        assert {"date", "device"} <= set(record)
        assert json.loads(json.dumps(record)) == record


def test_a_classifier_that_has_seen_noise() -> None:
    found = bench.bench(tiny("sampling.shard_size=1", name="digits/dhariwal_nichol"), CPU, REPEATS)
    assert math.isfinite(found["times_faster_than_plain"])


@pytest.mark.parametrize("name", ("imagenet128/table3/unguided", "imagenet128/table3/classifier_free"))
def test_a_configuration_without_a_classifier(name: str) -> None:
    with pytest.raises(ValueError, match="a configuration with a classifier is needed, such as imagenet128/table3/js"):
        bench.bench(load_config(name), CPU, REPEATS)


def test_the_ways_differ_in_what_guides_alone() -> None:
    config = tiny("guidance.tau_joint=2.0")
    found = ways(config)
    assert [one.guidance.method for one in found.values()] == ["unguided", "score", "score"]
    assert (found["ma"].guidance.alpha, found["js"].guidance.alpha) == (0, 0.5)
    assert found["js"].guidance.divergence == "js"
    for one in found.values():
        assert one.guidance.tau_joint == 2
        assert one.model_copy(update={"guidance": config.guidance}) == config


def test_random_weights_are_the_same_each_time_and_finite() -> None:
    first, second = (random_painter(tiny(), CPU) for _ in range(2))
    other = random_painter(tiny(), CPU, seed=1)
    assert first.shard(0).images.equal(second.shard(0).images)
    weights = [next(iter(painter.model.parameters())) for painter in (first, second, other)]
    assert weights[0].equal(weights[1])
    assert not weights[0].equal(weights[2])


def test_a_painter_takes_as_many_steps_as_are_timed() -> None:
    painter = random_painter(tiny(), CPU)
    seen: list[torch.Tensor] = []
    painter.model.register_forward_hook(lambda *given: seen.append(given[2]))
    replace_steps(painter, 5).shard(0)
    assert len(seen) == 5
