"""Files that are too large for the package: where they are published, and how they are fetched and verified.

A file whose publisher gives no hash is pinned when it was first downloaded whole, and must be the same ever after.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests

CACHE_VARIABLE = "FGUIDANCE_CACHE"
OPENAI = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021"
PYTORCH = "https://download.pytorch.org/models"
TORCH_FIDELITY = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"


@dataclass(frozen=True)
class Asset:
    """A published file.

    Attributes:
        file: its name.
        url: where it is published.
        licence: under which terms.
        sha256: in hexadecimal, all of it or, as PyTorch's file names have it, its first digits; "" where the publisher
            gives none.
    """

    file: str
    url: str
    licence: str
    sha256: str = ""


ASSETS = {
    "adm_imagenet128": Asset("128x128_diffusion.pt", f"{OPENAI}/128x128_diffusion.pt", "MIT"),
    "adm_classifier_imagenet128": Asset("128x128_classifier.pt", f"{OPENAI}/128x128_classifier.pt", "MIT"),
    "resnet50": Asset("resnet50-11ad3fa6.pth", f"{PYTORCH}/resnet50-11ad3fa6.pth", "BSD-3-Clause", "11ad3fa6"),
    "resnet101": Asset("resnet101-cd907fc2.pth", f"{PYTORCH}/resnet101-cd907fc2.pth", "BSD-3-Clause", "cd907fc2"),
    "reference_imagenet128": Asset(
        "VIRTUAL_imagenet128_labeled.npz",
        f"{OPENAI}/ref_batches/imagenet/128/VIRTUAL_imagenet128_labeled.npz",
        "ImageNet's terms of access",
    ),
    "inception": Asset(
        "weights-inception-2015-12-05-6726825d.pth",
        f"{TORCH_FIDELITY}/weights-inception-2015-12-05-6726825d.pth",
        "Apache-2.0",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    ),
}
"""The files of the ImageNet experiment by the names that configurations use."""
SETS = {"imagenet128": tuple(ASSETS)}
BLOCK, SECONDS = 1 << 16, 60


def cache_folder() -> Path:
    """Where assets are kept: the environment variable FGUIDANCE_CACHE, or the system's place for such files."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given)
    import pooch

    return Path(pooch.os_cache("fguidance"))


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_and_part(name: str) -> tuple[str, str]:
    """What ``file:part`` names; the part is empty where it names a whole file."""
    file, _, part = name.rpartition(":")
    return (file, part) if file and part.isidentifier() else (name, "")


def locate(name_or_path: str) -> Path:
    """The file of an asset, or the path itself.

    Args:
        name_or_path: one of `ASSETS`, a file of the package such as ``digits.safetensors``, or a path.

    Raises:
        FileNotFoundError: it is not there; the message says how to fetch it.
        ValueError: an asset whose hash is no longer the pinned one.
    """
    own = Path(str(files("fguidance.run"))) / "weights" / name_or_path
    if name_or_path not in ASSETS:
        path = own if Path(name_or_path).name == name_or_path and own.is_file() else Path(name_or_path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {name_or_path}, and no asset of that name: {', '.join(ASSETS)}")
        return path
    path = cache_folder() / ASSETS[name_or_path].file
    if not path.is_file():
        raise FileNotFoundError(
            f"the asset {name_or_path} ({ASSETS[name_or_path].file}) is not in {path.parent}; fetch it with "
            f"'fguidance fetch {name_or_path}', with --from FOLDER if you have the file"
        )
    verify(name_or_path, path)
    return path


def verify(name: str, path: Path) -> str:
    """Compare a file with what is published or pinned, and pin its hash where nothing is.

    Args:
        name: one of `ASSETS`.
        path: the file.

    Returns:
        Its SHA-256.

    Raises:
        ValueError: it is another file.
    """
    found, pinned = file_sha256(path), pins().get(name, "")
    for known, source in ((ASSETS[name].sha256, "published"), (pinned, f"pinned in {_pin_file()}")):
        if known and not found.startswith(known):
            raise ValueError(f"{path} is not the asset {name}: its SHA-256 is {found}, and {known} is {source}")
    if not pinned:
        partial = _pin_file().with_name(f".pins.{os.getpid()}.partial")
        partial.write_text(json.dumps(pins() | {name: found}, indent=2) + "\n", encoding="utf-8")
        partial.replace(_pin_file())
    return found


def pins() -> dict[str, str]:
    """The hashes that were pinned when assets were first fetched, by name.

    Raises:
        ValueError: the file of pins is corrupt.
    """
    if not _pin_file().is_file():
        return {}
    try:
        found = json.loads(_pin_file().read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{_pin_file()} is no JSON: {error}; mend it, or remove it to pin again") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"{_pin_file()} must map names to hashes; mend it, or remove it to pin again")
    return found


def _pin_file() -> Path:
    return cache_folder() / "pins.json"


def names_of(set_or_asset: str) -> tuple[str, ...]:
    """The assets of a set, or the one of that name.

    Raises:
        ValueError: neither.
    """
    if set_or_asset in SETS:
        return SETS[set_or_asset]
    if set_or_asset in ASSETS:
        return (set_or_asset,)
    raise ValueError(f"there is no asset {set_or_asset!r}; there are {', '.join((*SETS, *ASSETS))}")


def fetch(name: str, from_folder: Path | None = None, progress: bool = True) -> Path:
    """Bring an asset into the cache, unless it is there.

    Args:
        name: one of `ASSETS`.
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
        import pooch

        pooch.get_logger().setLevel("WARNING")
        downloader = _Resuming(folder / f"{asset.file}.part", progress)
        pooch.retrieve(asset.url, known_hash=None, fname=asset.file, path=folder, downloader=downloader)
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


@dataclass(frozen=True)
class _Resuming:
    """A downloader for pooch that goes on after an interruption; pooch's own ones begin anew, even of a gigabyte."""

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
