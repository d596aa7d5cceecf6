"""Limits on processor time: of Python code in any thread, and of a call in a child process that can be killed.

Processor time, because the same work takes as much of it on a busy machine as on an idle one: whether a generator is
accepted must not depend on what else runs.
"""

import contextlib
import ctypes
import multiprocessing
import threading
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

WALL = 4
"""How many times as much wall time may pass: for work that waits, and for machines that are too busy to serve."""
GLANCE = 0.002
"""Seconds between two looks at the clock of a thread whose time is almost up."""
AGAIN = 0.25
"""Seconds until the work is interrupted once more, where something swallowed the first interruption."""
Result = TypeVar("Result")


class OutOfTime(BaseException):
    """Interruption of the thread whose time is up; not an Exception, so that `except Exception` does not swallow it."""


class _Settled(BaseException):
    """Interruption of a thread by itself, so that nothing is left to arrive there."""


class TimeLimitError(ValueError):
    """Error that work was not done in time."""


def within(seconds: float, what: str, work: Callable[[], Result]) -> Result:
    """What `work` returns, if it is done in time.

    A second thread watches and then raises `OutOfTime` in this one. That works in every thread, leaves signals and
    timers alone, and can be nested: the limit that is reached first ends its own work. A single call into C is not
    interrupted, only the Python code around it: see `call_within`.

    What counts is the processor time of this thread, where the platform tells it (Linux does), and in any case `WALL`
    times as much wall time. Elsewhere (macOS and Windows) it is wall time alone.

    Args:
        seconds: processor time, positive.
        what: the beginning of the error's message.
        work: called without arguments, in this thread.

    Raises:
        TimeLimitError: it was not done in time.
        ValueError: `seconds` is not positive.
        BaseException: what `work` raises.
    """
    watch, failure = _Watch(seconds), None
    try:
        watch.start()
        found = work()
    except BaseException as error:
        failure = error
    # No loop: an interruption may arrive where one jumps back, and outside a try there is no such place here.
    try:
        watch.stop()
    except OutOfTime:
        try:
            watch.stop()
        except OutOfTime:
            watch.stop()
    try:
        if watch.reached and (failure is None or isinstance(failure, OutOfTime)):
            raise TimeLimitError(f"{what}: not done within {watch.reached}") from None
        if failure is not None:
            raise failure
        return found
    finally:
        del failure  # whose traceback refers to this frame


class _Watch:
    """Thread that interrupts the one which made it, once that has taken longer than it may."""

    def __init__(self, seconds: float) -> None:
        if not 0 < seconds * WALL <= threading.TIMEOUT_MAX:
            raise ValueError(f"seconds must be a positive number, not {seconds!r}")
        self.reached = ""
        self._worker, self._limits = threading.get_ident(), _limits(seconds)
        self._lock, self._done, self._settled = threading.Lock(), threading.Event(), False

    def start(self) -> None:
        threading.Thread(target=self._run, name="time limit", daemon=True).start()

    def _run(self) -> None:
        wait = 0.0
        while not self._done.wait(max(wait, GLANCE)):
            wait = min(left() for left in self._limits.values())
            with self._lock:
                if wait <= 0 and not self._done.is_set():
                    self.reached = self.reached or next(name for name, left in self._limits.items() if left() <= 0)
                    _raise_in(self._worker, OutOfTime)
                    wait = AGAIN

    def stop(self) -> None:
        """Interrupt no more, and take back an interruption that has not arrived; once more does no harm."""
        while not self._settled:
            try:
                with self._lock:
                    self._done.set()
                if self.reached:
                    _take_back()
                self._settled = True
            except OutOfTime:  # an outer limit, which raises it again, or this one, which came late
                continue


def _limits(seconds: float) -> dict[str, Callable[[], float]]:
    """What is left of each limit on the calling thread, as any thread can read it, by the limit's name."""
    begun = time.monotonic()
    with contextlib.suppress(AttributeError, OSError):
        clock = time.pthread_getcpuclockid(threading.get_ident())
        until = time.clock_gettime(clock) + seconds
        return {
            f"{seconds:g} s of processor time": lambda: until - time.clock_gettime(clock),
            f"{WALL * seconds:g} s": lambda: begun + WALL * seconds - time.monotonic(),
        }
    return {f"{seconds:g} s": lambda: begun + seconds - time.monotonic()}


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


def call_within(seconds: int, what: str, call: Callable[[], Result]) -> Result:
    """The result of a call, which runs in a fork of this process; where the platform has none (Windows), in this one.

    Its time is bounded whatever it does: a factorisation may be one single call into C, which `within` cannot end.

    Args:
        seconds: processor time that the call may take, and `WALL` times as much of wall time.
        what: the beginning of the error's message.
        call: its result and its errors must be picklable.

    Raises:
        TimeLimitError: it was not done in time, or its process ended without a result.
        Exception: whatever the call raises.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return call()
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(sending, seconds, call), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads: the call must not wait for any
        child.start()
    sending.close()
    try:
        if not receiving.poll(WALL * seconds):
            raise EOFError
        found, failure = receiving.recv()
    except EOFError:
        raise TimeLimitError(f"{what}: not done within {seconds} s of processor time") from None
    finally:
        receiving.close()
        child.kill()
        child.join()
    if failure is not None:
        raise failure
    return found  # type: ignore[no-any-return]


def _answer(sending: Connection, seconds: int, call: Callable[[], object]) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = seconds if hard == resource.RLIM_INFINITY else min(seconds, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))  # at the hard limit the kernel kills without a core dump
    try:
        answer: tuple[object, Exception | None] = call(), None
    except Exception as error:
        answer = None, error
    sending.send(answer)
