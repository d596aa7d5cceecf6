"""The blocks of the library's page: complete, cited, and true where a number can tell."""

import re
from pathlib import Path

import mpmath
import pytest
import sympy as sp

from derivations import library
from derivations.divergences import DIVERGENCES
from fguidance import symbolic
from fguidance.symbolic.evaluate import MPMATH, evaluate

ROOT = Path(__file__).parents[2]
ROWS = {row.name: row for row in DIVERGENCES}
BLOCKS = {name: library.block(row) for name, row in ROWS.items()}
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
    page = library.page()
    assert all(block in page for block in BLOCKS.values())


def test_every_citation_is_in_the_bibliography() -> None:
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "book/references.bib").read_text(encoding="utf-8"), re.MULTILINE))
    cited = set(re.findall(r"\{cite:t\}`(\w+)`", library.page()))
    assert cited <= known
    assert cited == set(library.CITED.values())


@every_row
def test_a_source_is_cited_or_ours(name: str) -> None:
    text = re.sub(r"\{cite:t\}`\w+`", "", library.source(ROWS[name]))
    assert text.startswith("ours") or not re.search(r"\d{4}", text)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if library.conjugate_of(row) is not None])
def test_a_conjugate_is_the_largest_of_the_differences(name: str) -> None:
    generator, found = library.member(ROWS[name]), library.conjugate_of(ROWS[name])
    assert re.search(r"\| conjugate \| \$.*\$ for (all \$v\$|\$.*v.*\$) \|", BLOCKS[name])
    for at in (sp.Rational(1, 3), sp.Rational(5, 2)):
        slope = sp.N(sp.diff(generator, symbolic.t).subs(symbolic.t, at), 30)
        value = complex(sp.N(found.subs(sp.Symbol("v"), slope), 20))
        places = [at * sp.Rational(k, 20) for k in range(14, 27)]
        differences = [float(slope * place - generator.subs(symbolic.t, place)) for place in places]
        assert value.imag == pytest.approx(0, abs=1e-12)
        assert value.real == pytest.approx(max(differences), rel=1e-9, abs=1e-9)


@every_row
def test_symmetry_is_that_of_the_values(name: str) -> None:
    fixed = symbolic.gauge_fixed(library.member(ROWS[name]))
    with mpmath.workdps(30):
        two, half = (evaluate(fixed, symbolic.t, mpmath.mpf(at), MPMATH) for at in (2, 0.5))
        assert library.is_symmetric(library.member(ROWS[name])) == (abs(two - 2 * half) < 1e-20)
