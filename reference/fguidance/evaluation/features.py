"""From images to the features on which they are compared, by any network that takes 8-bit images."""

import hashlib
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from fguidance.evaluation.inception import load_inception
from fguidance.inputs import require_whole

Layout = Literal["NHWC", "NCHW"]


def extract_features(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    layout: Layout = "NCHW",
    batch_size: int = 64,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return the features of images, batch by batch.

    Args:
        network: maps uint8 images in the layout to features ``(batch, d)``.
        images: ``(n, height, width, channels)`` uint8, as sample files hold them; any device, usually the CPU.
        layout: the order of axes in which `network` wants its images.
        batch_size: images at a time, at least 1.
        device: where `network` is; None for the device of `images`.

    Returns:
        ``(n, d)`` float32 on the CPU.

    Raises:
        TypeError: `images` are not uint8.
        ValueError: a wrong shape, layout or batch size, no image, or features of a wrong shape or not finite.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images has dtype {images.dtype}; it must be torch.uint8")
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images has shape {tuple(images.shape)}; it must be (n, height, width, channels), not empty")
    if layout not in get_args(Layout):
        raise ValueError(f"layout is {layout!r}; it must be NHWC or NCHW")
    found = []
    for part in torch.split(images, require_whole("batch_size", batch_size)):
        moved = part.to(device) if device is not None else part
        with torch.no_grad(), in_full_float32():
            features = network(moved.permute(0, 3, 1, 2) if layout == "NCHW" else moved)
        if features.ndim != 2 or len(features) != len(part) or not bool(features.isfinite().all()):
            shape = tuple(features.shape)
            raise ValueError(f"network returned the shape {shape}; it must be ({len(part)}, d), all of it finite")
        found.append(features.float().cpu())
    return torch.cat(found)


@contextmanager
def in_full_float32() -> Iterator[None]:
    """Convolutions on a GPU in float32 itself, for PyTorch's default of TF32 has ten binary digits."""
    backend = torch.backends.cudnn
    place = getattr(backend, "conv", backend)  # from PyTorch 2.9 on, where the older setting must not be mixed with it
    name, full = ("allow_tf32", False) if place is backend else ("fp32_precision", "ieee")
    before = getattr(place, name)
    setattr(place, name, full)
    try:
        yield
    finally:
        setattr(place, name, before)


class _TorchScriptInception(nn.Module):
    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.script(images, return_features=True)
        return features

    def logits(self, images: Tensor) -> Tensor:
        """Logarithms of the 1008 probabilities, without the last layer's bias as the Inception score wants them."""
        probabilities: Tensor = self.script(images, no_output_bias=True)
        return probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()


def load_feature_network(path: str | os.PathLike[str], sha256: str | None = None) -> nn.Module:
    """The Inception network of 2015-12-05 from either file that is published of it.

    These are the state dict of pytorch-fid and torch-fidelity, see :func:`~fguidance.evaluation.load_inception`, and
    the TorchScript file of EDM and StyleGAN. The latter is a program: it cannot reach the file system or Python, but
    give `sha256` for a file whose origin you do not know.

    Args:
        path: the file (``weights-inception-2015-12-05-6726825d.pth`` or ``inception-2015-12-05.pt``).
        sha256: what the file must have, in hexadecimal; None to take it as it is.

    Returns:
        A module that maps NCHW uint8 images to ``(batch, 2048)``, on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another hash, a corrupt file, or weights of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if sha256 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256.lower():
            raise ValueError(f"{path} has the SHA-256 {found} and not {sha256}")
    if not _is_torchscript(path):
        return load_inception(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the published file has no other format
            script = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is no TorchScript program: {str(error).partition(chr(10))[0]}") from error
    return _TorchScriptInception(script).eval().requires_grad_(False)


def _is_torchscript(path: Path) -> bool:
    """Whether a file is an archive with code in it; what cannot be read at all is told by who reads it."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).name == "constants.pkl" for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False
