"""Work in limited time: what it returns and raises, and that no interruption arrives after it."""

import gc
import sys
import weakref

import pytest

from fguidance.deadline import OutOfTime, TimeLimitError
from fguidance.timed import within
from tests.test_deadline import Hard, watchers, work


def test_it_returns_what_is_done_in_time() -> None:
    assert within(60, "adding", lambda: 1 + 1) == 2
    assert watchers() == []


def test_it_stops_what_is_not() -> None:
    with pytest.raises(TimeLimitError, match=r"^working: not done within 0\.05 s"):
        within(0.05, "working", lambda: work(60))
    assert watchers() == []


def test_errors_of_the_work_pass_and_are_not_kept() -> None:
    class Bulky:
        pass

    kept = []

    def fail() -> None:
        bulky = Bulky()
        kept.append(weakref.ref(bulky))
        raise Hard

    with pytest.raises(Hard):
        within(60, "failing", fail)
    gc.collect()
    assert kept[0]() is None
    assert watchers() == []


@pytest.mark.parametrize(("inner", "outer", "named"), ((0.05, 60, "inner"), (60, 0.05, "outer")))
def test_nested_limits_name_the_one_that_was_reached(inner: float, outer: float, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}: "):
        within(outer, "outer", lambda: within(inner, "inner", lambda: work(60)))
    assert watchers() == []


def test_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="seconds must be a positive number"):
        within(0, "nothing", lambda: None)


def test_the_end_of_the_work_and_of_the_time_may_coincide() -> None:
    """The interruption reaches the work or is taken back; it never arrives after it."""
    interval, outcomes = sys.getswitchinterval(), set()
    sys.setswitchinterval(1e-5)
    try:
        for attempt in range(200):
            try:
                within(0.01, "race", lambda length=0.01 + (attempt % 21 - 10) * 5e-5: work(length))
                outcomes.add("done")
            except ValueError:
                outcomes.add("stopped")
        work(0.05)
    except OutOfTime:
        outcomes.add("escaped")
    finally:
        sys.setswitchinterval(interval)
    assert outcomes <= {"done", "stopped"}
    assert watchers() == []
