"""A call in a process of its own is bounded even where nothing interrupts it from inside."""

import os
import time

import pytest

from fguidance import forked
from fguidance.deadline import TimeLimitError
from fguidance.forked import call_within

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")


def test_a_result_and_an_error_come_back() -> None:
    assert call_within(5, lambda: {"long": "text" * 10**6}, "counting") == {"long": "text" * 10**6}
    with pytest.raises(KeyError, match="lost"):
        call_within(5, lambda: {}["lost"], "counting")


@needs_fork
def test_it_is_another_process() -> None:
    assert call_within(5, os.getpid, "asking") != os.getpid()


@needs_fork
def test_a_single_call_into_c_is_ended() -> None:
    start = time.monotonic()
    with pytest.raises(TimeLimitError, match=r"^adding: not done within 1 s of processor time$"):
        call_within(1, lambda: sum(range(10**15)), "adding")
    assert time.monotonic() - start < 20


@needs_fork
def test_waiting_is_ended_by_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "WALL", 0.2)
    with pytest.raises(TimeLimitError, match=r"^waiting: "):
        call_within(1, lambda: time.sleep(100), "waiting")


def test_without_a_fork_it_is_called_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork", raising=False)
    assert call_within(5, os.getpid, "asking") == os.getpid()


@needs_fork
def test_a_process_that_ends_early_is_said() -> None:
    with pytest.raises(TimeLimitError, match="ending"):
        call_within(5, lambda: os._exit(3), "ending")
