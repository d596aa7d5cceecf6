"""The job: its samples are the same however it is shared, interrupted, damaged and taken up again."""

import dataclasses
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from fguidance.run import RunConfig, configuration_names, job
from fguidance.run.assets import locate
from fguidance.run.folder import Shard, Shards
from fguidance.run.job import Outcome, Painter, Worker, labels_and_seeds, repeatable, run_job
from tests.support.runs import ALONE, CPU, arrays, equal, shard_files, tiny

NUMBER, SHARDS = 10, 3
"""Of images and, four in each, of shards; the last one is not used up."""


class KilledError(BaseException):
    """As a signal that cannot be caught."""


@dataclasses.dataclass(frozen=True)
class Dots:
    """A painter that costs nothing: every pixel of an image follows from its seed."""

    config: RunConfig
    device: torch.device

    @classmethod
    def load(cls, config: RunConfig, device: torch.device) -> "Dots":
        return cls(config, device)

    def shard(self, index: int) -> Shard:
        labels, seeds = labels_and_seeds(self.config, index)
        pixels = [np.random.default_rng(seed).integers(0, 256, (2, 2, 1), np.uint8) for seed in seeds]
        return Shard(torch.from_numpy(np.stack(pixels)), labels)


@pytest.fixture
def dots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "Painter", Dots)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run_job(tiny(), folder, NUMBER, ALONE) == Outcome(SHARDS, 0, folder / "samples.npz")
    return folder


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class TestTheSameSamples:

    def test_a_shard_alone_is_that_of_the_whole_run(self, whole: Path) -> None:
        shard = Painter.load(tiny(), CPU).shard(2)
        images, labels = arrays(whole)
        assert images.shape == (NUMBER, 8, 8, 1)
        assert len({image.numpy().tobytes() for image in images}) == NUMBER
        assert shard.images[:2].equal(images[8:])
        assert shard.labels[:2].equal(labels[8:])

    @pytest.mark.parametrize("number", (1, NUMBER + 1))
    def test_more_samples_begin_with_fewer(self, whole: Path, tmp_path: Path, number: int) -> None:
        run_job(tiny(), tmp_path, number, ALONE)
        shared = min(number, NUMBER)
        for some, all_of_them in zip(arrays(tmp_path), arrays(whole), strict=True):
            assert len(some) == number
            assert some[:shared].equal(all_of_them[:shared])

    @pytest.mark.parametrize("ranks", ((1, 0), (3, 1, 0, 2)))
    def test_shared_by_several_processes(self, whole: Path, tmp_path: Path, ranks: tuple[int, ...]) -> None:
        """With four of them one has nothing to do."""
        outcomes = [run_job(tiny(), tmp_path, NUMBER, Worker(rank, len(ranks), CPU)) for rank in ranks]
        assert sum(outcome.made for outcome in outcomes) == SHARDS
        finished = [outcome.samples is not None for outcome in outcomes]
        assert finished.index(True) == max(ranks.index(rank) for rank in range(min(len(ranks), SHARDS)))
        assert equal(tmp_path, whole)

    @pytest.mark.parametrize("change", ("sampling.seed=1", "sampling.steps=3", "guidance.guidance_scale=9.0"))
    def test_another_setting_gives_others(self, whole: Path, change: str) -> None:
        images, _ = arrays(whole)
        assert not Painter.load(tiny(change), CPU).shard(0).images.equal(images[:4])

    @pytest.mark.parametrize("name", [name for name in configuration_names() if name.startswith("digits/")])
    def test_every_configuration_of_digits_can_be_sampled(self, name: str, whole: Path) -> None:
        shard = Painter.load(tiny("sampling.shard_size=2", name=name), CPU).shard(0)
        assert shard.images.shape == (2, 8, 8, 1)
        assert len(shard.labels) == 2

    def test_half_precision_is_used_where_it_is_asked_for(self, whole: Path) -> None:
        painter, seen = Painter.load(tiny("sampling.precision=bfloat16"), CPU), []
        painter.model.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
        found = painter.shard(0).images.int() - arrays(whole)[0][:4].int()
        assert set(seen) == {torch.bfloat16}
        assert bool((found != 0).any())

    def test_networks_are_compiled_where_it_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compiled: list[nn.Module] = []
        monkeypatch.setattr(nn.Module, "compile", lambda network: compiled.append(network))
        Painter.load(tiny(), CPU)
        assert compiled == []
        painter = Painter.load(tiny("sampling.compile=true"), CPU)
        assert compiled == [painter.model, painter.classifier]


class TestLabelsAndSeeds:
    @examples(max_examples=20)
    @given(seed=st.integers(0, 2**63 - 1), index=st.integers(0, 10**6), size=st.integers(1, 20))
    def test_they_follow_from_seed_and_number_alone(self, seed: int, index: int, size: int) -> None:
        one, other = (
            tiny(f"sampling.seed={seed}", f"sampling.shard_size={size}", *more)
            for more in ((), ("sampling.steps=7", "guidance.alpha=2.0", "name=other"))
        )
        labels, seeds = labels_and_seeds(one, index)
        again_labels, again_seeds = labels_and_seeds(other, index)
        assert labels.equal(again_labels)
        assert seeds == again_seeds
        assert (labels.dtype, len(labels), len(seeds)) == (torch.int64, size, size)
        assert 0 <= int(labels.min()) <= int(labels.max()) < 10
        assert all(0 <= number < 2**63 for number in seeds)

    def test_no_two_images_share_a_seed(self) -> None:
        found = [
            one for seed in range(5) for index in range(40)
            for one in labels_and_seeds(tiny(f"sampling.seed={seed}"), index)[1]
        ]  # fmt: skip
        assert len(set(found)) == len(found)


class TestInterrupted:
    # A file's bytes, then its name: of the record and of each shard; then the samples.
    @pytest.mark.parametrize("moment", range(2 * (1 + SHARDS) + 1))
    def test_killed_at_any_write_and_taken_up_again(
        self, dots: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
    ) -> None:
        left = iter([*[None] * moment, KilledError()])

        def flushed(descriptor: int) -> None:
            if error := next(left):
                raise error

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", flushed)
            with pytest.raises(KilledError):
                run_job(tiny(), tmp_path / "killed", NUMBER, ALONE)
        there = len(shard_files(tmp_path / "killed"))
        assert there == min(SHARDS, max(0, (moment - 1) // 2))
        again = run_job(tiny(), tmp_path / "killed", NUMBER, ALONE)
        assert (again.made, again.found) == (SHARDS - there, there)
        run_job(tiny(), tmp_path / "whole", NUMBER, ALONE)
        assert equal(tmp_path / "killed", tmp_path / "whole")
        assert not list((tmp_path / "killed" / "shards").glob(".*"))

    @pytest.mark.parametrize("change", (damage, lambda path: path.write_bytes(path.read_bytes()[:-1]), Path.unlink))
    def test_a_damaged_shard_is_made_again_and_no_other(
        self, dots: None, tmp_path: Path, change: Callable[[Path], None]
    ) -> None:
        for name in ("whole", "damaged"):
            run_job(tiny(), tmp_path / name, NUMBER, ALONE)
        folder = tmp_path / "damaged"
        (folder / "samples.npz").unlink()
        change(folder / "shards" / "000001.shard")
        made: list[int] = []

        def watch(shards: list[int]) -> Iterator[int]:
            made.extend(shards)
            return iter(shards)

        assert run_job(tiny(), folder, NUMBER, ALONE, watch) == Outcome(1, 2, folder / "samples.npz")
        assert made == [1]
        assert equal(folder, tmp_path / "whole")

    def test_a_shard_that_is_damaged_by_another_process_is_not_joined(self, dots: None, tmp_path: Path) -> None:
        run_job(tiny(), tmp_path, NUMBER, Worker(0, 2, CPU))
        damage(tmp_path / "shards" / "000000.shard")
        assert run_job(tiny(), tmp_path, NUMBER, Worker(1, 2, CPU)).samples is None
        assert run_job(tiny(), tmp_path, NUMBER, Worker(0, 2, CPU)) == Outcome(1, 1, tmp_path / "samples.npz")

    def test_another_process_joins_at_the_same_moment(
        self, dots: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        really = job.write_samples

        def late(path: Path, *tensors: torch.Tensor) -> None:
            really(path, *tensors)
            really(path, *tensors)

        monkeypatch.setattr(job, "write_samples", late)
        assert run_job(tiny(), tmp_path, NUMBER, ALONE) == Outcome(SHARDS, 0, tmp_path / "samples.npz")
        assert len(arrays(tmp_path)[0]) == NUMBER


class TestFullDisk:
    def test_while_a_shard_is_written(self, dots: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        really = Shards.write

        def full(shards: Shards, index: int, shard: Shard) -> None:
            if index == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            really(shards, index, shard)

        with monkeypatch.context() as patch:
            patch.setattr(Shards, "write", full)
            with pytest.raises(OSError, match="for shard 2; all finished shards are kept: make room") as caught:
                run_job(tiny(), tmp_path / "full", NUMBER, ALONE)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "full"))
        assert shard_files(tmp_path / "full") == ["000000.shard", "000001.shard"]
        assert run_job(tiny(), tmp_path / "full", NUMBER, ALONE).found == 2
        run_job(tiny(), tmp_path / "whole", NUMBER, ALONE)
        assert equal(tmp_path / "full", tmp_path / "whole")


class TestWeights:
    @pytest.mark.parametrize(
        ("override", "network"),
        [
            ("model.shape.channel_mult=[1,2]", "an ADM network"),
            ("classifier.shape.width=16", "a small classifier"),
        ],
    )
    def test_of_another_architecture(self, tmp_path: Path, override: str, network: str) -> None:
        with pytest.raises(ValueError, match=rf"^the state dict does not fit {network} [^\n]*$"):
            run_job(tiny(override), tmp_path / "run", NUMBER, ALONE)
        assert not (tmp_path / "run").exists()  # so that the mended configuration may use it

    @pytest.mark.parametrize(
        ("part", "output", "number"),
        [("unet", "the model's output", float("inf")), ("classifier", "the classifier's output", float("nan"))],
    )
    def test_that_are_not_finite(self, tmp_path: Path, part: str, output: str, number: float) -> None:
        state, checkpoint = load_file(locate("digits.safetensors")), tmp_path / "mine.safetensors"
        key = [name for name in state if name.startswith(f"{part}.") and name.endswith("bias")][-1]
        state[key] = torch.full_like(state[key], number)
        save_file(state, checkpoint)
        config = tiny(f"model.weights={checkpoint}:unet", f"classifier.weights={checkpoint}:classifier")
        rule = rf"^shard 0: {output} has \d+ of \d+ values .* shards before it are"
        with pytest.raises(FloatingPointError, match=rule):
            run_job(config, tmp_path / "run", NUMBER, ALONE)
        assert shard_files(tmp_path / "run") == []


class TestWorker:
    @pytest.fixture(autouse=True)
    def alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            monkeypatch.delenv(name, raising=False)

    def test_alone_or_as_torchrun_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert Worker.from_environment("cpu") == ALONE
        for name, number in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
            monkeypatch.setenv(name, number)
        assert Worker.from_environment("cpu") == Worker(3, 4, CPU)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert Worker.from_environment().device == torch.device("cuda:1")

    @pytest.mark.parametrize("name", ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    @pytest.mark.parametrize("text", ("", "-1", "1.0", "one", " 1", "²"))
    def test_numbers_that_are_none(self, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
        monkeypatch.setenv(name, text)
        with pytest.raises(ValueError, match=rf"the environment variable {name} must be a whole number, not {text!r}"):
            Worker.from_environment("cpu")

    def test_a_rank_that_cannot_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RANK", "1")
        with pytest.raises(ValueError, match="RANK is 1; it must be below WORLD_SIZE, 1"):
            Worker.from_environment("cpu")

    @pytest.mark.parametrize("name", ("nope", "meta", "cuda:x", "cuda:-1", "cuda:99"))
    def test_a_device_that_there_is_not(self, name: str) -> None:
        with pytest.raises(ValueError, match=rf"device.*'{name}'"):
            Worker.from_environment(name)


Settings = tuple[bool, bool, bool]


def settings() -> Settings:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        bool(torch.utils.deterministic.fill_uninitialized_memory),
    )


@pytest.fixture
def before() -> Settings:
    found = settings()
    assert found == (False, False, True)
    return found


def test_what_a_caller_has_set_stays(before: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    torch.use_deterministic_algorithms(True)
    try:
        with repeatable():
            assert settings() == (True, False, False)
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
        assert settings() == (True, False, True)
    finally:
        torch.use_deterministic_algorithms(False)
    assert settings() == before


def test_networks_see_them_while_a_shard_is_drawn(before: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    painter, seen = Painter.load(tiny(), CPU), []

    def interrupted(*given: object) -> None:
        raise FloatingPointError

    painter.model.register_forward_hook(lambda *given: seen.append(settings()))
    painter.classifier.register_forward_hook(lambda *given: seen.append(settings()))
    painter.shard(0)
    assert set(seen) == {(True, True, False)}
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    painter.classifier.register_forward_hook(interrupted)
    with pytest.raises(FloatingPointError):
        painter.shard(0)
    assert settings() == before
