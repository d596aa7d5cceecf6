"""A small convolutional classifier, for images of 8 to 32 pixels: it guides, or its last hidden layer judges."""

import os
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from fguidance.inputs import require_whole
from fguidance.state_dicts import StateDict, fill, read_state_dict


@dataclass(frozen=True)
class SmallShape:
    """The shape of a `SmallClassifier`.

    Attributes:
        image_size: height and width of the images, a multiple of 4.
        in_channels: of the images.
        width: channels of the first layers; twice as many in the last.
        num_features: of the last hidden layer.
        num_classes: of its logits.
    """

    image_size: int
    in_channels: int
    width: int
    num_features: int
    num_classes: int

    def __post_init__(self) -> None:
        """Raise ValueError on a shape that no such network has."""
        for name, number in asdict(self).items():
            require_whole(name, number)
        if self.image_size % 4:
            raise ValueError(f"image_size must be a multiple of 4, not {self.image_size}")


class SmallClassifier(nn.Module):
    """Three convolutions with smooth activations, a hidden layer, logits.

    Args:
        shape: of the network.
    """

    def __init__(self, shape: SmallShape) -> None:
        super().__init__()
        width, pixels = shape.width, (shape.image_size // 4) ** 2
        self.body = nn.Sequential(
            nn.Conv2d(shape.in_channels, width, 3, padding=1), nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.SiLU(),
            nn.Flatten(), nn.Linear(2 * width * pixels, shape.num_features), nn.Tanh(),
        )  # fmt: skip
        self.head = nn.Linear(shape.num_features, shape.num_classes)

    def features(self, images: Tensor) -> Tensor:
        """The last hidden layer, ``(batch, num_features)``, of images ``(batch, C, H, W)`` in [-1, 1]."""
        found: Tensor = self.body(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(batch, num_classes)`` of images ``(batch, C, H, W)`` in [-1, 1]."""
        logits: Tensor = self.head(self.features(images))
        return logits


def load_small_classifier(state_dict_or_path: StateDict | str | os.PathLike[str], shape: SmallShape) -> SmallClassifier:
    """A small classifier with given weights.

    Args:
        state_dict_or_path: its state dict, or the path of one.
        shape: of the network.

    Returns:
        A network in evaluation mode, none of whose parameters asks for a gradient.

    Raises:
        TypeError: no state dict and no path.
        FileNotFoundError: no such file.
        ValueError: a corrupt file, or weights of another shape.
    """
    with torch.device("meta"):
        network = SmallClassifier(shape)
    return fill(network, read_state_dict(state_dict_or_path), f"a small classifier of {shape}")
