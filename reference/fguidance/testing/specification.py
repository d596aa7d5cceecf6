"""Text that names a divergence: a registered name, a generator, or an object as package.module:name."""

import importlib
import inspect
import re
import sys
from functools import reduce
from pathlib import Path
from typing import Any

from fguidance.testing.subject import Subject, as_subject

_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def resolve(text: str) -> Any:
    """The object that a specification names, in a form that `check_divergence` takes.

    Args:
        text: ``"js"``, ``"t*log(t)"`` or ``"package.module:name"``; the current folder is importable.

    Returns:
        The text itself where it names no object, else the object.

    Raises:
        ValueError: the module cannot be imported, has no such attribute, or raises when it is asked for it.
    """
    if not _OBJECT.fullmatch(text):
        return text
    module_name, _, path = text.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise ValueError(f"{text}: cannot import {module_name}: {type(error).__name__}: {error}") from error
    try:
        return reduce(getattr, path.split("."), module)
    except AttributeError:
        raise ValueError(f"{text}: the module {module_name} has no {path}") from None
    except (Exception, SystemExit) as error:  # a property, or the module's own __getattr__
        raise ValueError(f"{text} cannot be read: {type(error).__name__}: {error}") from error


def named_subject(text: str, source: Any) -> Subject:
    """The subject that a specification names.

    Args:
        text: the specification, for messages.
        source: what `resolve` made of it, or what was made of that.

    Raises:
        TypeError: nothing that can be tested, or an object whose own code raises when it is looked at.
        ValueError: a generator that cannot be parsed or is not convex.
    """
    try:
        if inspect.isroutine(source):
            raise TypeError(
                f"{text} is one function: name a class or an object with value(log_p, log_q) and "
                "weight(log_p, log_q), or a pair (value, weight) of such functions"
            )
        return as_subject(source)
    except (TypeError, ValueError):
        raise
    except (Exception, SystemExit) as error:
        if type(source) is str:
            raise  # no code but this library's has run
        raise TypeError(f"{text} cannot be read: {type(error).__name__}: {error}") from error
