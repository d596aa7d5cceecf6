"""The ImageNet chapter: tables from records, the cost of a step, and the small run of the very same code."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fguidance.evaluation import read_samples
from fguidance.run import load_config
from fguidance.run.assets import ASSETS
from fguidance.run.bench import Cost, cost, memory
from fguidance.run.config import RunConfig
from fguidance.run.evaluate import Measures, evaluate_folder, read_measures
from fguidance.run.job import Worker, run_job
from fguidance.run.tables import Row, Table, load_table
from lab import quiet  # noqa: F401
from lab.style import COLOURS, WIDTH

LAB = Path(__file__).parent
RESULTS = Path(__file__).parents[1] / "results" / "imagenet128"
MEASURES = ("frechet_distance", "precision", "recall")
ROWS = ("unguided", "dhariwal_nichol", "classifier_free", "ma_resnet50", "ma_resnet101", "js")
PEAKS = {"RTX 4090": 165.2, "A100": 312.0, "H100": 989.4}
"""Dense bfloat16 with float32 accumulation, in 10^12 operations per second, as NVIDIA's data sheets state it."""
IMAGES, HALF_AN_H100 = 50_000, 0.5e12 * PEAKS["H100"]


def run_everything(runs: Path) -> None:
    """Sample and evaluate each row that has what it needs, and keep the records among the book's results.

    What was begun goes on; `make book IMAGENET=1` calls this before it builds.
    """
    for table in all_tables():
        for row in table.rows:
            folder = runs / row.config.name
            try:
                run_job(row.config, folder, table.num_samples)
                _, path = evaluate_folder(folder, device=Worker.from_environment().device)
            except FileNotFoundError as error:
                print(f"{row.config.name}: {error}")
                continue
            kept = RESULTS / f"{row.config.name.removeprefix('imagenet128/').replace('/', '-')}.json"
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, kept)
            print(f"{row.config.name}: {kept}")


def all_tables() -> list[Table]:
    """The paper's three tables."""
    return [load_table("imagenet128", number) for number in (1, 2, 3)]


def recorded(row: Row) -> Measures | None:
    """What a recorded run of a row measured."""
    path = RESULTS / f"{row.config.name.removeprefix('imagenet128/').replace('/', '-')}.json"
    return Measures(**read_measures(path)["measures"]) if path.is_file() else None


def table(chosen: Table) -> str:
    """The paper's numbers beside ours, with a row's name and the hours that it would take."""
    lines = [
        "| row | distance | precision | recall | ours | name | hours |",
        "| --- | ---: | ---: | ---: | --- | --- | ---: |",
    ]
    for row in chosen.rows:
        stated = " | ".join(_number(getattr(row.stated, name)) for name in MEASURES)
        time = hours(cost(row.config).image, HALF_AN_H100) * chosen.num_samples / IMAGES
        lines.append(f"| {row.config.title} | {stated} | {_ours(row)} | `{row.key}` | {time:.1f} |")
    return "\n".join(lines)


def _ours(row: Row) -> str:
    """What a recorded run found, or why there is none."""
    if (found := recorded(row)) is not None:
        return " / ".join(_number(getattr(found, name)) for name in MEASURES)
    return "not run; no weights are published" if unpublished(row.config) else "not run"


def unpublished(config: RunConfig) -> list[str]:
    """The files of weights that a row needs and that nobody has published."""
    return [file for file in config.weights if file not in ASSETS]


def needed_files() -> str:
    """Where a reader who has trained such weights puts them: the rows, and the files that they look for."""
    configs = [row.config for one in all_tables() for row in one.rows]
    pairs = [(one.name.removeprefix("imagenet128/"), file) for one in configs for file in unpublished(one)]
    return "\n".join(["| row | file |", "| --- | --- |", *(f"| `{name}` | `{file}` |" for name, file in pairs)])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def assets() -> str:
    """The files of the experiment, where they are published, and under which terms."""
    lines = ["| asset | file | terms |", "| --- | --- | --- |"]
    lines += [f"| {name} | [{one.file}]({one.url}) | {one.licence} |" for name, one in ASSETS.items()]
    return "\n".join(lines)


def costs() -> dict[str, Cost]:
    """The cost of an image by each kind of guidance."""
    return {name: cost(load_config(f"imagenet128/table3/{name}")) for name in ROWS}


def hours(operations: float, per_second: float) -> float:
    """Hours for 50,000 images at so many operations per second."""
    return IMAGES * operations / per_second / 3600


def cost_table(found: Mapping[str, Cost]) -> str:
    """Operations of a step, and the hours at half of each device's peak."""
    lines = [
        "| row | model, $10^9$ | classifier, $10^9$ | " + " | ".join(f"hours, {name}" for name in PEAKS) + " |",
        "| --- | ---: | ---: |" + " ---: |" * len(PEAKS),
    ]
    for name, one in found.items():
        times = " | ".join(f"{hours(one.image, 0.5e12 * peak):.1f}" for peak in PEAKS.values())
        title = load_config(f"imagenet128/table3/{name}").title
        lines.append(f"| {title} | {one.model / 1e9:.0f} | {one.classifier / 1e9:.1f} | {times} |")
    return "\n".join(lines)


def memory_table() -> str:
    """GiB that a step of a shard holds at once, in float32, by each kind of guidance."""
    lines = ["| row | weights | model | classifier | a step |", "| --- | ---: | ---: | ---: | ---: |"]
    for name in ROWS:
        config = load_config(f"imagenet128/table3/{name}")
        found = memory(config)
        sizes = (found.weights, found.model, found.classifier, found.step)
        lines.append(f"| {config.title} | " + " | ".join(f"{size / 2**30:.1f}" for size in sizes) + " |")
    return "\n".join(lines)


def hours_chart(found: Mapping[str, Cost]) -> Figure:
    """Hours for 50,000 images against the rate that a device sustains."""
    figure, axes = plt.subplots()
    rates = torch.logspace(1.5, 3.2, 50)
    for name, key in (("js", "js"), ("dhariwal_nichol", "unguided"), ("classifier_free", "fkl")):
        times = [hours(found[name].image, rate * 1e12) for rate in rates.tolist()]
        axes.loglog(rates, times, color=COLOURS[key], label=load_config(f"imagenet128/table3/{name}").title)
    for name, peak in PEAKS.items():
        axes.axvline(peak, color="0.7", linewidth=0.8)
        place = {"xycoords": ("data", "axes fraction"), "va": "top", "ha": "right"}
        axes.annotate(name, (peak, 0.98), rotation=90, fontsize=8, **place)
    axes.axhline(3, color="0.4", linestyle=":", linewidth=1)
    axes.set(xlabel=r"$10^{12}$ operations per second, sustained", ylabel="hours for 50,000 images", ylim=(0.3, 200))
    axes.legend(loc="lower left")
    return figure


def digits() -> dict[str, RunConfig]:
    """The rows of the digits' table."""
    return {row.key: row.config for row in load_table("digits", 1).rows}


def clothes() -> dict[str, RunConfig]:
    """A few kinds of guidance on Fashion-MNIST."""
    overrides = {
        "unguided": ["guidance.method=unguided", "title=Without guidance"],
        "ma": ["guidance.alpha=0.0", "title=Ma et al."],
        "js": ["title=JS"],
    }
    found = {key: load_config(str(LAB / "fashion_mnist.toml"), changes) for key, changes in overrides.items()}
    return found | {"dhariwal_nichol": load_config(str(LAB / "fashion_mnist_noisy.toml"), ["title=Dhariwal & Nichol"])}


def run_rows(configs: Mapping[str, RunConfig], folder: Path, num_samples: int) -> dict[str, Measures]:
    """Each row by the job and the evaluation of the ImageNet experiment."""
    found = {}
    for key, config in configs.items():
        run_job(config, folder / key, num_samples)
        found[key], _ = evaluate_folder(folder / key)
    return found


def rows_table(configs: Mapping[str, RunConfig], found: Mapping[str, Measures]) -> str:
    """The measures of a small run."""
    names = (*MEASURES, "inception_score", "agreement")
    titles = "Fréchet distance | precision | recall | Inception score | agreement"
    lines = [f"| row | {titles} |", "| --- |" + " ---: |" * len(names)]
    lines += [
        f"| {config.title} | " + " | ".join(_number(getattr(found[key], name)) for name in names) + " |"
        for key, config in configs.items()
    ]
    return "\n".join(lines)


def gallery_labels(folder: Path, columns: int) -> list[int]:
    """What the first images of a run were asked to be."""
    _, labels = read_samples(folder / "samples.npz")
    assert labels is not None
    return [int(label) for label in labels[:columns]]


def disk(config: RunConfig) -> float:
    """Gigabytes that a row of 50,000 images takes: its shards, and the file into which they are joined."""
    shape = config.model.shape
    return 2 * IMAGES * shape["in_channels"] * shape["image_size"] ** 2 / 1e9


def rows_grid(configs: Mapping[str, RunConfig], folder: Path, height: float, columns: int = 16) -> Figure:
    """The first images of each row, below each other: the same noise, the same labels."""
    figure, axes = plt.subplots(len(configs), 1, figsize=(WIDTH, height * len(configs)))
    for panel, (key, config) in zip(axes, configs.items(), strict=True):
        images, _ = read_samples(folder / key / "samples.npz")
        panel.imshow(_beside(images[:columns]), cmap="gray", vmin=0, vmax=255)
        panel.set_axis_off()
        panel.set_title(config.title, loc="left", fontsize=8, pad=1)
    return figure


def _beside(images: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(images[..., 0], (1, 1, 1, 1), value=255)
    return padded.permute(1, 0, 2).reshape(padded.shape[1], -1)


def same_samples(first: Path, second: Path) -> bool:
    """Whether two runs drew the same images for the same labels, bit for bit."""
    one, other = (read_samples(folder / "samples.npz") for folder in (first, second))
    return all(a is not None and b is not None and a.equal(b) for a, b in zip(one, other, strict=True))


def record(folder: Path) -> dict[str, object]:
    """The record that a run keeps beside its samples."""
    return dict(json.loads((folder / "run.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    run_everything(Path("runs"))
