"""What every chapter owes its readers: figures with a caption that says what to see, and a text in their place."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

CHAPTERS = sorted((Path(__file__).parents[2] / "book").glob("*.md"))
OPTIONS = re.compile(r"^```\{code-cell\} ipython3\n---\n(.*?)\n---$", re.MULTILINE | re.DOTALL)


def cells(chapter: Path) -> list[dict[str, Any]]:
    return [yaml.safe_load(found) for found in OPTIONS.findall(chapter.read_text(encoding="utf-8"))]


def test_there_are_figures_to_look_at() -> None:
    assert sum("figure" in cell.get("mystnb", {}) for chapter in CHAPTERS for cell in cells(chapter)) > 40


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_figures_have_a_name_a_caption_and_a_text_in_their_place(chapter: Path) -> None:
    """Elsewhere in a cell's options the text would be ignored without a word."""
    for cell in cells(chapter):
        assert set(cell) <= {"tags", "mystnb"}, cell
        options = cell.get("mystnb", {})
        if figure := options.get("figure"):
            assert figure["name"].startswith("fig-")
            assert len(figure["caption"]) > 80, figure
            assert len(options["image"]["alt"]) > 30, figure
