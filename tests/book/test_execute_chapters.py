"""The book's build executes chapters anew when it must, and fails when a chapter does."""

import asyncio
from pathlib import Path

import execute_chapters
import nbformat
import pytest
from execute_chapters import ROOT, Stderr, execute, is_cached, open_cache, source_files


def notebook(source: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])


def run(source: str, tmp_path: Path) -> tuple[str, bool]:
    """What went wrong, and whether the result was cached."""
    page, cache = notebook(source), open_cache(tmp_path / "cache")
    fault = asyncio.run(execute("chapter", tmp_path / "page.md", page, cache, timeout=60))
    return fault, is_cached(cache, notebook(source))


def test_good_chapter_is_cached_with_its_output(tmp_path: Path) -> None:
    source = "from tqdm import tqdm\nfor _ in tqdm(range(3)): pass\n6 * 7"
    fault, cached = run(source, tmp_path)
    assert (fault, cached) == ("", True)
    _, merged = open_cache(tmp_path / "cache").merge_match_into_notebook(notebook(source))
    assert merged.cells[0].outputs[-1]["data"]["text/plain"] == "42"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import warnings; warnings.warn('careless')", "careless"),
        ("import os; os._exit(1)", "died"),
    ],
)
def test_bad_chapter_is_reported_and_not_cached(source: str, message: str, tmp_path: Path) -> None:
    fault, cached = run(source, tmp_path)
    assert message in fault
    assert not cached


def test_only_lines_without_a_carriage_return_are_complaints() -> None:
    stderr = Stderr("chapter")
    for text in ("\rtraining:  50%|#####     |", "\rtraining: 100%|##########|", "\n", "page:1: UserWarn", "ing: no\n"):
        stderr.write(text)
    assert stderr.complaints == ["page:1: UserWarning: no"]


def test_bars_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    stderr = Stderr("chapter 1/1 digits", reported=float("-inf"))
    stderr.write("\rtraining:  10%|#         |\rtraining:  20%|##        |")
    assert capsys.readouterr().err.endswith(" chapter 1/1 digits | training:  20%|##        |\n")


def test_cache_is_emptied_when_a_source_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    open_cache(cache)
    (cache / "kept").touch()
    open_cache(cache)
    assert (cache / "kept").exists()
    monkeypatch.setattr(execute_chapters, "fingerprint_of_sources", lambda: "another")
    open_cache(cache)
    assert not (cache / "kept").exists()


def test_sources_cover_what_chapters_import() -> None:
    sources = {path.relative_to(ROOT).as_posix() for path in source_files()}
    assert {"reference/fguidance/closed_forms.py", "derivations/divergences.py", "constraints.txt"} <= sources
    assert any(name.startswith("book/lab/") for name in sources)


def test_fingerprint_depends_on_names_and_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute_chapters, "ROOT", tmp_path)
    seen = set()
    for name, text in (("constraints.txt", "a"), ("constraints.txt", "b"), ("derivations/x.py", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        seen.add(execute_chapters.fingerprint_of_sources())
    assert len(seen) == 3
