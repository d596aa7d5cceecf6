"""A call whose processor time is bounded whatever it does, in a process of its own that the kernel ends.

`fguidance.deadline` interrupts Python code, and that leaves the caller with all that was found. But a factorisation may
be one single call into C, which nothing interrupts from inside.
"""

import os
import pickle
import select
import signal
import warnings
from collections.abc import Callable
from typing import NoReturn, TypeVar

from fguidance.deadline import WALL, TimeLimitError

Result = TypeVar("Result")


def call_within(seconds: int, call: Callable[[], Result], what: str) -> Result:
    """The result of a call, which runs in a fork of this process; where the platform has none (Windows), in this one.

    Args:
        seconds: processor time that the call may take, and `WALL` times as much of wall time.
        call: its result and its errors must be picklable.
        what: the beginning of the error's message.

    Raises:
        TimeLimitError: it was not done in time, or its process ended without a result.
        Exception: whatever the call raises.
    """
    if not hasattr(os, "fork"):
        return call()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads: the call must not wait for any
        child = os.fork()
    if child == 0:
        _answer(writing, seconds, call)
    os.close(writing)
    try:
        succeeded, result = pickle.loads(_received(reading, WALL * seconds))
    except (EOFError, pickle.UnpicklingError):
        raise TimeLimitError(f"{what}: not done within {seconds} s of processor time") from None
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if succeeded:
        return result  # type: ignore[no-any-return]
    raise result


def _answer(writing: int, seconds: int, call: Callable[[], object]) -> NoReturn:
    """Run the call and send what came of it; nothing else of this process is undone or flushed."""
    try:
        _limit_processor_time(seconds)
        try:
            answer = pickle.dumps((True, call()))
        except Exception as error:
            answer = pickle.dumps((False, error))
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def _limit_processor_time(seconds: int) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    most = seconds if hard == resource.RLIM_INFINITY else min(seconds, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))  # at the hard limit the kernel kills without a core dump


def _received(reading: int, seconds: float) -> bytes:
    """All that the other side writes until it ends; what there is by then, where it writes nothing for so long."""
    parts = []
    while select.select([reading], [], [], seconds)[0] and (part := os.read(reading, 1 << 16)):
        parts.append(part)
    return b"".join(parts)
