"""The command `fguidance`: list and derive divergences, test one of your own, and run the experiments.

What computes is imported inside the commands, so that `--help` answers without PyTorch and SymPy as far as it is up
to this module.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from fguidance import cli_runs

if TYPE_CHECKING:
    from fguidance.divergence import Divergence
    from fguidance.testing import Report

app = typer.Typer(
    help="f-divergence guidance: list and derive divergences, test one of your own, and run the experiments.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in cli_runs.COMMANDS:
    app.command()(_command)
FAILED, BAD_INPUT = 1, 2
SECONDS = 3
"""Processor time in which a formula must be described."""
_FORMULA = re.compile(r"-(?!-|p\w*=).*[()*/]")

Parameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="NAME=NUMBER", help="A family's or a formula's parameter; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class BadInputError(Exception):
    """Something that the user gave cannot be used; the message says what and why."""


def _version(wanted: bool) -> None:
    if wanted:
        from fguidance import __version__

        print(f"fguidance {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command("list")
def list_divergences(as_json: AsJson = False) -> None:
    """List the registered divergences with their generators f(t), t = p/q, parameters and sources."""
    from fguidance import divergence_names

    rows = [_row(name) for name in divergence_names()]
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif sys.stdout.isatty():
        _print_table(rows)
    else:
        widths = [max(len(row[column]) for row in rows) for column in ("name", "generator", "parameter")]
        for row in rows:
            *cells, source = row.values()
            print(*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), source, sep="  ")


def _row(name: str) -> dict[str, str]:
    from fguidance import catalogue, divergence_parameters

    rules = divergence_parameters(name).values()
    return {
        "name": name,
        "generator": catalogue.ROWS[name][0] or "none: no f-divergence",
        "parameter": ", ".join(f"{rule.name} from {rule.low:g} to {rule.high:g}" for rule in rules),
        "source": catalogue.ROWS[name][1],
    }


def _print_table(rows: Sequence[dict[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "generator f(t)", "parameter", "source")
    for row in rows:
        table.add_row(*map(Text, row.values()))
    Console().print(table)


@app.command()
def derive(
    generator: Annotated[str, typer.Argument(metavar="GENERATOR", help="A formula in t = p/q, or a registered name.")],
    parameters: Parameters = None,
    as_json: AsJson = False,
) -> None:
    """Derive weight, dual, limits, conjugate and stable code from a generator such as "(t-1)**2"."""
    import fguidance.describe  # noqa: F401  before the clock runs
    from fguidance.time_limit import call_within

    text, given = generator.strip(), _numbers(parameters)
    print(call_within(SECONDS, f"generator {text:.200}", lambda: _description(text, given, as_json)))


def _description(text: str, given: dict[str, float], as_json: bool) -> str:
    from fguidance import divergence, divergence_names
    from fguidance.describe import as_text, describe

    registered = text in divergence_names()
    found = describe(divergence(text, **given)) if registered else describe(text, given)
    return json.dumps(found.as_dict(), indent=2, ensure_ascii=False) if as_json else as_text(found)


@app.command()
def copy(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Registered names, families included.")],
) -> None:
    """Print one file that needs PyTorch alone: these divergences, guidance by them and Smooth ECE."""
    from fguidance import __version__
    from fguidance.copied import copied

    print(copied(list(dict.fromkeys(names)), __version__), end="")


@app.command()
def check(
    specifications: Annotated[
        list[str],
        typer.Argument(metavar="DIVERGENCE...", help="A generator, a registered name, or package.module:name."),
    ],
    parameters: Parameters = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with figures to this file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the records to this file.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Compare with the numbers in this file; record them where there is none.")
    ] = None,
    baseline_ulps: Annotated[float, typer.Option(min=0, help="How far a number may be from the baseline.")] = 4.0,
    max_examples: Annotated[int | None, typer.Option(min=1, help="Examples per check.")] = None,
    seed: Annotated[int | None, typer.Option(help="A seed for the examples.")] = None,
    names: Annotated[list[str] | None, typer.Option("--check", help="Run only this check; may be repeated.")] = None,
) -> None:
    """Run every property on a divergence. The exit status is 0 if it passes, 1 if it fails and 2 on bad input."""
    _require_extra("flint", "hypothesis", "jinja2", "matplotlib", "mpmath")
    _require_writable(html, json_file, baseline)
    if baseline is not None and len(specifications) > 1:
        raise BadInputError(f"--baseline takes one divergence, not {len(specifications)}")
    options: dict[str, Any] = {"checks": names or None, "max_examples": max_examples, "seed": seed}
    if baseline is not None:
        options |= {"baseline": baseline, "baseline_ulps": baseline_ulps}
    reports = _checked(specifications, _numbers(parameters), options)
    _write(reports, html, json_file)
    raise typer.Exit(0 if all(report.passed for report in reports) else 1)


def _checked(specifications: Sequence[str], parameters: dict[str, float], options: dict[str, Any]) -> "list[Report]":
    from fguidance.testing import check_divergence
    from fguidance.testing.subject import named_subject

    sources = [_source(text.strip(), parameters) for text in specifications]
    for text, source in zip(specifications, sources, strict=True):
        named_subject(text.strip(), source)  # refuses the last one before the first one is tested
    reports = []
    for source in sources:
        reports.append(check_divergence(source, **options))
        reports[-1].show()
    return reports


def _source(text: str, parameters: dict[str, float]) -> "Divergence | Any":
    import fguidance.symbolic.numerical  # noqa: F401  before the clock runs
    from fguidance import Divergence, divergence, divergence_names
    from fguidance.testing.subject import resolve
    from fguidance.time_limit import call_within

    source = resolve(text)
    if type(source) is not str:  # of a stranger nothing else is asked
        if parameters:
            raise BadInputError(f"{text} takes no --parameter: only registered families and formulas do")
        return source
    if source in divergence_names():
        return divergence(source, **parameters) if parameters else source
    call_within(  # the first time where it can be ended, even in a single call into C
        2 * SECONDS, f"generator {text:.200}", lambda: Divergence.from_generator(source, parameters=parameters).label
    )
    if not parameters:
        return source
    return Divergence.from_generator(source, source, parameters)


def _numbers(parameters: Sequence[str] | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for text in parameters or ():
        name, equals, number = text.partition("=")
        if name.strip() in found:
            raise BadInputError(f"--parameter {name.strip()} is given twice")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise BadInputError(f"--parameter must be NAME=NUMBER, not {text!r}") from None
        if not equals or not name.strip().isidentifier():
            raise BadInputError(f"--parameter must be NAME=NUMBER, not {text!r}")
    return found


def _require_extra(*modules: str) -> None:
    from importlib.util import find_spec

    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise BadInputError(f"{', '.join(missing)} is missing; install it with: pip install 'fguidance[testing]'")


def _require_writable(html: Path | None, json_file: Path | None, baseline: Path | None) -> None:
    """Refuse what could not be written before anything runs, and what would be written over each other."""
    given = {"--html": html, "--json": json_file, "--baseline": baseline}
    seen: dict[Path, str] = {}
    for option, path in given.items():
        if path is None:
            continue
        other = seen.setdefault(path.resolve(), option)
        if other != option:
            raise BadInputError(f"{option} and {other} are the same file: {path}")
        if option != "--baseline" and not _can_be_written(path):
            raise BadInputError(f"{option} {path} cannot be written")


def _can_be_written(path: Path) -> bool:
    if path.exists():
        return not path.is_dir() and os.access(path, os.W_OK)
    return path.parent.is_dir() and os.access(path.parent, os.W_OK)


def _write(reports: "Sequence[Report]", html: Path | None, json_file: Path | None) -> None:
    if json_file is not None:
        text = json.dumps([report.as_dict() for report in reports], indent=2, allow_nan=False)
        json_file.write_text(text + "\n", encoding="utf-8")
    if html is not None:
        from fguidance.testing.report import as_page

        html.write_text(as_page(reports), encoding="utf-8")


def _end(message: str, status: int = BAD_INPUT) -> NoReturn:
    line = " ".join(message.split())
    print(f"fguidance: {line}", file=sys.stderr)
    raise SystemExit(status)


def _protected(argument: str) -> str:
    """A formula such as -log(t) with a space before it, so that it is not taken for an option."""
    return f" {argument}" if _FORMULA.match(argument) else argument


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and end the process.

    Args:
        arguments: what follows the command's name; None takes the process's own.

    Raises:
        SystemExit: always; status 0, 1 where a check failed, or 2 with one line on the standard error.
    """
    given = [_protected(argument) for argument in (sys.argv[1:] if arguments is None else arguments)]
    try:
        status = app(given or ["--help"], prog_name="fguidance", standalone_mode=False)
    except (BadInputError, ValueError, TypeError, ImportError) as error:
        _end(str(error))
    except FloatingPointError as error:
        _end(str(error), FAILED)
    except OSError as error:
        _end(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:
        usage = getattr(error, "format_message", None)  # Click's class of usage errors has no public name in Typer
        if usage is None:
            raise
        _end(usage())
    raise SystemExit(status)
