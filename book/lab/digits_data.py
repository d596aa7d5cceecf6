"""The 8x8 handwritten digits that come with scikit-learn, in three parts."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from lab.parts import Part, Parts


def load(calibration: int, test: int, seed: int) -> Parts:
    """Split the 1,797 digits, every class in its share; ``calibration`` and ``test`` count images."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 8.0 - 1.0
    targets = torch.tensor(labels, dtype=torch.int64)
    rest, test_rows = train_test_split(range(len(labels)), test_size=test, random_state=seed, stratify=labels)
    train_rows, calibration_rows = train_test_split(
        rest, test_size=calibration, random_state=seed, stratify=labels[rest]
    )
    return Parts(*(Part(images[rows], targets[rows]) for rows in (train_rows, calibration_rows, test_rows)))
