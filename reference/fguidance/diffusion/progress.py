"""Counting the steps down, visibly where that is possible."""

from collections.abc import Iterable


def countdown(steps: int, visible: bool) -> Iterable[int]:
    """Return ``steps - 1, ..., 0`` behind a progress bar on standard error.

    The bar is a comfort that the library does not require: without tqdm the steps are counted silently.
    """
    remaining = range(steps - 1, -1, -1)
    if not visible:
        return remaining
    try:
        from tqdm import tqdm
    except ImportError:
        return remaining
    bar: Iterable[int] = tqdm(remaining, desc="sampling")
    return bar
