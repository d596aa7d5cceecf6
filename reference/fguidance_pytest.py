"""The pytest plugin: `pytest --divergence package.module:name`, or the ini option `divergence`, without a test file.

A module of its own beside the package, because pytest imports every plugin in every run, and importing `fguidance`
imports PyTorch: here that happens only when a divergence is named.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and its ini form."""
    help_text = "test this divergence: package.module:name, a registered name or a generator such as 't*log(t)'"
    parser.getgroup("fguidance").addoption("--divergence", action="append", default=[], metavar="SPEC", help=help_text)
    parser.addini("divergence", help_text, type="linelist", default=[])


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add one test for each check of each divergence that is named."""
    specifications = [*config.getini("divergence"), *config.getoption("--divergence")]
    if specifications:
        from fguidance.testing.plugin import collect

        items.extend(collect(session, specifications))
