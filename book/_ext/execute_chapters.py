"""Execute the chapters, visibly, before Sphinx reads them.

Fills the execution cache that MyST-NB then reads, so that each chapter's progress reaches the terminal. The
cache is emptied first when anything the chapters import or load has changed, which MyST-NB does not look at.
A chapter that raises, or prints anything but progress bars on stderr, fails the build.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from myst_nb.core.read import create_nb_reader
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (
    "constraints.txt",
    "reference/**/*.py",
    "reference/fguidance/run/configs/**/*",
    "reference/fguidance/run/weights/*",
    "tests/fixtures/*",
    "derivations/**/*.py",
    "book/generated/**/*",
    "book/lab/**/*",
    "book/results/**/*",
)
SECONDS_BETWEEN_REPORTS = 5.0
CHAPTERS_AT_ONCE = 2
START = time.monotonic()


def say(line: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - START), 60)
    print(f"{minutes:02d}:{seconds:02d} {line}", file=sys.stderr, flush=True)


def source_files() -> Iterator[Path]:
    for pattern in SOURCES:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def fingerprint_of_sources() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in source_files():
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def open_cache(path: Path) -> JupyterCacheAbstract:
    """The execution cache, emptied if it was filled from other sources than today's."""
    fingerprint, stamp = fingerprint_of_sources(), path / "sources.sha256"
    cache = get_cache(path)
    if not stamp.exists() or stamp.read_text() != fingerprint:
        cache.clear_cache()
        cache = get_cache(path)
        path.mkdir(parents=True, exist_ok=True)
        stamp.write_text(fingerprint)
    return cache


@dataclass
class Stderr:
    """What a chapter writes on stderr: bars reach the terminal, anything else is kept as a complaint."""

    label: str
    text: str = ""
    reported: float = field(default_factory=time.monotonic)

    def write(self, text: str) -> None:
        self.text += text
        if "\r" in text and time.monotonic() - self.reported >= SECONDS_BETWEEN_REPORTS:
            self.reported = time.monotonic()
            say(f"{self.label} | {text.rsplit(chr(13), 1)[1].strip()}")

    @property
    def complaints(self) -> list[str]:
        """The lines that no progress bar wrote; a bar begins each of its writes with a carriage return."""
        return [line for line in self.text.split("\n") if line.strip() and "\r" not in line]


class ChapterClient(NotebookClient):
    """A notebook client that listens to stderr while the cells run."""

    def __init__(self, notebook: NotebookNode, stderr: Stderr, **options: Any) -> None:
        super().__init__(notebook, **options)
        self.stderr = stderr

    def process_message(
        self, msg: dict[str, Any], cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        if msg["msg_type"] == "stream" and msg["content"]["name"] == "stderr":
            self.stderr.write(msg["content"]["text"])
        return super().process_message(msg, cell, cell_index)


async def execute(
    label: str, path: Path, notebook: NotebookNode, cache: JupyterCacheAbstract, timeout: int
) -> str:
    """Execute one chapter and cache it; returns what went wrong, or an empty string."""
    stderr = Stderr(label)
    client = ChapterClient(
        notebook,
        stderr,
        timeout=timeout,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    say(f"{label} | executing")
    start = time.perf_counter()
    try:
        await client.async_execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        say(f"{label} | failed, see below")
        return f"{label} failed:\n{error}"
    seconds = time.perf_counter() - start
    if stderr.complaints:
        return f"{label} wrote on stderr, where only progress bars belong:\n" + "\n".join(stderr.complaints)
    bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": seconds})
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    say(f"{label} | done in {seconds:.0f} s")
    return ""


def read_chapters(app: Sphinx) -> Iterator[tuple[Path, NotebookNode]]:
    """The pages of the table of contents that are notebooks, read exactly as MyST-NB will read them."""
    for docname in app.config.external_site_map:
        path = Path(app.env.doc2path(docname))
        if not path.exists():  # Sphinx says so itself
            continue
        text = path.read_text(encoding="utf-8")
        reader = create_nb_reader(str(path), app.env.myst_config, app.env.mystnb_config, text)
        if reader is not None:
            yield path, reader.read(text)


def is_cached(cache: JupyterCacheAbstract, notebook: NotebookNode) -> bool:
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True


async def execute_all(app: Sphinx, cache: JupyterCacheAbstract) -> list[str]:
    chapters = list(read_chapters(app))
    turn = asyncio.Semaphore(CHAPTERS_AT_ONCE)

    async def one(number: int, path: Path, notebook: NotebookNode) -> str:
        label = f"chapter {number}/{len(chapters)} {path.stem}"
        if is_cached(cache, notebook):
            say(f"{label} | unchanged")
            return ""
        async with turn:
            return await execute(label, path, notebook, cache, app.config.nb_execution_timeout)

    return await asyncio.gather(*(one(i, path, nb) for i, (path, nb) in enumerate(chapters, 1)))


def execute_chapters(app: Sphinx) -> None:
    cache = open_cache(Path(app.env.mystnb_config.execution_cache_path))
    faults = [fault for fault in asyncio.run(execute_all(app, cache)) if fault]
    if faults:
        # Not an exception, which Sphinx would wrap in two tracebacks: the author needs the cell's own.
        sys.exit("\n".join(["", *faults]))


def setup(app: Sphinx) -> dict[str, bool]:
    # After MyST-NB has made its configuration, at the default priority of 500.
    app.connect("builder-inited", execute_chapters, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
