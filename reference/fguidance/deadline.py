"""A limit on the wall time of a block of pure Python work, in any thread."""

import ctypes
import sys
import threading
import time
from types import TracebackType

AGAIN = 0.25
"""Seconds until the work is interrupted once more, where something swallowed the first interruption."""


class OutOfTime(BaseException):
    """Raised in the thread whose time is up; not an Exception, so that `except Exception` does not swallow it."""


class TimeLimitError(ValueError):
    """The block was not done in time."""


class time_limit:
    """Raise `TimeLimitError`, a ValueError, in the `with` block once it has taken longer than it may.

    A second thread waits and then raises `OutOfTime` in the first, which works in every thread, leaves signals and
    timers alone, and can be nested: the limit that is reached first ends its own block. A single call into C is not
    interrupted, only the Python code around it.

    Args:
        seconds: wall time, positive.
        what: the beginning of the error's message.

    Raises:
        TimeLimitError: the block was not done in time.
        ValueError: `seconds` is not positive.
    """

    def __init__(self, seconds: float, what: str) -> None:
        if not 0 < seconds <= threading.TIMEOUT_MAX:
            raise ValueError(f"seconds must be a positive number, not {seconds!r}")
        self._seconds, self._what = seconds, what
        self._lock, self._done = threading.Lock(), threading.Event()
        self._reached = False

    def __enter__(self) -> None:
        self._worker = threading.get_ident()
        self._watcher = threading.Thread(target=self._watch, name="time limit", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        until = time.monotonic() + self._seconds
        while not self._done.wait(max(until - time.monotonic(), 0)):
            with self._lock:
                if not self._done.is_set() and not _is_ending(self._worker):
                    self._reached = True
                    _raise_in(self._worker, OutOfTime)
            until = time.monotonic() + AGAIN

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()
        if self._reached and (kind is None or issubclass(kind, OutOfTime)):
            raise TimeLimitError(f"{self._what}: not done within {self._seconds:g} s") from None

    def _finish(self) -> None:
        """Stop the watcher, and take back an interruption that has not arrived."""
        while self._watcher.is_alive():
            try:
                with self._lock:
                    self._done.set()
                if self._reached:
                    _raise_in(self._worker, None)
                self._watcher.join()
            except OutOfTime:  # an outer limit, which raises it again
                continue


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    exception = ctypes.py_object() if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)


def _is_ending(thread: int) -> bool:
    """Whether the thread is in this file: entering or leaving a block, where an exception would escape."""
    frame = sys._current_frames().get(thread)
    for _ in range(4):  # this file calls threading, nothing deeper
        if frame is None or frame.f_code.co_filename == __file__:
            return frame is not None
        frame = frame.f_back
    return False
