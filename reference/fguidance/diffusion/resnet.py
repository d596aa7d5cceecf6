"""ResNet-50 and ResNet-101 as torchvision publishes their weights, with smooth activations if those are wanted.

He et al. 2016, arXiv:1512.03385, with the stride in the middle convolution of a block. Off-the-shelf classifiers with
every ReLU replaced by Softplus are Ma et al. 2024, arXiv:2310.11311: its gradient in the image does not jump.
"""

import math
import os
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fguidance.weights import StateDict, fill, read_state_dict

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4


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
        self.activation = activation
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(channels, EXPANSION * width, 1, stride, bias=False), nn.BatchNorm2d(EXPANSION * width)
            )
            if stride != 1 or channels != EXPANSION * width
            else nn.Identity()
        )

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
        inputs = (WIDTHS[0], *(EXPANSION * width for width in WIDTHS[:-1]))
        layers = [
            nn.Sequential(*_blocks(number, channels, width, 1 if width == WIDTHS[0] else 2, activation))
            for number, channels, width in zip(BLOCKS[depth], inputs, WIDTHS, strict=True)
        ]
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
    return _largest_of_three(_largest_of_three(x, 3), 2)


def _largest_of_three(x: Tensor, axis: int) -> Tensor:
    beside = (1, 1) if axis == 3 else (0, 0, 1, 1)
    padded, number = F.pad(x, beside, value=-math.inf), (x.shape[axis] + 1) // 2
    before = (slice(None),) * axis
    first, middle, last = (padded[(*before, slice(start, start + 2 * number - 1, 2))] for start in range(3))
    return _later_if_larger(_later_if_larger(first, middle), last)


def _later_if_larger(first: Tensor, later: Tensor) -> Tensor:
    """The larger of two, the first of equals, NaN where there is any: which one it is decides where a gradient goes."""
    return torch.where((later > first) | later.isnan(), later, first)


def _blocks(number: int, channels: int, width: int, stride: int, activation: nn.Module) -> Iterator[_Bottleneck]:
    yield _Bottleneck(channels, width, stride, activation)
    for _ in range(number - 1):
        yield _Bottleneck(EXPANSION * width, width, 1, activation)


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
        TypeError: no state dict and no path.
        FileNotFoundError: no such file.
        ValueError: another depth, a beta that is not positive, a corrupt file, or weights of another network.

    Source: He et al. 2016, arXiv:1512.03385; Ma et al. 2024, arXiv:2310.11311.
    """
    if depth not in BLOCKS:
        raise ValueError(f"depth must be one of {', '.join(map(str, BLOCKS))}, not {depth!r}")
    if softplus_beta is not None and not 0 < softplus_beta < math.inf:
        raise ValueError(f"softplus_beta must be a positive number or None, not {softplus_beta!r}")
    state = read_state_dict(state_dict_or_path)
    classes = len(state["fc.bias"]) if "fc.bias" in state and state["fc.bias"].ndim == 1 else 1000
    with torch.device("meta"):
        activation = nn.ReLU() if softplus_beta is None else nn.Softplus(softplus_beta)
        network = ResNet(depth, activation, classes)
    return fill(network, state, f"a ResNet-{depth}")
