"""The commands that run experiments: exit statuses, one line of error, and processes that are killed or many."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

import fguidance as fg
from fguidance.cli import main
from fguidance.run import assets, job
from fguidance.run.assets import Asset, locate
from fguidance.run.job import run_job
from tests.support.runs import ALONE, TINY, as_options, contents, equal, shard_files, tiny

SMALL = as_options(*TINY)
COMMANDS = ("fetch", "sample", "evaluate", "reproduce", "bench")


class Ended(NamedTuple):
    status: int
    out: str
    error: str


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGUIDANCE_CACHE", str(tmp_path / "cache"))
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return command


def sampling(out: str, number: int = 6, *more: str) -> tuple[str, ...]:
    return ("sample", "digits", "--out", out, "--num-samples", str(number), "--quiet", *SMALL, *more)


def require_one_line(ended: Ended, message: str, status: int = 2) -> None:
    assert ended.error.startswith("fguidance: ")
    assert ended.error.count("\n") == 1
    assert re.search(message, ended.error), ended.error
    assert (ended.status, ended.out) == (status, "")


class TestHelp:
    def test_every_command_explains_itself(self, run: Any) -> None:
        shown = run("--help").out
        for name in COMMANDS:
            assert name in shown
            assert run(name, "--help").status == 0

    def test_nothing_that_computes_is_loaded(self) -> None:
        program = (
            "import sys, types; package = types.ModuleType('fguidance');"
            f"package.__path__ = {fg.__path__!r}; sys.modules['fguidance'] = package;"
            "from fguidance.cli import main\n"
            f"for name in {COMMANDS}:\n"
            "  try: main([name, '--help'])\n"
            "  except SystemExit: pass\n"
            "print(*sorted({'torch', 'numpy', 'pooch', 'fguidance.run'} & set(sys.modules)), 'were loaded')"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "were loaded"


class TestSample:
    def test_it_samples_and_the_second_time_there_is_nothing_to_do(self, run: Any, tmp_path: Path) -> None:
        arguments = [one for one in sampling("out") if one != "--quiet"]
        ended = run(*arguments)
        assert (ended.status, ended.out) == (0, "2 shards made, 0 were there: out/samples.npz\n")
        assert "digits: shards" in ended.error
        before = contents(tmp_path / "out")
        assert run(*arguments).out == "0 shards made, 2 were there: out/samples.npz\n"
        assert contents(tmp_path / "out") == before

    def test_one_of_two_processes(self, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "0")
        ended = run(*[one for one in sampling("out") if one != "--quiet"])
        assert ended.out == "1 shards made, 0 were there; other processes are not done with out\n"
        monkeypatch.setenv("RANK", "1")
        assert run(*[one for one in sampling("out") if one != "--quiet"]) == (0, "", "")
        run_job(tiny(), tmp_path / "job", 6, ALONE)
        assert equal(tmp_path / "out", tmp_path / "job")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("sample", "nope", "--out", "x", "--num-samples", "1"), "there is no configuration 'nope'"),
            (("sample", "digits", "--num-samples", "1"), "Missing option '--out'"),
            (("sample", "digits", "--out", "x"), "Missing option '--num-samples'"),
            (sampling("x", 0), "Invalid value for '--num-samples'"),
            (sampling("x", 1, "--set", "sampling.sed=1"), r"sampling\.sed: Extra inputs are not permitted"),
            (sampling("x", 1, "--device", "nope"), "there is no device 'nope'"),
            (sampling("x", 1, "--set", "model.weights=nowhere.pt"), r"there is no file nowhere\.pt"),
            (("sample", "imagenet128/table3/js", "--out", "x", "--num-samples", "1"), "fetch adm_imagenet128"),
            (sampling("x", 1, "--frob"), "No such option"),
        ],
    )
    def test_bad_input_leaves_no_folder(
        self, run: Any, tmp_path: Path, arguments: tuple[str, ...], message: str
    ) -> None:
        require_one_line(run(*arguments), message)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("model.shape.channel_mult=[1,2]", "the state dict does not fit an ADM network"),
            ("guidance.epsilon=3.0", "epsilon must be"),
            ("sampling.steps=2000", "steps must be a whole number from 2 to 1000, not 2000"),
            ("model.weights=corrupt.pt", r"corrupt\.pt cannot be read as weights"),
        ],
    )
    def test_what_no_network_or_sampler_can_do(self, run: Any, tmp_path: Path, override: str, message: str) -> None:
        (tmp_path / "corrupt.pt").write_text("no weights")
        require_one_line(run(*sampling("out", 1, "--set", override)), message)
        assert shard_files(tmp_path / "out") == []

    def test_another_run_in_the_same_folder(self, run: Any, tmp_path: Path) -> None:
        run(*sampling("out"))
        before = contents(tmp_path / "out")
        require_one_line(run(*sampling("out", 5)), "out holds another run .*; take another folder")
        assert contents(tmp_path / "out") == before

    def test_a_file_in_the_place_of_the_folder(self, run: Any, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        require_one_line(run(*sampling("out")), "out: Not a directory")

    def test_a_network_that_breaks_has_status_1(self, run: Any, tmp_path: Path) -> None:
        state = {name: value * float("nan") for name, value in load_file(locate("digits.safetensors")).items()}
        save_file(state, tmp_path / "nan.safetensors")
        ended = run(*sampling("out", 1, "--set", "model.weights=nan.safetensors:unet"))
        require_one_line(ended, "shard 0: the model's output has .* NaN or infinite at step 1 .*; sampling stops", 1)


class TestProcesses:
    """Real ones, which share nothing but the folder."""

    NUMBER = 48
    MORE = ("sampling.steps=3", "sampling.shard_size=4")

    @staticmethod
    def environment() -> dict[str, str]:
        return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}

    def arguments(self, out: Path, number: int) -> list[str]:
        return ["sample", "digits", "--out", str(out), "--num-samples", str(number), "--quiet", *as_options(*self.MORE)]

    def test_one_that_is_killed_is_taken_up_again(self, tmp_path: Path) -> None:
        """By another one, and the samples are those of a run that nothing happened to."""
        folder, config = tmp_path / "killed", tiny("sampling.steps=3", "sampling.shard_size=4")
        command = [sys.executable, "-m", "fguidance", *self.arguments(folder, self.NUMBER)]
        process = subprocess.Popen(command, env=self.environment(), stderr=subprocess.PIPE)
        while not shard_files(folder) and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        _, error = process.communicate()
        assert (process.returncode, error) == (-signal.SIGKILL, b"")
        there = len(shard_files(folder))
        assert 0 < there < self.NUMBER // 4
        assert not (folder / "samples.npz").exists()
        outcome = run_job(config, folder, self.NUMBER, ALONE)
        assert outcome.found == there
        run_job(config, tmp_path / "whole", self.NUMBER, ALONE)
        assert equal(folder, tmp_path / "whole")
        assert not list((folder / "shards").glob(".*"))

    def test_two_under_torchrun_draw_what_one_draws(self, tmp_path: Path) -> None:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "fguidance", *self.arguments(tmp_path / "two", 8),
        ]  # fmt: skip
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        run_job(tiny("sampling.steps=3"), tmp_path / "one", 8, ALONE)
        assert equal(tmp_path / "two", tmp_path / "one")


class TestFetch:
    @pytest.fixture
    def own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder with one of the two files of a set."""
        known = {name: Asset(f"{name}.pt", "http://127.0.0.1:9/", "MIT") for name in ("first", "second")}
        monkeypatch.setattr(assets, "ASSETS", known)
        monkeypatch.setattr(assets, "SETS", {"all": tuple(known)})
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "first.pt").write_bytes(b"first")
        return tmp_path / "own"

    def test_from_a_folder(self, run: Any, own: Path, tmp_path: Path) -> None:
        path = tmp_path / "cache" / "first.pt"
        assert run("fetch", "first", "first", "--from", "own", "--quiet") == (0, f"first: {path}\n", "")
        assert path.read_bytes() == b"first"

    def test_a_set_of_which_one_is_missing(self, run: Any, own: Path) -> None:
        ended = run("fetch", "all", "--from", "own", "--quiet")
        assert ended.status == 2
        assert ended.error == "fguidance: own has no file second.pt (the asset second)\n"

    def test_no_network(self, run: Any, own: Path) -> None:
        require_one_line(run("fetch", "first", "--quiet"), "cannot be downloaded: .*another try goes on")

    def test_bad_input(self, run: Any, own: Path, tmp_path: Path) -> None:
        require_one_line(run("fetch", "nope"), "there is no asset 'nope'; there are all, first, second")
        require_one_line(run("fetch"), "Missing argument")
        run("fetch", "first", "--from", "own", "--quiet")
        (tmp_path / "cache" / "pins.json").write_text("{")
        require_one_line(run("fetch", "first"), r"pins\.json is no JSON")


class TestEvaluate:
    def test_the_measures_are_printed_and_recorded(self, run: Any, tmp_path: Path) -> None:
        pytest.importorskip("sklearn")
        run(*sampling("out"))
        ended = run("evaluate", "out")
        *lines, path = ended.out.splitlines()
        assert (ended.status, path) == (0, "out/evaluation-digits.json")
        measures = json.loads((tmp_path / path).read_text())["measures"]
        assert [line[:18].strip().replace(" ", "_") for line in lines] == list(measures)
        assert [line[18:].strip() for line in lines] == [f"{value:.4f}" for value in measures.values()]

    def test_bad_input(self, run: Any, tmp_path: Path) -> None:
        require_one_line(run("evaluate", "nowhere"), "nowhere holds no run")
        run(*sampling("out", 1))
        require_one_line(run("evaluate", "out", "--reference", "nowhere.npz"), r"there is no file nowhere\.npz")
        refused = run("evaluate", "out", "--features", "digits.safetensors")
        require_one_line(refused, "the state dict does not fit Inception: it lacks Conv2d_1a_3x3")
        require_one_line(run("evaluate", "out", "--batch-size", "0"), "Invalid value for '--batch-size'")
        (tmp_path / "out" / "run.json").write_text("{")
        require_one_line(run("evaluate", "out"), r"run\.json is corrupt")


class TestReproduce:
    ARGUMENTS = ("reproduce", "digits", "--table", "1", "--num-samples", "4", "--quiet", "--out", "runs", *SMALL)

    def test_rows_are_sampled_evaluated_and_shown_and_then_there(
        self, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("sklearn")
        monkeypatch.setenv("COLUMNS", "120")
        ended = run(*self.ARGUMENTS, "--rows", "hellinger, unguided")
        assert (ended.status, ended.error) == (0, "")
        folders = [tmp_path / "runs" / "digits" / name for name in ("hellinger", "unguided")]
        for folder in folders:
            (record,) = folder.glob("evaluation-*.json")
            distance = json.loads(record.read_text())["measures"]["frechet_distance"]
            assert f" {distance:.2f} " in ended.out
        run_job(tiny(name="digits/unguided"), tmp_path / "job", 4, ALONE)
        assert equal(folders[1], tmp_path / "job")
        before = contents(tmp_path / "runs")
        monkeypatch.setattr(job.Painter, "load", lambda *arguments: pytest.fail("nothing is left to do"))
        assert run(*self.ARGUMENTS, "--rows", "hellinger, unguided") == ended
        assert contents(tmp_path / "runs") == before

    def test_rows_whose_files_are_missing_are_named_and_have_status_1(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "120")
        ended = run("reproduce", "imagenet128", "--table", "3", "--rows", "js,unguided", "--device", "cpu")
        assert ended.status == 1
        lines = ended.error.splitlines()
        assert [line.partition(" ")[0] for line in lines] == ["js", "unguided"]
        assert all("fguidance fetch adm_imagenet128" in line for line in lines)
        assert "not run (2.13)" in ended.out
        assert ended.out.count("not run") == 6

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("reproduce", "nope", "--table", "1"), "there are no tables of 'nope', but of digits, imagenet128"),
            (("reproduce", "digits", "--table", "2"), "digits has no table 2, but 1"),
            (("reproduce", "digits"), "Missing option '--table'"),
            ((*ARGUMENTS, "--rows", "nope"), "table 1 has no row 'nope'"),
        ],
    )
    def test_bad_input(self, run: Any, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
        require_one_line(run(*arguments), message)
        assert list(tmp_path.iterdir()) == []


class TestBench:
    def test_the_record_is_printed_and_written_once(self, run: Any, tmp_path: Path) -> None:
        arguments = ("bench", "digits", "--repeats", "2", "--out", "record.json", "--set", "sampling.shard_size=1")
        ended = run(*arguments)
        assert (ended.status, ended.error) == (0, "")
        assert (tmp_path / "record.json").read_text() == ended.out
        assert set(json.loads(ended.out)["speed"]) == {"unguided", "ma", "js"}
        require_one_line(run(*arguments), r"there is a file record\.json already; it is not overwritten")
        assert (tmp_path / "record.json").read_text() == ended.out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("nope",), "there is no configuration 'nope'"),
            (("imagenet128/table3/unguided",), "a configuration with a classifier is needed"),
            (("digits", "--repeats", "1"), "Invalid value for '--repeats'"),
        ],
    )
    def test_bad_input(self, run: Any, arguments: tuple[str, ...], message: str) -> None:
        require_one_line(run("bench", *arguments), message)


@pytest.mark.parametrize(
    "arguments",
    [("fetch", "x"), sampling("x"), ("evaluate", "x"), ("reproduce", "digits", "--table", "1"), ("bench", "digits")],
)
def test_a_missing_extra_says_how_to_install_it(
    run: Any, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pooch" else name)
    require_one_line(run(*arguments), r"pooch is missing; install it with: pip install 'fguidance\[imagenet\]'")


def test_a_run_is_of_one_thread_here() -> None:
    """What is compared bit for bit above is computed alike in this process and in the others."""
    assert torch.get_num_threads() == 1
