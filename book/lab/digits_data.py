"""The 8x8 handwritten digits that come with scikit-learn, in three parts."""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Images ``(n, 1, 8, 8)`` float32 in [-1, 1] and their labels ``(n,)`` int64, 0 to 9."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Digits:
    """Training images fit every network, calibration images the temperature; test images are only measured."""

    train: Part
    calibration: Part
    test: Part


def load(calibration: int, test: int, seed: int) -> Digits:
    """Split the 1,797 digits, every class in its share; ``calibration`` and ``test`` count images."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 8.0 - 1.0
    targets = torch.tensor(labels, dtype=torch.int64)
    rest, test_rows = train_test_split(range(len(labels)), test_size=test, random_state=seed, stratify=labels)
    train_rows, calibration_rows = train_test_split(
        rest, test_size=calibration, random_state=seed, stratify=labels[rest]
    )
    return Digits(*(Part(images[rows], targets[rows]) for rows in (train_rows, calibration_rows, test_rows)))
