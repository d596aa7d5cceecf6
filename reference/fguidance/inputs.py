"""Rules for arguments that functions share; a message names the argument, its value and the rule it breaks."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral, Real

import torch
from torch import Tensor

_unread = ContextVar("unread", default=False)


@contextmanager
def without_reading() -> Iterator[None]:
    """Take it that values are what they must be: to look at them makes a GPU wait. Shapes and dtypes are checked."""
    before = _unread.set(True)
    try:
        yield
    finally:
        _unread.reset(before)


def readable(tensor: Tensor) -> bool:
    """Whether the program may look at values: not under compile or a transform such as vmap."""
    if torch.compiler.is_compiling() or tensor.is_meta or _unread.get():
        return False
    return torch._C._functorch.peek_interpreter_stack() is None


def holds(condition: Tensor) -> bool:
    """Whether all of `condition` is true; values that cannot be read, under compile or vmap, pass unchecked."""
    return not readable(condition) or bool(condition.all())


def require_number(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """A number, also one of NumPy's, as a float.

    Raises:
        TypeError: it is no real number; True and False are none.
        ValueError: it is not finite, or not from `low` to `high`.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {value!r}")
    number = float(value)
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"{name} must be a finite number{_range(low, high)}, not {value!r}")
    return number


def require_positive(name: str, value: object, high: float = math.inf) -> float:
    """As `require_number`, of a number above 0."""
    number = require_number(name, value, high=high)
    if number <= 0:
        raise ValueError(f"{name} must be a finite number above 0, not {value!r}")
    return number


def require_whole(name: str, value: object, low: int = 1, high: float = math.inf) -> int:
    """A whole number, also one of NumPy's, as an int.

    Raises:
        TypeError: it is no integer; True and False are none.
        ValueError: it is not from `low` to `high`.
    """
    rule = f"{name} must be a whole number{_range(low, high)}, not {value!r}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(rule)
    number = int(value)
    if not low <= number <= high:
        raise ValueError(rule)
    return number


def _range(low: float, high: float) -> str:
    if high < math.inf:
        return f" from {low:g} to {high:g}" if low > -math.inf else f" of at most {high:g}"
    return f" of at least {low:g}" if low > -math.inf else ""


def require_floating(**tensors: Tensor) -> None:
    """Raise TypeError unless every tensor is floating point, ValueError unless it has a class axis."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, not {type(tensor).__name__}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be floating point, not {tensor.dtype}")
        if tensor.ndim == 0 or tensor.shape[-1] == 0:
            raise ValueError(f"{name} must have shape (..., classes), not {tuple(tensor.shape)}")


def require_logits(logits: Tensor) -> None:
    """Raise unless `logits` are finite and floating point, shape (..., classes)."""
    require_floating(logits=logits)
    if holds(logits.detach().sum().isfinite()):
        return  # a sum that is finite has no term that is not, and is quick to take
    if not holds(torch.isfinite(logits)):
        raise ValueError(f"logits must be finite, but hold {_first(logits, ~torch.isfinite(logits))}")


def require_same_shape(**tensors: Tensor) -> None:
    """Raise ValueError unless two tensors have the same shape."""
    (name, first), (other, second) = tensors.items()
    if first.shape != second.shape:
        raise ValueError(f"{other} must have the shape of {name}, {tuple(first.shape)}, not {tuple(second.shape)}")


def require_log_probs(**tensors: Tensor) -> None:
    """Raise unless each of one or two tensors of the same shape holds logarithms of distributions."""
    require_floating(**tensors)
    if len(tensors) == 2:
        require_same_shape(**tensors)
    for name, tensor in tensors.items():
        tolerance = max(1e-3, 16 * torch.finfo(tensor.dtype).eps)
        if not holds(tensor <= tolerance):
            raise ValueError(
                f"{name} must be log-probabilities, at most 0, but holds {_first(tensor, ~(tensor <= tolerance))}"
            )
        total = torch.logsumexp(tensor.detach().float(), -1).exp()
        if not holds((total - 1).abs() <= tolerance):
            found = _first(total, ~((total - 1).abs() <= tolerance))
            raise ValueError(
                f"{name} must be the logarithm of a distribution: its exponentials sum to {found:g}, not 1"
            )


def _first(tensor: Tensor, bad: Tensor) -> float:
    return float(tensor.detach()[bad].flatten()[0])


def require_labels(labels: Tensor, num_classes: int) -> None:
    """Raise unless `labels` are integers, of any dtype and shape, from 0 to num_classes - 1."""
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a torch.Tensor, not {type(labels).__name__}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers, not {labels.dtype}")
    whole = labels.long()  # in 8 bits, the number of classes itself would overflow
    if not holds((whole >= 0) & (whole < num_classes)):
        raise ValueError(f"labels must lie from 0 to {num_classes - 1}, but run from {whole.min()} to {whole.max()}")


def require_batch(logits: Tensor, labels: Tensor) -> None:
    """Raise unless logits ``(..., classes)`` are finite, of two classes at least, and labels ``(...)`` are of them."""
    require_logits(logits)
    if logits.shape[-1] < 2:
        raise ValueError(f"logits must have at least 2 classes, not the shape {tuple(logits.shape)}")
    if isinstance(labels, Tensor) and labels.shape != logits.shape[:-1]:
        shapes = tuple(logits.shape[:-1]), tuple(labels.shape)
        raise ValueError(f"labels must have the logits' shape without classes, {shapes[0]}, not {shapes[1]}")
    require_labels(labels, logits.shape[-1])


def require_samples(logits: Tensor, labels: Tensor, *, flat: bool = False) -> None:
    """As `require_batch`, and that there is a sample; `flat` asks for logits ``(samples, classes)``."""
    require_batch(logits, labels)
    if labels.numel() == 0:
        raise ValueError(f"labels must hold at least one sample, not the shape {tuple(labels.shape)}")
    if flat and logits.ndim != 2:
        raise ValueError(f"logits must have shape (samples, classes), not {tuple(logits.shape)}")


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
    require_same_shape(confidence=confidence, correct=correct)
    inside = (confidence >= 0) & (confidence <= 1)
    if not holds(inside):
        raise ValueError(f"confidence must lie in [0, 1], but holds {_first(confidence, ~inside)}")


def require_features(name: str, features: Tensor, at_least: int) -> None:
    """Raise unless features are floating point, finite, and ``(n, d)`` with n at least `at_least`."""
    if not isinstance(features, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, not {type(features).__name__}")
    if not features.is_floating_point():
        raise TypeError(f"{name} must be floating point, not {features.dtype}")
    if features.ndim != 2 or len(features) < at_least:
        raise ValueError(f"{name} must have shape (n, d), n at least {at_least}, not {tuple(features.shape)}")
    if not holds(features.isfinite()):
        raise ValueError(f"{name} must be finite")
