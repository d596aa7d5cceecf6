"""ResNet-50 and ResNet-101 as torchvision publishes their weights, with smooth activations if those are wanted.

He et al. 2016, arXiv:1512.03385, with the stride in the middle convolution of a block. Off-the-shelf classifiers with
every ReLU replaced by Softplus are Ma et al. 2024, arXiv:2310.11311: its gradient in the image does not jump.
"""

import math
import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fguidance.inputs import require_positive
from fguidance.state_dicts import StateDict, fill, read_state_dict

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4


@dataclass(frozen=True)
class ResNetShape:
    """The shape of a ResNet.

    Attributes:
        depth: 50 or 101.
        softplus_beta: of the activation that stands in place of every ReLU; None keeps the ReLU.
    """

    depth: int
    softplus_beta: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError or TypeError on a shape that no such network has."""
        if self.depth not in BLOCKS:
            raise ValueError(f"depth must be one of {', '.join(map(str, BLOCKS))}, not {self.depth!r}")
        if self.softplus_beta is not None:
            object.__setattr__(self, "softplus_beta", require_positive("softplus_beta", self.softplus_beta))

    def empty(self, num_classes: int = 1000) -> "ResNet":
        """A network of this shape without storage, on the meta device."""
        with torch.device("meta"):
            activation = nn.ReLU() if self.softplus_beta is None else nn.Softplus(self.softplus_beta)
            return ResNet(self.depth, activation, num_classes)


class _Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around which the input is added."""

    def __init__(self, channels: int, width: int, stride: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, EXPANSION * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(EXPANSION * width)
        self.activation, self.downsample = activation, nn.Sequential()
        if stride != 1 or channels != EXPANSION * width:
            projection = nn.Conv2d(channels, EXPANSION * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(EXPANSION * width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.bn1(self.conv1(x)))
        h = self.activation(self.bn2(self.conv2(h)))
        added: Tensor = self.activation(self.bn3(self.conv3(h)) + self.downsample(x))
        return added


class ResNet(nn.Module):
    """A residual network of bottleneck blocks.

    Args:
        depth: 50 or 101.
        activation: after each normalisation and each sum.
        num_classes: of its logits.
    """

    def __init__(self, depth: int, activation: nn.Module, num_classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.activation = activation
        layers, channels = [], WIDTHS[0]
        for number, width in zip(BLOCKS[depth], WIDTHS, strict=True):
            first = _Bottleneck(channels, width, 1 if width == WIDTHS[0] else 2, activation)
            channels = EXPANSION * width
            others = (_Bottleneck(channels, width, 1, activation) for _ in range(1, number))
            layers.append(nn.Sequential(first, *others))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.fc = nn.Linear(EXPANSION * WIDTHS[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(batch, num_classes)`` of images ``(batch, 3, H, W)``, which are taken as they are."""
        h = largest_of_nine(self.activation(self.bn1(self.conv1(images))))
        h = self.layer4(self.layer3(self.layer2(self.layer1(h))))
        logits: Tensor = self.fc(h.mean((2, 3)))
        return logits


def largest_of_nine(x: Tensor) -> Tensor:
    """Of ``(batch, C, H, W)`` every second pixel along both axes, each the largest of it and its eight neighbours.

    The same as PyTorch's pool of 3 x 3 with stride 2, whose gradient on a GPU may add in an order that is left to luck.
    """
    for axis, beside in ((3, (1, 1)), (2, (0, 0, 1, 1))):
        padded, number = F.pad(x, beside, value=-math.inf), (x.shape[axis] + 1) // 2
        x, *others = (padded[(slice(None),) * axis + (slice(k, k + 2 * number - 1, 2),)] for k in range(3))
        for other in others:  # the first of equals is kept, NaN where there is any: so the gradient goes to one place
            x = torch.where((other > x) | other.isnan(), other, x)
    return x


def load_resnet(
    state_dict_or_path: StateDict | str | os.PathLike[str], depth: int = 50, softplus_beta: float | None = None
) -> ResNet:
    r"""A classifier with torchvision's weights.

    Args:
        state_dict_or_path: torchvision's state dict, or the path of its file (``resnet50-11ad3fa6.pth``).
        depth: 50 or 101.
        softplus_beta: :math:`\beta > 0` of :math:`\log(1 + e^{\beta x})/\beta`, which then stands in place of every
            ReLU; Ma et al. take 3. None keeps the ReLU.

    Returns:
        A network in evaluation mode, none of whose parameters asks for a gradient. It takes float images
        ``(batch, 3, H, W)`` and returns logits ``(batch, classes)``. The sampler hands it the predicted clean image in
        [-1, 1] as it is.

    Raises:
        TypeError: no state dict and no path, or a beta that is no number.
        FileNotFoundError: no such file.
        ValueError: another depth, a beta that is not positive, a corrupt file, or weights of another network.

    Source: He et al. 2016, arXiv:1512.03385; Ma et al. 2024, arXiv:2310.11311.
    """
    shape = ResNetShape(depth, softplus_beta)
    state = read_state_dict(state_dict_or_path)
    classes = len(state["fc.bias"]) if "fc.bias" in state and state["fc.bias"].ndim == 1 else 1000
    return fill(shape.empty(classes), state, f"a ResNet-{depth}")
