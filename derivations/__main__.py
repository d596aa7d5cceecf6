"""Write every generated file, or with `prove` prove every claim: `python -m derivations [prove] [--root FOLDER]`."""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from derivations import divergence_pages, emit, ledger

FILES: dict[str, Callable[[], str]] = {
    "reference/fguidance/closed_forms.py": emit.reference_text,
    "book/generated/library.md": divergence_pages.library,
    "book/generated/divergences.md": divergence_pages.divergence_table,
    "reference/fguidance/catalogue.py": emit.catalogue_text,
}
LEDGER = "book/generated/ledger.md"


def write(root: Path) -> list[Path]:
    """Write every generated file under `root`, on two cores, and return their paths."""
    with ProcessPoolExecutor(2) as pool:
        texts = {name: pool.submit(make) for name, make in FILES.items()}
        proved = tuple(pool.map(ledger.prove, ledger.PROVERS))
        found = {name: text.result() for name, text in texts.items()}
    ledger.check_unique(proved)
    for name, text in (found | {LEDGER: ledger.render_markdown(proved)}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return [root / name for name in (*FILES, LEDGER)]


def main() -> int:
    """Write the generated files under --root, by default this repository."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("command", nargs="?", choices=("generate", "prove"), default="generate")
    parser.add_argument("--root", type=Path, default=emit.ROOT)
    arguments = parser.parse_args()
    if arguments.command == "prove":
        return ledger.run()
    for path in write(arguments.root):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
