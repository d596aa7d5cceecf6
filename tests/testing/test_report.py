"""The report says how much was checked and what failed, to people and to programs."""

import io
import json
import math

import pytest
from rich.console import Console

from fguidance.testing import DivergenceFailed, Record, Report, check_divergence

BLOB = "@reproduce_failure('6.100.0', b'AXic\"==')"
PASSED = Record("one", "One.", "passed", examples=7, seconds=0.25)
FAILED = Record("two", "Two.", "failed", "off by 1", {"logits": [0.0, math.nan]}, 3, 0.5, BLOB)
SKIPPED = Record("three", "Three.", "skipped", "no force is given")
EXPECTED = Record("four", "Four.", "expected", "on purpose (off by 2)", {"p": 0.5}, 2)
ALL = Report("mine", (PASSED, FAILED, SKIPPED, EXPECTED), {"seed": 1})


def terminal(report: Report, **options: object) -> str:
    file = io.StringIO()
    Console(file=file, width=100, **options).print(report)
    return file.getvalue()


class TestVerdict:
    def test_counts(self) -> None:
        assert ALL.counts == {"passed": 1, "failed": 1, "expected": 1, "skipped": 1}
        assert ALL.examples == 12
        assert ALL.summary() == "mine: 4 checks, 12 examples: 1 passed, 1 failed, 1 expected, 1 skipped"

    @pytest.mark.parametrize(
        ("records", "passed"),
        (
            ((PASSED,), True),
            ((PASSED, EXPECTED, SKIPPED), True),
            ((PASSED, FAILED), False),
            ((SKIPPED,), False),
            ((), False),
        ),
    )
    def test_it_passes_where_something_did_and_nothing_failed(self, records: tuple[Record, ...], passed: bool) -> None:
        report = Report("mine", records)
        assert report.passed is passed
        if passed:
            report.raise_for_failures()
        else:
            with pytest.raises(DivergenceFailed, match="mine: "):
                report.raise_for_failures()

    def test_what_is_raised_holds_reason_and_counterexample(self) -> None:
        with pytest.raises(DivergenceFailed, match=r"(?s)two: off by 1.*logits"):
            ALL.raise_for_failures()


class TestText:
    def test_plain_text_is_complete_and_ends_with_the_summary(self) -> None:
        lines = str(ALL).splitlines()
        assert lines[0] == "passed   one (7 examples, 0.25 s)"
        assert lines[1:4] == [
            "failed   two (3 examples, 0.50 s)",
            "         off by 1",
            "         counterexample: {'logits': [0.0, nan]}",
        ]
        assert lines[4].startswith("         reproduce: check_divergence(..., checks=['two'], reproduce_failure=('6.")
        assert "         no force is given" in lines
        assert lines[-1] == ALL.summary()

    def test_what_is_no_terminal_gets_the_plain_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        ALL.show()
        assert capsys.readouterr().out == f"{ALL}\n"
        file = io.StringIO()
        ALL.show(file)
        assert file.getvalue() == f"{ALL}\n"

    def test_a_terminal_gets_a_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        for kind, table in (("xterm-256color", True), ("dumb", False)):
            monkeypatch.setenv("TERM", kind)
            monkeypatch.delenv("FORCE_COLOR", raising=False)
            file = Terminal()
            ALL.show(file)
            assert ("│" in file.getvalue()) is table

    def test_the_table_is_complete(self) -> None:
        text = terminal(ALL)
        for part in ("one", "two", "three", "four", "off by 1", "no force is given", "nan", ALL.summary(), "0.50"):
            assert part in text
        assert "checks=['two'], reproduce_failure=('6.100.0'" in " ".join(text.split())
        assert text.rstrip().endswith(ALL.summary())

    def test_the_names_of_several_failures_stand_together_at_the_end(self) -> None:
        report = Report("mine", tuple(Record(name, "It.", "failed", "off") for name in ("one", "two")))
        assert str(report).splitlines()[-2:] == ["failed: one, two", report.summary()]

    def test_markup_and_control_characters_are_shown_and_not_obeyed(self) -> None:
        name = "[bold]x[/nope]\x1b[31m\x07"
        report = Report(name, (Record("one", "One.", "failed", "\x1b]0;title\x07", {"a": "b"}),))
        for text in (str(report), terminal(report)):
            assert "\x1b" not in text
            assert "\x07" not in text
            assert r"[bold]x[/nope]\x1b[31m\x07" in text


class TestJson:
    def test_it_is_standard_json_with_everything(self) -> None:
        found = json.loads(ALL.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert {key: found[key] for key in ("schema", "name", "passed", "checks", "examples")} == {
            "schema": 1, "name": "mine", "passed": False, "checks": 4, "examples": 12,
        }  # fmt: skip
        assert found["counts"]["failed"] == 1
        assert found["records"][1]["counterexample"] == {"logits": [0.0, "nan"]}
        assert found["records"][1]["reproduce"] == BLOB

    def test_a_run_states_date_device_versions_and_subject(self) -> None:
        report = check_divergence("t*log(t)", checks=["force_sums_to_zero"], max_examples=2, seed=3, smooth=True)
        found = json.loads(report.to_json())
        settings = found["settings"]
        assert {"date", "device", "platform", "fguidance", "torch", "numpy", "hypothesis", "python"} <= set(settings)
        assert settings["date"].endswith("+00:00")
        assert settings["device"].startswith("cpu")
        assert (settings["seed"], settings["max_examples"]) == (3, 2)
        assert found["subject"]["generator"] == "t*log(t)"
        assert found["subject"]["parts"] == ["value", "weight", "logit_gradient"]
        assert found["subject"]["declaration"]["dtypes"] == ["float32", "float64"]


class TestRecord:
    def test_the_arguments_of_the_line(self) -> None:
        assert FAILED.reproduce_failure == ("6.100.0", b'AXic"==')
        assert PASSED.reproduce_failure is None
        assert PASSED.reproduce_call == ""
