"""The pytest plugin: `pytest --divergence package.module:name`, or the ini option `divergence`, without a test file.

A module of its own beside the package, because pytest imports every plugin in every run, and importing `fguidance`
imports PyTorch: here that happens only when a divergence is named.
"""

from collections.abc import Generator, Iterator

import pytest

EXAMPLES = "fguidance_examples"
"""The property of a test that says how many examples its check ran; it is in JUnit's file too."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and its ini form."""
    help_text = "test this divergence: package.module:name, a registered name or a generator such as 't*log(t)'"
    parser.getgroup("fguidance").addoption("--divergence", action="append", default=[], metavar="SPEC", help=help_text)
    parser.addini("divergence", help_text, type="linelist", default=[])


@pytest.hookimpl(tryfirst=True)  # before -k and the like choose among the tests
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add one test for each check of each divergence that is named."""
    specifications = [*config.getini("divergence"), *config.getoption("--divergence")]
    if not specifications:
        return
    try:
        from fguidance.testing.plugin import collect
    except ImportError as error:
        needed = f"{error.name} is missing; install it with: pip install 'fguidance[testing]'"
        raise pytest.UsageError(f"--divergence: {needed}") from error
    added = list(collect(session, specifications))
    report = pytest.CollectReport(nodeid="", outcome="passed", longrepr=None, result=[*added])
    config.hook.pytest_collectreport(report=report)  # the terminal counts them
    items.extend(added)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Note in the test how many examples its checks ran, those of `parametrize_with_checks` among them."""
    try:
        return (yield)
    finally:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        for part in (item, *parameters.values()):
            examples = vars(part).get(EXAMPLES) if hasattr(part, "__dict__") else None
            if isinstance(examples, int):
                item.user_properties.append((EXAMPLES, examples))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many checks ran, and on how many examples."""
    counts = list(_examples(terminalreporter))
    if counts:
        terminalreporter.write_line(f"fguidance: {len(counts)} checks ran {sum(counts)} examples")


def _examples(terminalreporter: pytest.TerminalReporter) -> Iterator[int]:
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                yield from (number for name, number in report.user_properties if name == EXAMPLES and number)
