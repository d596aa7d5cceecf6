"""ADM's networks as plain functions of their state dicts: what there is, is read off the names of the weights.

A second writing, without any library of networks, against which ours is held at every size.
"""

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]


def plain_adm_unet(state: State, x: Tensor, t: Tensor, y: Tensor, heads: int = 4, num_res_blocks: int = 1) -> Tensor:
    """The output of the network, ``(batch, out_channels, H, W)``."""
    emb = _embedding(state, t) + state["label_emb.weight"][y]
    h, skips = _encoder(state, x, emb, heads, num_res_blocks)
    for block in _numbers(state, "output_blocks"):
        h = torch.cat([h, skips.pop()], 1)
        h = _block(state, f"output_blocks.{block}", h, emb, heads, later=_up)
    return _conv(state, "out.2", F.silu(_norm(state, "out.0", h)))


def plain_adm_classifier(state: State, x: Tensor, t: Tensor, head_channels: int, num_res_blocks: int = 1) -> Tensor:
    """The logits, ``(batch, num_classes)``."""
    h, _ = _encoder(state, x, _embedding(state, t), lambda channels: channels // head_channels, num_res_blocks)
    pixels = F.silu(_norm(state, "out.0", h)).flatten(2)
    tokens = torch.cat([pixels.mean(-1, keepdim=True), pixels], -1) + state["out.2.positional_embedding"]
    qkv = F.conv1d(tokens, state["out.2.qkv_proj.weight"], state["out.2.qkv_proj.bias"])
    # Here the rows are ordered q/k/v, then head, then channel.
    q, k, v = qkv.unflatten(1, (3, -1, head_channels)).unbind(1)
    scores = torch.einsum("bhcq,bhck->bhqk", q, k) / math.sqrt(head_channels)
    mixed = torch.einsum("bhqk,bhck->bhcq", scores.softmax(-1), v).flatten(1, 2)
    return F.conv1d(mixed, state["out.2.c_proj.weight"], state["out.2.c_proj.bias"])[..., 0]


def _encoder(
    state: State, x: Tensor, emb: Tensor, heads: int | Callable[[int], int], num_res_blocks: int
) -> tuple[Tensor, list[Tensor]]:
    """The way down and the middle; after the blocks of a level comes one that halves the image."""
    h = _conv(state, "input_blocks.0.0", x)
    skips = [h]
    for block in _numbers(state, "input_blocks")[1:]:
        resize = _same if block % (num_res_blocks + 1) else _down
        h = _block(state, f"input_blocks.{block}", h, emb, heads, first=resize)
        skips.append(h)
    return _block(state, "middle_block", h, emb, heads), skips


def _same(h: Tensor) -> Tensor:
    return h


def _block(
    state: State,
    name: str,
    h: Tensor,
    emb: Tensor,
    heads: int | Callable[[int], int],
    first: Callable[[Tensor], Tensor] = _same,
    later: Callable[[Tensor], Tensor] = _same,
) -> Tensor:
    for number in _numbers(state, name):
        part = f"{name}.{number}"
        if f"{part}.qkv.weight" in state:
            h = _attention(state, part, h, heads(h.shape[1]) if callable(heads) else heads)
        else:
            h = _residual(state, part, h, emb, later if number else first)
    return h


def _numbers(state: State, name: str) -> list[int]:
    return sorted({int(key.removeprefix(f"{name}.").split(".")[0]) for key in state if key.startswith(f"{name}.")})


def _embedding(state: State, t: Tensor) -> Tensor:
    half = state["time_embed.0.weight"].shape[1] // 2
    angles = t[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
    emb = torch.cat([angles.cos(), angles.sin()], 1)
    return _linear(state, "time_embed.2", F.silu(_linear(state, "time_embed.0", emb)))


def _residual(state: State, name: str, x: Tensor, emb: Tensor, resize: Callable[[Tensor], Tensor]) -> Tensor:
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
