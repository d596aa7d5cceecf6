"""Chains of Dhariwal & Nichol's program with both of its networks: the noise-aware classifier guides, DDIM."""

import pytest

from lab.published import adm_chain, largest
from lab.published_weights import arrays

CHAINS = ("ancestral", "ddim", "ddim_noisy", "ddim_unguided")
ROUNDING = 1e-5
"""What one evaluation of a network may be off by, as elsewhere in these tests; a chain of 25 enlarges it."""


def off_by(name: str, guidance_scale: float | None = None) -> float:
    """How far a kept sample is from the published one, in units of what such errors do to it; the largest of five."""
    ours, published = adm_chain(name), arrays("adm_chains_25.npz")[name]
    found = ours if guidance_scale is None else adm_chain(name, guidance_scale)
    units = largest(adm_chain(name, rounding=ROUNDING), ours)
    return max(distance / unit for distance, unit in zip(largest(found, published), units, strict=True))


@pytest.mark.parametrize("name", CHAINS)
def test_every_kept_sample_equals_the_published_programs(name: str) -> None:
    assert off_by(name) < 2


def test_the_comparison_notices_another_scale() -> None:
    assert off_by("ancestral", guidance_scale=5.0) > 100
