"""What the book's pages of divergences say is complete, cited, and what plain numbers and the library say."""

import dataclasses
import math
import re
from pathlib import Path

import mpmath
import pytest
import sympy as sp
import torch

import fguidance as fg
from derivations import divergence_pages as pages
from derivations.divergences import DIVERGENCES, SLOPE
from derivations.emit import EmissionFailed
from fguidance import symbolic
from fguidance.symbolic.evaluate import MPMATH, evaluate

ROOT = Path(__file__).parents[2]
ROWS = {row.name: row for row in DIVERGENCES}
BLOCKS = {name: pages.block(row) for name, row in ROWS.items()}
every_row = pytest.mark.parametrize("name", ROWS)
ALWAYS = ("$f(t)$", "$f'(t)$", "$w$", "$f''(1)$", "dual", "conjugate", "range", "$s$", "sure of $y$", "source")


@every_row
def test_a_block_has_every_fact_in_two_columns(name: str) -> None:
    lines = [line for line in BLOCKS[name].splitlines() if line.startswith("|")]
    assert all(line.count("|") == 3 for line in lines)
    keys = [line.split("|")[1].strip() for line in lines[2:]]
    assert set(ALWAYS) <= set(keys)
    assert len(keys) == len(set(keys))
    assert f"(divergence-{name})=" in BLOCKS[name]


def test_the_page_has_every_block() -> None:
    page = pages.library()
    assert all(block in page for block in BLOCKS.values())


def test_every_citation_is_in_the_bibliography() -> None:
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "book/references.bib").read_text(encoding="utf-8"), re.MULTILINE))
    cited = set(re.findall(r"\{cite:t\}`(\w+)`", pages.library()))
    assert cited <= known
    assert cited == set(pages.CITED.values())


@every_row
def test_a_source_is_cited_or_ours(name: str) -> None:
    text = re.sub(r"\{cite:t\}`\w+`", "", pages.source(ROWS[name]))
    assert text.startswith("ours") or not re.search(r"\d{4}", text)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if pages.conjugate(row) is not None])
def test_a_conjugate_is_the_largest_of_the_differences(name: str) -> None:
    generator, found = pages.member(ROWS[name]), pages.conjugate(ROWS[name])
    assert re.search(r"\| conjugate \| \$.*\$ for (all \$v\$|\$.*v.*\$) \|", BLOCKS[name])
    for at in (sp.Rational(1, 3), sp.Rational(5, 2)):
        slope = sp.N(sp.diff(generator, symbolic.t).subs(symbolic.t, at), 30)
        value = complex(sp.N(found.subs(SLOPE, slope), 20))
        places = [at * sp.Rational(k, 20) for k in range(14, 27)]
        differences = [float(slope * place - generator.subs(symbolic.t, place)) for place in places]
        assert value.imag == pytest.approx(0, abs=1e-12)
        assert value.real == pytest.approx(max(differences), rel=1e-9, abs=1e-9)


def test_a_wrong_conjugate_is_refused() -> None:
    with pytest.raises(EmissionFailed, match=r"^js: "):
        pages.conjugate(dataclasses.replace(ROWS["js"], conjugate=2 * ROWS["js"].conjugate))


@every_row
def test_symmetry_is_that_of_the_values(name: str) -> None:
    fixed = symbolic.gauge_fixed(pages.member(ROWS[name]))
    with mpmath.workdps(30):
        two, half = (evaluate(fixed, symbolic.t, mpmath.mpf(at), MPMATH) for at in (2, 0.5))
        assert pages.is_symmetric(pages.member(ROWS[name])) == (abs(two - 2 * half) < 1e-20)


MEMBERS = {row.name: pages.member(row) for row in DIVERGENCES}
SMALL = 1e-9
Q = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)


def force(name: str, one_hot_on: int, small: float) -> torch.Tensor:
    """The force for the label 0 with p = 1 - small on one class, the rest shared 2 to 1."""
    rest = [2 * small / 3, small / 3]
    log_p = [0.0] * 3
    for index, other in enumerate(sorted({0, 1, 2} - {one_hot_on})):
        log_p[other] = math.log(rest[index])
    log_p[one_hot_on] = math.log1p(-small)
    return fg.divergence(name).logit_gradient(torch.tensor(log_p, dtype=torch.float64), Q.log())


def slope_at(name: str, q: float) -> float:
    return float(symbolic.slope(MEMBERS[name]).subs(symbolic.t, 1 / sp.Float(q, 30)))


def predicted(name: str, i: int, p_i: float, sure_of: int) -> float:
    """The leading term of F_i for i != k, from the leading term of the slope at 0."""
    end, q_i = pages.at_zero(MEMBERS[name]), float(Q[i])
    if end.kind == "finite":
        return p_i * (float(end.value) - slope_at(name, float(Q[sure_of])))
    if end.kind == "logarithm":
        return float(end.value) * p_i * math.log(p_i / q_i)
    return float(end.value) * q_i ** -float(end.power) * p_i ** (1 + float(end.power))


@every_row
def test_the_force_when_sure_of_another_class(name: str) -> None:
    p_y = 2 * SMALL / 3
    found = float(force(name, 1, SMALL)[0])
    logarithmic = pages.at_zero(MEMBERS[name]).kind == "logarithm"
    assert found == pytest.approx(predicted(name, 0, p_y, 1), rel=0.2 if logarithmic else 1e-3)


@every_row
def test_the_force_when_sure_of_the_label(name: str) -> None:
    shares = ((1, 2 * SMALL / 3), (2, SMALL / 3))
    expected = -sum(predicted(name, i, p_i, 0) for i, p_i in shares)
    logarithmic = pages.at_zero(MEMBERS[name]).kind == "logarithm"
    assert float(force(name, 0, SMALL)[0]) == pytest.approx(expected, rel=0.2 if logarithmic else 1e-3)


@every_row
def test_the_fate_of_the_force(name: str) -> None:
    near, nearer = (float(force(name, 1, small).norm()) for small in (1e-9, 1e-11))
    fates = {"stays": 1.0, "grows": 10.0}
    found = pages.fate(MEMBERS[name])
    if found in fates:
        assert nearer / near == pytest.approx(1.0, rel=1e-3) if found == "stays" else nearer / near > fates[found]
    else:
        assert nearer / near < (0.05 if found == "vanishes" else 0.5)


@every_row
def test_the_divergence_at_agreement(name: str) -> None:
    c, m = pages.at_agreement(MEMBERS[name])
    step = 1e-3 * torch.tensor([0.3, -0.2, -0.1], dtype=torch.float64)
    found = fg.divergence(name).value((Q + step).log(), Q.log())
    expected = float(c) * (step.abs() ** float(m) * Q ** (1 - float(m))).sum()
    assert float(found) == pytest.approx(float(expected), rel=0.02)


@every_row
def test_the_slope_far_out(name: str) -> None:
    end = pages.at_infinity(MEMBERS[name])
    if end.kind == "exponential":
        assert slope_at(name, 1e-2) > 1e30
        return
    expected = {"finite": 1.0, "logarithm": math.log(1e9), "power": 1e9 ** float(end.power)}[end.kind]
    found = slope_at(name, 1e-9)
    assert found == pytest.approx(float(end.value) * expected, rel=0.1 if end.kind == "logarithm" else 2e-3)


def test_the_words() -> None:
    assert pages.sure_of_label(MEMBERS["rkl"]) == r"stays: $F_y \to (1 - q_y)$"
    assert pages.sure_of_another(MEMBERS["rkl"]) == r"stays: $F_y \to -q_y$"
    assert pages.sure_of_label(MEMBERS["fkl"]) == r"vanishes: $F_y \approx \sum_{i \neq y} p_i \log \frac{q_i}{p_i}$"
    assert pages.sure_of_another(MEMBERS["fkl"]) == r"vanishes: $F_y \approx -p_y \log \frac{q_y}{p_y}$"
    assert pages.sure_of_label(MEMBERS["pearson"]) == r"vanishes: $F_y \approx \left(f'(1/q_y) + 2\right) (1 - p_y)$"
    assert pages.sure_of_another(MEMBERS["pearson"]) == r"vanishes: $F_y \approx -\left(f'(1/q_k) + 2\right) p_y$"
    assert pages.sure_of_another(MEMBERS["neyman"]) == r"grows: $F_y \approx -q_y^{2}\, p_y^{-1}$"
    assert pages.agreement(MEMBERS["total_variation"]) == (
        r"$D_f \approx \frac{1}{2}\, \sum_i \lvert p_i - q_i \rvert$"
    )
    assert pages.slope_on_the_wrong_class(MEMBERS["pearson"]) == r"like $2\, q_k^{-1}$"


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
    for table in pages.divergence_table().strip().split("\n\n"):
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
    limit = {"$-1$": -1.0, "$0$": 0.0, "$-\\infty$": -math.inf}[cells[name][LIMIT]]
    found = 1e-12 * SLOPES[name](1e-12)
    assert found < -1e6 if limit == -math.inf else found == pytest.approx(limit, abs=1e-5)


@pytest.mark.parametrize("name", SLOPES)
def test_curvature_at_one(name: str, cells: Cells) -> None:
    fraction = cells[name][CURVATURE].strip("$").replace("\\frac{", "").replace("}{", "/").rstrip("}")
    numerator, _, denominator = fraction.partition("/")
    expected = (SLOPES[name](1 + 1e-5) - SLOPES[name](1 - 1e-5)) / 2e-5
    assert float(numerator) / float(denominator or 1) == pytest.approx(expected, rel=1e-6)
