"""The book's table of divergences says what the generators say, checked by plain numbers."""

import math

import pytest

from derivations import tables
from derivations.divergences import DIVERGENCES

SLOPES = {
    "rkl": lambda t: 1 - 1 / t,
    "fkl": math.log,
    "js": lambda t: math.log(2 * t / (1 + t)) / 2,
    "hellinger": lambda t: 1 - t**-0.5,
    "pearson": lambda t: 2 * t - 2,
    "neyman": lambda t: 1 - t**-2,
    "jeffreys": lambda t: math.log(t) + 1 - 1 / t,
    "triangular": lambda t: (t - 1) * (t + 3) / (t + 1) ** 2,
}


@pytest.fixture(scope="module")
def rows() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    formulas, limits = tables.divergence_table().split("\n\n")

    def cells(table: str) -> dict[str, list[str]]:
        split = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]
        return {row[0].split("`")[1]: row for row in split if row[0]}

    return cells(formulas), cells(limits)


def test_every_divergence_has_one_row_in_each_table(rows: tuple) -> None:
    for table in rows:
        assert list(table) == [row.name for row in DIVERGENCES]
    assert {len(row) for row in rows[0].values()} == {5}
    assert {len(row) for row in rows[1].values()} == {6}


@pytest.mark.parametrize("name", SLOPES)
def test_what_becomes_of_the_force_is_the_limit_of_t_times_the_slope(name: str, rows: tuple) -> None:
    at = [abs(t * SLOPES[name](t)) for t in (1e-8, 1e-12)]
    expected = "grows" if at[1] > 100 * at[0] else "vanishes" if at[1] < at[0] / 50 else "stays"
    assert rows[1][name][3] == expected


@pytest.mark.parametrize("name", SLOPES)
def test_curvature_at_one(name: str, rows: tuple) -> None:
    slope = SLOPES[name]
    fraction = rows[1][name][1].strip("$").replace("\\frac{", "").replace("}{", "/").rstrip("}")
    numerator, _, denominator = fraction.partition("/")
    expected = (slope(1 + 1e-5) - slope(1 - 1e-5)) / 2e-5
    assert float(numerator) / float(denominator or 1) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", [row.name for row in DIVERGENCES])
def test_source_is_given(name: str, rows: tuple) -> None:
    assert rows[0][name][-1] == next(row.source for row in DIVERGENCES if row.name == name)


def test_among_the_papers_three_only_rkl_keeps_a_force(rows: tuple) -> None:
    assert [rows[1][name][3] for name in ("rkl", "fkl", "js")] == ["stays", "vanishes", "vanishes"]


def test_the_alpha_family_keeps_a_force_up_to_alpha_zero(rows: tuple) -> None:
    assert rows[1]["alpha"][3].startswith("grows for $\\alpha < 0$; stays for $\\alpha = 0$; vanishes for")
