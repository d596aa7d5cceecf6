"""What a step costs: floating-point operations, counted on networks without storage, and the memory of weights."""

import functools
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fguidance.run.config import ModelConfig, RunConfig
from fguidance.run.networks import empty_classifier, empty_inputs, empty_model


@dataclass(frozen=True)
class Cost:
    """Of one image.

    Attributes:
        model: floating-point operations of a forward pass of the diffusion model, a multiplication and an addition
            counted as two.
        classifier: of a forward and a backward pass of the classifier to its input; 0 where none guides.
        steps: of the schedule, so that an image costs ``steps * (model + classifier)``.
        model_parameters: of the diffusion model.
        classifier_parameters: of the classifier.
    """

    model: int
    classifier: int
    steps: int
    model_parameters: int
    classifier_parameters: int

    @property
    def image(self) -> int:
        """Operations of one image."""
        return self.steps * (self.model + self.classifier)


def cost(config: RunConfig) -> Cost:
    """Count the operations of a configuration, without weights and without calculating.

    Raises:
        ValueError: a network of a shape that there is not.
    """
    guidance = config.guidance
    passes = 2 if guidance.method == "classifier_free" else 1
    operations, parameters = _of_model(config.model.model_dump_json())
    classifier = empty_classifier(config.classifier) if guidance.by_classifier else None
    return Cost(
        passes * operations,
        _forward_and_backward(classifier, config) if classifier is not None else 0,
        config.sampling.steps,
        parameters,
        _parameters(classifier) if classifier is not None else 0,
    )


@functools.cache
def _of_model(told: str) -> tuple[int, int]:
    """Operations and parameters; all rows of a table share their model, which takes seconds to count."""
    config = ModelConfig.model_validate_json(told)
    model, (x, t) = empty_model(config), empty_inputs(config, 1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x, t, t)
    return counter.get_total_flops(), _parameters(model)


def _forward_and_backward(classifier: nn.Module, config: RunConfig) -> int:
    x, t = empty_inputs(config.model, 1)
    x.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        logits = classifier(x, t) if config.classifier.input == "noisy" else classifier(x)
        logits.sum().backward()
    return int(counter.get_total_flops())


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
