"""From a configuration to networks and guidance, ready to sample."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fguidance.diffusion import (
    ADMClassifierConfig,
    ADMConfig,
    ADMUNet,
    EntropyAware,
    ImageGuidance,
    Schedule,
    SmallClassifier,
    SmallShape,
    load_adm_classifier,
    load_adm_unet,
    load_resnet,
    load_small_classifier,
)
from fguidance.diffusion.adm_blocks import empty_network
from fguidance.diffusion.adm_classifier import empty_adm_classifier
from fguidance.diffusion.resnet import ResNetShape
from fguidance.evaluation import Inception, load_feature_network, load_inception
from fguidance.evaluation.inception import NUM_FEATURES
from fguidance.guidance import Guidance
from fguidance.run.assets import file_and_part, locate
from fguidance.run.config import ClassifierConfig, FeatureConfig, GuidanceConfig, ModelConfig, SamplingConfig
from fguidance.state_dicts import read_state_dict

Shape = TypeVar("Shape")
GUIDANCE_FIELDS = ("divergence", "alpha", "epsilon", "tau_joint", "tau_marginal", "tilt", "entropy")


def read_weights(name: str) -> dict[str, Tensor]:
    """The tensors of an asset or a file; ``file:part`` takes those whose names begin with ``part.``, without it.

    Half precision, in which small files are kept, becomes float32.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a corrupt file, an asset with another hash, or no such part.
    """
    file, part = file_and_part(name)
    state = read_state_dict(locate(file))
    if part:
        state = {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
        if not state:
            raise ValueError(f"{file} has no part {part!r}")
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def load_model(config: ModelConfig) -> nn.Module:
    """The diffusion model, called ``(x_t, t, y)``."""
    return load_adm_unet(read_weights(config.weights), shape_of(ADMConfig, config.shape, "model.shape"))


def load_classifier(config: ClassifierConfig) -> nn.Module | None:
    """The guiding classifier, or None; the temperature divides its logits."""
    if config.network == "none":
        return None
    shape, weights = _classifier_shape(config), read_weights(config.weights)
    network: nn.Module
    if isinstance(shape, ADMClassifierConfig):
        network = load_adm_classifier(weights, shape)
    elif isinstance(shape, SmallShape):
        network = load_small_classifier(weights, shape)
    else:
        network = load_resnet(weights, shape.depth, shape.softplus_beta)
    return network if config.temperature == 1 else AtTemperature(network, config.temperature)


def _classifier_shape(config: ClassifierConfig) -> ADMClassifierConfig | SmallShape | ResNetShape:
    kinds = {"adm": ADMClassifierConfig, "small": SmallShape, "resnet": ResNetShape}
    return shape_of(kinds[config.network], config.shape, "classifier.shape")


def empty_model(config: ModelConfig) -> ADMUNet:
    """The diffusion model without storage, on the meta device."""
    shape = shape_of(ADMConfig, config.shape, "model.shape")
    return ADMUNet(empty_network(shape, shape.out_channels, shape.num_classes)).eval().requires_grad_(False)


def empty_classifier(config: ClassifierConfig) -> nn.Module:
    """The guiding classifier without storage, on the meta device."""
    shape = _classifier_shape(config)
    with torch.device("meta"):
        if isinstance(shape, ADMClassifierConfig):
            network: nn.Module = empty_adm_classifier(shape)
        else:
            network = SmallClassifier(shape) if isinstance(shape, SmallShape) else shape.empty()
    return network.eval().requires_grad_(False)


def empty_inputs(config: ModelConfig, batch: int) -> tuple[Tensor, Tensor]:
    """Images and timesteps for a model, without storage, on the meta device."""
    channels, size = config.shape["in_channels"], config.shape["image_size"]
    x_t = torch.empty((batch, channels, size, size), device="meta")
    return x_t, torch.zeros(batch, dtype=torch.int64, device="meta")


class AtTemperature(nn.Module):
    """A classifier whose logits are divided by a number.

    Args:
        classifier: called with images, or with images and timesteps.
        temperature: above 0.
    """

    def __init__(self, classifier: nn.Module, temperature: float) -> None:
        super().__init__()
        self.classifier, self.temperature = classifier, temperature

    def forward(self, *inputs: Tensor) -> Tensor:
        """The logits, divided."""
        logits: Tensor = self.classifier(*inputs) / self.temperature
        return logits


class Judge(nn.Module):
    """A judge of images ``(batch, C, H, W)`` uint8: a network's features and its logits, side by side.

    Args:
        network: with ``features`` and ``logits``.
        num_features: how many.
        knows_labels: whether its classes are the data's labels. Those of Inception are not: it was taught ImageNet's
            in another order, and eight more.
    """

    def __init__(self, network: nn.Module, num_features: int, knows_labels: bool = False) -> None:
        super().__init__()
        self.network, self.num_features, self.knows_labels = network, num_features, knows_labels

    def features_and_logits(self, images: Tensor) -> Tensor:
        """``(batch, num_features + classes)``."""
        if isinstance(self.network, SmallClassifier):
            features = self.network.features(images.float() / 127.5 - 1)
        else:
            features = self.network(images)
        own = isinstance(self.network, SmallClassifier | Inception)
        logits = self.network.head(features) if own else self.network.logits(images)  # type: ignore[operator]
        return torch.cat((features, logits), 1)


def load_judge(config: FeatureConfig) -> Judge:
    """The network on whose features samples are compared."""
    if config.network == "inception":
        return Judge(load_inception(read_weights(config.weights)), NUM_FEATURES)
    if config.network == "torchscript":
        return load_inception_judge(config.weights)
    shape = shape_of(SmallShape, config.shape, "features.shape")
    return Judge(load_small_classifier(read_weights(config.weights), shape), shape.num_features, knows_labels=True)


def load_inception_judge(file: str) -> Judge:
    """The Inception network of an asset or a path, from either file that is published of it."""
    return Judge(load_feature_network(locate(file)), NUM_FEATURES)


def load_guidance(config: GuidanceConfig) -> ImageGuidance | None:
    """What guides by a classifier, or None.

    Raises:
        ValueError: a number out of its range, or no such divergence.
    """
    if not config.by_classifier:
        return None
    guidance = Guidance(**{name: getattr(config, name) for name in GUIDANCE_FIELDS})
    return EntropyAware(guidance, config.smallest_share) if config.method == "entropy_aware" else guidance


def load_schedule(config: SamplingConfig) -> Schedule:
    """The steps to take."""
    return getattr(Schedule, config.schedule)(config.timesteps).respace(config.steps)  # type: ignore[no-any-return]


def shape_of(kind: type[Shape], table: Mapping[str, Any], place: str) -> Shape:
    """A network's shape of a table; lists become tuples.

    Raises:
        ValueError: a field is unknown or missing, or no network has that shape.
    """
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    if unknown := [name for name in table if name not in names]:
        raise ValueError(f"{place}.{unknown[0]} is no field; there are {', '.join(names)}")
    needed = [one.name for one in fields(kind) if one.default is MISSING]  # type: ignore[arg-type]
    if missing := [name for name in needed if name not in table]:
        raise ValueError(f"{place}.{missing[0]} is missing")
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in table.items()})
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}: {error}") from error


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which networks compute: float32, or half precision where that is asked for."""
    dtype = getattr(torch, precision)
    return torch.autocast(device.type, dtype=dtype if precision != "float32" else None, enabled=precision != "float32")
