"""Work in limited time, as a function: unlike with a `with` block, no interruption gets past its end.

In a file of its own, since `time_limit` interrupts nothing while it sees its own file at work.
"""

from collections.abc import Callable
from typing import TypeVar

from fguidance.deadline import OutOfTime, time_limit

Result = TypeVar("Result")


def within(seconds: float, what: str, work: Callable[[], Result]) -> Result:
    """What `work` returns, if it is done in time.

    Args:
        seconds: processor time, positive.
        what: the beginning of the error's message.
        work: called without arguments, in this thread.

    Raises:
        TimeLimitError: it was not done in time.
        ValueError: `seconds` is not positive.
        BaseException: what `work` raises.
    """
    limit, failure = time_limit(seconds, what), None
    try:
        limit.__enter__()
        found = work()
    except BaseException as error:
        failure = error
    # No loop: an interruption may arrive where one jumps back, and outside a try there is no such place here.
    try:
        limit.finish()
    except OutOfTime:
        try:
            limit.finish()
        except OutOfTime:
            limit.finish()
    limit.tell(None if failure is None else type(failure))
    if failure is None:
        return found
    try:
        raise failure
    finally:
        del failure  # whose traceback refers to this frame
