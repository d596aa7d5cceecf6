"""What a mutation run keeps for the next machine."""

import json
from pathlib import Path

from tests.mutation import tried

META = {
    "exit_code_by_key": {
        "fguidance.guidance.x_label__mutmut_1": 1,
        "fguidance.guidance.x_label__mutmut_2": 0,
        "fguidance.guidance.x_label__mutmut_3": None,
        "fguidance.guidance.xǁGuidanceǁ__post_init____mutmut_10": -24,
        "fguidance.guidance.x_untried__mutmut_1": None,
    },
    "hash_by_function_name": {"x_label": "ab", "xǁGuidanceǁ__post_init__": "cd", "x_untried": "ef"},
    "type_check_error_by_key": {},
    "durations_by_key": {"fguidance.guidance.x_label__mutmut_1": 3.0},
    "estimated_durations_by_key": {},
}


def _write(mutants: Path, meta: dict[str, object]) -> Path:
    noted = mutants / "src" / "fguidance" / "guidance.py.meta"
    noted.parent.mkdir(parents=True)
    noted.write_text(json.dumps(meta))
    return noted


def test_what_was_tried_is_found_on_another_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(tried, "FOLDER", tmp_path / "kept")
    _write(tmp_path / "here", META)
    tried.keep(tmp_path / "here", ("guidance",))
    tried.restore(tmp_path / "there", ("guidance",))
    found = json.loads((tmp_path / "there" / "src" / "fguidance" / "guidance.py.meta").read_text())
    assert found["exit_code_by_key"] == {
        name: code for name, code in META["exit_code_by_key"].items() if code is not None
    }
    assert found["hash_by_function_name"] == {"x_label": "ab", "xǁGuidanceǁ__post_init__": "cd"}


def test_the_notes_of_this_machine_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tried, "FOLDER", tmp_path / "kept")
    noted = _write(tmp_path / "here", META)
    tried.keep(tmp_path / "here", ("guidance",))
    noted.write_text("newer")
    tried.restore(tmp_path / "here", ("guidance",))
    assert noted.read_text() == "newer"


def test_nothing_was_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(tried, "FOLDER", tmp_path / "kept")
    tried.restore(tmp_path / "there", ("guidance",))
    assert not (tmp_path / "there").exists()


def test_survivors_are_forgotten(tmp_path):
    noted = _write(tmp_path, META | {"exit_code_by_key": {"a": 0, "b": 1, "c": None}})
    tried.forget_survivors(tmp_path, ("guidance",))
    assert json.loads(noted.read_text())["exit_code_by_key"] == {"a": None, "b": 1, "c": None}
