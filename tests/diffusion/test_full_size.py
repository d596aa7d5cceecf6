"""The networks of the published checkpoints at their full size, with weights that anybody can make, in float32.

The small fixtures cannot show what only many levels, heads of many channels and two blocks a level can get wrong.
"""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fguidance.diffusion import ADMClassifierConfig, ADMConfig, load_adm_classifier, load_adm_unet
from lab.published_weights import arrays, made_weights, state_of
from tests.diffusion.plain_adm_unet import plain_adm_classifier, plain_adm_unet

NEEDED_GIB = 6


def free_gib() -> float:
    """What /proc/meminfo calls available; more than enough where there is no such file."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20


def off_by(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_the_plain_writing_computes_what_the_published_program_does() -> None:
    given = arrays("adm_unet_small.npz")
    assert off_by(plain_adm_unet(state_of(given), given["x"], given["t"], given["y"]), given["out"]) < 1e-5
    given = arrays("adm_classifier_small.npz")
    assert off_by(plain_adm_classifier(state_of(given), given["x"], given["t"], 32), given["logits"]) < 1e-5


@pytest.mark.skipif(free_gib() < NEEDED_GIB, reason=f"needs {NEEDED_GIB} GiB of memory")
@torch.no_grad()
def test_the_diffusion_model() -> None:
    """On a smaller image, which goes through the same blocks: five levels of 32 pixels."""
    state = made_weights("adm_imagenet128_unet")
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    t, y = torch.tensor([437]), torch.tensor([281])
    expected = plain_adm_unet(state, x, t, y, heads=4, num_res_blocks=2)
    assert off_by(load_adm_unet(state, ADMConfig.imagenet128())(x, t, y), expected) < 1e-4


@torch.enable_grad()
def test_the_noise_aware_classifier_and_its_gradient() -> None:
    state = made_weights("adm_imagenet128_classifier")
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)).requires_grad_()
    t = torch.tensor([437])
    ours = load_adm_classifier(state, ADMClassifierConfig.imagenet128())(x, t)
    plain = plain_adm_classifier(state, x, t, head_channels=64, num_res_blocks=2)
    assert off_by(ours.detach(), plain.detach()) < 1e-4
    gradients = [torch.autograd.grad(logits.log_softmax(-1)[0, 281], x)[0] for logits in (ours, plain)]
    assert off_by(*gradients) < 1e-4
