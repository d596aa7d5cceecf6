"""Text that names a divergence: a registered name, a generator, or an object as package.module:name."""

import importlib
import re
import sys
from functools import reduce
from pathlib import Path
from typing import Any

_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def resolve(text: str) -> Any:
    """What a specification names, in a form that `check_divergence` takes.

    Args:
        text: ``"js"``, ``"t*log(t)"`` or ``"package.module:name"``; the current folder is importable.

    Returns:
        The text itself where it names no object, else the object.

    Raises:
        ValueError: the module cannot be imported or has no such attribute.
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
