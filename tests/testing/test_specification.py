"""What a text names."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fguidance.testing.subject import named_subject, resolve

SOURCE = """
class Mine:
    class Inner:
        pass


class Broken:
    value = property(lambda self: 1 / 0)
    part = property(lambda self: exit(3))


class Unknowable:
    __class__ = property(lambda self: 1 / 0)


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no words")


broken, unknowable, pair = Broken(), Unknowable(), (Unprintable(), Unprintable())


def function(log_p, log_q):
    return log_p
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
    (tmp_path / "spec_unwilling.py").write_text("def __getattr__(name): raise RuntimeError('nothing here')\n")
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
        ("spec_package.module:broken.value", "cannot be read: ZeroDivisionError: division by zero"),
        ("spec_package.module:broken.part", "cannot be read: SystemExit: 3"),
        ("spec_unwilling:Mine", "cannot be read: RuntimeError: nothing here"),
    ),
)
def test_what_cannot_be_found_is_said(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        resolve(text)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("name", "message"),
    (
        ("Broken", "Broken cannot be read: ZeroDivisionError: division by zero"),
        ("unknowable", "spec_package.module:unknowable cannot be read: ZeroDivisionError: division by zero"),
        ("pair", "spec_package.module:pair cannot be read: RuntimeError: no words"),
        ("function", r"spec_package.module:function is one function: .*, or a pair \(value, weight\)"),
    ),
)
def test_what_cannot_be_tested_is_refused_whatever_its_code_raises(name: str, message: str) -> None:
    text = f"spec_package.module:{name}"
    with pytest.raises(TypeError, match=message):
        named_subject(text, resolve(text))


def test_a_subject() -> None:
    assert named_subject("js", resolve("js")).name == "js"
