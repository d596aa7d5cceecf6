"""Theorems that the proof assistant Coq has checked, for every number of classes: `make prove`.

`kernel/Statements.v` states each theorem in full under the name of its claim, with a line on how it differs from the
sentence of the ledger. The record of a run is committed, so that the book needs no Coq.
"""

import argparse
import functools
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

KERNEL = Path(__file__).with_name("kernel")
RECORD = KERNEL / "record.json"
FILES = (
    "Definitions", "Sums", "Softmax", "Divergences", "Saturation", "Score", "Mixture", "SmoothECE", "Weights",
    "Statements",
)  # fmt: skip
AXIOMS = {
    "ClassicalDedekindReals.sig_not_dec", "ClassicalDedekindReals.sig_forall_dec",
    "FunctionalExtensionality.functional_extensionality_dep", "Classical_Prop.classic",
}  # fmt: skip
"""Those of Coq's classical reals; a proof that needs another is refused."""
UNPROVED = re.compile(r"\b(Admitted|admit|Axiom|Axioms|Parameter|Parameters|Conjecture|Abort)\b")
HINT = "coqc was not found. On Debian: apt-get install coq libcoq-mathcomp-ssreflect libcoq-coquelicot"
COMPILE = ("coqc", "-q", "-w", "none")
_THEOREM = re.compile(r"\(\*(?P<note>(?:(?!\*\)).)*)\*\)\nTheorem (?P<name>\w+)(?P<rest>.*?)\nProof\.", re.S)


class NotProvedError(Exception):
    """The kernel refuses a file, or what it accepts is not what it should."""


@dataclass(frozen=True)
class Theorem:
    """A theorem of `Statements.v`: its name, its text up to the proof, and how it differs from the claim's sentence."""

    name: str
    statement: str
    note: str

    @property
    def claim(self) -> str:
        """The id of its claim: its name up to a double underscore."""
        return self.name.partition("__")[0].replace("_", "-")


def source(name: str) -> str:
    """The text of one of the kernel's files, without the ending of its name."""
    return (KERNEL / f"{name}.v").read_text(encoding="utf-8")


def theorems() -> tuple[Theorem, ...]:
    """The theorems in the order of the file."""
    return tuple(
        Theorem(found["name"], f"Theorem {found['name']}{found['rest']}", " ".join(found["note"].split()))
        for found in _THEOREM.finditer(source("Statements"))
    )


def digest() -> str:
    """SHA-256 of all files of the kernel."""
    return hashlib.sha256("".join(map(source, FILES)).encode()).hexdigest()


@functools.cache
def recorded() -> tuple[Theorem, ...]:
    """The theorems, if the record says that these very files were checked.

    Raises:
        NotProvedError: a file was changed since.
    """
    if json.loads(RECORD.read_text(encoding="utf-8"))["sha256"] != digest():
        raise NotProvedError("derivations/kernel was changed and not proved again: run make prove ARGS=--write")
    return theorems()


def _compile(folder: Path, name: str) -> str:
    """Coq's output for a file in the folder; what it needs must be compiled there."""
    found = subprocess.run([*COMPILE, f"{name}.v"], cwd=folder, capture_output=True, text=True, check=False)
    if found.returncode:
        raise NotProvedError(f"{name}.v: {found.stderr.strip() or found.stdout.strip()}")
    return found.stdout


def _check(folder: Path) -> dict[str, object]:
    """Compile every file and return what there is to record."""
    for name in FILES:
        if unproved := UNPROVED.search(source(name)):
            raise NotProvedError(f"{name}.v says {unproved[0]}: every step must be proved")
        (folder / f"{name}.v").write_text(source(name), encoding="utf-8")
    output = [_compile(folder, name) for name in FILES][-1]
    axioms = set(re.findall(r"^([\w.]+)\s*:", output, re.M)) - {"Axioms"}
    if foreign := axioms - AXIOMS:
        raise NotProvedError(f"the proofs need the axioms {', '.join(sorted(foreign))}")
    told = source("Statements").partition("Definition everything := (")[2].partition(")")[0]
    if missing := {theorem.name for theorem in theorems()} - set(re.findall(r"@(\w+)", told)):
        raise NotProvedError(f"{', '.join(sorted(missing))}: not among those whose axioms are printed")
    version = subprocess.run(["coqc", "--print-version"], capture_output=True, text=True, check=True).stdout.split()[0]
    names = [theorem.name for theorem in theorems()]
    return {"sha256": digest(), "coq": version, "axioms": sorted(axioms), "theorems": names}


def altered() -> list[dict[str, str]]:
    """False or unproved variants of the theorems: `theorem`, `what` is altered, and the text `old` and `new`."""
    found: list[dict[str, str]] = tomllib.loads((KERNEL / "altered.toml").read_text(encoding="utf-8"))["altered"]
    return found


def _require_refused(folder: Path, row: dict[str, str]) -> None:
    """Raise unless an altered theorem is well-formed, and its proof does not prove it."""
    head, _, rest = source("Statements").partition("\nTheorem ")
    text = re.search(rf"Theorem {row['theorem']}\b.*?Qed\.", f"Theorem {rest}", re.S)
    if text is None or text[0].count(row["old"]) != 1:
        raise NotProvedError(f"altered.toml: {row['old']!r} is not once in {row['theorem']}")
    changed = text[0].replace(row["old"], row["new"])
    statement = changed.partition("\nProof.")[0]
    (folder / "Altered.v").write_text(f"{head}\n{statement}\nProof. Admitted.\n", encoding="utf-8")
    _compile(folder, "Altered")
    (folder / "Altered.v").write_text(f"{head}\n{changed}\n", encoding="utf-8")
    try:
        _compile(folder, "Altered")
    except NotProvedError:
        return
    raise NotProvedError(f"{row['theorem']} is proved with {row['what']} altered: {row['new']}")


def main() -> int:
    """Compile the kernel, refuse altered theorems, and compare with the record or write it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="write the record")
    arguments = parser.parse_args()
    if shutil.which("coqc") is None:
        print(HINT, file=sys.stderr)
        return 3
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = _check(Path(folder))
            for row in altered():
                _require_refused(Path(folder), row)
    except NotProvedError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.write:
        RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    elif json.loads(RECORD.read_text(encoding="utf-8")) | {"coq": ""} != found | {"coq": ""}:
        print("derivations/kernel/record.json is of another run: make prove ARGS=--write", file=sys.stderr)
        return 1
    print(f"Coq {found['coq']} proves {len(theorems())} theorems, and refuses {len(altered())} altered ones.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
