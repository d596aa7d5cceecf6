"""The same bits each time on one kind of device: no sum in an order left to luck, no kernel chosen by a stop-watch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def repeatable() -> Iterator[None]:
    """Let PyTorch take deterministic algorithms, and put its settings back.

    It warns of an operation that has none, or raises where the caller has asked for that. What is compiled meanwhile
    takes no kernel because it was the quickest in a trial. The workspace of cuBLAS is read when a process first
    multiplies on a GPU, so it is set for good, unless it is set.
    """
    os.environ.setdefault(WORKSPACE, ":4096:8")
    settings: Any = torch.utils.deterministic
    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=warns or not enabled)
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        settings.fill_uninitialized_memory = filled
