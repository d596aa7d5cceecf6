"""What was tried, in files that travel: for each function its hash, and which of its mutants ended how.

mutmut keeps this beside its copy of the code, under .make; a run on another machine would begin again. A function whose
source has changed is tried again; a change of the tests alone is not noticed: forget the survivors to try them again.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("tried")
Functions = dict[str, dict[str, Any]]


def split(key: str) -> tuple[str, int]:
    """The function, as mutmut writes it, and the number of a mutant `package.module.function__mutmut_number`."""
    function, _, number = key.rpartition("__mutmut_")
    return function.rpartition(".")[2], int(number)


def summary(meta: dict[str, Any]) -> Functions:
    """Of mutmut's notes on one module, what has to be known to go on; mutants that were not tried are left out."""
    found: Functions = {name: {"hash": value, "ended": {}} for name, value in meta["hash_by_function_name"].items()}
    for key, code in meta["exit_code_by_key"].items():
        function, number = split(key)
        if code is not None:
            found[function]["ended"].setdefault(str(code), []).append(number)
    return {name: row for name, row in found.items() if row["ended"]}


def notes(module: str, functions: Functions) -> dict[str, Any]:
    """mutmut's notes on one module, of a summary."""
    codes = {
        f"fguidance.{module}.{name}__mutmut_{number}": int(code)
        for name, row in functions.items()
        for code, numbers in row["ended"].items()
        for number in numbers
    }
    return {
        "exit_code_by_key": codes,
        "hash_by_function_name": {name: row["hash"] for name, row in functions.items()},
        "type_check_error_by_key": {},
        "durations_by_key": {},
        "estimated_durations_by_key": {},
    }


def keep(mutants: Path, modules: tuple[str, ...]) -> None:
    """Write what mutmut has noted in its folder to the files beside this one, a line for each function."""
    FOLDER.mkdir(exist_ok=True)
    for module in modules:
        functions = summary(json.loads(_noted(mutants, module).read_text(encoding="utf-8")))
        lines = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(functions.items())]
        (FOLDER / f"{module}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def restore(mutants: Path, modules: tuple[str, ...]) -> None:
    """Give mutmut the kept notes where it has none of its own."""
    for module in modules:
        kept, noted = FOLDER / f"{module}.json", _noted(mutants, module)
        if kept.exists() and not noted.exists():
            noted.parent.mkdir(parents=True, exist_ok=True)
            noted.write_text(json.dumps(notes(module, json.loads(kept.read_text(encoding="utf-8")))), encoding="utf-8")


def forget_survivors(mutants: Path, modules: tuple[str, ...]) -> None:
    """Have mutmut try again what no test killed."""
    for module in modules:
        noted = _noted(mutants, module)
        meta = json.loads(noted.read_text(encoding="utf-8"))
        meta["exit_code_by_key"] = {key: code or None for key, code in meta["exit_code_by_key"].items()}
        noted.write_text(json.dumps(meta), encoding="utf-8")


def _noted(mutants: Path, module: str) -> Path:
    return mutants / "src" / "fguidance" / f"{module}.py.meta"
