"""What is asked of confidences and of numbers, told by name."""

import math

import torch
from torch import Tensor

from fguidance.divergence import holds, require_logits


def require_confidence(confidence: Tensor, correct: Tensor) -> None:
    """Raise unless confidences ``(..., n)`` lie in [0, 1] and as many booleans say which were correct."""
    for name, tensor in (("confidence", confidence), ("correct", correct)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, not {type(tensor).__name__}")
    if not confidence.is_floating_point():
        raise TypeError(f"confidence must be floating point, not {confidence.dtype}")
    if correct.dtype != torch.bool:
        raise TypeError(f"correct must be boolean, not {correct.dtype}")
    if confidence.ndim == 0 or confidence.numel() == 0:
        raise ValueError(f"confidence must have shape (..., n) and not be empty, not {tuple(confidence.shape)}")
    if confidence.shape != correct.shape:
        shapes = tuple(confidence.shape), tuple(correct.shape)
        raise ValueError(f"correct must have the shape of confidence, {shapes[0]}, not {shapes[1]}")
    inside = (confidence >= 0) & (confidence <= 1)
    if not holds(inside):
        raise ValueError(f"confidence must lie in [0, 1], but holds {confidence.detach()[~inside].flatten()[0].item()}")


def require_logits_and_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise unless logits ``(..., classes)`` are finite, of two classes at least, and labels ``(...)`` are of them."""
    require_logits(logits.detach() if isinstance(logits, Tensor) else logits)
    whole = isinstance(labels, Tensor) and not labels.is_floating_point() and not labels.is_complex()
    if not whole or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers, not {getattr(labels, 'dtype', type(labels).__name__)}")
    if logits.shape[-1] < 2:
        raise ValueError(f"logits must be of at least 2 classes, not {logits.shape[-1]}")
    if labels.shape != logits.shape[:-1] or labels.numel() == 0:
        shapes = tuple(logits.shape[:-1]), tuple(labels.shape)
        raise ValueError(f"labels must have shape {shapes[0]} and not be empty, not {shapes[1]}")
    known = (labels >= 0) & (labels.long() < logits.shape[-1])
    if not holds(known):
        raise ValueError(f"labels must be 0 to {logits.shape[-1] - 1}, but hold {int(labels[~known].flatten()[0])}")


def require_number(name: str, value: float, low: float) -> None:
    """Raise ValueError unless a number is finite and at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least {low:g}, not {value!r}")


def require_whole(name: str, value: int) -> None:
    """Raise ValueError unless a number is whole and at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
