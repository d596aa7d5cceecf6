"""A folder is of one run for ever, and its shards are whole and of that run, or count as missing."""

import dataclasses
import errno
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fguidance.run.assets import file_sha256, locate
from fguidance.run.folder import (
    Identity,
    Shard,
    Shards,
    device_kind,
    identity,
    open_folder,
    read_identity,
    write_whole,
)
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


class TestOpening:
    def test_a_new_folder_gets_a_record_from_which_the_run_can_be_repeated(self, tmp_path: Path) -> None:
        shards = open_folder(tmp_path / "new" / "deep", IDENTITY)
        assert shards.run == IDENTITY.digest
        assert read_identity(tmp_path / "new" / "deep") == IDENTITY
        record = json.loads((tmp_path / "new" / "deep" / "run.json").read_text())
        assert set(record) == {*vars(IDENTITY), "date", "python"}

    @pytest.mark.parametrize("name", OTHERS)
    def test_another_run_is_refused_and_nothing_changes(self, tmp_path: Path, name: str) -> None:
        assert set(OTHERS) == {field.name for field in dataclasses.fields(Identity)}
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
    @pytest.mark.parametrize("content", (b"", b"[]", b"null", b"\xff", b'{"config": {}}'))
    def test_a_corrupt_one_is_told_and_left_alone(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "run.json").write_bytes(content)
        for reading in (lambda: read_identity(tmp_path), lambda: open_folder(tmp_path, IDENTITY)):
            with pytest.raises(ValueError, match=r"run\.json is corrupt"):
                reading()
        assert (tmp_path / "run.json").read_bytes() == content


SMALL = Shard(torch.arange(2 * 2 * 2 * 1).to(torch.uint8).view(2, 2, 2, 1), torch.tensor([3, 1]))


def equal(first: Shard | None, second: Shard) -> bool:
    return first is not None and first.images.equal(second.images) and first.labels.equal(second.labels)


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    return Shards(tmp_path, "run")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    own = Shards(tmp_path_factory.mktemp("written"), "run")
    own.write(3, SMALL)
    return own.path(3).read_bytes()


@settings(max_examples=8)
@given(
    shape=st.tuples(*[st.integers(1, 4)] * 4), seed=st.integers(0, 2**32 - 1), index=st.integers(0, 2_000_000)
)  # fmt: skip
def test_what_is_written_is_read(shape: tuple[int, ...], seed: int, index: int) -> None:
    random = np.random.default_rng(seed)
    shard = Shard(
        torch.from_numpy(random.integers(0, 256, shape, np.uint8)),
        torch.from_numpy(random.integers(0, 1000, shape[0])),
    )
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(Path(folder), "run")
        shards.write(index, shard)
        found = shards.read(index)
        assert equal(found, shard)
        assert (found.images.dtype, found.labels.dtype) == (torch.uint8, torch.int64)
        assert [path.name for path in shards.path(index).parent.iterdir()] == [shards.path(index).name]


class TestDamage:
    @settings(max_examples=30)
    @given(data=st.data(), change=st.integers(1, 255))
    def test_any_other_byte_is_noticed(self, written: bytes, data: st.DataObject, change: int) -> None:
        place = data.draw(st.integers(0, len(written) - 1))
        content = written[:place] + bytes([written[place] ^ change]) + written[place + 1 :]
        with tempfile.TemporaryDirectory() as folder:
            shards = Shards(Path(folder), "run")
            shards.path(3).parent.mkdir()
            shards.path(3).write_bytes(content)
            assert shards.read(3) is None
            assert shards.missing(range(3, 4)) == [3]
            shards.write(3, SMALL)
            assert equal(shards.read(3), SMALL)

    def test_a_shard_in_the_place_of_another_is_noticed(self, shards: Shards) -> None:
        shards.write(3, SMALL)
        shards.path(3).rename(shards.path(4))
        assert shards.missing(range(3, 5)) == [3, 4]

    def test_a_number_and_the_runs_digest_do_not_run_into_each_other(self, shards: Shards, tmp_path: Path) -> None:
        Shards(tmp_path, "run1").write(2, SMALL)
        shards.path(2).rename(shards.path(12))
        assert shards.read(12) is None

    def test_an_object_with_the_right_checksum_is_not_run(self, shards: Shards, tmp_path: Path) -> None:
        class Hostile:
            def __reduce__(self) -> tuple[object, tuple[Path]]:
                return Path.touch, (tmp_path / "executed",)

        np.savez(tmp_path / "hostile.npz", images=np.array([Hostile()], dtype=object), labels=np.zeros(1))
        content = (tmp_path / "hostile.npz").read_bytes()
        shards.path(0).parent.mkdir()
        shards.path(0).write_bytes(shards._digest(0, content) + content)
        with pytest.raises(ValueError, match="allow_pickle=False"):
            shards.read(0)
        assert not (tmp_path / "executed").exists()


class TestFailures:
    def test_a_full_disk_leaves_what_was_there(self, shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
        shards.write(0, SMALL)

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            shards.write(0, Shard(SMALL.images + 1, SMALL.labels))
        with pytest.raises(OSError, match="No space left"):
            shards.write(1, SMALL)
        assert equal(shards.read(0), SMALL)
        assert [path.name for path in shards.path(0).parent.iterdir()] == [shards.path(0).name]

    @pytest.mark.parametrize("finished", [True, False])
    def test_a_second_copy_that_tidies_up_meanwhile(
        self, shards: Shards, monkeypatch: pytest.MonkeyPatch, finished: bool
    ) -> None:
        """It has made the same shard; where it has not, the lost file is an error."""
        content = shards.path(0)
        shards.write(0, SMALL)
        kept = content.read_bytes()
        content.unlink()

        def tidy(descriptor: int) -> None:
            if finished:
                content.write_bytes(kept)
            shards.remove_partial_files()

        monkeypatch.setattr(os, "fsync", tidy)
        if finished:
            shards.write(0, SMALL)
            assert equal(shards.read(0), SMALL)
        else:
            with pytest.raises(FileNotFoundError):
                shards.write(0, SMALL)

    def test_the_bytes_are_on_the_disk_before_the_name_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A machine that loses its power must not be left with a name for bytes that were never written."""
        seen = []
        monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append((tmp_path / "file").exists()))
        write_whole(tmp_path / "file", b"content")
        assert seen == ([False, True] if os.name == "posix" else [False])
