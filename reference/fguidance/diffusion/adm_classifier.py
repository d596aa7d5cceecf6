"""The classifier of ADM, Dhariwal & Nichol 2021, arXiv:2105.05233, which has seen noise: the lower half of its UNet.

Attention pools what is left of the image: a query of its mean over all pixels, with a learned embedding of each place.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fguidance.diffusion.adm_blocks import (
    GROUPS,
    ADMShape,
    converted,
    empty_network,
    encoder_blocks,
    published_shapes,
)  # fmt: skip
from fguidance.state_dicts import StateDict, fill, read_state_dict, require_shapes

WHOLE = {
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in", "out.0": "norm", "out.2.qkv_proj": "pool.qkv_proj", "out.2.c_proj": "pool.c_proj",
}  # fmt: skip
EMBEDDING = {"out.2.positional_embedding": "pool.positional_embedding"}
"""The single layers and the one parameter of its own, by the checkpoint's names and by ours."""


@dataclass(frozen=True, kw_only=True)
class ADMClassifierConfig(ADMShape):
    """The shape of an ADM classifier: the fields of `ADMShape`, and one more.

    Attributes:
        num_head_channels: of each head of attention.
    """

    num_head_channels: int
    divisor = "num_head_channels"

    @classmethod
    def imagenet128(cls) -> "ADMClassifierConfig":
        """The published classifier for ImageNet at 128 x 128 pixels, 42,568,040 parameters."""
        return cls(
            image_size=128, in_channels=3, model_channels=128, num_res_blocks=2, attention_downsampling=(4, 8, 16),
            channel_mult=(1, 1, 2, 3, 4), num_head_channels=64, num_classes=1000,
        )  # fmt: skip

    def heads(self, channels: int) -> int:
        """As many as there are times `num_head_channels`."""
        return channels // self.num_head_channels


class _AttentionPool(nn.Module):
    """The mean of all pixels asks each of them; what it hears becomes the logits."""

    def __init__(self, size: int, channels: int, heads: int, num_classes: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(channels, size**2 + 1))
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, num_classes, 1)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2)
        tokens = torch.cat((pixels.mean(-1, keepdim=True), pixels), -1) + self.positional_embedding
        rows = self.qkv_proj(tokens).unflatten(1, (3, self.heads, -1)).transpose(-1, -2)
        query, key, value = rows.unbind(1)
        heard = F.scaled_dot_product_attention(query[:, :, :1], key, value)
        logits: Tensor = self.c_proj(heard.transpose(-1, -2).flatten(1, 2))[..., 0]
        return logits


class ADMClassifier(nn.Module):
    """The lower half of diffusers' network, and a pool.

    Args:
        network: diffusers' ``UNet2DModel``, of which the lower half is taken.
        config: its shape.
    """

    def __init__(self, network: Any, config: ADMClassifierConfig) -> None:
        super().__init__()
        width = config.channels(config.levels - 1)
        size = config.image_size // 2 ** (config.levels - 1)
        self.conv_in, self.time_proj, self.time_embedding = network.conv_in, network.time_proj, network.time_embedding
        self.down_blocks, self.mid_block = network.down_blocks, network.mid_block
        self.norm = nn.GroupNorm(GROUPS, width)
        self.pool = _AttentionPool(size, width, config.heads(width), config.num_classes)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The logits of noisy images.

        Args:
            x_t: ``(batch, C, H, W)`` noisy images.
            t: ``(batch,)`` timesteps of the original schedule, 0 to 999.

        Returns:
            ``(batch, num_classes)``.
        """
        embedding = self.time_embedding(self.time_proj(t).to(x_t.dtype))
        h = self.conv_in(x_t)
        for block in self.down_blocks:
            h, _ = block(hidden_states=h, temb=embedding)
        logits: Tensor = self.pool(F.silu(self.norm(self.mid_block(h, embedding))))
        return logits


def empty_adm_classifier(config: ADMClassifierConfig) -> ADMClassifier:
    """The network without storage, on the meta device."""
    with torch.device("meta"):
        return ADMClassifier(empty_network(config, config.in_channels, None), config)


def load_adm_classifier(
    state_dict_or_path: StateDict | str | os.PathLike[str], config: ADMClassifierConfig
) -> ADMClassifier:
    """A published noise-aware classifier.

    Args:
        state_dict_or_path: the checkpoint's state dict, or its path (``128x128_classifier.pt``).
        config: its shape, such as `ADMClassifierConfig.imagenet128`.

    Returns:
        A network in evaluation mode, none of whose parameters asks for a gradient; called ``(x_t, t)`` with t in the
        0..999 of the original schedule.

    Raises:
        TypeError: no state dict and no path.
        FileNotFoundError: no such file.
        ValueError: a corrupt file, or weights of another network.
        ImportError: diffusers is not installed (``pip install 'fguidance[imagenet]'``).

    Source: Dhariwal & Nichol 2021, arXiv:2105.05233.
    """
    blocks, network = tuple(encoder_blocks(config)), empty_adm_classifier(config)
    state, own = read_state_dict(state_dict_or_path), network.state_dict()
    expected = published_shapes(network, WHOLE, blocks) | {one: own[ours].shape for one, ours in EMBEDDING.items()}
    require_shapes(state, expected, f"an ADM classifier of {config}")
    weights = converted(state, config, WHOLE, blocks) | {ours: state[one] for one, ours in EMBEDDING.items()}
    return fill(network, weights, "our network")
