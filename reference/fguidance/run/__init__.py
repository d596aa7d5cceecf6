"""Runs: configurations, assets, and the sharded job that samples, evaluates and resumes.

Digits and ImageNet are two configurations of one job.
"""

from fguidance.run.config import RunConfig, configuration_names, load_config

__all__ = ["RunConfig", "configuration_names", "load_config"]
