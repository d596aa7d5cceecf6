"""What a step costs: floating-point operations, counted on networks without storage, and the memory of weights."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fguidance.run.config import RunConfig
from fguidance.run.networks import empty_classifier, empty_model


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
    shape, guidance = config.model.shape, config.guidance
    model = empty_model(config.model)
    size = (1, shape["in_channels"], shape["image_size"], shape["image_size"])
    with torch.device("meta"):
        x, t, y = torch.empty(size), torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x, t, y)
    passes = 2 if guidance.method == "classifier_free" else 1
    guided = guidance.method in ("score", "entropy_aware")
    classifier = empty_classifier(config.classifier) if guided else None
    return Cost(
        passes * counter.get_total_flops(),
        _forward_and_backward(classifier, x, t, config.classifier.input == "noisy") if classifier is not None else 0,
        config.sampling.steps,
        _parameters(model),
        _parameters(classifier) if classifier is not None else 0,
    )


def _forward_and_backward(classifier: nn.Module, x: torch.Tensor, t: torch.Tensor, noisy: bool) -> int:
    x = x.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        logits = classifier(x, t) if noisy else classifier(x)
        logits.sum().backward()
    return int(counter.get_total_flops())


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
