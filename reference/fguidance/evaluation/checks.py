"""What features must be, for every measure."""

from torch import Tensor


def check_features(name: str, features: Tensor, at_least: int) -> None:
    """Refuse what no measure can use.

    Raises:
        TypeError: `features` is not a floating tensor.
        ValueError: not `(n, d)` with n at least `at_least`, or a value that is not finite.
    """
    if not features.is_floating_point():
        raise TypeError(f"{name} has dtype {features.dtype}; it must be a floating dtype")
    if features.ndim != 2 or len(features) < at_least:
        raise ValueError(f"{name} has shape {tuple(features.shape)}; it must be (n, d) with n at least {at_least}")
    if not bool(features.isfinite().all()):
        raise ValueError(f"{name} must be finite")
