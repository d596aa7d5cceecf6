"""Assets: found by name, compared with what is published or pinned, and fetched over a bad line."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fguidance.run import assets
from fguidance.run.assets import ASSETS, Asset, fetch, file_and_part, locate, names_of, pins, verify

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
    def test_a_file_of_the_package_needs_no_path(self) -> None:
        found = locate("digits.safetensors")
        assert found.is_file()
        assert found.parent.name == "weights"

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

    def test_a_published_beginning_is_not_all_that_counts_later(self, cache: Path) -> None:
        """Two files can share the first digits of their hash; the pin has all of them."""
        (cache / "pins.json").write_text(json.dumps({"known": SHA256[:8] + "0" * 56}))
        with pytest.raises(ValueError, match="is pinned in"):
            verify("known", cache / "known.pt")

    @pytest.mark.parametrize("content", (b"", b"{", b"[]", b"3", b'{"new": 3}', b'{"new": null}', b"\xff"))
    def test_a_corrupt_file_is_named_and_left_alone(self, cache: Path, content: bytes) -> None:
        (cache / "pins.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"pins\.json (is no JSON|must map).*mend it, or remove it"):
            verify("new", cache / "new.pt")
        assert (cache / "pins.json").read_bytes() == content


@pytest.mark.parametrize("file", ("a.pt", "C:/a.pt", "a b:c/d.pt", ":", "a:b.c"))
def test_a_part_is_an_identifier_after_the_last_colon(file: str) -> None:
    assert file_and_part(f"{file}:unet_2") == (file, "unet_2")
    assert file_and_part(file) == (file, "")


def test_a_set_or_one_asset() -> None:
    assert names_of("resnet50") == ("resnet50",)
    assert set(names_of("imagenet128")) == set(ASSETS)
    with pytest.raises(ValueError, match="there is no asset 'nope'; there are imagenet128, adm_imagenet128"):
        names_of("nope")


def test_published_names_hold_the_beginning_of_the_hash() -> None:
    found = [asset for asset in ASSETS.values() if asset.file.endswith(".pth")]
    assert len(found) == 3
    assert all(asset.file.endswith(f"-{asset.sha256[:8]}.pth") and len(asset.sha256) >= 8 for asset in found)


BYTES = bytes(range(256)) * 40
DIGEST = hashlib.sha256(BYTES).hexdigest()
BLOCK = 64
"""Bytes that are written together here; those of a block that does not arrive whole are lost."""
FILE, PARTIAL = "network.pt", "network.pt.part"


@dataclass
class Published:
    """What the server has, how it behaves, and the headers Range and Accept-Encoding of each request."""

    url: str = ""
    content: bytes = BYTES
    ranges: bool = True
    breaks_after: int | None = None
    status: int | None = None
    tag: str | None = None
    seen: list[tuple[str | None, str | None]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    published: Published

    def do_GET(self) -> None:
        asked, published = self.headers["Range"], self.published
        published.seen.append((asked, self.headers["Accept-Encoding"]))
        if published.status is not None:
            self.send_error(published.status)
            return
        size, start = len(published.content), 0
        same = self.headers["If-Range"] in (None, published.tag)
        if asked and published.ranges and same:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        if start >= size > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size - start))
        if published.tag is not None:
            self.send_header("ETag", published.tag)
        self.end_headers()
        self.wfile.write(published.content[start:][: published.breaks_after])

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    published = Published()
    http = HTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"published": published}))
    published.url = f"http://127.0.0.1:{http.server_port}/{FILE}"
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield published
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FGUIDANCE_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


@pytest.fixture
def publish(server: Published, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Declare the asset "network", with the hash that is published of it."""

    def declared(sha256: str = "") -> None:
        known = {"network": Asset(FILE, server.url, "MIT", sha256)}
        monkeypatch.setattr(assets, "ASSETS", known)
        monkeypatch.setattr(assets, "BLOCK", BLOCK)

    declared()
    return declared


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def bring(from_folder: Path | None = None) -> Path:
    return fetch("network", from_folder, progress=False)


class TestDownload:
    def test_the_file_and_its_pin_are_all_that_is_left(self, server: Published, publish, empty: Path) -> None:
        assert bring() == empty / FILE == locate("network")
        assert (empty / FILE).read_bytes() == BYTES
        assert pins() == {"network": DIGEST}
        assert names(empty) == [FILE, "pins.json"]
        assert server.seen == [(None, "identity")]


class TestInterrupted:
    @pytest.mark.parametrize(("sent", "ranges"), ((BLOCK, True), (len(BYTES) - 1, True), (4100, True), (4100, False)))
    def test_the_next_try_asks_for_the_rest_alone(
        self, server: Published, publish, empty: Path, sent: int, ranges: bool
    ) -> None:
        """A server that sends no parts sends all again."""
        server.breaks_after, server.ranges = sent, ranges
        there = sent - sent % BLOCK
        with pytest.raises(OSError, match="another try goes on from where it stopped"):
            bring()
        assert names(empty) == [PARTIAL]
        assert (empty / PARTIAL).read_bytes() == BYTES[:there]
        server.breaks_after = None
        assert bring().read_bytes() == BYTES
        assert [asked for asked, _ in server.seen] == [None, f"bytes={there}-"]
        assert names(empty) == [FILE, "pins.json"]

    @pytest.mark.parametrize(("tag", "later", "sent"), (('"1"', '"1"', 40), ('"1"', '"2"', 0), ('W/"1"', '"2"', 40)))
    def test_the_rest_is_asked_for_of_the_same_file_alone(
        self, tag: str, later: str, sent: int, server: Published, publish, empty: Path
    ) -> None:
        server.tag, server.breaks_after = tag, 40 * BLOCK
        with pytest.raises(OSError):
            bring()
        server.tag, server.breaks_after = later, None
        server.content = BYTES if sent else BYTES[::-1]
        assert bring().read_bytes() == server.content
        assert names(empty) == ["network.pt", "pins.json"]

    def test_all_is_there_but_its_name_or_more_than_there_can_be(self, server: Published, publish, empty: Path) -> None:
        empty.mkdir(parents=True)
        (empty / PARTIAL).write_bytes(BYTES + b"more")
        with pytest.raises(OSError, match=f"has {len(BYTES)} bytes, but {len(BYTES) + 4} were here"):
            bring()
        (empty / PARTIAL).write_bytes(BYTES)
        assert bring().read_bytes() == BYTES
        assert names(empty) == [FILE, "pins.json"]

    @pytest.mark.parametrize("status", (404, 500))
    def test_a_refusal_is_told(self, server: Published, publish, empty: Path, status: int) -> None:
        server.status = status
        with pytest.raises(OSError, match=rf"{server.url} cannot be downloaded: {status} "):
            bring()
        assert names(empty) == []


class TestAnotherFile:
    def test_a_download_that_is_not_the_asset_does_not_stay(
        self, server: Published, publish: Callable[[str], None], empty: Path
    ) -> None:
        publish("0" * 8)
        with pytest.raises(ValueError, match=f"is not the asset network: its SHA-256 is {DIGEST}, and 00000000"):
            bring()
        assert names(empty) == []
        publish(DIGEST)
        assert bring().read_bytes() == BYTES

    def test_nothing_is_downloaded_while_the_pins_are_corrupt(self, server: Published, publish, empty: Path) -> None:
        empty.mkdir(parents=True)
        (empty / "pins.json").write_text("{")
        with pytest.raises(ValueError, match=r"pins\.json is no JSON"):
            bring()
        assert server.seen == []
        assert names(empty) == ["pins.json"]


class TestFromAFolder:
    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / FILE).write_bytes(BYTES)
        return tmp_path / "own"

    def test_it_is_copied_and_nobody_asked(self, own: Path, server: Published, publish, empty: Path) -> None:
        assert bring(own) == empty / FILE
        assert (empty / FILE).read_bytes() == (own / FILE).read_bytes() == BYTES
        assert pins() == {"network": DIGEST}
        assert names(empty) == [FILE, "pins.json"]
        assert server.seen == []

    def test_another_file_is_refused_and_left_where_it_is(
        self, own: Path, publish: Callable[[str], None], empty: Path
    ) -> None:
        publish("0" * 8)
        with pytest.raises(ValueError, match="is not the asset network"):
            bring(own)
        assert names(empty) == []
        assert (own / FILE).read_bytes() == BYTES
