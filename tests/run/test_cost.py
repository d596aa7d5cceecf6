"""Costs: counted on networks without storage, and the same as by hand where a hand can count."""

import pytest

from fguidance.run import load_config
from fguidance.run.cost import Cost, cost
from fguidance.run.networks import load_model
from tests.support.runs import tiny


def of_small_classifier(size: int, channels: int, width: int, features: int, classes: int) -> tuple[int, int]:
    """Operations of a forward pass, and parameters: three convolutions of 3 x 3 taps, two matrices."""
    full, half, quarter = (size // step for step in (1, 2, 4))
    convolutions = [(channels, width, full), (width, width, half), (width, 2 * width, quarter)]
    matrices = [(2 * width * quarter**2, features), (features, classes)]
    operations = sum(2 * 9 * inputs * outputs * pixels**2 for inputs, outputs, pixels in convolutions)
    parameters = sum((9 * inputs + 1) * outputs for inputs, outputs, _ in convolutions)
    operations += sum(2 * inputs * outputs for inputs, outputs in matrices)
    return operations, parameters + sum((inputs + 1) * outputs for inputs, outputs in matrices)


@pytest.mark.parametrize("sizes", ((8, 1, 32, 32, 10), (8, 1, 5, 7, 10)))
def test_a_small_classifier_by_hand(sizes: tuple[int, ...]) -> None:
    """To the input a backward pass costs as much as a forward pass: the weights ask for no gradient."""
    fields = dict(zip(("image_size", "in_channels", "width", "num_features", "num_classes"), sizes, strict=True))
    found = cost(tiny(*(f"classifier.shape.{name}={value}" for name, value in fields.items())))
    operations, parameters = of_small_classifier(*sizes)
    assert found.classifier == 2 * operations
    assert found.classifier_parameters == parameters


def test_the_published_networks() -> None:
    found = cost(load_config("imagenet128/table3/dhariwal_nichol"))
    assert (found.model_parameters, found.classifier_parameters) == (421_529_606, 42_568_040)
    assert found.steps == 250
    assert found.model > 4e11
    assert found.image == 250 * (found.model + found.classifier)


def test_the_count_is_of_the_network_that_is_loaded() -> None:
    model = load_model(tiny().model)
    assert cost(tiny()).model_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_what_guides_is_what_costs() -> None:
    plain = cost(tiny(name="digits/unguided"))
    free = cost(tiny(name="digits/classifier_free"))
    guided = cost(tiny(name="digits/js"))
    assert plain.classifier == plain.classifier_parameters == free.classifier == 0
    assert (free.model, guided.model) == (2 * plain.model, plain.model)
    assert guided.classifier > 0
    assert cost(tiny(name="digits/entropy_aware")).classifier > 0
    assert cost(tiny(name="digits/rkl")) == guided


def test_an_image_costs_its_steps() -> None:
    assert Cost(model=5, classifier=2, steps=3, model_parameters=1, classifier_parameters=1).image == 21
    few, many = (cost(tiny(f"sampling.steps={steps}")) for steps in (2, 6))
    assert many.image == 3 * few.image


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("model.shape={image_size=8}", r"model\.shape\.in_channels is missing"),
        ("model.shape.image_size=7", "image_size"),
        ("classifier.shape={image_size=8}", r"classifier\.shape\.in_channels is missing"),
    ],
)
def test_a_shape_that_there_is_not(override: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        cost(tiny(override))
