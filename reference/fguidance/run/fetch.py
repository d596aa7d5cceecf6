"""Downloading assets: with a progress bar, going on where an earlier try stopped, and verified before use."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fguidance.run.assets import ASSETS, Asset, cache_folder, pins, verify

if TYPE_CHECKING:
    import requests

BLOCK = 1 << 16
SECONDS = 60


def fetch(name: str, from_folder: Path | None = None, progress: bool = True) -> Path:
    """Bring an asset into the cache, unless it is there.

    Args:
        name: one of `fguidance.run.assets.ASSETS`.
        from_folder: copy it from here; None to download it.
        progress: show a bar on standard error.

    Returns:
        The file in the cache, verified.

    Raises:
        FileNotFoundError: `from_folder` has no file of that name.
        ValueError: a file that is not the asset; a download that is not is removed, one's own file left alone.
        OSError: no network, or no space; what was downloaded is kept, and the next try goes on from there.
    """
    asset, folder = ASSETS[name], cache_folder()
    pins()  # what cannot be compared with them need not be downloaded
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / asset.file
    if path.is_file():
        verify(name, path)
        return path
    if from_folder is None:
        _download(asset, folder, progress)
    elif not (from_folder / asset.file).is_file():
        raise FileNotFoundError(f"{from_folder} has no file {asset.file} (the asset {name})")
    else:
        partial = path.with_name(f"{asset.file}.part")
        shutil.copyfile(from_folder / asset.file, partial)
        partial.replace(path)
    try:
        verify(name, path)
    except ValueError:
        path.unlink()
        raise
    return path


def _download(asset: Asset, folder: Path, progress: bool) -> None:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    downloader = _Resuming(folder / f"{asset.file}.part", progress)
    pooch.retrieve(asset.url, known_hash=None, fname=asset.file, path=folder, downloader=downloader)


@dataclass(frozen=True)
class _Resuming:
    """pooch's own downloaders begin again where they were interrupted; of a gigabyte one keeps what is there."""

    partial: Path
    progress: bool

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        import requests

        done = self.partial.stat().st_size if self.partial.exists() else 0
        try:
            with requests.get(url, headers=self._headers(done), stream=True, timeout=SECONDS) as response:
                if response.status_code == requests.codes.requested_range_not_satisfiable:  # all of it is there
                    self._require_size(url, response.headers.get("Content-Range", ""), done)
                else:
                    response.raise_for_status()
                    self._remember(response.headers.get("ETag", ""))
                    goes_on = response.status_code == requests.codes.partial_content
                    _write(response, self.partial, done if goes_on else 0, self.progress)
        except requests.RequestException as error:
            raise OSError(f"{url} cannot be downloaded: {error}; another try goes on from where it stopped") from error
        self.partial.replace(output_file)
        self._tag.unlink(missing_ok=True)

    @property
    def _tag(self) -> Path:
        return self.partial.with_name(f"{self.partial.name}.etag")

    def _headers(self, done: int) -> dict[str, str]:
        """Sizes are of the file itself, so it must not be sent compressed; a rest is only of the same file."""
        headers = {"Accept-Encoding": "identity"}
        if done:
            headers["Range"] = f"bytes={done}-"
            if self._tag.exists():
                headers["If-Range"] = self._tag.read_text(encoding="latin-1")
        return headers

    def _remember(self, tag: str) -> None:
        if tag.startswith('"'):  # a weak tag does not promise the same bytes
            self._tag.write_text(tag, encoding="latin-1")
        else:
            self._tag.unlink(missing_ok=True)

    def _require_size(self, url: str, told: str, done: int) -> None:
        size = told.rpartition("/")[2]
        if size.isdigit() and int(size) != done:
            self.partial.unlink()
            self._tag.unlink(missing_ok=True)
            raise OSError(f"{url} has {size} bytes, but {done} were here already; another try begins anew")


def _write(response: "requests.Response", partial: Path, done: int, progress: bool) -> None:
    from rich.console import Console
    from rich.progress import Progress

    shown = Progress(console=Console(stderr=True), disable=not progress, transient=True)
    total = int(response.headers.get("Content-Length", 0)) + done
    with partial.open("ab" if done else "wb") as file, shown as bar:
        task = bar.add_task(partial.stem, total=total or None, completed=done)
        for block in response.iter_content(BLOCK):
            file.write(block)
            bar.update(task, advance=len(block))
    if total and partial.stat().st_size < total:
        raise OSError(f"the download of {partial.stem} ended early; another try goes on from where it stopped")
