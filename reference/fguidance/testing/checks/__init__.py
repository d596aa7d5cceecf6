"""The properties; importing this package registers them, in this order: what is plainest first."""

from fguidance.testing.checks import programs  # isort: skip
from fguidance.testing.checks import derivatives, geometry, precision

__all__ = ["derivatives", "geometry", "precision", "programs"]
