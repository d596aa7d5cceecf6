"""Labelled images in three parts: to fit networks, to calibrate, to measure."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Images ``(n, C, H, W)`` float32 in [-1, 1] and their labels ``(n,)`` int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Parts:
    """Training images fit every network, calibration images the temperature; test images are only measured."""

    train: Part
    calibration: Part
    test: Part
