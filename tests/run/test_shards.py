"""Shards are whole and of their run, or they count as missing."""

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fguidance.run.shards import DIGEST_BYTES, Shard, Shards, write_whole

SMALL = Shard(torch.arange(2 * 2 * 2 * 1).to(torch.uint8).view(2, 2, 2, 1), torch.tensor([3, 1]))


class KilledError(BaseException):
    """As a signal that cannot be caught: nothing is tidied up on its way."""


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


@settings(max_examples=15)
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
    @given(data=st.data(), change=st.integers(1, 255))
    def test_any_other_byte_is_noticed(self, written: bytes, data: st.DataObject, change: int) -> None:
        place = data.draw(st.integers(0, len(written) - 1))
        damaged = bytearray(written)
        damaged[place] ^= change
        self.require_missing(bytes(damaged))

    @given(data=st.data())
    def test_a_shorter_file_is_noticed(self, written: bytes, data: st.DataObject) -> None:
        self.require_missing(written[: data.draw(st.integers(0, len(written) - 1))])

    @given(more=st.binary(min_size=1, max_size=9))
    def test_a_longer_file_is_noticed(self, written: bytes, more: bytes) -> None:
        self.require_missing(written + more)

    @staticmethod
    def require_missing(content: bytes) -> None:
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

    def test_a_shard_of_another_run_is_noticed(self, shards: Shards, tmp_path: Path) -> None:
        shards.write(3, SMALL)
        assert Shards(tmp_path, "other").missing(range(3, 4)) == [3]
        assert shards.missing(range(3, 4)) == []

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


def test_those_that_are_missing(shards: Shards) -> None:
    assert shards.missing(range(3)) == [0, 1, 2]
    shards.write(1, SMALL)
    assert shards.missing(range(3)) == [0, 2]
    assert shards.missing(range(1, 2)) == []


class TestFailures:
    def test_a_full_disk_leaves_what_was_there(self, shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
        shards.write(0, SMALL)
        monkeypatch.setattr(os, "fsync", self.fail(OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            shards.write(0, Shard(SMALL.images + 1, SMALL.labels))
        with pytest.raises(OSError, match="No space left"):
            shards.write(1, SMALL)
        assert equal(shards.read(0), SMALL)
        assert [path.name for path in shards.path(0).parent.iterdir()] == [shards.path(0).name]

    def test_what_a_killed_process_leaves_is_no_shard(self, shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", self.fail(KilledError()))
            with pytest.raises(KilledError):
                shards.write(0, SMALL)
        (left,) = shards.path(0).parent.iterdir()
        assert left.name.endswith(".partial")
        assert shards.missing(range(1)) == [0]
        shards.write(1, SMALL)
        shards.remove_partial_files()
        assert list(shards.path(0).parent.iterdir()) == [shards.path(1)]

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

    @staticmethod
    def fail(error: BaseException):
        def failing(descriptor: int) -> None:
            raise error

        return failing

    def test_the_bytes_are_on_the_disk_before_the_name_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A machine that loses its power must not be left with a name for bytes that were never written."""
        seen = []
        monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append((tmp_path / "file").exists()))
        write_whole(tmp_path / "file", b"content")
        assert seen == ([False, True] if os.name == "posix" else [False])

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="nowhere"):
            write_whole(tmp_path / "nowhere" / "file", b"content")


def test_the_checksum_is_before_the_arrays(written: bytes) -> None:
    assert written[DIGEST_BYTES : DIGEST_BYTES + 2] == b"PK"
