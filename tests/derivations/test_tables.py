"""The book's table of divergences says what the generators say, checked by plain numbers."""

import math

import pytest

from derivations import tables
from derivations.divergences import DIVERGENCES

Cells = dict[str, dict[str, str]]
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
CURVATURE, FORCE, LIMIT = "$f''(1)$", "force at one-hot $p$", "$L$"


def split(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split(" | ")]


@pytest.fixture(scope="module")
def cells() -> Cells:
    """Divergence -> column heading -> cell, of both tables together."""
    found: Cells = {row.name: {} for row in DIVERGENCES}
    for table in tables.divergence_table().strip().split("\n\n"):
        heading, _, *lines = table.splitlines()
        assert [split(line)[0].split("`")[1].split()[0] for line in lines] == list(found)
        for name, line in zip(found, lines, strict=True):
            found[name] |= dict(zip(split(heading), split(line), strict=True))
    return found


@pytest.mark.parametrize("name", SLOPES)
def test_what_becomes_of_the_force_is_the_limit_of_t_times_the_slope(name: str, cells: Cells) -> None:
    far, farther = (abs(t * SLOPES[name](t)) for t in (1e-8, 1e-12))
    expected = "grows" if farther > 100 * far else "vanishes" if farther < far / 50 else "stays"
    assert cells[name][FORCE] == expected


@pytest.mark.parametrize("name", SLOPES)
def test_limit_of_t_times_the_slope(name: str, cells: Cells) -> None:
    limit = {"$-1$": -1.0, "$0$": 0.0, "$-\\infty$": -math.inf}[cells[name][LIMIT]]
    found = 1e-12 * SLOPES[name](1e-12)
    assert found < -1e6 if limit == -math.inf else found == pytest.approx(limit, abs=1e-5)


@pytest.mark.parametrize("name", SLOPES)
def test_curvature_at_one(name: str, cells: Cells) -> None:
    fraction = cells[name][CURVATURE].strip("$").replace("\\frac{", "").replace("}{", "/").rstrip("}")
    numerator, _, denominator = fraction.partition("/")
    expected = (SLOPES[name](1 + 1e-5) - SLOPES[name](1 - 1e-5)) / 2e-5
    assert float(numerator) / float(denominator or 1) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("line", tables.divergence_table().splitlines())
def test_no_bar_inside_a_cell_ends_it(line: str) -> None:
    assert line.count("|") in (0, 4, 6)


def test_among_the_papers_three_only_rkl_keeps_a_force(cells: Cells) -> None:
    assert [cells[name][FORCE] for name in ("rkl", "fkl", "js")] == ["stays", "vanishes", "vanishes"]


def test_the_alpha_family_keeps_a_force_up_to_alpha_zero(cells: Cells) -> None:
    force = "grows for $\\alpha < 0$; stays for $\\alpha = 0$; vanishes for $\\alpha > 0$"
    assert cells["alpha"][FORCE] == force
