"""Fashion-MNIST, Xiao et al. 2017, arXiv:1708.07747: 70,000 photographs of clothes, 28x28, under the MIT licence.

`python -m lab.fashion_data FILE` writes a part of the test images as a reference batch.
"""

import argparse
import gzip
import hashlib
import math
import struct
from pathlib import Path

import numpy as np
import pooch
import torch
from sklearn.model_selection import train_test_split

from fguidance.evaluation import read_samples, write_samples
from lab.parts import Part, Parts

URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of what is in the compressed files: Debian compresses them anew, the content is the same."""
CLASSES = (
    "T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
REFERENCE = 1000
LAB = Path(__file__).parent
CONFIG = str(LAB / "fashion_mnist.toml")


def load(calibration: int, seed: int) -> Parts:
    """The 60,000 training images in two parts, every class in its share, and the 10,000 test images."""
    train, test = _part("train"), _part("t10k")
    train_rows, calibration_rows = train_test_split(
        range(len(train)), test_size=calibration, random_state=seed, stratify=train.labels
    )
    first, second = (Part(train.images[rows], train.labels[rows]) for rows in (train_rows, calibration_rows))
    return Parts(first, second, test)


def reference() -> Part:
    """The test images that come with the book's code."""
    images, labels = read_samples(LAB / "fashion_mnist_reference.npz")
    assert labels is not None
    return Part(images.permute(0, 3, 1, 2).float() / 127.5 - 1, labels)


def _part(name: str) -> Part:
    images, labels = _arrays(name)
    return Part(images[:, None].float() / 127.5 - 1, labels.long())


def _arrays(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = (read_idx(content(f"{name}-{kind}-ubyte")) for kind in ("images-idx3", "labels-idx1"))
    return images, labels


def content(name: str) -> bytes:
    """The content of a file, from Debian's folder or downloaded.

    Raises:
        ValueError: it is not what it should be.
    """
    path = DEBIAN / f"{name}.gz"
    if not path.is_file():
        path = Path(pooch.retrieve(f"{URL}/{name}.gz", known_hash=None, fname=f"{name}.gz", progressbar=True))
    found = gzip.decompress(path.read_bytes())
    if (digest := hashlib.sha256(found).hexdigest()) != SHA256[name]:
        raise ValueError(f"{path} is not {name}: the SHA-256 of its content is {digest}, not {SHA256[name]}")
    return found


def read_idx(content: bytes) -> torch.Tensor:
    """An array of bytes in the IDX format: two zeros, 8 for bytes, the number of dimensions, their sizes, the bytes.

    Raises:
        ValueError: another format, or bytes are missing.
    """
    header = 4 + 4 * (content[3] if len(content) > 3 else 0)
    if content[:3] != b"\0\0\x08" or len(content) < header:
        raise ValueError(f"this is no IDX file of bytes: it begins with {content[:4]!r}")
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    values = np.frombuffer(content, np.uint8, offset=header)
    if values.size != math.prod(shape):
        raise ValueError(f"an IDX file of shape {shape} has {values.size} bytes")
    return torch.from_numpy(values.reshape(shape).copy())


def main() -> None:
    """Write the first test images as a reference batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    path = parser.parse_args().file
    images, labels = _arrays("t10k")
    write_samples(path, images[:REFERENCE, ..., None], labels[:REFERENCE])
    print(f"wrote {path}: {REFERENCE} images")


if __name__ == "__main__":
    main()
