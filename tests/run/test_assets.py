"""Assets: found by name, compared with what is published, and pinned where nothing is."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fguidance.run import assets
from fguidance.run.assets import ASSETS, SETS, Asset, cache_folder, file_and_part, locate, names_of, pins, verify

CONTENT = b"weights of a network"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two files: one whose hash is published in part, and one of which nothing is."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("FGUIDANCE_CACHE", str(folder))
    known = {"known": Asset("known.pt", "http://127.0.0.1/", "MIT", SHA256[:8]), "new": Asset("new.pt", "", "MIT")}
    monkeypatch.setattr(assets, "ASSETS", known)
    for asset in known.values():
        (folder / asset.file).write_bytes(CONTENT)
    return folder


class TestLocate:
    def test_an_asset_is_in_the_cache(self, cache: Path) -> None:
        assert locate("known") == cache / "known.pt"

    def test_a_file_of_the_package_needs_no_path(self) -> None:
        found = locate("digits.safetensors")
        assert found.is_file()
        assert found.parent.name == "weights"

    def test_a_path_is_taken_as_it_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "mine.pt").write_bytes(CONTENT)
        monkeypatch.chdir(tmp_path)
        assert locate("mine.pt").samefile(tmp_path / "mine.pt")
        assert locate(str(tmp_path / "mine.pt")) == tmp_path / "mine.pt"

    @pytest.mark.parametrize("name", ("nope", "", ".", "../weights/digits.safetensors", "/nowhere/digits.safetensors"))
    def test_what_is_not_there(self, cache: Path, name: str) -> None:
        with pytest.raises(FileNotFoundError, match=r"there is no file .* known, new"):
            locate(name)

    def test_a_missing_asset_says_how_to_fetch_it(self, cache: Path) -> None:
        (cache / "known.pt").unlink()
        with pytest.raises(FileNotFoundError, match=r"known\.pt.* is not in .*; fetch it with 'fguidance fetch known'"):
            locate("known")

    def test_an_altered_asset_is_refused(self, cache: Path) -> None:
        (cache / "known.pt").write_bytes(CONTENT[:-1])
        with pytest.raises(ValueError, match=f"is not the asset known: .*{SHA256[:8]} is published"):
            locate("known")


class TestPins:
    def test_the_first_file_is_pinned_and_another_one_refused_ever_after(self, cache: Path) -> None:
        assert pins() == {}
        assert verify("new", cache / "new.pt") == SHA256
        assert pins() == {"new": SHA256}
        verify("new", cache / "new.pt")
        (cache / "new.pt").write_bytes(b"changed")
        for _ in range(2):
            with pytest.raises(ValueError, match=rf"{SHA256} is pinned in .*pins\.json"):
                verify("new", cache / "new.pt")
        assert pins() == {"new": SHA256}

    def test_those_of_others_stay(self, cache: Path) -> None:
        (cache / "pins.json").write_text('{"other": "aa"}')
        verify("new", cache / "new.pt")
        verify("known", cache / "known.pt")
        assert pins() == {"other": "aa", "new": SHA256, "known": SHA256}
        assert sorted(path.name for path in cache.iterdir()) == ["known.pt", "new.pt", "pins.json"]

    def test_a_published_beginning_is_not_all_that_counts_later(self, cache: Path) -> None:
        """Two files can share the first digits of their hash; the pin has all of them."""
        (cache / "pins.json").write_text(json.dumps({"known": SHA256[:8] + "0" * 56}))
        with pytest.raises(ValueError, match="is pinned in"):
            verify("known", cache / "known.pt")

    def test_what_is_refused_is_not_pinned(self, cache: Path) -> None:
        (cache / "known.pt").write_bytes(b"other")
        with pytest.raises(ValueError, match="is published"):
            verify("known", cache / "known.pt")
        assert pins() == {}

    @pytest.mark.parametrize("content", (b"", b"{", b"[]", b"3", b'{"new": 3}', b'{"new": null}', b"\xff"))
    def test_a_corrupt_file_is_named_and_left_alone(self, cache: Path, content: bytes) -> None:
        (cache / "pins.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"pins\.json (is no JSON|must map).*mend it, or remove it"):
            verify("new", cache / "new.pt")
        assert (cache / "pins.json").read_bytes() == content


def test_the_cache_is_the_systems_place_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    import pooch

    monkeypatch.delenv("FGUIDANCE_CACHE", raising=False)
    assert cache_folder() == Path(pooch.os_cache("fguidance"))


@given(
    file=st.text("ab./:\\ ", min_size=1).filter(lambda text: not text.rpartition(":")[2].isidentifier()),
    part=st.from_regex(r"[a-z_][a-z_0-9]*", fullmatch=True),
)
def test_a_part_is_an_identifier_after_the_last_colon(file: str, part: str) -> None:
    assert file_and_part(f"{file}:{part}") == (file, part)
    assert file_and_part(file) == (file, "")


def test_a_set_or_one_asset() -> None:
    assert names_of("resnet50") == ("resnet50",)
    assert set(names_of("imagenet128")) == set(ASSETS)
    with pytest.raises(ValueError, match="there is no asset 'nope'; there are imagenet128, adm_imagenet128"):
        names_of("nope")


class TestPublished:
    def test_every_address_ends_in_the_files_name(self) -> None:
        for asset in ASSETS.values():
            assert asset.url.startswith("https://")
            assert asset.url.rpartition("/")[2] == asset.file
            assert asset.licence

    def test_names_hold_the_beginning_of_the_hash(self) -> None:
        found = [asset for asset in ASSETS.values() if asset.file.endswith(".pth")]
        assert len(found) == 3
        assert all(asset.file.endswith(f"-{asset.sha256[:8]}.pth") and len(asset.sha256) >= 8 for asset in found)

    def test_no_two_share_a_file_or_a_name_with_a_set(self) -> None:
        assert len({asset.file for asset in ASSETS.values()}) == len(ASSETS)
        assert not set(SETS) & set(ASSETS)
