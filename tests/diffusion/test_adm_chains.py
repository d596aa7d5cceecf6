"""Chains of Dhariwal & Nichol's program with both of its networks: the noise-aware classifier guides, DDIM."""

import pytest

from lab.published import adm_chain_difference

CHAINS = ("ancestral", "ddim", "ddim_noisy", "ddim_unguided")


@pytest.mark.parametrize("name", CHAINS)
def test_every_kept_sample_equals_the_published_programs(name: str) -> None:
    assert adm_chain_difference(name) < 1e-4


def test_the_comparison_notices_another_scale() -> None:
    assert adm_chain_difference("ancestral", guidance_scale=5.0) > 1e-3
