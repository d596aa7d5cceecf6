"""What a result depends on besides the code: versions, device and date."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

import fguidance

LIBRARIES = ("torch", "numpy", "sympy", "mpmath", "hypothesis")


def versions() -> dict[str, str]:
    """The versions of this library, of what it computes with, and of Python."""
    others = {name: version(name) for name in LIBRARIES}
    return {"fguidance": fguidance.__version__, **others, "python": platform.python_version()}


def today() -> str:
    """The present moment in UTC, to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def device() -> str:
    """The processor, and the GPU where there is one."""
    processor = f"cpu ({platform.machine() or 'unknown'})"
    return f"{processor}, cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else processor


def environment() -> dict[str, Any]:
    """All of it, for the settings of a report."""
    return {"date": today(), "device": device(), "platform": platform.platform(), **versions()}
