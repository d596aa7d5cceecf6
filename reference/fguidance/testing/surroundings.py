"""What a function could change behind its caller's back: random generators, and settings of PyTorch, NumPy, Python."""

import decimal
import gc
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor

Surrounding = tuple[Callable[[], Any], Callable[[Any], object]]


def _print_options() -> dict[str, Any]:
    from torch._tensor_str import PRINT_OPTS  # there is no public way to read them

    return dict(vars(PRINT_OPTS))


def _set_print_options(kept: dict[str, Any]) -> None:
    torch.set_printoptions(**kept)  # type: ignore[no-untyped-call]


def _set_filters(kept: list[Any]) -> None:
    warnings.filters[:] = kept  # type: ignore[index]


def _precision_of_mpmath() -> int:
    return int(mpmath.mp.prec)


def _set_precision_of_mpmath(kept: int) -> None:
    mpmath.mp.prec = kept


def _precision_of_decimals() -> int:
    return decimal.getcontext().prec


def _set_precision_of_decimals(kept: int) -> None:
    decimal.getcontext().prec = kept


_FLAGS = (("cudnn", "enabled"), ("cudnn", "benchmark"), ("cudnn", "deterministic"), ("mkldnn", "enabled"))


def _flags_of_backends() -> tuple[bool, ...]:
    return tuple(bool(getattr(getattr(torch.backends, backend), flag)) for backend, flag in _FLAGS)


def _set_flags_of_backends(kept: tuple[bool, ...]) -> None:
    for (backend, flag), value in zip(_FLAGS, kept, strict=True):
        setattr(getattr(torch.backends, backend), flag, value)


def _set_environment(kept: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(kept)


def _flushes_denormals() -> bool:
    return float(torch.tensor([1e-310], dtype=torch.float64) * 1) == 0


GENERATORS: dict[str, Surrounding] = {
    "PyTorch's random numbers": (torch.get_rng_state, torch.set_rng_state),
    "NumPy's random numbers": (np.random.get_state, np.random.set_state),
    "Python's random numbers": (random.getstate, random.setstate),
}
"""How to read each, and how to set it."""

SETTINGS: dict[str, Surrounding] = {
    "whether gradients are recorded": (torch.is_grad_enabled, torch.set_grad_enabled),
    "PyTorch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "PyTorch's default device": (torch.get_default_device, torch.set_default_device),
    "the number of PyTorch's threads": (torch.get_num_threads, torch.set_num_threads),
    "PyTorch's deterministic mode": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    "PyTorch's anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "the precision of PyTorch's matrix products": (
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision,
    ),
    "PyTorch's handling of denormal numbers": (_flushes_denormals, torch.set_flush_denormal),
    "how PyTorch prints": (_print_options, _set_print_options),
    "NumPy's handling of floating-point errors": (np.geterr, lambda kept: np.seterr(**kept)),
    "how NumPy prints": (np.get_printoptions, lambda kept: np.set_printoptions(**kept)),
    "Python's filters of warnings": (lambda: list(warnings.filters), _set_filters),
    "the precision of mpmath": (_precision_of_mpmath, _set_precision_of_mpmath),
    "the precision of decimal numbers": (_precision_of_decimals, _set_precision_of_decimals),
    "the environment variables": (lambda: dict(os.environ), _set_environment),
    "the collection of garbage": (gc.isenabled, lambda kept: (gc.enable if kept else gc.disable)()),
    "which messages are logged": (lambda: logging.root.manager.disable, logging.disable),
    "the flags of PyTorch's backends": (_flags_of_backends, _set_flags_of_backends),
    "Python's limit of recursion": (sys.getrecursionlimit, sys.setrecursionlimit),
}  # fmt: skip
"""How to read each, and how to set it."""


def read(surroundings: dict[str, Surrounding]) -> dict[str, Any]:
    """What is set now, by name."""
    return {what: get() for what, (get, _) in surroundings.items()}


def restore(surroundings: dict[str, Surrounding], kept: dict[str, Any]) -> None:
    """Set again what differs from `kept`."""
    for what, (get, put) in surroundings.items():
        if not same(get(), kept[what]):
            put(kept[what])


def same(one: Any, other: Any) -> bool:
    """Whether two readings are equal."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, tuple) and any(isinstance(part, np.ndarray) for part in one):
        return all(np.array_equal(*parts) for parts in zip(one, other, strict=True))
    return bool(one == other)


@contextmanager
def settings_kept() -> Iterator[None]:
    """Whatever is set in the block is undone after it; the random generators run on."""
    kept = read(SETTINGS)
    try:
        yield
    finally:
        restore(SETTINGS, kept)
