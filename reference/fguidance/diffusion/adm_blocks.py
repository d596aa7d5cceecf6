"""Blocks of the ADM networks, by the names of the published checkpoints and by those of diffusers.

The checkpoint numbers its blocks in the order in which they run; diffusers names them by level. `encoder_blocks`
and `decoder_blocks` list the pairs. The rest is a matter of names within a block, and of attention, whose queries, keys
and values are rows of one matrix in the checkpoint and three matrices here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

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


@dataclass(frozen=True, kw_only=True)
class ADMShape:
    """The shape of an ADM network, as far as the diffusion model and the classifier share it.

    Attributes:
        image_size: height and width of the images.
        in_channels: of the images.
        model_channels: what the channels of all resolutions are multiples of; even.
        num_res_blocks: at each resolution on the way down; one more on the way up.
        attention_downsampling: by how much an image is reduced where there is attention.
        channel_mult: how many times `model_channels` each resolution has, from the highest down.
        num_classes: of labels, or of logits.

    Raises:
        TypeError: a count is no integer.
        ValueError: no such network has that shape.
    """

    image_size: int
    in_channels: int
    model_channels: int
    num_res_blocks: int
    attention_downsampling: tuple[int, ...]
    channel_mult: tuple[float, ...]
    num_classes: int
    divisor: ClassVar[str]
    """Which field divides the channels where there is attention."""

    def __post_init__(self) -> None:
        counts = {name: value for name, value in vars(self).items() if not isinstance(value, tuple)}
        for name, number in counts.items():
            require_whole(name, number)
        if self.model_channels % 2:
            raise ValueError(f"model_channels must be even, not {self.model_channels}")
        reductions = [2**level for level in range(self.levels)]
        if not reductions or self.image_size % reductions[-1]:
            raise ValueError(f"channel_mult {self.channel_mult!r} halves an image of size {self.image_size} too often")
        if not set(self.attention_downsampling) <= set(reductions):
            raise ValueError(
                f"attention_downsampling must be some of {reductions}, not {self.attention_downsampling!r}"
            )
        for level, times in enumerate(self.channel_mult):
            told = f"model_channels {self.model_channels} times {times!r} of channel_mult must be"
            if times <= 0 or (self.model_channels * times) % GROUPS:
                raise ValueError(f"{told} a multiple of {GROUPS}")
            attended = self.attends(level) or level == self.levels - 1
            if attended and self.channels(level) % counts[self.divisor]:
                raise ValueError(f"{told} a multiple of {self.divisor}={counts[self.divisor]}, for there is attention")

    @property
    def levels(self) -> int:
        """The number of resolutions."""
        return len(self.channel_mult)

    def attends(self, level: int) -> bool:
        """Whether there is attention at a resolution, 0 the highest."""
        return 2**level in self.attention_downsampling

    def channels(self, level: int) -> int:
        """How many channels a resolution has."""
        return int(self.model_channels * self.channel_mult[level])

    def heads(self, channels: int) -> int:
        """Heads of attention over so many channels."""
        raise NotImplementedError


def encoder_blocks(shape: ADMShape) -> Iterator[Block]:
    """Each block with learned weights down to the middle: its kind, its name in the checkpoint and in diffusers."""
    number = 1
    for level in range(shape.levels):
        for index in range(shape.num_res_blocks):
            yield from _one(shape.attends(level), f"input_blocks.{number}", f"down_blocks.{level}", index)
            number += 1
        if level < shape.levels - 1:
            yield "residual", f"input_blocks.{number}.0", f"down_blocks.{level}.downsamplers.0"
            number += 1
    yield "residual", "middle_block.0", "mid_block.resnets.0"
    yield "attention", "middle_block.1", "mid_block.attentions.0"
    yield "residual", "middle_block.2", "mid_block.resnets.1"


def decoder_blocks(shape: ADMShape) -> Iterator[Block]:
    """The same on the way up again."""
    number = 0
    for block, level in enumerate(reversed(range(shape.levels))):
        attention = shape.attends(level)
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


def converted(
    state: StateDict, shape: ADMShape, whole: Mapping[str, str], blocks: tuple[Block, ...]
) -> dict[str, Tensor]:
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


def empty_network(shape: ADMShape, out_channels: int, num_classes: int | None) -> Any:
    """diffusers' network of that shape, on the meta device, as many heads of attention as `shape` says.

    Raises:
        ImportError: diffusers is not installed.
    """
    from diffusers import UNet2DModel
    from diffusers.models.attention_processor import Attention
    from diffusers.models.embeddings import TimestepEmbedding, Timesteps

    attention = [shape.attends(level) for level in range(shape.levels)]
    down = tuple("AttnDownBlock2D" if one else "ResnetDownsampleBlock2D" for one in attention)
    up = tuple("AttnUpBlock2D" if one else "ResnetUpsampleBlock2D" for one in reversed(attention))
    with torch.device("meta"):
        network = UNet2DModel(
            sample_size=shape.image_size, in_channels=shape.in_channels, out_channels=out_channels,
            time_embedding_type="positional", freq_shift=0, flip_sin_to_cos=True, down_block_types=down,
            up_block_types=up, block_out_channels=tuple(shape.channels(level) for level in range(shape.levels)),
            layers_per_block=shape.num_res_blocks, downsample_type="resnet", upsample_type="resnet", act_fn="silu",
            attention_head_dim=GROUPS, norm_num_groups=GROUPS, attn_norm_num_groups=GROUPS, norm_eps=1e-5,
            resnet_time_scale_shift="scale_shift", num_class_embeds=num_classes,
            time_embedding_dim=TIME * shape.model_channels,
        )  # fmt: skip
        # diffusers would make them for the channels of the highest resolution, which may be more.
        network.time_proj = Timesteps(shape.model_channels, flip_sin_to_cos=True, downscale_freq_shift=0)
        network.time_embedding = TimestepEmbedding(shape.model_channels, TIME * shape.model_channels)
    for module in network.modules():
        if isinstance(module, Attention):  # of which diffusers would have more further down, all of one size
            channels = module.to_q.out_features
            module.heads = shape.heads(channels)
            module.scale = (channels / module.heads) ** -0.5
    return network
