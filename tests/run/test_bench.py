"""Costs of sampling: records of speed, of which no time is asserted, and counts that are the same as by hand."""

import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from fguidance.run import bench, load_config
from fguidance.run.bench import cost, memory, peak_bytes, random_painter, ways
from fguidance.run.networks import load_model
from tests.support.runs import CPU, tiny

REPEATS = 2


@pytest.fixture
def no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fguidance.run.networks.locate", lambda name: pytest.fail("a file was asked for"))


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return bench.bench(tiny(), CPU, REPEATS)


@pytest.mark.usefixtures("no_files")
class TestRecord:
    def test_every_way_has_its_speed(self, record: dict[str, Any]) -> None:
        assert set(record["speed"]) == {"unguided", "ma", "js"}
        for speed in record["speed"].values():
            seconds = speed["seconds_per_step"]
            assert seconds > 0
            assert speed["images_per_second"] == pytest.approx(4 / (seconds * 2))
            assert speed["hours_per_table"] == pytest.approx(50_000 / speed["images_per_second"] / 3600)
            assert speed["peak_memory"] is None
        assert [speed["guidance_share"] > 0 for speed in record["speed"].values()] == [False, True, True]

    def test_it_says_what_was_measured_and_how(self, record: dict[str, Any]) -> None:
        assert record["repeats"] == REPEATS
        assert record["config"] == tiny().model_dump(mode="json")
        assert record["flops_per_step_and_image"] == cost(tiny()).model + cost(tiny()).classifier
        seconds = record["speed"]["js"]["seconds_per_step"]
        assert record["times_faster_than_plain"] == pytest.approx(record["plain_eager_seconds_per_step"] / seconds)
        assert set(record["versions"]) == {"fguidance", "torch", "diffusers"}
        assert {"date", "device"} <= set(record)
        assert json.loads(json.dumps(record)) == record


@pytest.mark.usefixtures("no_files")
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


def of_small_classifier(size: int, channels: int, width: int, features: int, classes: int) -> tuple[int, int]:
    """Operations of a forward pass, and parameters: three convolutions of 3 x 3 taps, two matrices."""
    full, half, quarter = (size // step for step in (1, 2, 4))
    convolutions = [(channels, width, full), (width, width, half), (width, 2 * width, quarter)]
    matrices = [(2 * width * quarter**2, features), (features, classes)]
    operations = sum(2 * 9 * inputs * outputs * pixels**2 for inputs, outputs, pixels in convolutions)
    parameters = sum((9 * inputs + 1) * outputs for inputs, outputs, _ in convolutions)
    operations += sum(2 * inputs * outputs for inputs, outputs in matrices)
    return operations, parameters + sum((inputs + 1) * outputs for inputs, outputs in matrices)


def test_a_small_classifier_by_hand() -> None:
    """To the input a backward pass costs as much as a forward pass: the weights ask for no gradient."""
    sizes = 8, 1, 5, 7, 10
    fields = dict(zip(("image_size", "in_channels", "width", "num_features", "num_classes"), sizes, strict=True))
    found = cost(tiny(*(f"classifier.shape.{name}={value}" for name, value in fields.items())))
    operations, parameters = of_small_classifier(*sizes)
    assert found.classifier == 2 * operations
    assert found.classifier_parameters == parameters


def test_the_cost_of_the_published_networks() -> None:
    found = cost(load_config("imagenet128/table3/dhariwal_nichol"))
    assert (found.model_parameters, found.classifier_parameters) == (421_529_606, 42_568_040)
    assert found.steps == 250
    assert found.model > 4e11
    assert found.image == 250 * (found.model + found.classifier)


def test_what_guides_is_what_costs() -> None:
    plain = cost(tiny(name="digits/unguided"))
    free = cost(tiny(name="digits/classifier_free"))
    guided = cost(tiny(name="digits/js"))
    assert plain.classifier == plain.classifier_parameters == free.classifier == 0
    assert (free.model, guided.model) == (2 * plain.model, plain.model)
    assert guided.classifier > 0
    assert cost(tiny(name="digits/entropy_aware")).classifier > 0
    assert cost(tiny(name="digits/rkl")) == guided


ROW = 10 * 100 * 4
"""Bytes of ten vectors of a hundred numbers."""


def chain(length: int, between: type[nn.Module]) -> nn.Sequential:
    layers = [layer for _ in range(length) for layer in (nn.Linear(100, 100), between())]
    return nn.Sequential(*layers).requires_grad_(False)


@pytest.mark.parametrize(("length", "device"), [(1, "meta"), (2, "cpu"), (7, "meta")])
class TestPeak:
    def test_a_chain_holds_two_neighbours(self, length: int, device: str) -> None:
        network, x = chain(length, nn.Tanh).to(device), torch.zeros(10, 100, device=device)
        given = (x, *network.parameters())
        assert peak_bytes(lambda: network(x), given) == 2 * ROW

    def test_what_a_gradient_needs_is_held(self, length: int, device: str) -> None:
        """The outputs of the tanhs, and what goes into the last of them."""
        network, x = chain(length, nn.Tanh).to(device), torch.zeros(10, 100, device=device, requires_grad=True)
        given = (x, *network.parameters())
        assert peak_bytes(lambda: network(x), given) == (length + 1) * ROW

    def test_views_and_changes_in_place_take_nothing(self, length: int, device: str) -> None:
        x = torch.zeros(10, 100, device=device)
        assert peak_bytes(lambda: [x.view(100, 10).T.add_(1) for _ in range(length)], (x,)) == 0

    def test_what_is_kept_adds_up(self, length: int, device: str) -> None:
        x = torch.zeros(10, 100, device=device)
        assert peak_bytes(lambda: [x + 1 for _ in range(length)], (x,)) == length * ROW

        def dropped() -> None:
            for _ in range(length):
                x + 1

        assert peak_bytes(dropped, (x,)) == ROW


def test_memory_is_that_of_the_network_that_is_loaded_and_runs() -> None:
    config = tiny("sampling.shard_size=3")
    model, shape = load_model(config.model), config.model.shape
    x = torch.zeros(3, shape["in_channels"], shape["image_size"], shape["image_size"])
    t = torch.zeros(3, dtype=torch.int64)
    given = (x, t, *model.parameters(), *model.buffers())
    with torch.no_grad():
        really = peak_bytes(lambda: model(x, t, t), given)
    assert memory(config).model == pytest.approx(really, rel=0.25)  # a CPU's attention is not written out


def test_activations_grow_with_the_shard_and_weights_do_not() -> None:
    few, many = (memory(tiny(f"sampling.shard_size={size}")) for size in (4, 16))
    assert few.weights == many.weights
    assert many.model == pytest.approx(4 * few.model, rel=0.05)
    assert many.classifier == pytest.approx(4 * few.classifier, rel=0.05)


def test_the_memory_of_the_published_networks() -> None:
    found = memory(load_config("imagenet128/table3/dhariwal_nichol"))
    assert found.weights == 4 * (421_529_606 + 42_568_040)
    assert 2**32 < found.model < 2**35
    assert found.step == found.weights + max(found.model, found.classifier)
    assert memory(tiny(name="digits/unguided")).classifier == 0
