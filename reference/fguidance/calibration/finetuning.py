"""Fine-tuning a classifier by cross-entropy plus a calibration loss, as the paper does.

Source: arXiv:2511.05844.
"""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fguidance.calibration.checks import require_number, require_whole
from fguidance.calibration.losses import binned_smooth_ece_loss, smooth_ece_loss

Loss = Callable[[Tensor, Tensor], Tensor]
Batches = Iterable[tuple[Tensor, Tensor]]


def _nothing(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.new_zeros(())


LOSSES: dict[str, Callable[[float], Loss]] = {
    "cross_entropy": lambda beta: _nothing,
    "smooth_ece": lambda beta: lambda logits, labels: smooth_ece_loss(logits, labels, beta),
    "binned_smooth_ece": lambda beta: lambda logits, labels: binned_smooth_ece_loss(logits, labels, beta),
}


@dataclass(frozen=True)
class Epoch:
    """One pass over the data.

    Attributes:
        training: mean of cross-entropy + weight * loss over the batches.
        cross_entropy: the first part of it.
        validation: the same sum on the validation data, or NaN without any.
    """

    training: float
    cross_entropy: float
    validation: float


@dataclass(frozen=True)
class Finetuned:
    """What came of it.

    Attributes:
        classifier: the best one, in evaluation mode: that of the smallest validation loss, or the last.
        history: of all epochs.
        best: the number of the epoch that it is of, from 0; -1 for the classifier as it was given.
    """

    classifier: nn.Module
    history: list[Epoch] = field(default_factory=list)
    best: int = -1


def finetune(
    classifier: nn.Module,
    data: Batches,
    loss: str | Loss = "smooth_ece",
    weight: float = 1.0,
    *,
    beta: float = 1e-2,
    epochs: int = 5,
    learning_rate: float = 1e-4,
    validation: Batches | None = None,
    patience: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Finetuned:
    """Minimise cross-entropy + weight * loss (:eq:`eq-finetuning`) by AdamW, on a copy of the classifier.

    Args:
        classifier: images to logits; it stays as it is.
        data: batches of images and labels, such as a ``DataLoader``; gone through once in each epoch.
        loss: "smooth_ece", "binned_smooth_ece", "cross_entropy" (nothing besides it), or a function of logits
            and labels.
        weight: lambda, at least 0.
        beta: of the two losses by name.
        epochs: at most so many.
        learning_rate: above 0; it falls along a cosine to nothing.
        validation: batches on which the same sum chooses the best epoch; the classifier as it was given takes part.
        patience: stop after so many epochs in which it did not get better; None never stops early.
        seed: of shuffling, dropout and all else that draws from PyTorch's generator, which is put back afterwards.
        progress: show a bar on standard error.

    Raises:
        TypeError: `classifier` is no module.
        ValueError: an unknown `loss`, a number out of range, no batches, patience without validation, or a loss that is
            not finite; the classifier that was given is unharmed.
    """
    chosen = _chosen(loss, beta)
    _require(classifier, weight, beta, epochs, learning_rate, validation, patience)
    tuned = copy.deepcopy(classifier)
    devices = list({parameter.device for parameter in tuned.parameters() if parameter.is_cuda})
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)
        return _Run(tuned, data, chosen, weight, validation, patience, progress).run(epochs, learning_rate)


def _chosen(loss: str | Loss, beta: float) -> Loss:
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss must be a function or one of {', '.join(LOSSES)}, not {loss!r}")
    return LOSSES[loss](beta)


def _require(
    classifier: nn.Module,
    weight: float,
    beta: float,
    epochs: int,
    learning_rate: float,
    validation: Batches | None,
    patience: int | None,
) -> None:
    if not isinstance(classifier, nn.Module):
        raise TypeError(f"classifier must be a torch.nn.Module, not {type(classifier).__name__}")
    require_number("weight", weight, 0)
    require_number("beta", beta, 0)
    require_whole("epochs", epochs)
    require_number("learning_rate", learning_rate, 0)
    if learning_rate == 0:
        raise ValueError("learning_rate must be above 0, not 0")
    if patience is not None:
        require_whole("patience", patience)
        if validation is None:
            raise ValueError("patience needs validation batches, by which an epoch is better than another")


@dataclass
class _Run:
    classifier: nn.Module
    data: Batches
    loss: Loss
    weight: float
    validation: Batches | None
    patience: int | None
    progress: bool

    def run(self, epochs: int, learning_rate: float) -> Finetuned:
        optimizer = torch.optim.AdamW(self.classifier.parameters(), lr=learning_rate)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        history: list[Epoch] = []
        best, smallest = -1, self._validated()
        kept = copy.deepcopy(self.classifier.state_dict())
        for epoch in range(epochs):
            training, cross_entropy = self._trained(optimizer, f"epoch {epoch + 1}/{epochs}")
            rate.step()
            history.append(Epoch(training, cross_entropy, self._validated()))
            if self.validation is None or history[-1].validation < smallest:
                best, smallest = epoch, history[-1].validation
                kept = copy.deepcopy(self.classifier.state_dict())
            if self.patience is not None and epoch - best >= self.patience:
                break
        self.classifier.load_state_dict(kept)
        return Finetuned(self.classifier.eval(), history, best)

    def _trained(self, optimizer: torch.optim.Optimizer, title: str) -> tuple[float, float]:
        from rich.console import Console
        from rich.progress import track

        self.classifier.train()
        total, count, first = 0.0, 0, 0.0
        shown = track(self.data, title, console=Console(stderr=True), disable=not self.progress, transient=True)
        for images, labels in shown:
            both, cross_entropy = self._losses(images, labels)
            optimizer.zero_grad()
            both.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            count += len(labels)
            total, first = total + both.item() * len(labels), first + cross_entropy.item() * len(labels)
            if not math.isfinite(total):
                raise ValueError(f"the loss is {both.item()} after {count} samples; try a learning_rate that is lower")
        if count == 0:
            raise ValueError("data has no batches (an iterator is used up after one epoch; a DataLoader is not)")
        return total / count, first / count

    @torch.no_grad()
    def _validated(self) -> float:
        if self.validation is None:
            return math.nan
        self.classifier.eval()
        total, count = 0.0, 0
        for images, labels in self.validation:
            both, _ = self._losses(images, labels)
            total, count = total + both.item() * len(labels), count + len(labels)
        if not math.isfinite(total):
            raise ValueError(f"the loss is {total / count} on the validation batches")
        if count == 0:
            raise ValueError("validation has no batches (an iterator is used up after one epoch; a DataLoader is not)")
        return total / count

    def _losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        device = next(self.classifier.parameters()).device
        labels = labels.to(device)
        logits = self.classifier(images.to(device))
        cross_entropy = F.cross_entropy(logits, labels)
        return cross_entropy + self.weight * self.loss(logits, labels), cross_entropy
