"""The wheel and the source distribution: built, opened and read."""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import requires, version
from pathlib import Path

import pytest

import fguidance

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "reference" / "fguidance"

PLUGIN = "fguidance_pytest.py"


def package_files() -> set[str]:
    kinds = (".py", ".html", ".toml", ".safetensors")
    files = (path for path in PACKAGE.rglob("*") if path.suffix in kinds or path.name == "py.typed")
    return {path.relative_to(PACKAGE.parent).as_posix() for path in files} | {PLUGIN}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both distributions, built from a copy so that the working tree gains no files."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "reference").mkdir()
    shutil.copy(PACKAGE.parent / PLUGIN, source / "reference")
    shutil.copytree(PACKAGE, source / "reference" / "fguidance", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel", str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return source / "dist"


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> zipfile.ZipFile:
    (path,) = distributions.glob("fguidance-*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == package_files()
    assert "fguidance/py.typed" in names


def test_wheel_requires_four_libraries_and_states_its_licence(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(name))
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert sorted(line.split(">=")[0] for line in needed) == ["numpy", "sympy", "torch", "typer"]
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Version"] == fguidance.__version__
    assert set(metadata.get_all("Provides-Extra")) == {"testing", "calibration", "book", "imagenet", "dev"}


def test_source_distribution_can_rebuild_the_wheel(distributions: Path) -> None:
    (path,) = distributions.glob("fguidance-*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    sources = {f"reference/{name}" for name in package_files()}
    assert sources | {"pyproject.toml", "LICENSE", "README.md"} <= names


def test_installed_version_is_the_one_written_down_everywhere() -> None:
    assert version("fguidance") == fguidance.__version__
    assert f"\nversion: {fguidance.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{fguidance.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_what_the_package_requires() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all("==" in line and "+" not in line for line in pins)
    pinned = {line.split("==")[0].lower() for line in pins}
    needed = {line.split(">=")[0].lower() for line in requires("fguidance") or [] if "extra" not in line}
    assert needed <= pinned


def test_importing_the_library_loads_no_optional_dependency() -> None:
    program = (
        "import sys, torch, numpy, sympy; theirs = set(sys.modules); "
        "import fguidance.diffusion, fguidance.evaluation, fguidance.symbolic; "
        "print(*set(sys.modules) - theirs)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "fguidance" in loaded
    assert not loaded & {"hypothesis", "matplotlib", "sklearn", "scipy", "diffusers", "pytest", "tqdm"}


def test_the_examples_of_the_front_page_run() -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(examples) == 2
    seen = ("gradient.shape == images.shape", "mine.name in repr(mine)", "report.passed and report.examples > 1000")
    program = "\n".join((*examples, *(f"assert {claim}" for claim in seen)))
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
