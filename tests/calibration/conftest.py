"""What these tests share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def every_warning() -> Iterator[None]:
    """PyTorch warns each time, and not only the first time in a process."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)
