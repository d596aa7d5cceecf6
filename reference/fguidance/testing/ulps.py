"""How far apart two numbers are, in units in the last place."""

import math

import torch

_BITS: dict[torch.dtype, torch.dtype] = {
    torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64,
}  # fmt: skip


def _rank(number: float, dtype: torch.dtype) -> int:
    """The place of a number among all numbers of its dtype; 0 and -0 share one."""
    bits = int(torch.tensor(number, dtype=dtype).view(_BITS[dtype]))
    lowest = torch.iinfo(_BITS[dtype]).min
    return bits if bits >= 0 else lowest - bits


def ulps_between(first: float, second: float, dtype: torch.dtype) -> float:
    """By how many numbers of `dtype` one is above or below the other.

    Args:
        first: a number of that dtype, or NaN or an infinity.
        second: another.
        dtype: float16, bfloat16, float32 or float64.

    Returns:
        A whole number; 0 for two NaNs, infinity where only one is finite.
    """
    if (math.isnan(first) and math.isnan(second)) or first == second:
        return 0.0
    if not (math.isfinite(first) and math.isfinite(second)):
        return math.inf
    return float(abs(_rank(first, dtype) - _rank(second, dtype)))
