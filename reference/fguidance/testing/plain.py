"""Any value as plain Python numbers, strings, lists and dictionaries, for JSON and for reading."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


def plain(value: object) -> Any:
    """The value in types that JSON has; what is none of those becomes its text."""
    if isinstance(value, Tensor):
        return value.detach().double().tolist() if value.is_floating_point() else value.detach().tolist()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(entry) for entry in value]
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return value if isinstance(value, bool | int | float | str | None) else str(value)
