"""The random numbers of a sampling run: given ahead, or drawn from one generator per sample."""

from collections.abc import Sequence

import torch
from torch import Tensor


class SeededNoise:
    """Standard normal noise in which every sample has a generator of its own.

    What a sample receives depends on its seed alone: not on the other samples, the batch's size or the
    device, since the numbers are drawn on the CPU.

    Args:
        seeds: one integer per sample.
        shape: ``(channels, height, width)`` of one sample.
        like: a tensor whose dtype and device the noise gets.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], like: Tensor) -> None:
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self.shape = tuple(shape)
        self.like = like

    def draw(self) -> Tensor:
        """Return the next noise of every sample, ``(batch, channels, height, width)``."""
        drawn = [torch.randn(self.shape, generator=generator, dtype=self.like.dtype) for generator in self.generators]
        noise = torch.stack(drawn)
        if self.like.device.type == "cuda":
            noise = noise.pin_memory()  # without it the copy would wait for all that was asked of the GPU before
        return noise.to(self.like.device, non_blocking=True)
