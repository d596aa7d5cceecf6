"""A pytest plugin for the mutation run: each child imports the library anew.

mutmut forks after the library was imported, so a mutant of what runs on import would never be active.
"""

import sys


def pytest_configure() -> None:
    """Forget what the parent has imported of the library and of the tests' support."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("fguidance", "derivations") or name.startswith("tests.support"):
            del sys.modules[name]
