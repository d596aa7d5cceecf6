"""Settings that make runs repeat bit for bit hold while a shard is drawn, and are put back."""

import os

import pytest
import torch

from fguidance.run.job import Painter
from fguidance.run.repeatable import repeatable
from tests.support.runs import CPU, tiny

Settings = tuple[bool, bool, bool]


def settings() -> Settings:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        bool(torch.utils.deterministic.fill_uninitialized_memory),
    )


@pytest.fixture
def before() -> Settings:
    found = settings()
    assert found == (False, False, True)
    return found


def test_they_hold_within_and_are_put_back(before: Settings) -> None:
    with repeatable():
        assert settings() == (True, True, False)
    assert settings() == before


def test_they_are_put_back_after_an_error(before: Settings) -> None:
    with pytest.raises(FloatingPointError), repeatable():
        raise FloatingPointError
    assert settings() == before


def test_a_callers_stricter_setting_stays(before: Settings) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        with repeatable():
            assert settings() == (True, False, False)
        assert settings() == (True, False, True)
    finally:
        torch.use_deterministic_algorithms(False)
    assert settings() == before


def test_the_workspace_is_set_unless_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with repeatable():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with repeatable():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_networks_see_them_while_a_shard_is_drawn(before: Settings) -> None:
    painter, seen = Painter.load(tiny(), CPU), []
    for network in (painter.model, painter.classifier):
        assert network is not None
        network.register_forward_hook(lambda *given: seen.append(settings()))
    painter.shard(0)
    assert set(seen) == {(True, True, False)}
    assert settings() == before
