"""Write what pytest-benchmark measured to book/results/benchmarks.json, with what it was measured on."""

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

RECORD = Path(__file__).parents[2] / "book" / "results" / "benchmarks.json"


def _row(measured: dict[str, Any]) -> dict[str, Any]:
    stats = measured["stats"]
    seconds = {name: stats[name] for name in ("median", "iqr", "min", "rounds")}
    return {"name": measured["name"], **seconds, **measured["extra_info"]}


def record(source: Path) -> dict[str, Any]:
    """The record of a run, from pytest-benchmark's own file."""
    found = json.loads(source.read_text(encoding="utf-8"))
    machine = found["machine_info"]
    return {
        "command": "make bench",
        "date": found["datetime"][:10],
        "device": "CPU, 1 thread",
        "processor": machine["cpu"].get("brand_raw", machine["machine"]),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "note": f"load average at the end {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores; idle, it is about 1",
        "rows": [_row(measured) for measured in found["benchmarks"]],
    }


if __name__ == "__main__":
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record(Path(sys.argv[1])), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {RECORD}")
