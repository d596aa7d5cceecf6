"""The UNet of ADM, Dhariwal & Nichol 2021, arXiv:2105.05233, from its published checkpoint into diffusers' network."""

import os
from dataclasses import dataclass

from torch import Tensor, nn

from fguidance.diffusion.adm_blocks import (
    ADMShape,
    converted,
    decoder_blocks,
    empty_network,
    encoder_blocks,
    published_shapes,
)  # fmt: skip
from fguidance.state_dicts import StateDict, fill, read_state_dict, require_shapes

WHOLE = {
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding", "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
}  # fmt: skip
"""The single layers, by the checkpoint's names and diffusers'."""


@dataclass(frozen=True, kw_only=True)
class ADMConfig(ADMShape):
    """The shape of an ADM diffusion model: the fields of `ADMShape`, and two more.

    Attributes:
        out_channels: 6 for a network that learns the variance of three channels.
        num_heads: of attention, the same at each resolution.
    """

    out_channels: int
    num_heads: int
    divisor = "num_heads"

    @classmethod
    def imagenet128(cls) -> "ADMConfig":
        """The published network for ImageNet at 128 x 128 pixels, 421,529,606 parameters."""
        return cls(
            image_size=128, in_channels=3, model_channels=256, out_channels=6, num_res_blocks=2,
            attention_downsampling=(4, 8, 16), channel_mult=(1, 1, 2, 3, 4), num_heads=4, num_classes=1000,
        )  # fmt: skip

    def heads(self, channels: int) -> int:
        """The same number, over however many channels."""
        return self.num_heads


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
    blocks = (*encoder_blocks(config), *decoder_blocks(config))
    network = empty_network(config, config.out_channels, config.num_classes)
    state = read_state_dict(state_dict_or_path)
    require_shapes(state, published_shapes(network, WHOLE, blocks), f"an ADM network of {config}")
    return ADMUNet(fill(network, converted(state, config, WHOLE, blocks), "diffusers' network")).eval()
