"""The properties, one file per idea; importing this package registers them."""

from fguidance.testing.checks import execution, force, geometry, gradient, homogeneity, precision, zeros

__all__ = ["execution", "force", "geometry", "gradient", "homogeneity", "precision", "zeros"]
