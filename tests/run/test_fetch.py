"""Fetching over a bad line: what is there already is not asked for again, and what is not the asset does not stay."""

import errno
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from fguidance.run import assets
from fguidance.run import fetch as fetching
from fguidance.run.assets import Asset, locate, pins
from fguidance.run.fetch import fetch

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
BLOCK = 64
"""Bytes that are written together here; those of a block that does not arrive whole are lost."""
FILE, PARTIAL = "network.pt", "network.pt.part"


@dataclass
class Published:
    """What the server has, how it behaves, and what it was asked.

    Attributes:
        content: of the file.
        ranges: answer requests for a part of it.
        breaks_after: bytes of an answer after which the connection ends.
        status: instead of an answer.
        tag: that tells one version of the file from another.
        seen: the headers Range and Accept-Encoding of each request.
    """

    url: str = ""
    content: bytes = CONTENT
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
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FGUIDANCE_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


@pytest.fixture
def publish(server: Published, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Declare the asset "network", with the hash that is published of it."""

    def declared(sha256: str = "") -> None:
        known = {"network": Asset(FILE, server.url, "MIT", sha256)}
        monkeypatch.setattr(assets, "ASSETS", known)
        monkeypatch.setattr(fetching, "ASSETS", known)
        monkeypatch.setattr(fetching, "BLOCK", BLOCK)

    declared()
    return declared


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def bring(from_folder: Path | None = None) -> Path:
    return fetch("network", from_folder, progress=False)


class TestDownload:
    def test_the_file_and_its_pin_are_all_that_is_left(self, server: Published, publish, cache: Path) -> None:
        assert bring() == cache / FILE == locate("network")
        assert (cache / FILE).read_bytes() == CONTENT
        assert pins() == {"network": SHA256}
        assert names(cache) == [FILE, "pins.json"]
        assert server.seen == [(None, "identity")]

    def test_what_is_there_is_not_asked_for_again(self, server: Published, publish, cache: Path) -> None:
        bring()
        bring()
        assert len(server.seen) == 1

    def test_a_published_beginning_of_the_hash(self, publish: Callable[[str], None], cache: Path) -> None:
        publish(SHA256[:8])
        assert bring().read_bytes() == CONTENT

    def test_progress_is_shown_beside_the_output(
        self, publish, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        fetch("network")
        shown = capsys.readouterr()
        assert shown.out == ""
        assert FILE in shown.err


class TestInterrupted:
    @pytest.mark.parametrize("sent", (BLOCK, 4096, 4100, len(CONTENT) - 1))
    def test_the_next_try_asks_for_the_rest_alone(self, server: Published, publish, cache: Path, sent: int) -> None:
        server.breaks_after = sent
        there = sent - sent % BLOCK
        with pytest.raises(OSError, match="another try goes on from where it stopped"):
            bring()
        assert names(cache) == [PARTIAL]
        assert (cache / PARTIAL).read_bytes() == CONTENT[:there]
        server.breaks_after = None
        assert bring().read_bytes() == CONTENT
        assert [asked for asked, _ in server.seen] == [None, f"bytes={there}-"]
        assert names(cache) == [FILE, "pins.json"]

    @pytest.mark.parametrize(("tag", "later", "sent"), (('"1"', '"1"', 40), ('"1"', '"2"', 0), ('W/"1"', '"2"', 40)))
    def test_the_rest_is_asked_for_of_the_same_file_alone(
        self, tag: str, later: str, sent: int, server: Published, publish, cache: Path
    ) -> None:
        publish()
        server.tag, server.breaks_after = tag, 40 * BLOCK
        with pytest.raises(OSError):
            bring()
        server.tag, server.breaks_after = later, None
        server.content = CONTENT if sent else CONTENT[::-1]
        assert bring().read_bytes() == server.content
        assert names(cache) == ["network.pt", "pins.json"]

    def test_nothing_arrived(self, server: Published, publish, cache: Path) -> None:
        server.breaks_after = 0
        with pytest.raises(OSError, match="goes on"):
            bring()
        server.breaks_after = None
        assert bring().read_bytes() == CONTENT
        assert [asked for asked, _ in server.seen] == [None, None]

    def test_several_times(self, server: Published, publish, cache: Path) -> None:
        server.breaks_after = 4096
        for _ in range(2):
            with pytest.raises(OSError, match="goes on"):
                bring()
        assert bring().read_bytes() == CONTENT
        assert [asked for asked, _ in server.seen] == [None, "bytes=4096-", "bytes=8192-"]

    def test_a_server_that_sends_no_parts_sends_all_again(self, server: Published, publish, cache: Path) -> None:
        server.ranges, server.breaks_after = False, 4096
        with pytest.raises(OSError, match="goes on"):
            bring()
        server.breaks_after = None
        assert bring().read_bytes() == CONTENT
        assert [asked for asked, _ in server.seen] == [None, "bytes=4096-"]

    def test_all_was_there_but_its_name(self, server: Published, publish, cache: Path) -> None:
        cache.mkdir(parents=True)
        (cache / PARTIAL).write_bytes(CONTENT)
        assert bring().read_bytes() == CONTENT
        assert names(cache) == [FILE, "pins.json"]

    def test_more_is_there_than_there_can_be(self, server: Published, publish, cache: Path) -> None:
        cache.mkdir(parents=True)
        (cache / PARTIAL).write_bytes(CONTENT + b"more")
        with pytest.raises(OSError, match=f"has {len(CONTENT)} bytes, but {len(CONTENT) + 4} were here"):
            bring()
        assert bring().read_bytes() == CONTENT

    def test_a_full_disk_keeps_what_was_written(
        self, server: Published, publish, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(response, partial: Path, done: int, progress: bool) -> None:
            partial.write_bytes(response.raw.read(100))
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(fetching, "_write", full)
            with pytest.raises(OSError, match="No space left on device"):
                bring()
        assert names(cache) == [PARTIAL]
        assert bring().read_bytes() == CONTENT
        assert server.seen[1][0] == "bytes=100-"

    @pytest.mark.parametrize("status", (403, 404, 500))
    def test_a_refusal_is_told(self, server: Published, publish, cache: Path, status: int) -> None:
        server.status = status
        with pytest.raises(OSError, match=rf"{server.url} cannot be downloaded: {status} "):
            bring()
        assert names(cache) == []

    def test_nobody_answers(self, server: Published, publish, cache: Path) -> None:
        assets.ASSETS["network"] = Asset(FILE, "http://127.0.0.1:9/network.pt", "MIT")
        with pytest.raises(OSError, match=r"cannot be downloaded: .*refused"):
            bring()


class TestAnotherFile:
    def test_a_download_that_is_not_the_asset_does_not_stay(
        self, server: Published, publish: Callable[[str], None], cache: Path
    ) -> None:
        publish("0" * 8)
        with pytest.raises(ValueError, match=f"is not the asset network: its SHA-256 is {SHA256}, and 00000000"):
            bring()
        assert names(cache) == []
        publish(SHA256)
        assert bring().read_bytes() == CONTENT

    def test_one_that_goes_on_from_other_bytes_does_not_stay(
        self, server: Published, publish: Callable[[str], None], cache: Path
    ) -> None:
        publish(SHA256)
        cache.mkdir(parents=True)
        (cache / PARTIAL).write_bytes(b"something else")
        with pytest.raises(ValueError, match="is not the asset"):
            bring()
        assert bring().read_bytes() == CONTENT

    def test_a_file_that_changed_since_it_was_pinned(self, publish, cache: Path) -> None:
        bring()
        (cache / FILE).write_bytes(b"changed")
        for again in (bring, lambda: locate("network")):
            with pytest.raises(ValueError, match=f"{SHA256} is pinned in"):
                again()
        assert (cache / FILE).read_bytes() == b"changed"

    def test_another_one_is_published_since_it_was_pinned(self, server: Published, publish, cache: Path) -> None:
        bring().unlink()
        server.content = b"changed"
        with pytest.raises(ValueError, match=f"{SHA256} is pinned in"):
            bring()
        assert names(cache) == ["pins.json"]

    def test_nothing_is_downloaded_while_the_pins_are_corrupt(self, server: Published, publish, cache: Path) -> None:
        cache.mkdir(parents=True)
        (cache / "pins.json").write_text("{")
        with pytest.raises(ValueError, match=r"pins\.json is no JSON"):
            bring()
        assert server.seen == []
        assert names(cache) == ["pins.json"]


class TestFromAFolder:
    @pytest.fixture
    def own(self, tmp_path: Path) -> Path:
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / FILE).write_bytes(CONTENT)
        return tmp_path / "own"

    def test_it_is_copied_and_nobody_asked(self, own: Path, server: Published, publish, cache: Path) -> None:
        assert bring(own) == cache / FILE
        assert (cache / FILE).read_bytes() == (own / FILE).read_bytes() == CONTENT
        assert pins() == {"network": SHA256}
        assert names(cache) == [FILE, "pins.json"]
        assert server.seen == []

    def test_another_file_is_refused_and_left_where_it_is(
        self, own: Path, publish: Callable[[str], None], cache: Path
    ) -> None:
        publish("0" * 8)
        with pytest.raises(ValueError, match="is not the asset network"):
            bring(own)
        assert names(cache) == []
        assert (own / FILE).read_bytes() == CONTENT

    def test_it_is_not_there(self, publish, tmp_path: Path, cache: Path) -> None:
        with pytest.raises(FileNotFoundError, match=rf"{tmp_path} has no file {FILE} \(the asset network\)"):
            bring(tmp_path)
        assert names(cache) == []
