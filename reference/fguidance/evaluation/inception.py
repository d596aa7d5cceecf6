"""The Inception network of 2015-12-05, on whose features images are compared, from a state dict.

Szegedy et al. 2016, arXiv:1512.00567, as TensorFlow's published graph has it: averages at a border leave the padding
out, the last block takes a maximum where all others take an average, and images are stretched without half-pixel
centres.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fguidance.state_dicts import StateDict, fill, read_state_dict

SIZE, NUM_FEATURES, NUM_CLASSES = 299, 2048, 1008
AVERAGE, LARGEST, LARGEST_OF_HALF = "average", "largest", "largest of half"


@dataclass(frozen=True)
class _Layer:
    """A convolution by its published name; it keeps the size, unless it halves it or is not padded."""

    name: str
    channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padded: bool = True

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros at each border, above and at the left."""
        keeps = self.padded and self.stride == 1
        return (self.kernel[0] // 2, self.kernel[1] // 2) if keeps else (0, 0)


_Fork = tuple[_Layer, _Layer]
_Step = str | _Layer | _Fork
_Branch = tuple[_Step, ...]


def _chain(name: str, *layers: tuple[int, int | tuple[int, int]], halves: bool = False) -> tuple[_Layer, ...]:
    """Layers that are numbered from 1, of their channels and kernels; the last one may halve the size."""
    kernels = [(kernel, kernel) if isinstance(kernel, int) else kernel for _, kernel in layers]
    strides = [1] * (len(layers) - 1) + [2 if halves else 1]
    return tuple(
        _Layer(f"{name}_{number}", channels, kernel, stride)
        for number, ((channels, _), kernel, stride) in enumerate(zip(layers, kernels, strides, strict=True), 1)
    )


def _block_a(pooled: int) -> tuple[_Branch, ...]:
    return (
        (_Layer("branch1x1", 64, (1, 1)),),
        _chain("branch5x5", (48, 1), (64, 5)),
        _chain("branch3x3dbl", (64, 1), (96, 3), (96, 3)),
        (AVERAGE, _Layer("branch_pool", pooled, (1, 1))),
    )


def _block_b() -> tuple[_Branch, ...]:
    return (
        (_Layer("branch3x3", 384, (3, 3), 2),),
        _chain("branch3x3dbl", (64, 1), (96, 3), (96, 3), halves=True),
        (LARGEST_OF_HALF,),
    )


def _block_c(width: int) -> tuple[_Branch, ...]:
    wide, high = (1, 7), (7, 1)
    return (
        (_Layer("branch1x1", 192, (1, 1)),),
        _chain("branch7x7", (width, 1), (width, wide), (192, high)),
        _chain("branch7x7dbl", (width, 1), (width, high), (width, wide), (width, high), (192, wide)),
        (AVERAGE, _Layer("branch_pool", 192, (1, 1))),
    )


def _block_d() -> tuple[_Branch, ...]:
    return (
        _chain("branch3x3", (192, 1), (320, 3), halves=True),
        _chain("branch7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), halves=True),
        (LARGEST_OF_HALF,),
    )


def _block_e(pool: str) -> tuple[_Branch, ...]:
    def fork(name: str) -> _Fork:
        return _Layer(f"{name}a", 384, (1, 3)), _Layer(f"{name}b", 384, (3, 1))

    return (
        (_Layer("branch1x1", 320, (1, 1)),),
        (*_chain("branch3x3", (384, 1)), fork("branch3x3_2")),
        (*_chain("branch3x3dbl", (448, 1), (384, 3)), fork("branch3x3dbl_3")),
        (pool, _Layer("branch_pool", 192, (1, 1))),
    )


class _Convolution(nn.Module):
    """A convolution, its normalisation, and max(0, ·)."""

    def __init__(self, channels: int, layer: _Layer) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, layer.channels, layer.kernel, layer.stride, layer.padding, bias=False)
        self.bn = nn.BatchNorm2d(layer.channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    """Branches side by side, whose channels are put one after another."""

    def __init__(self, channels: int, branches: tuple[_Branch, ...]) -> None:
        super().__init__()
        self.branches, self.channels = branches, 0
        for branch in branches:
            width = channels
            for step in branch:
                layers = _layers(step)
                for layer in layers:
                    self.add_module(layer.name, _Convolution(width, layer))
                width = sum(layer.channels for layer in layers) or width
            self.channels += width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._along(branch, x) for branch in self.branches], 1)

    def _along(self, branch: _Branch, x: Tensor) -> Tensor:
        for step in branch:
            if isinstance(step, str):
                x = _pooled(x, step)
            else:
                x = torch.cat([self.get_submodule(layer.name)(x) for layer in _layers(step)], 1)
        return x


def _layers(step: _Step) -> tuple[_Layer, ...]:
    """The convolutions of a step, none for a pool."""
    if isinstance(step, str):
        return ()
    return (step,) if isinstance(step, _Layer) else step


def _pooled(x: Tensor, pool: str) -> Tensor:
    if pool == AVERAGE:
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return F.max_pool2d(x, 3, 1, 1) if pool == LARGEST else F.max_pool2d(x, 3, 2)


BLOCKS = {
    "Mixed_5b": _block_a(32), "Mixed_5c": _block_a(64), "Mixed_5d": _block_a(64), "Mixed_6a": _block_b(),
    "Mixed_6b": _block_c(128), "Mixed_6c": _block_c(160), "Mixed_6d": _block_c(160), "Mixed_6e": _block_c(192),
    "Mixed_7a": _block_d(), "Mixed_7b": _block_e(AVERAGE), "Mixed_7c": _block_e(LARGEST),
}  # fmt: skip
"""The blocks in their order, by their published names."""
STEM: tuple[str | _Layer, ...] = (
    _Layer("Conv2d_1a_3x3", 32, (3, 3), 2),
    _Layer("Conv2d_2a_3x3", 32, (3, 3), padded=False),
    _Layer("Conv2d_2b_3x3", 64, (3, 3)),
    LARGEST_OF_HALF,
    _Layer("Conv2d_3b_1x1", 80, (1, 1)),
    _Layer("Conv2d_4a_3x3", 192, (3, 3), padded=False),
    LARGEST_OF_HALF,
)
"""What comes before the blocks."""


class Inception(nn.Module):
    """The network of the Fréchet distance; called with images, it returns their features."""

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        for step in STEM:
            if isinstance(step, _Layer):
                self.add_module(step.name, _Convolution(channels, step))
                channels = step.channels
        for name, branches in BLOCKS.items():
            block = _Block(channels, branches)
            self.add_module(name, block)
            channels = block.channels
        self.fc = nn.Linear(channels, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(batch, 2048)`` of images ``(batch, 3, H, W)`` uint8 of any size; ValueError for others."""
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            told = f"{images.dtype} and the shape {tuple(images.shape)}"
            raise ValueError(f"images has {told}; it must have torch.uint8 and (batch, 3, height, width)")
        x = stretched(images.to(self.fc.weight.dtype), SIZE)
        x = (x - 128) / 128
        for step in self._steps():
            x = step(x) if isinstance(step, nn.Module) else _pooled(x, step)
        return x.mean((2, 3))

    def _steps(self) -> Iterator[str | nn.Module]:
        for step in STEM:
            yield step if isinstance(step, str) else self.get_submodule(step.name)
        yield from (self.get_submodule(name) for name in BLOCKS)

    def head(self, features: Tensor) -> Tensor:
        """Logits ``(batch, 1008)`` without the last layer's bias, as the Inception score of the published program."""
        return F.linear(features, self.fc.weight)


def stretched(images: Tensor, size: int) -> Tensor:
    """Images ``(batch, C, H, W)`` at ``(batch, C, size, size)``, linear between pixels, as TensorFlow 1 does it.

    Pixel i of the result lies at pixel i·H/size of the images; beyond the last pixel nothing changes. Other programs
    take the centres of pixels for their places, which moves Fréchet distances (Parmar et al. 2022, arXiv:2104.11222).
    """
    return _stretched(_stretched(images, 3, size), 2, size)


def _stretched(images: Tensor, axis: int, size: int) -> Tensor:
    length = images.shape[axis]
    place = torch.arange(size, dtype=torch.float32, device=images.device) * (length / size)
    below = place.long()
    share = (place - below).to(images.dtype).view(-1, *[1] * (images.ndim - 1 - axis))
    first, second = (images.index_select(axis, one) for one in (below, (below + 1).clamp_max(length - 1)))
    return first + (second - first) * share


def load_inception(state_dict_or_path: StateDict | str | os.PathLike[str]) -> Inception:
    """The Inception network of 2015-12-05 with the weights that pytorch-fid and torch-fidelity publish.

    Args:
        state_dict_or_path: the state dict, or the path of its file (``weights-inception-2015-12-05-6726825d.pth``).

    Returns:
        A network in evaluation mode, none of whose parameters asks for a gradient. It takes uint8 images
        ``(batch, 3, H, W)`` of any size and returns features ``(batch, 2048)``.

    Raises:
        TypeError: no state dict and no path.
        FileNotFoundError: no such file.
        ValueError: a corrupt file, or weights of another network.

    Source: Szegedy et al. 2016, arXiv:1512.00567; Heusel et al. 2017, arXiv:1706.08500; the numbers are those of
    torch-fidelity's program (Obukhov et al. 2020, doi:10.5281/zenodo.4957738).
    """
    with torch.device("meta"):
        network = Inception()
    return fill(network, read_state_dict(state_dict_or_path), "Inception")
