"""Three small networks: the denoiser, the classifier that guides and the one that judges."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """Timesteps ``(batch,)`` to features ``(batch, width)``: sines and cosines, then two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.exp(-math.log(10_000) * torch.arange(16) / 16))
        self.layers = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, timesteps: Tensor) -> Tensor:
        angles = timesteps[:, None] * self.frequencies
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shift by the time embedding."""

    def __init__(self, channels_in: int, channels: int, time_width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(8, channels_in), nn.SiLU(), nn.Conv2d(channels_in, channels, 3, padding=1)
        )
        self.shift = nn.Linear(time_width, channels)
        self.second = nn.Sequential(nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))
        self.skip = nn.Identity() if channels_in == channels else nn.Conv2d(channels_in, channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.first(x) + self.shift(time)[:, :, None, None]
        return self.skip(x) + self.second(h)


class Attention(nn.Module):
    """Every pixel attends to every pixel."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = self.query_key_value(self.norm(x)).view(batch, 3, self.heads, channels // self.heads, -1)
        query, key, value = tokens.transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(-1, -2)
        return x + self.out(mixed.reshape(batch, channels, height, width))


class Denoiser(nn.Module):
    """An unconditional UNet over 8x8 and 4x4 pixels that predicts the noise; the labels are ignored."""

    def __init__(self, width: int) -> None:
        super().__init__()
        time_width, wide = 4 * width, 2 * width
        self.time = TimeEmbedding(time_width)
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.fine_down = ResidualBlock(width, width, time_width)
        self.down = nn.Conv2d(width, wide, 3, stride=2, padding=1)
        self.coarse_down = ResidualBlock(wide, wide, time_width)
        self.attention = Attention(wide, heads=4)
        self.coarse_middle = ResidualBlock(wide, wide, time_width)
        self.coarse_up = ResidualBlock(2 * wide, wide, time_width)
        self.up = nn.Conv2d(wide, width, 3, padding=1)
        self.fine_up = ResidualBlock(2 * width, width, time_width)
        self.head = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, x: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> Tensor:
        time = self.time(timesteps)
        fine = self.fine_down(self.stem(x), time)
        coarse = self.coarse_down(self.down(fine), time)
        middle = self.coarse_middle(self.attention(coarse), time)
        coarse = self.coarse_up(torch.cat([middle, coarse], dim=1), time)
        up = self.up(F.interpolate(coarse, scale_factor=2))
        return self.head(self.fine_up(torch.cat([up, fine], dim=1), time))


class GuidingClassifier(nn.Sequential):
    """Images to logits; smooth activations, so that its gradient is smooth too."""

    def __init__(self, width: int = 32) -> None:
        super().__init__(
            nn.Conv2d(1, width, 3, padding=1), nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.SiLU(),
            nn.Flatten(), nn.Linear(8 * width, 10),
        )  # fmt: skip


class JudgingClassifier(nn.Module):
    """A second opinion of another shape; its last hidden layer gives the features of the metrics."""

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 24, 5, padding=2), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.Flatten(),
            nn.Dropout(0.2), nn.Linear(48 * 16, features), nn.Tanh(),
        )  # fmt: skip
        self.head = nn.Linear(features, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
