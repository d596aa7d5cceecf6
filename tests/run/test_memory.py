"""Memory: followed on networks without storage, and the same as by hand where a hand can count."""

import pytest
import torch
from torch import nn

from fguidance.run import load_config
from fguidance.run.memory import Memory, memory, peak_bytes
from fguidance.run.networks import load_model
from tests.support.runs import tiny

ROW = 10 * 100 * 4
"""Bytes of ten vectors of a hundred numbers."""


def chain(length: int, between: type[nn.Module]) -> nn.Sequential:
    layers = [layer for _ in range(length) for layer in (nn.Linear(100, 100), between())]
    return nn.Sequential(*layers).requires_grad_(False)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("length", [1, 2, 7])
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


def test_it_is_that_of_the_network_that_is_loaded_and_runs() -> None:
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


def test_what_guides_is_what_counts() -> None:
    plain, guided = memory(tiny(name="digits/unguided")), memory(tiny(name="digits/js"))
    assert plain.classifier == 0
    assert guided.model == plain.model
    assert guided.weights > plain.weights


def test_model_and_classifier_come_one_after_the_other() -> None:
    assert Memory(weights=5, model=3, classifier=2).step == 8
    assert Memory(weights=5, model=3, classifier=4).step == 9


def test_the_published_networks() -> None:
    found = memory(load_config("imagenet128/table3/dhariwal_nichol"))
    assert found.weights == 4 * (421_529_606 + 42_568_040)
    assert 2**32 < found.model < 2**35
