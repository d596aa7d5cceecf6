"""The baseline holds exact numbers, is written once, and tells of every number that moves."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fguidance as fg
from fguidance.testing import Record, check_divergence
from fguidance.testing.baseline_file import Array
from fguidance.testing.baseline_inputs import inputs
from fguidance.testing.ulps import ulps_between

ALL = ("float16", "bfloat16", "float32", "float64")


class Hellinger:
    name = "mine"
    scale = 1.0

    def value(self, log_p: Any, log_q: Any) -> Any:
        return self.scale * (((log_p / 2).exp() - (log_q / 2).exp()) ** 2).sum(-1)

    def weight(self, log_p: Any, log_q: Any) -> Any:
        return log_p.exp() - ((log_p + log_q) / 2).exp()


class HellingerInNumPy:
    name = "mine"

    def value(self, log_p: Any, log_q: Any) -> Any:
        return ((np.exp(log_p / 2) - np.exp(log_q / 2)) ** 2).sum(-1)

    def weight(self, log_p: Any, log_q: Any) -> Any:
        return np.exp(log_p) - np.exp((log_p + log_q) / 2)


def run(source: Any, path: Path, **options: Any) -> Record:
    (record,) = check_divergence(source, checks=["baseline"], baseline=path, **options).records
    return record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "baseline.json"


class TestRecording:
    @pytest.mark.parametrize("source", (Hellinger, HellingerInNumPy, "js", "t*log(t)"))
    def test_the_first_run_records_and_the_second_compares(self, path: Path, source: Any) -> None:
        first = run(source, path)
        assert first.status == "passed"
        assert str(path) in first.reason
        kept = path.read_bytes()
        second = run(source, str(path))
        assert (second.status, second.reason, second.examples) == ("passed", "", first.examples)
        assert path.read_bytes() == kept
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_every_promised_dtype_and_versions_are_in_it(self, path: Path) -> None:
        run(fg.divergence("js"), path, dtypes=ALL)
        stored = json.loads(path.read_text())
        assert (stored["format"], stored["schema"], stored["name"]) == ("fguidance-baseline", 1, "js")
        assert {"torch", "fguidance", "numpy"} <= set(stored["versions"])
        assert {entry["log_q"]["dtype"] for entry in stored["entries"]} == set(ALL)
        assert set(stored["entries"][0]["results"]) == {"value", "weight", "logit_gradient"}

    def test_it_is_one_record_beside_the_checks(self, path: Path) -> None:
        report = check_divergence(Hellinger, baseline=path, checks=["value_is_not_negative"], max_examples=2)
        assert [record.check for record in report.records] == ["value_is_not_negative", "baseline"]
        assert report.passed

    def test_what_changes_by_itself_is_not_recorded(self, path: Path) -> None:
        class Noisy(Hellinger):
            def value(self, log_p: Any, log_q: Any) -> Any:
                self.scale += 1e-6
                return super().value(log_p, log_q)

        record = run(Noisy, path)
        assert record.status == "failed"
        assert "second time" in record.reason
        assert not path.exists()

    def test_a_refusal_is_an_answer(self, path: Path) -> None:
        class Refuses(Hellinger):
            def weight(self, log_p: Any, log_q: Any) -> Any:
                if log_p.shape[-1] == 7:
                    raise ValueError("not seven")
                return super().weight(log_p, log_q)

        assert run(Refuses, path).status == "passed"
        assert run(Refuses, path).status == "passed"
        record = run(Hellinger, path)
        assert (record.status, record.counterexample["old"]) == ("failed", "ValueError")

    @pytest.mark.parametrize("error", (ZeroDivisionError("by zero"), SystemExit(3), IndexError("by zero")))
    @pytest.mark.parametrize("part", ("value", "weight"))
    def test_another_error_is_not_recorded(self, path: Path, part: str, error: BaseException) -> None:
        class Crashes(Hellinger):
            pass

        def crash(self: object, log_p: Any, log_q: Any) -> Any:
            if log_p.ndim == 3:
                raise error
            return getattr(Hellinger(), part)(log_p, log_q)

        setattr(Crashes, part, crash)
        record = run(Crashes, path)
        assert record.status == "failed"
        assert f"{part} raises {type(error).__name__}: {error} on the input 'a batch with an axis" in record.reason
        assert (record.counterexample["part"], len(record.counterexample["log_p"])) == (part, 2)
        assert not path.exists()

    def test_a_part_that_refuses_everything_is_not_recorded(self, path: Path) -> None:
        class Refuses(Hellinger):
            def weight(self, log_p: Any, log_q: Any) -> Any:
                raise ValueError("never")

        record = run(Refuses, path)
        assert (record.status, record.reason) == (
            "failed", "nothing was recorded: weight gives a number for no input"
        )  # fmt: skip
        assert not path.exists()


class TestComparing:
    def test_a_number_that_moves_is_shown_with_its_input(self, path: Path) -> None:
        run(Hellinger, path)

        class Moved(Hellinger):
            scale = 1 + 2.0**-40

        record = run(Moved, path)
        assert record.status == "failed"
        shown = record.counterexample
        assert (shown["part"], shown["dtype"]) == ("value", "float64")
        assert {"case", "log_p", "log_q", "index"} <= set(shown)
        assert shown["ulps"] == ulps_between(shown["old"], shown["new"], torch.float64)
        assert 2**11 < shown["ulps"] < 2**13
        moved = (torch.tensor(shown["log_p"], dtype=torch.float64), torch.tensor(shown["log_q"], dtype=torch.float64))
        assert float(Moved().value(*moved)) == shown["new"]
        assert float(Hellinger().value(*moved)) == shown["old"]
        assert run(Moved, path, baseline_ulps=2**13).status == "passed"

    def test_the_default_allows_four_ulps_and_no_more(self, path: Path) -> None:
        run(Hellinger, path, dtypes=("float64",))
        for scale, status in ((1 + 2 * 2.0**-52, "passed"), (1 + 16 * 2.0**-52, "failed")):
            moved = type("Moved", (Hellinger,), {"scale": scale})
            assert run(moved, path, dtypes=("float64",)).status == status
        slightly = type("Moved", (Hellinger,), {"scale": 1 + 2 * 2.0**-52})
        assert run(slightly, path, baseline_ulps=0, dtypes=("float64",)).status == "failed"

    def test_the_recorded_inputs_are_used(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run(Hellinger, path)
        monkeypatch.setattr("fguidance.testing.baseline.inputs", lambda dtypes: pytest.fail("inputs were made anew"))
        assert run(Hellinger, path).status == "passed"

    def test_another_dtype_or_shape_or_part_is_drift(self, path: Path) -> None:
        run(Hellinger, path)

        class Doubles(Hellinger):
            def weight(self, log_p: Any, log_q: Any) -> Any:
                return super().weight(log_p, log_q).double()

        class Keeps(Hellinger):
            def value(self, log_p: Any, log_q: Any) -> Any:
                return super().value(log_p, log_q)[..., None]

        assert run(Doubles, path).status == "failed"
        record = run(Keeps, path)
        assert record.status == "failed"
        assert "another kind" in record.reason

    def test_a_part_that_came_later_is_said_and_the_file_is_kept(self, path: Path) -> None:
        class Forced(Hellinger):
            def logit_gradient(self, logits: Any, log_q: Any) -> Any:
                weight = self.weight(torch.log_softmax(logits, -1), log_q)
                return weight - torch.softmax(logits, -1) * weight.sum(-1, keepdim=True)

        run(Hellinger, path)
        kept = path.read_bytes()
        record = run(Forced, path)
        assert record.status == "failed"
        assert "holds nothing of logit_gradient" in record.reason
        assert "move the file away" in record.reason
        assert path.read_bytes() == kept
        path.rename(path.with_name("old.json"))
        assert run(Forced, path).status == run(Forced, path).status == "passed"
        assert run(Hellinger, path).status == "failed"

    def test_a_dtype_that_came_later_is_said(self, path: Path) -> None:
        run(Hellinger, path, dtypes=("float64",))
        record = run(Hellinger, path, dtypes=("float64", "float32"))
        assert record.status == "failed"
        assert "holds nothing of float32" in record.reason

    def test_a_file_of_other_inputs_is_still_read(self, path: Path) -> None:
        run(Hellinger, path)
        stored = json.loads(path.read_text())
        stored["entries"] = stored["entries"][:3]
        path.write_text(json.dumps(stored))
        assert run(Hellinger, path).examples == 3
        assert run(type("Moved", (Hellinger,), {"scale": 2.0}), path).status == "failed"

    def test_a_batch_that_goes_wrong_is_seen(self, path: Path) -> None:
        class Mixes(Hellinger):
            def value(self, log_p: Any, log_q: Any) -> Any:
                found = super().value(log_p, log_q)
                return found.flip(0) if found.ndim else found

        class Many(Hellinger):
            def value(self, log_p: Any, log_q: Any) -> Any:
                return super().value(log_p[..., :200], log_q[..., :200])

        run(Hellinger, path)
        for wrong, case in ((Mixes, "a batch"), (Many, "many classes")):
            record = run(wrong, path)
            assert (record.status, record.counterexample["case"]) == ("failed", case)

    def test_an_expected_failure(self, path: Path) -> None:
        run(Hellinger, path)
        moved = type("Moved", (Hellinger,), {"scale": 2.0})
        assert run(moved, path, expected_failures={"baseline": "twice by now"}).status == "expected"

    def test_other_versions_are_named(self, path: Path) -> None:
        run(Hellinger, path)
        path.write_text(path.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"'))
        record = run(type("Moved", (Hellinger,), {"scale": 2.0}), path)
        assert f"torch 1.0 (now {torch.__version__})" in record.reason


class TestFile:
    @pytest.mark.parametrize(
        ("change", "message"),
        (
            (lambda text: text[:-40], "is not JSON"),
            (lambda text: "", "is not JSON"),
            (lambda text: "[" * 100_000, "is not JSON"),
            (lambda text: "[]", "is another file"),
            (lambda text: '{"format": "something"}', "is another file"),
            (lambda text: text.replace('"schema": 1', '"schema": 2'), "has schema 2; this version reads 1"),
            (lambda text: text.replace('"name": "mine"', '"name": "yours"'), "was recorded of 'yours', not of 'mine'"),
            (lambda text: text.replace('"entries"', '"entrances"'), "is damaged: KeyError"),
            (lambda text: text.replace('"0x1.', '"0y1.', 1), "is damaged: ValueError"),
            (lambda text: text.replace('"float64"', '"int64"', 1), "is damaged: ValueError: int64 is no"),
            (lambda text: text.replace('"float64"', '"nn"', 1), "is damaged"),
            (lambda text: text.replace('"value"', '"worth"', 1), "is damaged: ValueError: the results must be of"),
        ),
    )
    def test_a_bad_file_is_refused_by_name_and_kept(self, path: Path, change: Any, message: str) -> None:
        run(Hellinger, path)
        path.write_text(change(path.read_text()))
        kept = path.read_bytes()
        with pytest.raises(ValueError, match=message) as caught:
            check_divergence(Hellinger, baseline=path)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == kept

    def test_bytes_that_are_no_text(self, path: Path) -> None:
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ValueError, match=r"baseline\.json cannot be read"):
            run(Hellinger, path)

    def test_folders(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="cannot be read"):
            run(Hellinger, tmp_path)
        with pytest.raises(ValueError, match="there is no folder"):
            run(Hellinger, tmp_path / "none" / "baseline.json")

    def test_a_file_that_appears_meanwhile_is_kept(self, path: Path) -> None:
        class Slow(Hellinger):
            def value(self, log_p: Any, log_q: Any) -> Any:
                if log_p.dtype == torch.float32:  # in the run itself, after the file was looked for
                    path.write_text("somebody else's")
                return super().value(log_p, log_q)

        with pytest.raises(ValueError, match="cannot be written: File exists"):
            run(Slow, path)
        assert path.read_text() == "somebody else's"
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_a_file_system_without_links(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr("os.link", refuse)
        run(Hellinger, path)
        assert run(Hellinger, path).status == "passed"

    @pytest.mark.parametrize("ulps", (-1, math.nan, "4", True))
    def test_the_bound_is_a_number(self, path: Path, ulps: Any) -> None:
        with pytest.raises(ValueError, match="baseline_ulps must be a number of at least 0"):
            run(Hellinger, path, baseline_ulps=ulps)

    def test_the_name_needs_a_file(self) -> None:
        with pytest.raises(ValueError, match="'baseline' is not one of"):
            check_divergence(Hellinger, checks=["baseline"])


class TestInputs:
    @pytest.mark.parametrize("dtype", ALL)
    def test_they_are_distributions_of_every_kind(self, dtype: str) -> None:
        found = list(inputs([getattr(torch, dtype)]))
        for case, logits, log_p, log_q in found:
            assert {tensor.dtype for tensor in (logits, log_p, log_q)} == {getattr(torch, dtype)}
            exact = torch.log_softmax(logits.double(), -1)
            if case == "equal to the target":
                assert torch.equal(log_p, log_q)
                continue
            torch.testing.assert_close(log_p, exact.to(log_p.dtype), rtol=2 * torch.finfo(log_p.dtype).eps, atol=1e-15)
            totals = log_q.double().exp().sum(-1)
            torch.testing.assert_close(totals, torch.ones_like(totals), atol=1e-2, rtol=0)
        largest = [float(log_p.max()) for _, _, log_p, _ in found]
        assert max(largest) > -1e-10
        assert any(torch.equal(log_p, log_q) for _, _, log_p, log_q in found)
        assert any(0 < float((log_p - log_q).abs().max()) < 0.05 for _, _, log_p, log_q in found)
        assert any(len(set(logits.tolist())) < len(logits) for _, logits, _, _ in found if logits.ndim == 1)
        assert {tuple(log_q.shape) for *_, log_q in found} >= {(2,), (3,), (7,), (300,), (3, 3), (2, 1, 4)}
        assert all(tensor.is_contiguous() for _, *tensors in found for tensor in tensors)

    def test_they_do_not_depend_on_random_numbers(self) -> None:
        torch.manual_seed(0)
        first = [Array.of(tensor) for _, *tensors in inputs([torch.float32]) for tensor in tensors]
        torch.manual_seed(1)
        assert first == [Array.of(tensor) for _, *tensors in inputs([torch.float32]) for tensor in tensors]


class TestUlps:
    @given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 20))
    def test_steps_to_the_next_number_are_counted(self, start: float, steps: int) -> None:
        end = start
        for _ in range(steps):
            end = math.nextafter(end, math.inf)
        if math.isfinite(end):
            assert ulps_between(start, end, torch.float64) == ulps_between(end, start, torch.float64) == steps

    @pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float32))
    def test_the_unit_is_that_of_the_dtype(self, dtype: torch.dtype) -> None:
        assert ulps_between(1.0, 1.0 + 3 * torch.finfo(dtype).eps, dtype) == 3

    def test_special_numbers(self) -> None:
        assert ulps_between(0.0, -0.0, torch.float64) == 0
        assert ulps_between(-5e-324, 5e-324, torch.float64) == 2
        assert ulps_between(math.nan, math.nan, torch.float64) == 0
        assert ulps_between(math.inf, math.inf, torch.float32) == 0
        for other in (math.nan, math.inf, -math.inf):
            assert ulps_between(1.0, other, torch.float32) == math.inf
        assert ulps_between(math.inf, -math.inf, torch.float32) == math.inf

    @given(st.floats(width=32))
    def test_the_file_holds_numbers_exactly(self, number: float) -> None:
        tensor = torch.tensor([number], dtype=torch.float32)
        back = Array.of(tensor).tensor
        assert back.dtype == tensor.dtype
        assert torch.equal(back.view(torch.int32), tensor.view(torch.int32)) or math.isnan(number)
