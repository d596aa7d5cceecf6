"""The commands that run experiments: fetch, sample, evaluate, reproduce and bench."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fguidance.run.evaluate import Measures
    from fguidance.run.job import Outcome, Worker
    from fguidance.run.tables import Row, Table

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.FIELD=VALUE", help="Another value of the configuration's; repeatable."),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; the GPU where there is one by default.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]


def fetch(
    names: Annotated[list[str], typer.Argument(metavar="SET_OR_ASSET...", help="imagenet128, or some of its assets.")],
    from_folder: Annotated[Path | None, typer.Option("--from", help="Copy the files from this folder.")] = None,
    quiet: Quiet = False,
) -> None:
    """Download checkpoints and reference data, or go on with it, and verify them."""
    _require_extra()
    from fguidance.run.assets import fetch as bring
    from fguidance.run.assets import names_of

    for asset in dict.fromkeys(asset for name in names for asset in names_of(name)):
        print(f"{asset}: {bring(asset, from_folder, not quiet)}")


def sample(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A configuration's name or a TOML file.")],
    out: Annotated[Path, typer.Option(help="A new folder, or that of the same run, which then goes on.")],
    num_samples: Annotated[int, typer.Option(min=1, help="How many images.")],
    overrides: Overrides = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Draw images into a folder; run the same command again to go on after an interruption."""
    _require_extra()
    from fguidance.run.config import load_config
    from fguidance.run.job import Worker, run_job

    worker = Worker.from_environment(device)
    shown = not quiet and worker.rank == 0
    outcome = run_job(load_config(config, overrides or ()), out, num_samples, worker, _watch(config, shown))
    if shown:
        print(_told(outcome, out))


def _watch(title: str, visible: bool) -> Callable[[list[int]], Iterator[int]]:
    def watched(shards: list[int]) -> Iterator[int]:
        from rich.console import Console
        from rich.progress import track

        return iter(track(shards, f"{title}: shards", console=Console(stderr=True), disable=not visible))

    return watched


def _told(outcome: "Outcome", out: Path) -> str:
    shards = f"{outcome.made} shards made, {outcome.found} were there"
    return f"{shards}: {outcome.samples}" if outcome.samples else f"{shards}; other processes are not done with {out}"


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a finished run.")],
    reference: Annotated[str, typer.Option(help="An .npz file or asset instead of the configuration's.")] = "",
    features: Annotated[str, typer.Option(help="An Inception file instead of the configuration's network.")] = "",
    device: Device = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
) -> None:
    """Measure Frechet distance, precision, recall and Inception score of a run, and record them beside it."""
    _require_extra()
    from fguidance.run.evaluate import evaluate_folder
    from fguidance.run.job import Worker

    found, path = evaluate_folder(folder, reference, Worker.from_environment(device).device, batch_size, features)
    for name, value in vars(found).items():
        print(f"{name.replace('_', ' '):18s} {'-' if value is None else f'{value:.4f}'}")
    print(path)


def reproduce(
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="imagenet128 or digits.")],
    table: Annotated[int, typer.Option(help="Which table.")],
    out: Annotated[Path, typer.Option(help="A folder; each row has one of its own in it.")] = Path("runs"),
    rows: Annotated[str, typer.Option(help="Some rows alone, such as js,rkl; any registered divergence.")] = "",
    num_samples: Annotated[int | None, typer.Option(min=1, help="Instead of the table's number.")] = None,
    overrides: Overrides = None,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Sample and evaluate the rows of a table of the paper, and print it beside what the paper states."""
    _require_extra()
    from fguidance.run.job import Worker, run_job
    from fguidance.run.tables import load_table

    chosen = load_table(experiment, table, overrides or ())
    if rows:
        chosen = chosen.only([key.strip() for key in rows.split(",")])
    worker = Worker.from_environment(device)
    missing: dict[str, str] = {}
    for row in chosen.rows:
        watch = _watch(row.key, not quiet and worker.rank == 0)
        try:
            run_job(row.config, out / row.config.name, num_samples or chosen.num_samples, worker, watch)
        except FileNotFoundError as error:  # the other rows may have what they need
            missing[row.key] = f"{row.key} was not run: {error}"
    if worker.rank == 0:
        found = {row.key: None if row.key in missing else _evaluated(row, out, worker) for row in chosen.rows}
        _print_table(chosen, found)
        for line in missing.values():
            print(line, file=sys.stderr)
    raise typer.Exit(1 if missing else 0)


def _evaluated(row: "Row", out: Path, worker: "Worker") -> "Measures | None":
    """What a row's run measures; the first process waits here for shards that others are still making."""
    from fguidance.run.evaluate import evaluate_folder
    from fguidance.run.folder import SAMPLES
    from fguidance.run.tables import measured

    folder = out / row.config.name
    while not (folder / SAMPLES).is_file():
        time.sleep(1)  # torchrun ends all processes where one has failed
    if measured(folder) is None:
        evaluate_folder(folder, device=worker.device)
    return measured(folder)


def bench(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="imagenet128, or a configuration with a classifier.")],
    out: Annotated[Path | None, typer.Option(help="Write the record to this new file.")] = None,
    repeats: Annotated[int, typer.Option(min=2, help="Steps that are timed.")] = 20,
    overrides: Overrides = None,
    device: Device = None,
) -> None:
    """Measure the speed of sampling with random weights: no file is needed."""
    _require_extra()
    from fguidance.run.bench import bench as measured
    from fguidance.run.config import load_config
    from fguidance.run.job import Worker

    if out is not None and out.exists():
        raise FileExistsError(f"there is a file {out} already; it is not overwritten")
    name = "imagenet128/table3/js" if config == "imagenet128" else config
    record = measured(load_config(name, overrides or ()), Worker.from_environment(device).device, repeats)
    text = json.dumps(record, indent=2) + "\n"
    if out is not None:
        out.write_text(text, encoding="utf-8")
    print(text, end="")


def _print_table(table: "Table", found: "dict[str, Measures | None]") -> None:
    from rich.console import Console
    from rich.table import Table as Shown

    shown = Shown(title=f"Table {table.number}: {table.title}", caption="in brackets: what the paper states")
    for name in ("row", "Frechet distance", "precision", "recall"):
        shown.add_column(name)
    for row in table.rows:
        cells = [row.config.title]
        for name in ("frechet_distance", "precision", "recall"):
            stated, ours = getattr(row.stated, name), found[row.key] and getattr(found[row.key], name)
            told = "" if stated is None else f" ({stated:.2f})"
            cells.append(f"{'not run' if ours is None else f'{ours:.2f}'}{told}")
        shown.add_row(*cells)
    Console(file=sys.stdout).print(shown)


COMMANDS = (fetch, sample, evaluate, reproduce, bench)


def _require_extra() -> None:
    from importlib.util import find_spec

    missing = [module for module in ("diffusers", "pooch", "pydantic", "safetensors") if find_spec(module) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing; install it with: pip install 'fguidance[imagenet]'")
