"""The scale of a divergence, by which one of very small or large numbers is held to as many digits as any other."""

import math
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fguidance.testing.surroundings import settings_kept

ORDINARY = 2.0**10
"""Between its inverse and it a scale counts as 1."""
FIRST, SECOND = (0.7, 0.2, 0.1), (0.1, 0.5, 0.4)
CLOSE = 1e-3


def scale(value: Callable[[Tensor, Tensor], Tensor] | None, dtype: torch.dtype) -> float:
    """The size of the numbers of a divergence: 1 for almost all, c for c times an ordinary one.

    Args:
        value: D(log_p, log_q), of which it is read off; may be wrong, or raise.
        dtype: of the arguments.

    Returns:
        The largest of D(p, q), D(q, p) and twice D over chi-squared where p is close to q, if all are below 2^-10; the
        smallest, if all are above 2^10; else 1. It is 1 where there is no value, or none that is finite.
    """
    sizes = [size for size in _sizes(value, dtype) if 0 < size < math.inf] if value is not None else []
    if not sizes:
        return 1.0
    return max(sizes) if max(sizes) < 1 / ORDINARY else min(sizes) if min(sizes) > ORDINARY else 1.0


def _sizes(value: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> Iterator[float]:
    first, second = (torch.tensor(row, dtype=torch.float64) for row in (FIRST, SECOND))
    near = first + CLOSE * (second - first)
    chi_squared = float(((near - first) ** 2 / first).sum())
    for p, q, unit in ((first, second, 1.0), (second, first, 1.0), (near, first, chi_squared / 2)):
        try:
            with settings_kept(), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield abs(float(value(p.log().to(dtype), q.log().to(dtype)))) / unit
        except (Exception, SystemExit):  # whatever the code under test raises; the checks will tell
            continue
