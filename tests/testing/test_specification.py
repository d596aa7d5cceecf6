"""What a text names."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fguidance.testing.specification import resolve

SOURCE = """
class Mine:
    class Inner:
        pass
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of one's own with modules in it, that is not on the path yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    (tmp_path / "spec_package").mkdir()
    (tmp_path / "spec_package" / "module.py").write_text(SOURCE)
    (tmp_path / "spec_broken.py").write_text("1 / 0\n")
    (tmp_path / "spec_ends.py").write_text("import sys\nsys.exit(0)\n")
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("text", ("js", "t*log(t)", "(t-1)**2", "a:b(c)", "no such thing"))
def test_what_names_no_object_is_left_as_it_is(text: str) -> None:
    assert resolve(text) == text


def test_an_object_in_this_folder() -> None:
    found = resolve("spec_package.module:Mine")
    assert found.__name__ == "Mine"
    assert resolve("spec_package.module:Mine.Inner") is found.Inner


@pytest.mark.parametrize(
    ("text", "message"),
    (
        ("spec_package.module:Yours", "the module spec_package.module has no Yours"),
        ("spec_package.module:Mine.Outer", "the module spec_package.module has no Mine.Outer"),
        ("spec_nowhere:Mine", "cannot import spec_nowhere: ModuleNotFoundError"),
        ("spec_broken:Mine", "cannot import spec_broken: ZeroDivisionError: division by zero"),
        ("spec_ends:Mine", "cannot import spec_ends: SystemExit: 0"),
    ),
)
def test_what_cannot_be_found_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        resolve(text)
    assert str(caught.value).startswith(text)
