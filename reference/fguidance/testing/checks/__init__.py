"""The properties, one file per idea; importing this package registers them."""

from fguidance.testing.checks import (
    autograd,
    batches,
    execution,
    force,
    geometry,
    gradient,
    homogeneity,
    precision,
    zeros,
)  # fmt: skip

__all__ = ["autograd", "batches", "execution", "force", "geometry", "gradient", "homogeneity", "precision", "zeros"]
