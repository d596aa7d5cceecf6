"""The paper's tables: which configurations are their rows, what the paper states, and what our runs measured."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from fguidance.divergence import divergence_names
from fguidance.run.config import RunConfig, load_config
from fguidance.run.evaluate import Measures, read_measures


@dataclass(frozen=True)
class Stated:
    """What the paper states of a row; None where it states nothing."""

    frechet_distance: float | None = None
    precision: float | None = None
    recall: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        key: by which it is chosen, and the name of its folder.
        config: of its run.
        stated: by the paper.
    """

    key: str
    config: RunConfig
    stated: Stated


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        number: in the order of the paper.
        title: what it is about.
        num_samples: of each row.
        rows: from top to bottom.
    """

    number: int
    title: str
    num_samples: int
    rows: tuple[Row, ...]

    def only(self, keys: Sequence[str]) -> "Table":
        """The table with some rows alone, in the order in which they are named.

        A registered divergence that has no row gets that of the last one with a divergence, its own in place of that.

        Raises:
            ValueError: neither a row nor a divergence.
        """
        return replace(self, rows=tuple(self._row(key) for key in keys))

    def _row(self, key: str) -> Row:
        for row in self.rows:
            if row.key == key:
                return row
        models = [row for row in self.rows if row.config.guidance.alpha > 0]
        if key not in divergence_names() or not models:
            known = ", ".join(row.key for row in self.rows)
            raise ValueError(f"table {self.number} has no row {key!r}, but {known}, and any registered divergence")
        config = models[-1].config
        changed = {
            "name": f"{config.name.rpartition('/')[0]}/{key}",
            "title": key,
            "guidance": config.guidance.model_copy(update={"divergence": key}),
        }
        return Row(key, config.model_copy(update=changed), Stated())


def load_table(experiment: str, number: int, overrides: Sequence[str] = ()) -> Table:
    """A table of an experiment.

    Args:
        experiment: "imagenet128" or "digits".
        number: of the table.
        overrides: for each row's configuration, as `load_config` takes them.

    Raises:
        ValueError: no such experiment or table, or a bad override.
    """
    root = Path(str(files("fguidance.run"))) / "configs"
    path = root / experiment / "_tables.toml"
    if not experiment.isidentifier() or not path.is_file():
        known = sorted(found.parent.name for found in root.glob("*/_tables.toml"))
        raise ValueError(f"there are no tables of {experiment!r}, but of {', '.join(known)}")
    tables = tomllib.loads(path.read_text(encoding="utf-8"))["table"]
    for table in tables:
        if table["number"] == number:
            folder = experiment if len(tables) == 1 else f"{experiment}/table{number}"
            rows = []
            for row in table["row"]:
                key = row.pop("config")
                stated = Stated(**{name: float(value) for name, value in row.items()})
                rows.append(Row(key, load_config(f"{folder}/{key}", overrides), stated))
            return Table(number, table["title"], table["num_samples"], tuple(rows))
    raise ValueError(f"{experiment} has no table {number}, but {', '.join(str(one['number']) for one in tables)}")


def measured(folder: Path) -> Measures | None:
    """What the newest evaluation in a run's folder found, or None where there is none."""
    records = [read_measures(path) for path in folder.glob("evaluation-*.json")]
    if not records:
        return None
    return Measures(**max(records, key=lambda record: str(record["date"]))["measures"])
