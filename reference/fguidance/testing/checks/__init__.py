"""The properties, one file per idea; importing this package registers them, in this order: what is plainest first."""

from fguidance.testing.checks import execution  # isort: skip
from fguidance.testing.checks import autograd, batches, force, geometry, gradient, homogeneity, precision, zeros

__all__ = ["autograd", "batches", "execution", "force", "geometry", "gradient", "homogeneity", "precision", "zeros"]
