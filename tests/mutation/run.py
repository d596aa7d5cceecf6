"""Change the reference one small place at a time and see the tests fail: `make mutation`.

mutmut works on a copy under .make/mutation, so nothing here is touched; a run that was interrupted goes on where it
stopped, on another machine with what tried.py keeps. A mutant that no test kills must be explained in survivors.toml,
or the command fails.
"""

import argparse
import datetime
import inspect
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.mutation import tried
from tests.testing.wrong import WRONG

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".make" / "mutation"
MUTATED = ("closed_forms", "smoothed", "divergence", "guidance")
TESTS = (
    "test_closed_forms.py",
    "test_divergence.py",
    "test_guidance.py",
    "symbolic/test_numerical.py",
    "test_wrong_weights.py",
)
LEFT_OUT = ("compile", "copied_file", "import", "no_line", "TestChoice", "TestRefused")
"""Tests that take too long for every mutant: those of the compiler and of other files, and those which only say which
numerical form is chosen."""
ANEW = "\nfrom fguidance import anew\n\nDIVERGENCES, FAMILIES = anew.tables(globals())\n"
"""The end of the copy of the closed forms."""
ALIVE, DEAD = ("survived", "no tests", "suspicious"), ("killed", "caught by type check", "timeout")
EXPLANATIONS = Path(__file__).with_name("survivors.toml")
RECORD = ROOT / "book" / "results" / "mutation.json"
CONFIGURATION = f"""\
[tool.mutmut]
source_paths = ["src"]
only_mutate = {[f"src/fguidance/{name}.py" for name in MUTATED]}
pytest_add_cli_args = ["-p", "no:cacheprovider", "-k", "{" and ".join(f"not {name}" for name in LEFT_OUT)}"]
pytest_add_cli_args_test_selection = {[f"tests/{name}" for name in TESTS]}
also_copy = ["derivations"]
track_dependencies = false
use_git_change_detection = false
timeout_multiplier = 20.0
timeout_constant = 20.0

[tool.pytest.ini_options]
pythonpath = ["src", "."]
addopts = "--import-mode=importlib"
filterwarnings = ["error"]
"""


@dataclass(frozen=True)
class Mutant:
    """One changed place: mutmut's name, how it ended, and the lines that were changed."""

    name: str
    status: str
    change: str = ""

    @property
    def function(self) -> str:
        """The function or method that was changed."""
        written = self.name.split(".")[-1].rpartition("__mutmut_")[0]
        return written.rpartition("ǁ")[2] if "ǁ" in written else written.removeprefix("x_")


def prepare() -> None:
    """Copy the library and its tests to the working folder, keeping times, so that unchanged results are kept."""
    ignored = shutil.ignore_patterns("__pycache__")
    for source, target in (("reference", "src"), ("tests/support", "tests/support"), ("derivations", "derivations")):
        shutil.copytree(ROOT / source, WORK / target, ignore=ignored, dirs_exist_ok=True)
    for name in ("conftest.py", *TESTS):
        (WORK / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / "tests" / name, WORK / "tests" / name)
    shutil.copy2(Path(__file__).with_name("anew.py"), WORK / "src" / "fguidance")
    with (WORK / "src" / "fguidance" / "closed_forms.py").open("a", encoding="utf-8") as copy:
        copy.write(ANEW)
    (WORK / "pyproject.toml").write_text(CONFIGURATION, encoding="utf-8")


def mutmut(*arguments: str, quiet: bool = False) -> str:
    """Run a command of mutmut in the working folder; its output where `quiet`, else an empty string."""
    environment = os.environ | {"HYPOTHESIS_PROFILE": "mutation", "PYTHONPATH": str(WORK)}
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments], cwd=WORK, env=environment, text=True,
        stdout=subprocess.PIPE if quiet else None,
    )  # fmt: skip
    return done.stdout or ""


def results() -> list[Mutant]:
    """Every mutant with its status, and what was changed in those that survived."""
    found = []
    for line in mutmut("results", "--all", "true", quiet=True).splitlines():
        name, _, status = line.strip().rpartition(": ")
        if name:
            found.append(Mutant(name, status, changed(name) if status in ALIVE else ""))
    return found


def changed(name: str) -> str:
    """The lines that a mutant changes, as a diff without its place."""
    lines = mutmut("show", name, quiet=True).splitlines()
    kept = [line for line in lines if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in kept)


@dataclass(frozen=True)
class Explanation:
    """Why the mutants of some functions whose changed line matches a pattern are no mistakes."""

    functions: tuple[str, ...]
    pattern: str
    reason: str

    def covers(self, mutant: Mutant) -> bool:
        """Whether it speaks of this mutant."""
        applies = not self.functions or mutant.function in self.functions
        return applies and re.search(self.pattern, mutant.change) is not None


def explanations() -> list[Explanation]:
    """The table of survivors."""
    rows = tomllib.loads(EXPLANATIONS.read_text(encoding="utf-8"))["survivor"]
    return [Explanation(tuple(row.get("functions", ())), row["pattern"], row["reason"]) for row in rows]


def explained(mutants: list[Mutant]) -> dict[str, int]:
    """How many survivors each reason of the table explains; a survivor counts for the first that covers it."""
    table = explanations()
    found = [next((row.reason for row in table if row.covers(mutant)), "") for mutant in survivors(mutants)]
    return dict(Counter(reason for reason in found if reason))


def survivors(mutants: list[Mutant]) -> list[Mutant]:
    """The mutants that no test killed, or that no test reaches."""
    return [mutant for mutant in mutants if mutant.status in ALIVE]


def unexplained(mutants: list[Mutant]) -> list[Mutant]:
    """The survivors without a reason in the table."""
    table = explanations()
    return [mutant for mutant in survivors(mutants) if not any(row.covers(mutant) for row in table)]


def module(mutant: Mutant) -> str:
    """The short name of the module that a mutant is in."""
    return mutant.name.split(".")[1]


def score(mutants: list[Mutant]) -> dict[str, dict[str, int]]:
    """How many mutants of each module were made, killed and survived; those left were not tried yet."""
    return {
        name: {
            "made": sum(module(mutant) == name for mutant in mutants),
            "killed": sum(module(mutant) == name and mutant.status in DEAD for mutant in mutants),
            "survived": sum(module(mutant) == name for mutant in survivors(mutants)),
        }
        for name in MUTATED
    }


def wrong_programs() -> list[dict[str, str | int]]:
    """The collection of wrong programs by what is wrong with them: title, number, and the first that is described."""
    found = []
    for kind in dict.fromkeys(make.__module__ for make, _ in WRONG):
        made = [make for make, _ in WRONG if make.__module__ == kind]
        described = [inspect.cleandoc(make.__doc__).partition("\n")[0] for make in made if make.__doc__]
        title = (sys.modules[kind].__doc__ or "").partition("\n")[0].rstrip(".")
        found.append({"title": title, "number": len(made), "example": described[0]})
    return found


def record(mutants: list[Mutant]) -> None:
    """Write the score with its date, versions and settings."""
    content = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "examples_per_test": 8,
        "tests": list(TESTS),
        "wrong_programs": wrong_programs(),
        "modules": score(mutants),
        "explained_survivors": explained(mutants),
        "unexplained_survivors": len(unexplained(mutants)),
    }
    write(content)


def write(content: dict[str, Any]) -> None:
    """Write the record."""
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Run what is left to run, print the score, and fail on a survivor that is not explained."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", action="store_true", help="only report what earlier runs found")
    parser.add_argument("--programs", action="store_true", help="only record how many wrong programs there are")
    parser.add_argument("--survivors", action="store_true", help="try what survived again, after a change of the tests")
    arguments = parser.parse_args()
    if arguments.programs:
        write({**json.loads(RECORD.read_text(encoding="utf-8")), "wrong_programs": wrong_programs()})
        return
    if not arguments.report:
        prepare()
        tried.restore(WORK / "mutants", MUTATED)
        if arguments.survivors:
            tried.forget_survivors(WORK / "mutants", MUTATED)
        mutmut("run", "--max-children", os.environ.get("MUTATION_PROCESSES", "2"))
    mutants = results()
    record(mutants)
    tried.keep(WORK / "mutants", MUTATED)
    for name, counts in score(mutants).items():
        print(f"{name}: " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    left = unexplained(mutants)
    for mutant in left:
        print(f"\n{mutant.name}: {mutant.status}, not explained in {EXPLANATIONS.name}\n{mutant.change}")
    sys.exit(1 if left or any(mutant.status == "not checked" for mutant in mutants) else 0)


if __name__ == "__main__":
    main()
