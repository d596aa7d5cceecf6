"""The command `fguidance`: list the registered divergences, and test a divergence of one's own."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="f-divergence guidance: list the registered divergences and test one of your own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
BAD_INPUT = 2


def _refuse(message: str) -> typer.Exit:
    print(f"fguidance: {message}", file=sys.stderr)
    return typer.Exit(BAD_INPUT)


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
def list_divergences(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the registered divergences with their generators f(t), t = p/q, and sources."""
    from fguidance import _generated, divergence_names

    rows = [
        {
            "name": name,
            "generator": _generated.GENERATORS.get(name, "none: no f-divergence"),
            "source": _generated.SOURCES[name],
        }
        for name in divergence_names()
    ]
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "generator f(t)", "source")
    for row in rows:
        table.add_row(*map(Text, row.values()))
    Console().print(table)


@app.command()
def check(
    specifications: Annotated[
        list[str],
        typer.Argument(metavar="DIVERGENCE...", help="A generator, a registered name, or package.module:name."),
    ],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the records to this file.")] = None,
    max_examples: Annotated[int | None, typer.Option(min=1, help="Examples per check.")] = None,
    seed: Annotated[int | None, typer.Option(help="A seed for the examples.")] = None,
    names: Annotated[list[str] | None, typer.Option("--check", help="Run only this check; may be repeated.")] = None,
) -> None:
    """Run every property on a divergence. The exit status is 0 if it passes, 1 if it fails and 2 on bad input."""
    try:
        from fguidance.testing import check_divergence
        from fguidance.testing.specification import resolve
    except ImportError as error:
        raise _refuse(f"{error.name} is missing; install it with: pip install 'fguidance[testing]'") from None
    reports = []
    for text in specifications:
        try:
            options: dict[str, Any] = {"checks": names or None, "max_examples": max_examples, "seed": seed}
            reports.append(check_divergence(resolve(text), **options))
        except (TypeError, ValueError) as error:
            raise _refuse(str(error)) from None
        print(reports[-1])
    if json_file is not None:
        try:
            json_file.write_text(json.dumps([report.as_dict() for report in reports], indent=2) + "\n", "utf-8")
        except OSError as error:
            raise _refuse(f"cannot write {json_file}: {error.strerror}") from None
    raise typer.Exit(0 if all(report.passed for report in reports) else 1)


def main() -> None:
    """Run the command."""
    app()
