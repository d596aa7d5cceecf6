"""A limit on the processor time of a block of pure Python work, in any thread.

Processor time, because the same work takes as much of it on a busy machine as on an idle one: whether a generator is
accepted must not depend on what else runs.
"""

import contextlib
import ctypes
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

WALL = 4
"""How many times as much wall time may pass: for work that waits, and for machines that are too busy to serve."""
GLANCE = 0.002
"""Seconds between two looks at the clock of a thread whose time is almost up."""
AGAIN = 0.25
"""Seconds until the work is interrupted once more, where something swallowed the first interruption."""


class OutOfTime(BaseException):
    """Raised in the thread whose time is up; not an Exception, so that `except Exception` does not swallow it."""


class _Settled(BaseException):
    """Raised in a thread by itself, so that nothing is left to arrive there."""


class TimeLimitError(ValueError):
    """The block was not done in time."""


class time_limit:
    """Raise `TimeLimitError`, a ValueError, in the `with` block once it has taken longer than it may.

    A second thread watches and then raises `OutOfTime` in the first, which works in every thread, leaves signals and
    timers alone, and can be nested: the limit that is reached first ends its own block. A single call into C is not
    interrupted, only the Python code around it.

    What counts is the processor time of the thread that entered the block, where the platform tells it (Linux does),
    and in any case `WALL` times as much wall time. Elsewhere (macOS and Windows) it is wall time alone. Other threads
    and processes that the block may start are not counted.

    On a busy machine an interruption may arrive in the first instruction of `__exit__`, where nothing can catch it: an
    `OutOfTime` then leaves the block. `fguidance.timed.within` catches it.

    Args:
        seconds: processor time, positive.
        what: the beginning of the error's message.

    Raises:
        TimeLimitError: the block was not done in time.
        ValueError: `seconds` is not positive.
    """

    def __init__(self, seconds: float, what: str) -> None:
        if not 0 < seconds * WALL <= threading.TIMEOUT_MAX:
            raise ValueError(f"seconds must be a positive number, not {seconds!r}")
        self._seconds, self._what = seconds, what
        self._lock, self._done = threading.Lock(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="time limit", daemon=True)
        self._reached, self._began, self._settled = "", False, False

    def __enter__(self) -> None:
        self._worker = threading.get_ident()
        self._limits = _limits(self._seconds, self._worker)
        self._began = True
        self._watcher.start()

    def _watch(self) -> None:
        left = self._left()
        while not self._done.wait(max(left, GLANCE)):
            left = self._left()
            if left <= 0:
                self._interrupt()
                left = AGAIN

    def _left(self) -> float:
        """For so many seconds at least no limit is reached."""
        return min(limit.left() for limit in self._limits)

    def _interrupt(self) -> None:
        with self._lock:
            if not self._done.is_set() and not _is_ending(self._worker):
                self._reached = self._reached or next(limit.name for limit in self._limits if limit.left() <= 0)
                _raise_in(self._worker, OutOfTime)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()
        self.tell(kind)

    def tell(self, kind: type[BaseException] | None) -> None:
        """Raise `TimeLimitError` if the limit was reached and nothing else went wrong."""
        if self._reached and (kind is None or issubclass(kind, OutOfTime)):
            raise TimeLimitError(f"{self._what}: not done within {self._reached}") from None

    def finish(self) -> None:
        """Stop the watcher, and take back an interruption that has not arrived; once more does no harm.

        Whether the watcher is alive is not asked: an interruption in `Thread.is_alive` marks a running one as stopped.
        """
        while self._began and not self._settled:
            try:
                with self._lock:
                    self._done.set()
                if self._watcher.ident is not None:  # it could be started
                    self._watcher.join()
                if self._reached:
                    _take_back()
                self._settled = True
            except OutOfTime:  # an outer limit, which raises it again, or this one, which came late
                continue


class _Limit:
    """So many seconds from now on, by one clock."""

    def __init__(self, seconds: float, clock: Callable[[], float], of_what: str) -> None:
        self.name = f"{seconds:g} s{of_what}"
        self._clock, self._until = clock, clock() + seconds

    def left(self) -> float:
        return self._until - self._clock()


def _limits(seconds: float, thread: int) -> list[_Limit]:
    clock = _processor_clock(thread)
    if clock is None:
        return [_Limit(seconds, time.monotonic, "")]
    return [_Limit(seconds, clock, " of processor time"), _Limit(WALL * seconds, time.monotonic, "")]


def _processor_clock(thread: int) -> Callable[[], float] | None:
    """The processor time of a running thread, as any thread can read it, or None where the platform does not tell."""
    with contextlib.suppress(AttributeError, OSError):
        number = time.pthread_getcpuclockid(thread)
        time.clock_gettime(number)
        return lambda: time.clock_gettime(number)
    return None


def _raise_in(thread: int, kind: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


def _take_back() -> None:
    """Replace an interruption of this thread that has not arrived by another, and wait for that.

    To take it back with NULL clears the exception and not the flag that says that there is one; CPython 3.11 then loops
    for ever where it traces the next function, as debuggers, coverage and Hypothesis do. One that arrives clears both.
    """
    try:
        _raise_in(threading.get_ident(), _Settled)
        while True:
            time.sleep(0)
    except _Settled:
        return


def _is_ending(thread: int) -> bool:
    """Whether the thread is in this file: entering or leaving a block, where an exception would escape."""
    frame = sys._current_frames().get(thread)
    for _ in range(4):  # this file calls threading, nothing deeper
        if frame is None or frame.f_code.co_filename == __file__:
            return frame is not None
        frame = frame.f_back
    return False
