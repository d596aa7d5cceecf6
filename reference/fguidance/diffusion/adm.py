"""The UNet of ADM, Dhariwal & Nichol 2021, arXiv:2105.05233, from its published checkpoint into diffusers' network.

The checkpoint numbers its blocks in the order in which they run; diffusers names them by level. `block_names` lists
the pairs. The rest is a matter of names within a block, and of attention, whose queries, keys and values are rows of
one matrix in the checkpoint and three matrices here.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fguidance.diffusion.weights import StateDict, fill, read_state_dict, require_shapes

GROUPS = 32
RESIDUAL = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip
ATTENTION = {"norm": "group_norm", "proj_out": "to_out.0"}
WHOLE = {
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding", "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
}  # fmt: skip
"""The checkpoint's names and diffusers', within a residual block, within attention, and of the single layers."""
Kind = Literal["residual", "attention"]


@dataclass(frozen=True)
class ADMConfig:
    """The shape of an ADM network.

    Attributes:
        image_size: height and width of the images.
        in_channels: of the images.
        model_channels: at the highest resolution.
        out_channels: 6 for a network that learns the variance of three channels.
        num_res_blocks: at each resolution on the way down; one more on the way up.
        attention_downsampling: by how much an image is reduced where there is attention.
        channel_mult: how many times `model_channels` each resolution has, from the highest down.
        num_heads: of attention, the same at each resolution.
        num_classes: of labels.
    """

    image_size: int
    in_channels: int
    model_channels: int
    out_channels: int
    num_res_blocks: int
    attention_downsampling: tuple[int, ...]
    channel_mult: tuple[int, ...]
    num_heads: int
    num_classes: int

    def __post_init__(self) -> None:
        """Raise ValueError on a shape that no such network has."""
        for name in ("image_size", "in_channels", "out_channels", "num_res_blocks", "num_heads", "num_classes"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, not {getattr(self, name)!r}")
        if self.model_channels % GROUPS or self.model_channels % self.num_heads:
            raise ValueError(
                f"model_channels must be a multiple of {GROUPS} and of num_heads={self.num_heads}, "
                f"not {self.model_channels!r}"
            )
        reductions = [2**level for level in range(len(self.channel_mult))]
        if not self.channel_mult or self.image_size % reductions[-1]:
            raise ValueError(f"channel_mult {self.channel_mult!r} halves an image of size {self.image_size} too often")
        if not set(self.attention_downsampling) <= set(reductions):
            raise ValueError(
                f"attention_downsampling must be some of {reductions}, not {self.attention_downsampling!r}"
            )

    @classmethod
    def imagenet128(cls) -> "ADMConfig":
        """The published network for ImageNet at 128 x 128 pixels, 421,529,606 parameters."""
        return cls(
            image_size=128, in_channels=3, model_channels=256, out_channels=6, num_res_blocks=2,
            attention_downsampling=(4, 8, 16), channel_mult=(1, 1, 2, 3, 4), num_heads=4, num_classes=1000,
        )  # fmt: skip

    @property
    def levels(self) -> int:
        """The number of resolutions."""
        return len(self.channel_mult)

    def attends(self, level: int) -> bool:
        """Whether there is attention at a resolution, 0 the highest."""
        return 2**level in self.attention_downsampling


class ADMUNet(nn.Module):
    """The network as the sampler calls it.

    Args:
        network: diffusers' ``UNet2DModel``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The predicted noise and what the variance is made of.

        Args:
            x_t: ``(batch, C, H, W)`` noisy images.
            t: ``(batch,)`` timesteps of the original schedule, 0 to 999.
            y: ``(batch,)`` labels.

        Returns:
            ``(batch, out_channels, H, W)``.
        """
        found: Tensor = self.network(x_t, t, class_labels=y).sample
        return found


def block_names(config: ADMConfig) -> Iterator[tuple[Kind, str, str]]:
    """Each block with learned weights: its kind, its name in the checkpoint and in diffusers."""
    number = 1
    for level in range(config.levels):
        for index in range(config.num_res_blocks):
            yield from _one(config.attends(level), f"input_blocks.{number}", f"down_blocks.{level}", index)
            number += 1
        if level < config.levels - 1:
            yield "residual", f"input_blocks.{number}.0", f"down_blocks.{level}.downsamplers.0"
            number += 1
    yield "residual", "middle_block.0", "mid_block.resnets.0"
    yield "attention", "middle_block.1", "mid_block.attentions.0"
    yield "residual", "middle_block.2", "mid_block.resnets.1"
    yield from _up(config)


def _up(config: ADMConfig) -> Iterator[tuple[Kind, str, str]]:
    number = 0
    for block, level in enumerate(reversed(range(config.levels))):
        attends = config.attends(level)
        for index in range(config.num_res_blocks + 1):
            yield from _one(attends, f"output_blocks.{number}", f"up_blocks.{block}", index)
            if level > 0 and index == config.num_res_blocks:
                yield "residual", f"output_blocks.{number}.{1 + attends}", f"up_blocks.{block}.upsamplers.0"
            number += 1


def _one(attends: bool, published: str, named: str, index: int) -> Iterator[tuple[Kind, str, str]]:
    yield "residual", f"{published}.0", f"{named}.resnets.{index}"
    if attends:
        yield "attention", f"{published}.1", f"{named}.attentions.{index}"


def _layers(config: ADMConfig) -> Iterator[tuple[str, str]]:
    """Each layer that is the same in both, by its two names."""
    yield from WHOLE.items()
    for kind, published, named in block_names(config):
        inner = RESIDUAL if kind == "residual" else ATTENTION
        yield from ((f"{published}.{one}", f"{named}.{other}") for one, other in inner.items())


def published_shapes(network: nn.Module, config: ADMConfig) -> dict[str, torch.Size]:
    """Every key and shape of the checkpoint that fits a network of diffusers."""
    own, found = {name: tensor.shape for name, tensor in network.state_dict().items()}, {}
    for published, named in _layers(config):
        for part in ("weight", "bias"):
            if (shape := own.get(f"{named}.{part}")) is not None:
                projects = published.endswith(".proj_out") and part == "weight"
                found[f"{published}.{part}"] = torch.Size((*shape, 1)) if projects else shape
    for kind, published, named in block_names(config):
        if kind == "attention":
            channels = own[f"{named}.to_q.bias"][0]
            found[f"{published}.qkv.weight"] = torch.Size((3 * channels, channels, 1))
            found[f"{published}.qkv.bias"] = torch.Size((3 * channels,))
    return found


def converted(state: StateDict, config: ADMConfig) -> dict[str, Tensor]:
    """The checkpoint's weights under diffusers' names.

    Args:
        state: of the published shapes.
        config: of the network.
    """
    found = {}
    for published, named in _layers(config):
        for part in ("weight", "bias"):
            if (tensor := state.get(f"{published}.{part}")) is not None:
                found[f"{named}.{part}"] = tensor[..., 0] if tensor.ndim == 3 else tensor
    for kind, published, named in block_names(config):
        if kind == "attention":
            for part in ("weight", "bias"):
                split = _by_heads(state[f"{published}.qkv.{part}"], config.num_heads)
                found |= {f"{named}.to_{name}.{part}": tensor for name, tensor in zip("qkv", split, strict=True)}
    return found


def _by_heads(rows: Tensor, heads: int) -> tuple[Tensor, ...]:
    """Queries, keys and values: the rows are ordered by head, then by which of the three, then by channel."""
    rows = rows[..., 0] if rows.ndim == 3 else rows
    split = rows.reshape(heads, 3, -1, *rows.shape[1:]).unbind(1)
    return tuple(one.flatten(0, 1) for one in split)


def _empty(config: ADMConfig) -> Any:
    """diffusers' network of that shape, on the meta device."""
    from diffusers import UNet2DModel

    attends = [config.attends(level) for level in range(config.levels)]
    down = tuple("AttnDownBlock2D" if attention else "ResnetDownsampleBlock2D" for attention in attends)
    up = tuple("AttnUpBlock2D" if attention else "ResnetUpsampleBlock2D" for attention in reversed(attends))
    with torch.device("meta"):
        network = UNet2DModel(
            sample_size=config.image_size, in_channels=config.in_channels, out_channels=config.out_channels,
            time_embedding_type="positional", freq_shift=0, flip_sin_to_cos=True, down_block_types=down,
            up_block_types=up, block_out_channels=tuple(config.model_channels * times for times in config.channel_mult),
            layers_per_block=config.num_res_blocks, downsample_type="resnet", upsample_type="resnet", act_fn="silu",
            attention_head_dim=config.model_channels // config.num_heads, norm_num_groups=GROUPS,
            attn_norm_num_groups=GROUPS, norm_eps=1e-5, resnet_time_scale_shift="scale_shift",
            num_class_embeds=config.num_classes,
        )  # fmt: skip
    _set_heads(network, config.num_heads)
    return network


def _set_heads(network: Any, heads: int) -> None:
    """As many heads at each resolution: diffusers would have heads of one size, and more of them further down."""
    from diffusers.models.attention_processor import Attention

    for module in network.modules():
        if isinstance(module, Attention):
            module.heads = heads
            module.scale = 1 / math.sqrt(module.to_q.out_features / heads)


def load_adm_unet(state_dict_or_path: StateDict | str | os.PathLike[str], config: ADMConfig) -> ADMUNet:
    """A published ADM network.

    Args:
        state_dict_or_path: the checkpoint's state dict, or its path (``128x128_diffusion.pt``).
        config: its shape, such as `ADMConfig.imagenet128`.

    Returns:
        A network in evaluation mode, none of whose parameters asks for a gradient; called ``(x_t, t, y)`` with t in the
        0..999 of the original schedule.

    Raises:
        TypeError: no state dict and no path.
        FileNotFoundError: no such file.
        ValueError: a corrupt file, or weights of another network.
        ImportError: diffusers is not installed (``pip install 'fguidance[imagenet]'``).

    Source: Dhariwal & Nichol 2021, arXiv:2105.05233.
    """
    network, state = _empty(config), read_state_dict(state_dict_or_path)
    require_shapes(state, published_shapes(network, config), f"an ADM network of {config}")
    return ADMUNet(fill(network, converted(state, config), "diffusers' network")).eval()
