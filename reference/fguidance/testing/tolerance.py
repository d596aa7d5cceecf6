"""What errors are forgiven: those that rounding the inputs by a few units in the last place would cause."""

from collections.abc import Callable

import torch
from torch import Tensor

from fguidance.testing.check import Violation

ULPS = 16


def eps(dtype: torch.dtype) -> float:
    """The spacing of the numbers just above 1."""
    return torch.finfo(dtype).eps


def smallest(dtype: torch.dtype) -> float:
    """The smallest positive normal number."""
    return torch.finfo(dtype).tiny


def conditioning(log_p: Tensor, log_q: Tensor) -> Tensor:
    """1 + |log p| + |log q| per class, in float64: how an error of one ulp in the inputs is magnified."""
    return 1 + log_p.double().abs().clamp_max(1e4) + log_q.double().abs().clamp_max(1e4)


def further(log_p: Tensor, log_q: Tensor) -> Tensor:
    """`log_q` moved by a few ulps, in float64; where it is, in half precision, whose ulps would excuse too much."""
    ulps = 4 * eps(log_q.dtype) if log_q.dtype.itemsize > 2 else 0.0
    return log_q.double() - ulps * conditioning(log_p, log_q)


def rounding_of_parts(
    name: str, first: Tensor, log_q: Tensor, weight: Tensor, ulps: float, gauge: float = 0.0, scale: float = 1.0
) -> Tensor:
    """What `ulps` units in the last place of what goes in and of each step may change, class by class.

    Args:
        name: ``"value"``, ``"weight"`` or ``"logit_gradient"``.
        first: logits for the last, log-probabilities for the others, shape (classes,).
        log_q: shape (classes,).
        weight: the weights, shape (classes,).
        ulps: how many.
        gauge: f'(1) of the weights.
        scale: of the divergence.

    Returns:
        Shape (classes,), or () for the value; float64.
    """
    log_p = torch.log_softmax(first.double(), -1)
    sizes = weight.double().abs() + (scale + abs(gauge)) * (log_p.exp() + log_q.double().exp())
    parts = sizes * conditioning(log_p, log_q)
    if name == "value":
        return ulps * eps(first.dtype) * parts.sum()
    if name == "weight":
        return ulps * eps(first.dtype) * parts
    parts = parts + sizes * first.double().abs().max()  # as log softmax rounds the logits
    return ulps * eps(first.dtype) * (parts + log_p.exp() * parts.sum())


def _reach(dtype: torch.dtype) -> float:
    largest = torch.finfo(dtype).max
    return largest / 2**10 if largest > 1e30 else 0.99 * largest


def require_close(what: str, found: Tensor, expected: Tensor, allowed: Tensor | float, **evidence: object) -> None:
    """Raise `Violation` unless every entry of `found` is within `allowed` of `expected`; NaN never is.

    An infinity counts as right where the expected number is beyond the range of the dtype, or so close to the end of
    it that an intermediate sum overflows first. A few of the smallest numbers of the dtype are always forgiven.
    """
    result, wanted = found.detach().double(), expected.detach().double()
    if result.shape != wanted.shape:
        raise Violation(f"{what} has shape {tuple(result.shape)}, not {tuple(wanted.shape)}", **evidence)
    beyond = (wanted.abs() >= _reach(found.dtype)) & (result == torch.inf * wanted.sign())
    error = (result - wanted).abs()
    underflow = 64 * eps(found.dtype) * smallest(found.dtype)
    right = beyond | (error <= torch.as_tensor(allowed, dtype=torch.float64) + underflow)
    if not bool(right.all()):
        raise Violation(_difference(what, result, wanted, error[~right]), found=found, expected=wanted, **evidence)


def _difference(what: str, found: Tensor, expected: Tensor, error: Tensor) -> str:
    if bool(expected.isnan().any()):
        return f"{what} cannot be compared: what it should be equal to holds NaN itself"
    if bool(found.isnan().any()):
        return f"{what} holds NaN"
    return f"{what} is off by {float(error.nan_to_num(nan=torch.inf).max()):.3g}, more than rounding explains"


def require_close_if_steep(
    what: str, found: Tensor, expected: Tensor, allowed: Tensor | float, moved: Callable[[], Tensor], **evidence: object
) -> None:
    """As `require_close`, but what is as steep as exp(t) or t^64 may also be off by twice what rounding changes in it.

    `moved` gives what is expected where the log-ratios are a few ulps further, and is called only where it is needed.
    """
    try:
        require_close(what, found, expected, allowed, **evidence)
    except Violation:
        change = (moved().detach() - expected.detach()).double().abs().max().nan_to_num(nan=0.0, posinf=0.0)
        require_close(what, found, expected, allowed + 2 * change, **evidence)
