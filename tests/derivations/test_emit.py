"""What is emitted is what is committed, and nothing false can be emitted."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sympy as sp

from derivations import divergences, emit
from fguidance import _generated, symbolic

ROWS = {row.name: row for row in divergences.DIVERGENCES}
UNFORMED = [row for row in ROWS.values() if row.family is None and row.form is None]
PLAIN = [row for row in UNFORMED if symbolic.pieces(row.generator) is not None]
GENERAL = [row for row in UNFORMED if symbolic.pieces(row.generator) is None]
FORMED = [name for name, row in ROWS.items() if row.form is not None and row.family is not None]
every_row = pytest.mark.parametrize("row", PLAIN, ids=lambda row: row.name)


def test_the_committed_reference_is_what_is_emitted() -> None:
    assert Path(_generated.__file__).read_text(encoding="utf-8") == emit.reference_text()


def test_emission_is_the_same_twice() -> None:
    assert emit.reference_text() == emit.reference_text()


def changed(piece: symbolic.Piece, index: int, value: sp.Expr) -> symbolic.Piece:
    arguments = (*piece.arguments[:index], value, *piece.arguments[index + 1 :])
    return dataclasses.replace(piece, arguments=arguments)


@every_row
def test_pieces_are_proved(row: divergences.Row) -> None:
    emit.prove_pieces(row.name, row.generator, symbolic.pieces(row.generator))


@every_row
def test_a_piece_with_another_coefficient_is_refused(row: divergences.Row) -> None:
    first, *rest = symbolic.pieces(row.generator)
    for coefficient in (2 * first.arguments[0], -first.arguments[0]):
        with pytest.raises(emit.EmissionFailed, match=row.name):
            emit.prove_pieces(row.name, row.generator, (changed(first, 0, coefficient), *rest))


@pytest.mark.parametrize("row", [row for row in PLAIN if row.name != "fkl"], ids=lambda row: row.name)
def test_a_piece_with_another_power_or_shift_is_refused(row: divergences.Row) -> None:
    first, *rest = sorted(symbolic.pieces(row.generator), key=lambda piece: -len(piece.arguments))
    with pytest.raises(emit.EmissionFailed, match=row.name):
        emit.prove_pieces(row.name, row.generator, (changed(first, 1, first.arguments[1] + 1), *rest))


@every_row
def test_a_missing_or_a_repeated_piece_is_refused(row: divergences.Row) -> None:
    pieces = symbolic.pieces(row.generator)
    for wrong in (pieces[1:], (*pieces, pieces[0])):
        with pytest.raises(emit.EmissionFailed, match=row.name):
            emit.prove_pieces(row.name, row.generator, wrong)


def test_pieces_of_another_divergence_are_refused() -> None:
    for row in PLAIN:
        for other in PLAIN:
            if row is not other:
                with pytest.raises(emit.EmissionFailed):
                    emit.prove_pieces(row.name, row.generator, symbolic.pieces(other.generator))


def test_the_rows_without_pieces_are_those_known() -> None:
    known = {"lin_k_reverse", "vajda_chi4", "arithmetic_geometric", "perimeter", "exponential"}
    assert {row.name for row in GENERAL} == known


@pytest.mark.parametrize("row", GENERAL, ids=lambda row: row.name)
@pytest.mark.parametrize("part", ("value", "derivative"))
@pytest.mark.parametrize("side", (0, 1))
def test_a_wrong_side_of_a_general_slope_is_refused(row: divergences.Row, part: str, side: int) -> None:
    scaled = symbolic.scaled_slope(row.generator)
    sides = list(getattr(scaled, part))
    sides[side] = 2 * sides[side]
    with pytest.raises(emit.EmissionFailed, match=row.name):
        emit.prove_slope(row.name, row.generator, dataclasses.replace(scaled, **{part: tuple(sides)}))


def altered(row: divergences.Row, **changes: object) -> divergences.Row:
    return dataclasses.replace(row, family=dataclasses.replace(row.family, **changes))


@pytest.mark.parametrize("name", ("amari", "cressie_read", "tsallis"))
@pytest.mark.parametrize("index", (0, 1))
def test_another_multiple_of_the_alpha_family_is_refused(name: str, index: int) -> None:
    member = list(ROWS[name].family.as_alpha)
    member[index] = member[index] + 1
    with pytest.raises(emit.EmissionFailed, match=name):
        emit._emit_family(altered(ROWS[name], as_alpha=tuple(member)))


def reformed(row: divergences.Row, **changes: object) -> divergences.Row:
    return dataclasses.replace(row, form=dataclasses.replace(row.form, **changes))


@pytest.mark.parametrize("name", FORMED)
def test_other_pieces_or_tails_of_a_family_are_refused(name: str) -> None:
    form = ROWS[name].form
    (piece,), tails = form.pieces, form.tails
    wrong = [{"pieces": (changed(piece, 0, 2 * piece.arguments[0]),)}]
    wrong += [{"pieces": (changed(piece, last, sp.S(3)),)} for last in range(1, len(piece.arguments))]
    wrong += [{"tails": (2 * tails[0], tails[1])}, {"tails": (tails[0], 2 * tails[1])}]
    wrong += [{"near": 2 * form.near}] if form.near is not None else []
    wrong += [{"limits": (2 * form.limits[0], form.limits[1])}] if form.limits is not None else []
    for changes in wrong:
        with pytest.raises(emit.EmissionFailed, match=name):
            emit._emit_family(reformed(ROWS[name], **changes))


def test_other_numbers_for_total_variation_are_refused() -> None:
    row = ROWS["total_variation"]
    (piece,) = row.form.pieces
    tails = row.form.tails
    wrong = [{"tails": (2 * tails[0], tails[1])}, {"tails": (tails[0], 2 * tails[1])}, {"near": 2 * row.form.near}]
    for changes in (*wrong, {"pieces": (changed(piece, 0, sp.S.One),)}):
        with pytest.raises(emit.EmissionFailed, match="total_variation"):
            emit._emit_row(reformed(row, **changes))


def test_a_slope_that_is_shifted_on_one_side_of_a_kink_is_refused() -> None:
    t = symbolic.t
    with pytest.raises(emit.EmissionFailed, match="shifted"):
        emit.prove_pieces("shifted", sp.Abs(t - 1) / 2 + t, ROWS["total_variation"].form.pieces)


def test_a_term_that_falls_on_one_side_is_refused() -> None:
    family = ROWS["puri_vincze"].family
    falling = symbolic.Piece("sign_difference", (-sp.S.One,), -sp.S.One)
    softly_falling = symbolic.Piece("soft_sign_difference", (-sp.S.One, divergences.width), -sp.S.One)
    assert not emit.increases(family, falling)
    assert not emit.increases(ROWS["softened_total_variation"].family, softly_falling)


Ends = tuple[sp.Expr, sp.Expr]


@pytest.mark.parametrize("wrong", [
    lambda tails, growth: ((2 * tails[0], tails[1]), growth),
    lambda tails, growth: ((tails[0], 2 * tails[1]), growth),
    lambda tails, growth: (tails, (growth[0] + symbolic.log_ratio, growth[1])),
    lambda tails, growth: (tails, (growth[0], -growth[1] or symbolic.log_ratio)),
], ids=("not f", "not the dual", "grown at 0", "grown at infinity"))  # fmt: skip
def test_other_tails_are_refused(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Ends, Ends], Any]) -> None:
    right = symbolic.scaled_tails
    monkeypatch.setattr(symbolic, "scaled_tails", lambda generator: wrong(*right(generator)))
    with pytest.raises(emit.EmissionFailed):
        emit.reference_text()


def test_a_wrong_printed_weight_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    row = dataclasses.replace(divergences.JS_PRINTED, weight=-divergences.JS_PRINTED.weight)
    monkeypatch.setattr(emit, "JS_PRINTED", row)
    with pytest.raises(emit.EmissionFailed, match="js_printed"):
        emit.reference_text()


def test_a_wrong_alpha_slope_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit, "ALPHA_SLOPE", 2 * divergences.ALPHA_SLOPE)
    with pytest.raises(emit.EmissionFailed, match="alpha"):
        emit.reference_text()


def test_write_puts_every_file_under_the_root(tmp_path: Path) -> None:
    written = emit.write(tmp_path)
    assert all(path.is_relative_to(tmp_path) and path.stat().st_size for path in written)
    assert {path.name for path in written} >= {"_generated.py", "divergences.md", "ledger.md"}
