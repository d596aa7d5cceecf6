"""A folder is of one run for ever, and whatever else is in it is left alone."""

import copy
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fguidance.run import assets
from fguidance.run.assets import Asset, file_sha256, locate
from fguidance.run.folder import Identity, device_kind, identity, open_folder, read_identity
from tests.support.runs import CPU, contents, tiny

IDENTITY = identity(tiny(), 10, CPU)
OTHERS = {
    "num_samples": 11,
    "config": IDENTITY.config | {"sampling": IDENTITY.config["sampling"] | {"seed": 1}},
    "weights": {"digits.safetensors": "0" * 64},
    "versions": IDENTITY.versions | {"torch": "0.1"},
    "device": "other",
}


class TestIdentity:
    def test_it_holds_all_that_decides_the_samples(self) -> None:
        assert IDENTITY.config == tiny().model_dump(mode="json")
        assert IDENTITY.weights == {"digits.safetensors": file_sha256(locate("digits.safetensors"))}
        assert set(IDENTITY.versions) == {"fguidance", "torch"}
        assert IDENTITY.versions["torch"] == torch.__version__
        assert IDENTITY.device == device_kind(CPU)
        assert IDENTITY.device.startswith("cpu (")

    def test_it_is_the_same_for_the_same_run(self) -> None:
        assert identity(tiny(), 10, CPU).digest == IDENTITY.digest

    @pytest.mark.parametrize("name", OTHERS)
    def test_all_of_it_counts(self, name: str) -> None:
        assert set(OTHERS) == {field.name for field in dataclasses.fields(Identity)}
        assert dataclasses.replace(IDENTITY, **{name: OTHERS[name]}).digest != IDENTITY.digest

    def test_the_title_does_not_count(self) -> None:
        assert identity(tiny("title=Other"), 10, CPU).digest == IDENTITY.digest

    def test_other_weights_of_the_same_name_are_another_run(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.safetensors"
        parts = [f"{table}.weights={path}:{part}" for table, part in (("model", "unet"), ("classifier", "classifier"))]
        found = []
        for content in (b"first", b"second"):
            path.write_bytes(content)
            found.append(identity(tiny(*parts), 10, CPU))
        assert list(found[0].weights) == [str(path)]
        assert found[0].digest != found[1].digest

    def test_a_path_may_have_a_colon(self, tmp_path: Path) -> None:
        path = tmp_path / "a:b" / "mine.safetensors"
        path.parent.mkdir()
        path.write_bytes(b"mine")
        overrides = [f"model.weights={path}", f"classifier.weights={path}:part"]
        assert list(identity(tiny(*overrides), 1, CPU).weights) == [str(path)]

    @pytest.mark.parametrize("number", (0, -1))
    def test_no_image_at_all(self, number: int) -> None:
        with pytest.raises(ValueError, match=f"num_samples must be at least 1, not {number}"):
            identity(tiny(), number, CPU)

    def test_missing_weights(self) -> None:
        with pytest.raises(FileNotFoundError, match=r"there is no file nowhere\.pt"):
            identity(tiny("model.weights=nowhere.pt"), 1, CPU)

    def test_an_asset_with_another_hash(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FGUIDANCE_CACHE", str(tmp_path))
        monkeypatch.setattr(assets, "ASSETS", {"mine": Asset("mine.pt", "", "MIT", "00000000")})
        (tmp_path / "mine.pt").write_bytes(b"other")
        with pytest.raises(ValueError, match=r"mine\.pt is not the asset mine: its SHA-256 is .*00000000 is published"):
            identity(tiny("model.weights=mine"), 1, CPU)


class TestOpening:
    def test_a_new_folder_gets_a_record_from_which_the_run_can_be_repeated(self, tmp_path: Path) -> None:
        shards = open_folder(tmp_path / "new" / "deep", IDENTITY)
        assert shards.run == IDENTITY.digest
        assert read_identity(tmp_path / "new" / "deep") == IDENTITY
        record = json.loads((tmp_path / "new" / "deep" / "run.json").read_text())
        assert set(record) == {*vars(IDENTITY), "date", "python"}

    def test_the_same_run_goes_on_and_nothing_is_written(self, tmp_path: Path) -> None:
        first = open_folder(tmp_path, IDENTITY)
        before = contents(tmp_path)
        assert open_folder(tmp_path, dataclasses.replace(IDENTITY)) == first
        assert contents(tmp_path) == before

    def test_another_title_is_the_same_run(self, tmp_path: Path) -> None:
        first = open_folder(tmp_path, IDENTITY)
        assert open_folder(tmp_path, identity(tiny("title=Other"), 10, CPU)) == first

    @pytest.mark.parametrize("name", OTHERS)
    def test_another_run_is_refused_and_nothing_changes(self, tmp_path: Path, name: str) -> None:
        open_folder(tmp_path, IDENTITY)
        before = contents(tmp_path)
        with pytest.raises(FileExistsError, match=rf"holds another run \(its {name}.* is .* and not .*take another"):
            open_folder(tmp_path, dataclasses.replace(IDENTITY, **{name: OTHERS[name]}))
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("name", ("mine.txt", "shards", "samples.npz"))
    def test_a_folder_with_other_files_is_refused_and_nothing_changes(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).mkdir() if name == "shards" else (tmp_path / name).write_text("mine")
        before = contents(tmp_path)
        with pytest.raises(FileExistsError, match=rf"is not empty \(it has {name}\) and holds no run"):
            open_folder(tmp_path, IDENTITY)
        assert contents(tmp_path) == before

    def test_a_file_in_the_place_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        with pytest.raises(FileExistsError):
            open_folder(tmp_path / "file", IDENTITY)
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_process_that_was_killed_before_the_record_leaves_no_obstacle(self, tmp_path: Path) -> None:
        (tmp_path / ".run.json.host.123.partial").write_text('{"conf')
        assert open_folder(tmp_path, IDENTITY).run == IDENTITY.digest

    @pytest.mark.parametrize("same", (True, False))
    def test_another_process_begins_at_the_same_moment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
    ) -> None:
        """Its record appears while this process looks at what is in the folder."""
        other = dataclasses.replace(IDENTITY, num_samples=IDENTITY.num_samples + (not same))
        open_folder(tmp_path / "elsewhere", other)
        folder, really = tmp_path / "shared", Path.iterdir

        def slowly(path: Path) -> Any:
            if path == folder:
                shutil.copy(tmp_path / "elsewhere" / "run.json", folder)
            return really(path)

        monkeypatch.setattr(Path, "iterdir", slowly)
        if same:
            assert open_folder(folder, IDENTITY).run == IDENTITY.digest
        else:
            with pytest.raises(FileExistsError, match="its num_samples is 11 and not 10"):
                open_folder(folder, IDENTITY)
        assert read_identity(folder) == other


class TestRecord:
    @pytest.mark.parametrize("content", (b"", b"{", b"[]", b"{}", b"null", b"3", b"\xff", b'{"config": {}}'))
    def test_a_corrupt_one_is_told_and_left_alone(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "run.json").write_bytes(content)
        for reading in (lambda: read_identity(tmp_path), lambda: open_folder(tmp_path, IDENTITY)):
            with pytest.raises(ValueError, match=r"run\.json is corrupt"):
                reading()
        assert (tmp_path / "run.json").read_bytes() == content

    @pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Identity)])
    def test_a_field_that_is_missing_or_nonsense(self, tmp_path: Path, name: str) -> None:
        open_folder(tmp_path, IDENTITY)
        record = json.loads((tmp_path / "run.json").read_text())
        for value in ("missing", None, 3.5, [1], "text"):
            changed = copy.deepcopy(record)
            if value == "missing":
                del changed[name]
            else:
                changed[name] = value
            (tmp_path / "run.json").write_text(json.dumps(changed))
            with pytest.raises((ValueError, FileExistsError), match=r"is corrupt|holds another run"):
                open_folder(tmp_path, IDENTITY)

    def test_there_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"holds no run: there is no run\.json"):
            read_identity(tmp_path)
