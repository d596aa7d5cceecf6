"""diffusers, imported without the warning that a notebook's kernel has no widgets: on stderr only progress belongs."""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="IProgress not found")
    import diffusers.models.unets.unet_2d  # noqa: F401
