"""Networks of unusual shapes compute what the published program does: one level, three blocks, other first factors."""

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fguidance.diffusion import ADMClassifierConfig, ADMConfig, load_adm_classifier, load_adm_unet
from lab.published_weights import FIXTURES, weights_of

SHARED = (
    "image_size", "in_channels", "model_channels", "num_res_blocks", "attention_downsampling", "channel_mult",
    "num_classes",
)  # fmt: skip


@cache
def given() -> dict[str, Any]:
    with np.load(FIXTURES / "adm_shapes.npz", allow_pickle=False) as arrays:
        return dict(arrays)


CASES = json.loads(str(given()["cases"]))


def config_of(kind: Any, case: dict[str, Any], *own: str) -> Any:
    fields = {name: case[name] for name in (*SHARED, *own)}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


def inputs(number: int) -> tuple[Tensor, Tensor, Tensor]:
    """In double precision: what is left is the published program's own rounding, on every processor the same."""
    x, t, y = (torch.from_numpy(given()[f"{number}/{name}"]) for name in "xty")
    return x.double(), t, y


def weights(number: int, network: str) -> dict[str, Tensor]:
    listed = json.loads(str(given()[f"{number}/{network}/shapes"]))
    return weights_of({name: tuple(shape) for name, shape in listed.items()})


def off_by(found: Tensor, number: int, network: str) -> float:
    expected = torch.from_numpy(given()[f"{number}/{network}/output"])
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_diffusion_model(number: int) -> None:
    config = config_of(ADMConfig, CASES[number], "out_channels", "num_heads")
    network = load_adm_unet(weights(number, "unet"), config).double()
    assert off_by(network(*inputs(number)), number, "unet") < 1e-5


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_classifier(number: int) -> None:
    config = config_of(ADMClassifierConfig, CASES[number], "num_head_channels")
    network = load_adm_classifier(weights(number, "classifier"), config).double()
    assert off_by(network(*inputs(number)[:2]), number, "classifier") < 1e-5
