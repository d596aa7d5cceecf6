"""The paper's tables: what it states, and which configuration is which row."""

import json
from pathlib import Path

import pytest

import fguidance as fg
from fguidance.run import load_config
from fguidance.run.evaluate import Measures
from fguidance.run.tables import Stated, Table, load_table, measured

STATED = {
    1: {"fine_tuned": (6.15, 0.77, 0.68), "smooth_ece": (5.94, 0.79, 0.66)},
    2: {
        "ma": (5.34, 0.78, 0.67), "tilted": (5.28, 0.77, 0.68), "entropy": (5.30, 0.77, 0.69),
        "rkl": (5.12, 0.78, 0.68),
    },
    3: {
        "unguided": (None, None, None), "dhariwal_nichol": (2.97, 0.78, 0.59), "entropy_aware": (2.68, 0.80, 0.56),
        "classifier_free": (2.43, None, None), "ma_resnet50": (2.37, 0.77, 0.60), "ma_resnet101": (2.19, 0.79, 0.58),
        "fkl": (2.17, 0.80, 0.59), "rkl": (2.14, 0.79, 0.59), "js": (2.13, 0.79, 0.60),
    },
}  # fmt: skip
"""Fréchet distance, precision and recall as arXiv:2511.05844 has them, typed by hand a second time."""
NUMBERS = {1: 10_000, 2: 10_000, 3: 50_000}


class TestImagenet:
    @pytest.mark.parametrize("number", STATED)
    def test_what_the_paper_states(self, number: int) -> None:
        table = load_table("imagenet128", number)
        assert (table.number, table.num_samples) == (number, NUMBERS[number])
        found = {row.key: row.stated for row in table.rows}
        assert found == {key: Stated(*numbers) for key, numbers in STATED[number].items()}
        assert list(found) == list(STATED[number])

    @pytest.mark.parametrize("number", STATED)
    def test_each_row_is_a_configuration_of_its_name(self, number: int) -> None:
        for row in load_table("imagenet128", number).rows:
            assert row.config.name == f"imagenet128/table{number}/{row.key}"
            assert row.config == load_config(row.config.name)

    def test_what_the_rows_name_is_what_guides(self) -> None:
        configs = {row.key: row.config for number in STATED for row in load_table("imagenet128", number).rows}
        for key in ("fkl", "rkl", "js"):
            assert configs[key].guidance.divergence == key
            assert configs[key].guidance.alpha > 0
        for key in ("ma", "ma_resnet50", "ma_resnet101", "tilted", "entropy", "dhariwal_nichol"):
            assert configs[key].guidance.alpha == 0
        assert configs["tilted"].guidance.tilt == -0.2
        assert configs["entropy"].guidance.entropy > 0
        for key in ("unguided", "entropy_aware", "classifier_free"):
            assert configs[key].guidance.method == key
        assert [configs[key].classifier.input for key in ("dhariwal_nichol", "entropy_aware")] == ["noisy"] * 2
        for key, depth in (("ma_resnet50", 50), ("ma_resnet101", 101), ("js", 101), ("ma", 50)):
            assert configs[key].classifier.shape == {"depth": depth, "softplus_beta": 3.0}
            guidance = configs[key].guidance
            assert (guidance.tau_joint, guidance.tau_marginal, guidance.sine_gamma) == (1.0, 0.5, 0.3)


def test_an_override_reaches_every_row() -> None:
    table = load_table("digits", 1, ["sampling.steps=7", "sampling.seed=3"])
    assert {(row.config.sampling.steps, row.config.sampling.seed) for row in table.rows} == {(7, 3)}
    with pytest.raises(ValueError, match="sed: Extra inputs"):
        load_table("digits", 1, ["sampling.sed=7"])


class TestSomeRows:
    @pytest.fixture
    def table(self) -> Table:
        return load_table("digits", 1)

    def test_in_the_order_in_which_they_are_named(self, table: Table) -> None:
        found = table.only(["js", "unguided"])
        assert [row.key for row in found.rows] == ["js", "unguided"]
        assert found.rows[0] == table.rows[-1]
        assert (found.number, found.title, found.num_samples) == (table.number, table.title, table.num_samples)

    def test_any_registered_divergence_is_one(self, table: Table) -> None:
        known = {row.key for row in table.rows}
        js = table.only(["js"]).rows[0].config
        others = [name for name in fg.divergence_names() if name not in known]
        assert others
        for row, name in zip(table.only(others).rows, others, strict=True):
            assert (row.config.name, row.stated) == (f"digits/{name}", Stated())
            assert row.config.guidance == js.guidance.model_copy(update={"divergence": name})
            assert row.config.model_copy(update={"name": js.name, "title": js.title, "guidance": js.guidance}) == js

    @pytest.mark.parametrize("key", ("nope", "", "JS"))
    def test_what_is_neither(self, table: Table, key: str) -> None:
        with pytest.raises(ValueError, match=f"table 1 has no row '{key}', but unguided, .*any registered divergence"):
            table.only(["js", key])

    def test_a_table_without_a_divergence_takes_none(self) -> None:
        with pytest.raises(ValueError, match="has no row 'js'"):
            load_table("imagenet128", 1).only(["js"])


@pytest.mark.parametrize("experiment", ("nope", "", "..", "digits/..", "imagenet128/table3"))
def test_no_such_experiment(experiment: str) -> None:
    with pytest.raises(ValueError, match=r"there are no tables of .*, but of .*digits, imagenet128"):
        load_table(experiment, 1)


@pytest.mark.parametrize(("experiment", "known"), (("digits", "1"), ("imagenet128", "1, 2, 3")))
def test_no_such_table(experiment: str, known: str) -> None:
    with pytest.raises(ValueError, match=f"{experiment} has no table 4, but {known}$"):
        load_table(experiment, 4)


class TestMeasured:
    def test_the_newest_counts(self, tmp_path: Path) -> None:
        assert measured(tmp_path) is None
        for name, date, distance in (("a", "2024-01-02", 1.0), ("b", "2024-01-03", 2.0), ("c", "2023-12-31", 3.0)):
            found = Measures(distance, 0.5, None, 1.0, None)
            record = {"measures": vars(found), "date": date}
            (tmp_path / f"evaluation-{name}.json").write_text(json.dumps(record))
        assert measured(tmp_path) == Measures(2.0, 0.5, None, 1.0, None)
