"""The small ADM network of the fixtures, written as plain functions of its state dict.

Only the sampler's tests use it: it lets them replay a published chain without any library of networks.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]


def plain_adm_unet(state: State, x: Tensor, t: Tensor, y: Tensor, heads: int = 4) -> Tensor:
    """32 channels, multipliers (1, 2), one residual block a level, attention at the lower level."""
    emb = _embedding(state, t, y)
    h = _conv(state, "input_blocks.0.0", x)
    skips = [h]
    h = _residual(state, "input_blocks.1.0", h, emb)
    skips.append(h)
    h = _residual(state, "input_blocks.2.0", h, emb, resize=_down)
    skips.append(h)
    h = _attention(state, "input_blocks.3.1", _residual(state, "input_blocks.3.0", h, emb), heads)
    skips.append(h)
    h = _attention(state, "middle_block.1", _residual(state, "middle_block.0", h, emb), heads)
    h = _residual(state, "middle_block.2", h, emb)
    for block in range(4):
        h = _residual(state, f"output_blocks.{block}.0", torch.cat([h, skips.pop()], 1), emb)
        if block < 2:
            h = _attention(state, f"output_blocks.{block}.1", h, heads)
        if block == 1:
            h = _residual(state, "output_blocks.1.2", h, emb, resize=_up)
    return _conv(state, "out.2", F.silu(_norm(state, "out.0", h)))


def _embedding(state: State, t: Tensor, y: Tensor) -> Tensor:
    half = state["time_embed.0.weight"].shape[1] // 2
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
    emb = torch.cat([angles.cos(), angles.sin()], 1)
    return _linear(state, "time_embed.2", F.silu(_linear(state, "time_embed.0", emb))) + state["label_emb.weight"][y]


def _residual(state: State, name: str, x: Tensor, emb: Tensor, resize=lambda h: h) -> Tensor:
    h = resize(F.silu(_norm(state, f"{name}.in_layers.0", x)))
    h = _conv(state, f"{name}.in_layers.2", h)
    scale, shift = _linear(state, f"{name}.emb_layers.1", F.silu(emb))[:, :, None, None].chunk(2, 1)
    h = _norm(state, f"{name}.out_layers.0", h) * (1 + scale) + shift
    h = _conv(state, f"{name}.out_layers.3", F.silu(h))
    x = resize(x)
    return h + (_conv(state, f"{name}.skip_connection", x) if f"{name}.skip_connection.weight" in state else x)


def _attention(state: State, name: str, x: Tensor, heads: int) -> Tensor:
    # The rows of qkv are ordered head, then q/k/v, then channel.
    batch, channels, height, width = x.shape
    tokens = _norm(state, f"{name}.norm", x).flatten(2)
    qkv = F.conv1d(tokens, state[f"{name}.qkv.weight"], state[f"{name}.qkv.bias"])
    q, k, v = qkv.view(batch, heads, 3, channels // heads, -1).transpose(-1, -2).unbind(2)
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(batch, channels, -1)
    out = F.conv1d(mixed, state[f"{name}.proj_out.weight"], state[f"{name}.proj_out.bias"])
    return x + out.view(batch, channels, height, width)


def _down(h: Tensor) -> Tensor:
    return F.avg_pool2d(h, 2)


def _up(h: Tensor) -> Tensor:
    return F.interpolate(h, scale_factor=2, mode="nearest")


def _norm(state: State, name: str, h: Tensor) -> Tensor:
    return F.group_norm(h, 32, state[f"{name}.weight"], state[f"{name}.bias"])


def _conv(state: State, name: str, h: Tensor) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(h, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)


def _linear(state: State, name: str, h: Tensor) -> Tensor:
    return F.linear(h, state[f"{name}.weight"], state[f"{name}.bias"])
