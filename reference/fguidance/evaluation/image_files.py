"""Sample files as the published evaluator reads them, and the reference batch."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as 8-bit pixels, rounded down and cut off at 0 and 255 as the published programs do.

    Args:
        images: ``(batch, C, H, W)`` floating, finite.

    Returns:
        ``(batch, H, W, C)`` uint8, contiguous.

    Raises:
        TypeError: `images` is not a floating tensor.
        ValueError: a wrong shape, or a value that is not finite.
    """
    if not images.is_floating_point():
        raise TypeError(f"images has dtype {images.dtype}; it must be a floating dtype")
    if images.ndim != 4 or not bool(images.isfinite().all()):
        raise ValueError(f"images has shape {tuple(images.shape)}; it must be (batch, C, H, W) and finite")
    pixels = ((images.float() + 1) * 127.5).clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous()


def write_samples(path: str | os.PathLike[str], images: Tensor, labels: Tensor) -> None:
    """Write images as ``arr_0`` and labels as ``arr_1`` of an ``.npz`` file, which appears whole or not at all.

    Args:
        path: the file; an existing one is not overwritten.
        images: ``(n, H, W, C)`` uint8.
        labels: ``(n,)`` integers.

    Raises:
        FileExistsError: there is such a file.
        TypeError: `images` are not uint8 or `labels` no integers.
        ValueError: shapes disagree.
    """
    if images.dtype != torch.uint8 or labels.is_floating_point():
        raise TypeError(f"images and labels are {images.dtype} and {labels.dtype}; they must be uint8 and integers")
    if images.ndim != 4 or labels.shape != images.shape[:1]:
        shapes = tuple(images.shape), tuple(labels.shape)
        raise ValueError(f"images and labels have the shapes {shapes[0]}, {shapes[1]}; must be (n, H, W, C) and (n,)")
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"there is a file {path} already; it is not overwritten")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, images.cpu().numpy(), labels.cpu().numpy().astype(np.int64))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_samples(path: str | os.PathLike[str]) -> tuple[Tensor, Tensor | None]:
    """Read a sample file.

    Args:
        path: an ``.npz`` file with ``arr_0``, and ``arr_1`` if there are labels.

    Returns:
        images ``(n, H, W, C)`` uint8, and labels ``(n,)`` int64 or None.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a corrupt file, or arrays of other kinds.
    """
    arrays = _read(Path(path))
    if "arr_0" not in arrays:
        raise ValueError(f"{path} has no arr_0, but {', '.join(arrays) or 'nothing'}")
    images = _images(path, arrays["arr_0"])
    labels = arrays.get("arr_1")
    if labels is None:
        return images, None
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(f"{path}: arr_1 is {labels.dtype} of shape {labels.shape}; it must be one integer per image")
    return images, torch.from_numpy(labels.astype(np.int64))


@dataclass(frozen=True)
class Reference:
    """What samples are compared with.

    Attributes:
        mu: ``(d,)`` mean of the features of all data, or None.
        sigma: ``(d, d)`` their covariance, or None.
        images: ``(n, H, W, C)`` uint8, some of the data, or None.
    """

    mu: Tensor | None
    sigma: Tensor | None
    images: Tensor | None


def read_reference(path: str | os.PathLike[str]) -> Reference:
    """Read a reference batch: feature statistics, images, or both.

    Args:
        path: an ``.npz`` file with ``mu`` and ``sigma``, or ``arr_0``, such as
            ``VIRTUAL_imagenet128_labeled.npz``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a corrupt file, arrays of other kinds, or none of these.
    """
    arrays = _read(Path(path))
    images = _images(path, arrays["arr_0"]) if "arr_0" in arrays else None
    mu, sigma = arrays.get("mu"), arrays.get("sigma")
    if (mu is None) != (sigma is None):
        raise ValueError(f"{path} has one of mu and sigma; it must have both or none")
    if mu is None or sigma is None:
        if images is None:
            raise ValueError(f"{path} has neither mu and sigma nor arr_0, but {', '.join(arrays) or 'nothing'}")
        return Reference(None, None, images)
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        raise ValueError(f"{path}: mu and sigma have the shapes {mu.shape} and {sigma.shape}; must be (d,) and (d, d)")
    return Reference(torch.from_numpy(mu), torch.from_numpy(sigma), images)


def _images(path: str | os.PathLike[str], array: np.ndarray) -> Tensor:
    if array.dtype != np.uint8 or array.ndim != 4:
        raise ValueError(f"{path}: arr_0 is {array.dtype} of shape {array.shape}; it must be uint8 (n, H, W, C)")
    return torch.from_numpy(array)


def _read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file; a pickled object is refused, since reading it would run it."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {name: found[name] for name in found.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as an .npz file of arrays: {error}") from error
