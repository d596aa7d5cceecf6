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
from torch._tensor_str import PRINT_OPTS  # there is no public way to read them

Surrounding = tuple[Callable[[], Any], Callable[[Any], object]]


def _variable(owner: object, name: str) -> Surrounding:
    return lambda: getattr(owner, name), lambda kept: setattr(owner, name, kept)


def _set_filters(kept: list[Any]) -> None:
    warnings.filters[:] = kept  # type: ignore[index]


def _set_environment(kept: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(kept)


GENERATORS: dict[str, Surrounding] = {
    "PyTorch's random numbers": (torch.get_rng_state, torch.set_rng_state),
    "NumPy's random numbers": (np.random.get_state, np.random.set_state),
    "Python's random numbers": (random.getstate, random.setstate),
}
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
    "PyTorch's handling of denormal numbers": (
        lambda: float(torch.tensor(1e-310, dtype=torch.float64) * 1) == 0, torch.set_flush_denormal,
    ),
    "how PyTorch prints": (lambda: dict(vars(PRINT_OPTS)), lambda kept: vars(PRINT_OPTS).update(kept)),
    "NumPy's handling of floating-point errors": (np.geterr, lambda kept: np.seterr(**kept)),
    "how NumPy prints": (np.get_printoptions, lambda kept: np.set_printoptions(**kept)),
    "Python's filters of warnings": (lambda: list(warnings.filters), _set_filters),
    "the precision of mpmath": _variable(mpmath.mp, "prec"),
    "the precision of decimal numbers": (
        lambda: decimal.getcontext().prec, lambda kept: setattr(decimal.getcontext(), "prec", kept),
    ),
    "the environment variables": (lambda: dict(os.environ), _set_environment),
    "the collection of garbage": (gc.isenabled, lambda kept: (gc.enable if kept else gc.disable)()),
    "which messages are logged": (lambda: logging.root.manager.disable, logging.disable),
    "whether MKL-DNN is used": _variable(torch.backends.mkldnn, "enabled"),
    "Python's limit of recursion": (sys.getrecursionlimit, sys.setrecursionlimit),
    **{f"cuDNN's flag {flag}": _variable(torch.backends.cudnn, flag) for flag in ("benchmark", "deterministic")},
}  # fmt: skip
"""How to read each, and how to set it."""


def read(surroundings: dict[str, Surrounding]) -> dict[str, Any]:
    """The present state of each, by name."""
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
    """Undo after the block whatever is set in it; the random generators run on."""
    kept = read(SETTINGS)
    try:
        yield
    finally:
        restore(SETTINGS, kept)
