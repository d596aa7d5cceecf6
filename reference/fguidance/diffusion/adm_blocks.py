"""Blocks of the ADM networks, by the names of the published checkpoints and by those of diffusers.

The checkpoint numbers its blocks in the order in which they run; diffusers names them by level. `block_names` lists
the pairs. The rest is a matter of names within a block, and of attention, whose queries, keys and values are rows of
one matrix in the checkpoint and three matrices here.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from fguidance.inputs import require_whole
from fguidance.state_dicts import StateDict

GROUPS = 32
TIME = 4
"""Groups of a normalisation, and how many times `model_channels` a timestep's embedding has."""
RESIDUAL = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip
ATTENTION = {"norm": "group_norm", "proj_out": "to_out.0"}
"""The checkpoint's names and diffusers', within a residual block and within attention."""
Kind = Literal["residual", "attention"]
Block = tuple[Kind, str, str]


class Shape(Protocol):
    """What the blocks of a network depend on."""

    @property
    def image_size(self) -> int:
        """Height and width of the images."""

    @property
    def in_channels(self) -> int:
        """Channels of the images."""

    @property
    def model_channels(self) -> int:
        """Channels of a timestep's sines and cosines, and at the highest resolution where its factor is 1."""

    @property
    def num_res_blocks(self) -> int:
        """Residual blocks at each resolution on the way down."""

    @property
    def attention_downsampling(self) -> tuple[int, ...]:
        """By how much an image is reduced where there is attention."""

    @property
    def channel_mult(self) -> tuple[float, ...]:
        """How many times `model_channels` each resolution has."""

    def heads(self, channels: int) -> int:
        """Heads of attention over so many channels."""


def levels(shape: Shape) -> int:
    """The number of resolutions."""
    return len(shape.channel_mult)


def attends(shape: Shape, level: int) -> bool:
    """Whether there is attention at a resolution, 0 the highest."""
    return 2**level in shape.attention_downsampling


def channels(shape: Shape, level: int) -> int:
    """How many channels a resolution has."""
    return int(shape.model_channels * shape.channel_mult[level])


def require_shape(shape: Shape, divisor: str, **whole: int) -> None:
    """Raise ValueError on a shape that no such network has.

    Args:
        shape: of the network.
        divisor: which of `whole` divides the channels where there is attention.
        **whole: further numbers of at least 1, by name.
    """
    names = ("image_size", "in_channels", "model_channels", "num_res_blocks")
    for name, number in ({name: getattr(shape, name) for name in names} | whole).items():
        require_whole(name, number)
    if shape.model_channels % 2:
        raise ValueError(f"model_channels must be even, not {shape.model_channels}")
    reductions = [2**level for level in range(levels(shape))]
    if not reductions or shape.image_size % reductions[-1]:
        raise ValueError(f"channel_mult {shape.channel_mult!r} halves an image of size {shape.image_size} too often")
    if not set(shape.attention_downsampling) <= set(reductions):
        raise ValueError(f"attention_downsampling must be some of {reductions}, not {shape.attention_downsampling!r}")
    for level, times in enumerate(shape.channel_mult):
        attended = attends(shape, level) or level == levels(shape) - 1
        told = f"model_channels {shape.model_channels} times {times!r} of channel_mult must be"
        if times <= 0 or (shape.model_channels * times) % GROUPS:
            raise ValueError(f"{told} a multiple of {GROUPS}")
        if attended and channels(shape, level) % whole[divisor]:
            raise ValueError(f"{told} a multiple of {divisor}={whole[divisor]}, for there is attention")


def encoder_blocks(shape: Shape) -> Iterator[Block]:
    """Each block with learned weights down to the middle: its kind, its name in the checkpoint and in diffusers."""
    number = 1
    for level in range(levels(shape)):
        for index in range(shape.num_res_blocks):
            yield from _one(attends(shape, level), f"input_blocks.{number}", f"down_blocks.{level}", index)
            number += 1
        if level < levels(shape) - 1:
            yield "residual", f"input_blocks.{number}.0", f"down_blocks.{level}.downsamplers.0"
            number += 1
    yield "residual", "middle_block.0", "mid_block.resnets.0"
    yield "attention", "middle_block.1", "mid_block.attentions.0"
    yield "residual", "middle_block.2", "mid_block.resnets.1"


def decoder_blocks(shape: Shape) -> Iterator[Block]:
    """The same on the way up again."""
    number = 0
    for block, level in enumerate(reversed(range(levels(shape)))):
        attention = attends(shape, level)
        for index in range(shape.num_res_blocks + 1):
            yield from _one(attention, f"output_blocks.{number}", f"up_blocks.{block}", index)
            if level > 0 and index == shape.num_res_blocks:
                yield "residual", f"output_blocks.{number}.{1 + attention}", f"up_blocks.{block}.upsamplers.0"
            number += 1


def _one(attention: bool, published: str, named: str, index: int) -> Iterator[Block]:
    yield "residual", f"{published}.0", f"{named}.resnets.{index}"
    if attention:
        yield "attention", f"{published}.1", f"{named}.attentions.{index}"


def _layers(whole: Mapping[str, str], blocks: tuple[Block, ...]) -> Iterator[tuple[str, str]]:
    """Each layer that is the same in both, by its two names."""
    yield from whole.items()
    for kind, published, named in blocks:
        inner = RESIDUAL if kind == "residual" else ATTENTION
        yield from ((f"{published}.{one}", f"{named}.{other}") for one, other in inner.items())


def published_shapes(network: nn.Module, whole: Mapping[str, str], blocks: tuple[Block, ...]) -> dict[str, torch.Size]:
    """Every key and shape of the checkpoint that fits a network.

    Args:
        network: in the names of diffusers.
        whole: single layers, by the checkpoint's name and the network's.
        blocks: those of the network.
    """
    own, found = {name: tensor.shape for name, tensor in network.state_dict().items()}, {}
    for published, named in _layers(whole, blocks):
        for part in ("weight", "bias"):
            if (shape := own.get(f"{named}.{part}")) is not None:
                projects = published.endswith(".proj_out") and part == "weight"
                found[f"{published}.{part}"] = torch.Size((*shape, 1)) if projects else shape
    for kind, published, named in blocks:
        if kind == "attention":
            channels = own[f"{named}.to_q.bias"][0]
            found[f"{published}.qkv.weight"] = torch.Size((3 * channels, channels, 1))
            found[f"{published}.qkv.bias"] = torch.Size((3 * channels,))
    return found


def converted(state: StateDict, shape: Shape, whole: Mapping[str, str], blocks: tuple[Block, ...]) -> dict[str, Tensor]:
    """The checkpoint's weights under the names of diffusers; as `published_shapes`, of weights of those shapes."""
    found = {}
    for published, named in _layers(whole, blocks):
        for part in ("weight", "bias"):
            if (tensor := state.get(f"{published}.{part}")) is not None:
                projects = published.endswith(".proj_out") and part == "weight"
                found[f"{named}.{part}"] = tensor[..., 0] if projects else tensor
    for kind, published, named in blocks:
        if kind == "attention":
            for part in ("weight", "bias"):
                rows = state[f"{published}.qkv.{part}"]
                split = _by_heads(rows, shape.heads(len(rows) // 3))
                found |= {f"{named}.to_{name}.{part}": tensor for name, tensor in zip("qkv", split, strict=True)}
    return found


def _by_heads(rows: Tensor, heads: int) -> tuple[Tensor, ...]:
    """Queries, keys and values: the rows are ordered by head, then by which of the three, then by channel."""
    rows = rows[..., 0] if rows.ndim == 3 else rows
    split = rows.reshape(heads, 3, -1, *rows.shape[1:]).unbind(1)
    return tuple(one.flatten(0, 1) for one in split)


def empty_network(shape: Shape, out_channels: int, num_classes: int | None) -> Any:
    """diffusers' network of that shape, on the meta device, as many heads of attention as `shape` says.

    Raises:
        ImportError: diffusers is not installed.
    """
    from diffusers import UNet2DModel
    from diffusers.models.embeddings import TimestepEmbedding, Timesteps

    attention = [attends(shape, level) for level in range(levels(shape))]
    down = tuple("AttnDownBlock2D" if one else "ResnetDownsampleBlock2D" for one in attention)
    up = tuple("AttnUpBlock2D" if one else "ResnetUpsampleBlock2D" for one in reversed(attention))
    with torch.device("meta"):
        network = UNet2DModel(
            sample_size=shape.image_size, in_channels=shape.in_channels, out_channels=out_channels,
            time_embedding_type="positional", freq_shift=0, flip_sin_to_cos=True, down_block_types=down,
            up_block_types=up, block_out_channels=tuple(channels(shape, level) for level in range(levels(shape))),
            layers_per_block=shape.num_res_blocks, downsample_type="resnet", upsample_type="resnet", act_fn="silu",
            attention_head_dim=GROUPS, norm_num_groups=GROUPS, attn_norm_num_groups=GROUPS, norm_eps=1e-5,
            resnet_time_scale_shift="scale_shift", num_class_embeds=num_classes,
            time_embedding_dim=TIME * shape.model_channels,
        )  # fmt: skip
        # diffusers would make them for the channels of the highest resolution, which may be more.
        network.time_proj = Timesteps(shape.model_channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        network.time_embedding = TimestepEmbedding(shape.model_channels, TIME * shape.model_channels)
    _set_heads(network, shape)
    return network


def _set_heads(network: Any, shape: Shape) -> None:
    """diffusers would have heads of one size at every resolution, and so more of them further down."""
    from diffusers.models.attention_processor import Attention

    for module in network.modules():
        if isinstance(module, Attention):
            channels = module.to_q.out_features
            module.heads = shape.heads(channels)
            module.scale = (channels / module.heads) ** -0.5
