"""From diffusers' names back to those of the published ADM checkpoints, so that ours are read by the same code."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fguidance.diffusion.adm_blocks import ADMShape, Block, converted, published_shapes


def published_names(
    network: nn.Module, shape: ADMShape, whole: Mapping[str, str], blocks: tuple[Block, ...]
) -> dict[str, Tensor]:
    """The weights of a network under the names and in the order of the published checkpoints.

    `converted` only moves numbers. So a checkpoint whose numbers are their own places is converted, and every weight
    goes back to the place that is found where it ended.
    """
    places, count = {}, 0
    for name, size in published_shapes(network, whole, blocks).items():
        places[name] = torch.arange(count, count + size.numel()).view(size)
        count += size.numel()
    own, flat = network.state_dict(), torch.full((count,), torch.nan)
    for name, ended in converted(places, shape, whole, blocks).items():
        flat[ended.flatten()] = own[name].flatten().float()
    return {name: flat[place] for name, place in places.items()}
