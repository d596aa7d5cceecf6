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

from fguidance.calibration.losses import binned_smooth_ece_loss, smooth_ece_loss
from fguidance.inputs import require_number, require_positive, require_whole

Loss = Callable[[Tensor, Tensor], Tensor]
Batches = Iterable[tuple[Tensor, Tensor]]


LOSSES: dict[str, Callable[[float], Loss]] = {
    "cross_entropy": lambda beta: lambda logits, labels: logits.new_zeros(()),
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
    """Result of fine-tuning.

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
        TypeError: `classifier` is no module, or a number is none.
        ValueError: an unknown `loss`, a number out of range, no batches, patience without validation, or a loss that is
            not finite; the classifier that was given is unharmed.
    """
    if not isinstance(classifier, nn.Module):
        raise TypeError(f"classifier must be a torch.nn.Module, not {type(classifier).__name__}")
    if not callable(loss) and loss not in LOSSES:
        raise ValueError(f"loss must be a function or one of {', '.join(LOSSES)}, not {loss!r}")
    beta, weight = require_number("beta", beta, 0), require_number("weight", weight, 0)
    epochs, learning_rate = require_whole("epochs", epochs), require_positive("learning_rate", learning_rate)
    if patience is not None:
        patience = require_whole("patience", patience)
        if validation is None:
            raise ValueError("patience needs validation batches, by which an epoch is better than another")
    chosen = loss if callable(loss) else LOSSES[loss](beta)
    tuned = copy.deepcopy(classifier)
    devices = list({parameter.device for parameter in tuned.parameters() if parameter.is_cuda})
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)
        return _Run(tuned, data, chosen, weight, validation, patience, progress).run(epochs, learning_rate)


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

        def step(both: Tensor) -> None:
            optimizer.zero_grad()
            both.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        shown = track(self.data, title, console=Console(stderr=True), disable=not self.progress, transient=True)
        return self._means("data", shown, step)

    @torch.no_grad()
    def _validated(self) -> float:
        return math.nan if self.validation is None else self._means("validation", self.validation, None)[0]

    def _means(self, name: str, batches: Batches, step: Callable[[Tensor], None] | None) -> tuple[float, float]:
        """Means over all samples of the sum and of the cross-entropy, with a step after each batch, if there is one."""
        self.classifier.train(step is not None)
        device = next(self.classifier.parameters()).device
        total, first, count = 0.0, 0.0, 0
        for images, labels in batches:
            labels = labels.to(device)
            logits = self.classifier(images.to(device))
            cross_entropy = F.cross_entropy(logits, labels)
            both = cross_entropy + self.weight * self.loss(logits, labels)
            if step is not None:
                step(both)
            count += len(labels)
            total, first = total + both.item() * len(labels), first + cross_entropy.item() * len(labels)
            if not math.isfinite(total):
                told = "; try a learning_rate that is lower" if step is not None else ""
                raise ValueError(f"the loss is {both.item()} after {count} samples of {name}{told}")
        if count == 0:
            raise ValueError(f"{name} has no batches (an iterator is used up after one epoch; a DataLoader is not)")
        return total / count, first / count
