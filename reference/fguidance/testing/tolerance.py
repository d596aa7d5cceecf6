"""Which errors are forgiven: those that rounding the inputs by a few units in the last place would cause."""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from fguidance.testing.surroundings import settings_kept

ULPS = 16
ORDINARY = 2.0**10
"""Between its inverse and it a scale counts as 1."""
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Violation(AssertionError):
    """Evidence that a property does not hold; `evidence` holds the numbers that show it, by name."""

    def __init__(self, message: str, **evidence: object) -> None:
        super().__init__(message)
        self.evidence = evidence


def eps(dtype: torch.dtype) -> float:
    """The spacing of the numbers just above 1."""
    return torch.finfo(dtype).eps


def smallest(dtype: torch.dtype) -> float:
    """The smallest positive normal number."""
    return torch.finfo(dtype).tiny


def ulps_between(first: Tensor, second: Tensor) -> Tensor:
    """How many numbers of their dtype two tensors of one shape are apart, entry by entry, in float64.

    It is 0 for two NaNs and infinite where only one of two is finite.
    """
    bits = _BITS[first.dtype.itemsize]
    ranks = [one.detach().contiguous().view(bits).long() for one in (first, second)]
    here, there = (torch.where(rank < 0, torch.iinfo(bits).min - rank, rank) for rank in ranks)
    apart = (here.double() - there.double()).abs()
    found = torch.where(apart < 2.0**62, (here - there).abs().double(), apart)
    found[~(first.isfinite() & second.isfinite())] = math.inf
    found[(first == second) | (first.isnan() & second.isnan())] = 0.0
    return found


def conditioning(log_p: Tensor, log_q: Tensor) -> Tensor:
    """1 + |log p| + |log q| per class, in float64: how an error of one ulp in the inputs is magnified."""
    return 1 + log_p.double().abs().clamp_max(1e4) + log_q.double().abs().clamp_max(1e4)


def further(log_p: Tensor, log_q: Tensor) -> Tensor:
    """`log_q` moved by a few ulps, in float64; not in half precision, whose ulps would excuse too much."""
    ulps = 4 * eps(log_q.dtype) if log_q.dtype.itemsize > 2 else 0.0
    return log_q.double() - ulps * conditioning(log_p, log_q)


def rounding_of_parts(
    name: str, first: Tensor, log_q: Tensor, weight: Tensor, ulps: float, gauge: float = 0.0, scale: float = 1.0
) -> Tensor:
    """What `ulps` units in the last place of the inputs and of each step may change in a part of that name.

    `first`, logits or log-probabilities, `log_q` and the weights have the shape (classes,), and so has the result, in
    float64; for the value it is ().
    """
    log_p, unit = torch.log_softmax(first.double(), -1), ulps * eps(first.dtype)
    sizes = weight.double().abs() + (scale + abs(gauge)) * (log_p.exp() + log_q.double().exp())
    parts = sizes * conditioning(log_p, log_q)
    if name == "value":
        return unit * parts.sum()
    if name == "weight":
        return unit * parts
    parts = parts + sizes * first.double().abs().max()  # as log softmax rounds the logits
    return unit * (parts + log_p.exp() * parts.sum())


def require_close(what: str, found: Tensor, expected: Tensor, allowed: Tensor | float, **evidence: object) -> None:
    """Raise `Violation` unless every entry of `found` is within `allowed` of `expected`; NaN never is.

    An infinity is right where the expected number is beyond the range of the dtype, or so close to its end that an
    intermediate sum overflows first. A few of the smallest numbers of the dtype are always forgiven.
    """
    result, wanted, limits = found.detach().double(), expected.detach().double(), torch.finfo(found.dtype)
    if result.shape != wanted.shape:
        raise Violation(f"{what} has shape {tuple(result.shape)}, not {tuple(wanted.shape)}", **evidence)
    reach = limits.max / 2**10 if limits.max > 1e30 else 0.99 * limits.max
    error = (result - wanted).abs()
    right = error <= torch.as_tensor(allowed, dtype=torch.float64) + 64 * limits.eps * limits.tiny
    right |= (wanted.abs() >= reach) & (result == torch.inf * wanted.sign())
    if bool(right.all()):
        return
    most = float(error[~right].nan_to_num(nan=torch.inf).max())
    told = f"is off by {most:.3g}, more than rounding explains"
    if bool(wanted.isnan().any()):
        told = "cannot be compared: what it should be equal to holds NaN itself"
    elif bool(result.isnan().any()):
        told = "holds NaN"
    raise Violation(f"{what} {told}", found=result, expected=wanted, **evidence)


def require_close_if_steep(
    what: str, found: Tensor, expected: Tensor, allowed: Tensor | float, moved: Callable[[], Tensor], **evidence: object
) -> None:
    """As `require_close`, but a function as steep as exp(t) may also be off by twice what rounding changes in it.

    `moved` gives the expected numbers where the log-ratios are a few ulps further, and is called only where needed.
    """
    try:
        require_close(what, found, expected, allowed, **evidence)
    except Violation:
        change = (moved().detach() - expected.detach()).double().abs().max().nan_to_num(nan=0.0, posinf=0.0)
        require_close(what, found, expected, allowed + 2 * change, **evidence)


def scale(value: Callable[[Tensor, Tensor], Tensor] | None, dtype: torch.dtype) -> float:
    """The size of the numbers of a divergence: 1 for almost all, c for c times an ordinary one.

    It is the largest of D(p, q), D(q, p) and twice D over chi-squared where p is close to q, if all are below 2^-10;
    the smallest, if all are above 2^10; else 1. It is 1 where there is no value, or none that is finite.
    """
    first, second = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4]], dtype=torch.float64)
    near = first + 1e-3 * (second - first)
    half_chi_squared = float(((near - first) ** 2 / first).sum()) / 2
    sizes = []
    for p, q, unit in ((first, second, 1.0), (second, first, 1.0), (near, first, half_chi_squared)):
        try:
            with settings_kept(), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sizes.append(abs(float(value(p.log().to(dtype), q.log().to(dtype)))) / unit)  # type: ignore[misc]
        except (Exception, SystemExit):  # whatever the code under test raises; the checks will tell
            continue
    sizes = [size for size in sizes if 0 < size < math.inf] or [1.0]
    return max(sizes) if max(sizes) < 1 / ORDINARY else min(sizes) if min(sizes) > ORDINARY else 1.0
