"""What is emitted is what is committed, and nothing false can be emitted."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sympy as sp

from derivations import divergences, emit, printer
from derivations.divergences import Row
from fguidance import catalogue, closed_forms
from fguidance.symbolic import forms

ROWS = {row.name: row for row in divergences.DIVERGENCES}
FORMED = [row for row in ROWS.values() if row.name == "alpha" or row.family is None or row.family.as_alpha is None]
every_row = pytest.mark.parametrize("row", FORMED, ids=lambda row: row.name)


@pytest.fixture(scope="module")
def text() -> str:
    return emit.reference_text()


def test_the_committed_files_are_what_is_emitted(text: str) -> None:
    assert Path(closed_forms.__file__).read_text(encoding="utf-8") == text
    assert Path(catalogue.__file__).read_text(encoding="utf-8") == emit.catalogue_text()


def test_the_file_is_short_and_its_header_counts_its_lines(text: str) -> None:
    header, _, body = text.partition("import math")
    assert len(text.splitlines()) <= 600
    lines, printed, frame = (int(number) for number in header.split() if number.isdigit())
    assert lines == printed + frame == emit._count(body) + 1
    assert "do not edit" in header
    assert max(map(len, text.splitlines())) <= 120


def wrong(row: Row) -> Iterator[forms.Form]:
    """The row's form with one part altered."""
    form = emit.form_of(row)

    def each(part: sp.Expr, change: object) -> sp.Expr:
        if isinstance(part, sp.Piecewise):
            return sp.Piecewise(*((change(case), condition) for case, condition in part.args))
        return change(part)

    for change in (lambda part: 2 * part, lambda part: -part, lambda part: part + forms.q / 7):
        yield dataclasses.replace(form, weight=each(form.weight, change))
        yield dataclasses.replace(form, value=each(form.value, change))
    yield dataclasses.replace(form, value=each(form.value, lambda part: part.subs({forms.q: 2 * forms.q})))
    yield dataclasses.replace(form, gauge=each(form.gauge, lambda part: part + sp.Rational(1, 9)))
    if form.bend is not None:
        yield dataclasses.replace(form, bend=2 * form.bend)
        yield dataclasses.replace(form, bend=form.bend * sp.exp(forms.u))


@every_row
def test_an_altered_form_is_refused(row: Row) -> None:
    for form in wrong(row):
        with pytest.raises(emit.EmissionFailed, match=row.name):
            emit.prove(row, form)


@pytest.mark.parametrize("name", ("amari", "cressie_read", "tsallis"))
@pytest.mark.parametrize("index", (0, 1))
def test_another_multiple_of_the_alpha_family_is_refused(name: str, index: int) -> None:
    row = ROWS[name]
    member = list(row.family.as_alpha)
    member[index] = member[index] + 1
    with pytest.raises(emit.EmissionFailed, match=name):
        emit._row(dataclasses.replace(row, family=dataclasses.replace(row.family, as_alpha=tuple(member))))


@pytest.mark.parametrize("name", ("skewed_js", "skewed_rkl"))
def test_other_limits_are_refused(name: str) -> None:
    stated = ROWS[name].stated
    for end in (0, 1):
        ends = tuple(2 * limit if place == end else limit for place, limit in enumerate(stated.limits))
        with pytest.raises(emit.EmissionFailed, match=name):
            emit.limits(dataclasses.replace(ROWS[name], stated=dataclasses.replace(stated, limits=ends)))


def test_another_slope_for_the_reader_is_refused() -> None:
    for name in ("puri_vincze", "osterreicher_vajda"):
        row = dataclasses.replace(ROWS[name], slope=2 * ROWS[name].slope)
        with pytest.raises(emit.EmissionFailed, match=name):
            emit.prove(row, emit.form_of(row))


def test_the_paper_s_printed_weight_is_checked() -> None:
    with pytest.raises(emit.EmissionFailed, match="js_printed"):
        emit._printed(dataclasses.replace(divergences.JS_PRINTED, weight=-divergences.JS_PRINTED.weight))


def test_a_row_without_a_stable_form_must_state_one() -> None:
    with pytest.raises(emit.EmissionFailed, match="let the row state one"):
        emit.form_of(Row("none", "none", sp.exp(emit.t) - sp.E * emit.t, "ours"))


def test_formulas_are_printed_in_the_names_of_the_code() -> None:
    assert printer.formula("tempered") == "-torch.logsumexp(tau_marginal * logits, -1) + own*tau_joint"
    assert printer.formula("logit_gradient") == "-p*total + w"
    for name in printer._formulas():
        assert not set("{}\\") & set(printer.formula(name))


NEW_ROW = '    Row("quartic_root", "a new row", (t ** sp.Rational(1, 4) - 1) ** 2, "ours"),\n'
CHECK = """
from derivations import divergences, emit
row = divergences.DIVERGENCES[0]
assert row.name == "quartic_root"
namespace = {}
exec(compile("from fguidance.closed_forms import *\\n" + emit._row(row), "row", "exec"), namespace)
from torch import tensor
import torch
from fguidance import closed_forms
p, q = tensor([0.25, 0.75]).double(), tensor([0.5, 0.5]).double()
found = closed_forms.weight(namespace["quartic_root"](), p.log(), q.log())
t = p / q
assert torch.allclose(found, p * (t**0.25 - 1) * t**-0.75 / 2, rtol=1e-14), found
assert "quartic_root()," in emit._tables()
"""


def test_a_new_row_is_one_edit_in_one_file(tmp_path: Path) -> None:
    source = Path(divergences.__file__)
    folder = tmp_path / "derivations"
    folder.mkdir()
    for path in source.parent.glob("*.py"):
        (folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    head = "DIVERGENCES: tuple[Row, ...] = (\n"
    rows = source.read_text(encoding="utf-8")
    assert head in rows
    (folder / "divergences.py").write_text(rows.replace(head, head + NEW_ROW), encoding="utf-8")
    reference = Path(closed_forms.__file__).parents[1]
    environment = {"PYTHONPATH": f"{tmp_path}:{reference}", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", CHECK], check=True, cwd=tmp_path, env=environment, timeout=200)
