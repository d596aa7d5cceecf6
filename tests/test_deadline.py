"""A block that takes too long ends with ValueError, wherever it runs, and leaves nothing behind."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import mpmath
import pytest
import sympy as sp

from fguidance import deadline
from fguidance.deadline import OutOfTime, TimeLimitError, time_limit


def work(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(50))


@pytest.fixture
def contention() -> Iterator[None]:
    """Four threads that want the interpreter as much as the test does."""
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            sum(range(50))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    yield
    done.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def no_thread_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "pthread_getcpuclockid", raising=False)


needs_thread_clock = pytest.mark.skipif(
    not hasattr(time, "pthread_getcpuclockid"), reason="this platform does not tell the processor time of a thread"
)


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "time limit"]


class Hard(Exception):
    """An error of the work itself."""


class TestTimeLimit:
    def test_ends_what_takes_too_long(self) -> None:
        with (
            pytest.raises(TimeLimitError, match=r"^counting: not done within 0.1 s( of processor time)?$") as caught,
            time_limit(0.1, "counting"),
        ):
            work(60)
        assert isinstance(caught.value, ValueError)
        assert watchers() == []

    @needs_thread_clock
    @pytest.mark.usefixtures("contention")
    def test_time_in_which_others_run_does_not_count(self) -> None:
        start = time.monotonic()
        with time_limit(0.3, "counting"):
            work(0.1)
        assert time.monotonic() - start > 0.3

    @needs_thread_clock
    def test_waiting_ends_by_the_wall(self) -> None:
        start = time.monotonic()
        with pytest.raises(TimeLimitError, match=r"^waiting: not done within 0.2 s$"), time_limit(0.05, "waiting"):  # noqa: PT012
            while True:
                time.sleep(0.01)
        assert time.monotonic() - start >= 0.2

    @pytest.mark.usefixtures("no_thread_clock")
    def test_wall_time_counts_where_a_threads_own_is_not_told(self) -> None:
        start = time.monotonic()
        with pytest.raises(TimeLimitError, match=r"^waiting: not done within 0.1 s$"), time_limit(0.1, "waiting"):  # noqa: PT012
            while True:
                time.sleep(0.01)
        assert time.monotonic() - start >= 0.1

    def test_leaves_what_is_quick_alone(self) -> None:
        with time_limit(60, "counting"):
            found = 1 + 1
        assert found == 2
        assert watchers() == []

    def test_errors_of_the_work_pass(self) -> None:
        with pytest.raises(Hard), time_limit(60, "counting"):
            raise Hard
        assert watchers() == []

    def test_works_in_other_threads(self) -> None:
        found: list[str] = []

        def run() -> None:
            try:
                with time_limit(0.1, threading.current_thread().name):
                    work(60)
            except ValueError as error:
                found.append(str(error).split(":")[0])

        threads = [threading.Thread(target=run, name=f"worker {number}") for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(found) == ["worker 0", "worker 1", "worker 2"]

    @pytest.mark.parametrize(("inner", "outer", "named"), ((0.1, 60, "inner"), (60, 0.1, "outer")))
    def test_nested_limits_name_the_one_that_was_reached(self, inner: float, outer: float, named: str) -> None:
        with pytest.raises(ValueError, match=f"^{named}: "), time_limit(outer, "outer"), time_limit(inner, "inner"):
            work(60)
        assert watchers() == []

    def test_the_outer_limit_holds_after_the_inner_was_survived(self) -> None:
        def survive() -> None:
            for _ in range(1000):
                try:
                    with time_limit(0.05, "inner"):
                        work(60)
                except ValueError:
                    continue

        with pytest.raises(ValueError, match=r"^outer: "), time_limit(0.4, "outer"):
            survive()

    def test_is_repeated_where_it_is_swallowed(self) -> None:
        swallowed = []
        with pytest.raises(ValueError, match=r"^stubborn: "), time_limit(0.1, "stubborn"):  # noqa: PT012
            while True:
                try:
                    work(60)
                except BaseException as error:
                    swallowed.append(type(error))
                    if len(swallowed) == 2:
                        raise
        assert swallowed == [OutOfTime, OutOfTime]

    def test_an_interruption_that_has_not_arrived_is_taken_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sent: list[type[BaseException]] = []
        really = deadline._raise_in

        def late(thread: int, kind: type[BaseException]) -> None:
            sent.append(kind)
            if kind is not OutOfTime:
                really(thread, kind)

        monkeypatch.setattr(deadline, "_raise_in", late)
        with pytest.raises(ValueError, match=r"^late: "), time_limit(0.05, "late"):
            work(0.2)
        assert sent[0] is OutOfTime
        assert sent[-1] is not OutOfTime

    def test_a_function_can_be_traced_after_it(self) -> None:
        """In a process of its own, as CPython 3.11 hangs where an interruption is still marked as pending."""
        program = (
            "import sys\nfrom fguidance.deadline import time_limit\n"
            "try:\n    with time_limit(0.05, 'it'):\n        while True: pass\nexcept ValueError: pass\n"
            "sys.settrace(lambda *_: None)\n(lambda: print('traced'))()"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "traced\n"

    def test_stops_sympy_and_mpmath(self) -> None:
        t = sp.Symbol("t")
        precision = mpmath.mp.prec
        with pytest.raises(ValueError, match=r"^expansion: "), time_limit(0.2, "expansion"), mpmath.workdps(50):  # noqa: PT012
            while True:
                sp.factor(sp.expand((1 + t + t**2) ** 40 * (t**3 - 2) ** 7) + 1)
        assert mpmath.mp.prec == precision

    @pytest.mark.parametrize("seconds", (0, -1, float("nan"), float("inf")))
    def test_refuses_no_time(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="seconds must be a positive number"):
            time_limit(seconds, "counting")
