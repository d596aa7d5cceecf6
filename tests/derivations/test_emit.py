"""What is emitted is what is committed, nothing false can be emitted, and a changed formula or frame does not pass."""

import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import mpmath
import pytest
import sympy as sp
import torch

from derivations import emit, printer
from derivations.divergences import DIVERGENCES, JS_PRINTED, Row, exponent
from fguidance import catalogue, closed_forms
from fguidance.symbolic.forms import Form, p, q, u, written_out
from fguidance.symbolic.parsing import t
from tests.test_closed_forms import CHECKS

ROOT = Path(__file__).parents[2]
ROWS = {row.name: row for row in DIVERGENCES}
FORMS = {n: emit.form_of(r) for n, r in ROWS.items() if r.family is None or r.family.as_alpha is None or n == "alpha"}
SWAPPED = {p: q, q: p, u: -u}


@pytest.fixture(scope="module")
def emitted() -> str:
    return emit.reference_text()


def test_the_committed_files_are_what_is_emitted(emitted: str) -> None:
    assert Path(closed_forms.__file__).read_text(encoding="utf-8") == emitted
    assert Path(catalogue.__file__).read_text(encoding="utf-8") == emit.catalogue_text()


def lines_of_code(text: str) -> int:
    """Lines that hold a token of code, counted by Python's own tokenizer."""
    found: set[int] = set()
    other = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in other and not token.string.startswith('"""'):
            found.update(range(token.start[0], token.end[0] + 1))
    return len(found)


def test_the_header_counts(emitted: str) -> None:
    lines, printed, frame = map(int, re.findall(r"(\d+) (?:lines of code|are)", emitted)[:3])
    rows = emitted[emitted.index("def rkl()") : emitted.index("DIVERGENCES: dict")]
    formulas = re.findall(r'printed\("', (ROOT / "derivations" / "frame.py").read_text(encoding="utf-8"))
    assert (lines, printed, frame) == (lines_of_code(emitted), lines_of_code(rows) + len(formulas), lines - printed)


def altered(form: Form) -> Iterator[Form]:
    """A wrong sign, a wrong factor, another power and p for q, in each part and each of its cases."""
    for part in ("weight", "gauge", "value", "bend"):
        found = getattr(form, part)
        cases = found.args if isinstance(found, sp.Piecewise) else ((found, sp.true),)
        for number, (case, condition) in enumerate(() if found is None else cases):
            in_ratio = {"gauge": [case + 1], "bend": [case * sp.exp(u)]}
            wrong = [-case, 2 * case, *in_ratio.get(part, [case * p / q, case.subs(SWAPPED, simultaneous=True)])]
            for change in wrong:
                pieces = [*cases[:number], (change, condition), *cases[number + 1 :]]
                if not is_same(change, case):
                    yield replace(form, **{part: sp.Piecewise(*pieces) if len(cases) > 1 else change})


def is_same(first: sp.Expr, second: sp.Expr) -> bool:
    """Whether two parts agree at a place, as those of a symmetric divergence do with p and q exchanged."""
    gap = written_out(first - second)
    place = {symbol: sp.Float("0.3", 30) for symbol in gap.free_symbols - {t}}
    return bool(abs(sp.N(gap.subs(t, sp.Float("2.5", 30)).subs(u, 1).subs(place))) < 1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_an_altered_part_is_refused(name: str) -> None:
    found = list(altered(FORMS[name]))
    assert len(found) >= 5
    for form in found:
        with pytest.raises(emit.EmissionFailed, match=f"^{name}: "):
            emit.prove(ROWS[name], form)


def with_family(name: str, **changes: Any) -> Row:
    return replace(ROWS[name], family=replace(ROWS[name].family, **changes))


def with_stated(name: str, **changes: Any) -> Row:
    return replace(ROWS[name], stated=replace(ROWS[name].stated, **changes))


def other_ends(name: str) -> list[Row]:
    first, last = ROWS[name].stated.limits
    return [with_stated(name, limits=ends) for ends in ((2 * first, last), (first, -last), (last, first))]


WRONG_ROWS = [
    *(with_family(name, as_alpha=(factor + plus, order + 1 - plus))
      for name in ("amari", "cressie_read", "tsallis") for plus in (0, 1)
      for factor, order in [ROWS[name].family.as_alpha]),
    *other_ends("skewed_js"), *other_ends("skewed_rkl"),
    replace(ROWS["puri_vincze"], slope=2 * ROWS["puri_vincze"].slope),
    replace(ROWS["puri_vincze"], slope=ROWS["puri_vincze"].slope.subs(exponent, exponent + 1)),
    replace(ROWS["osterreicher_vajda"], slope=-ROWS["osterreicher_vajda"].slope),
    replace(ROWS["alpha"], generator=2 * ROWS["alpha"].generator),
    replace(ROWS["total_variation"], generator=sp.Abs(t - 1) / 2 + t - 1),
    replace(ROWS["total_variation"], generator=sp.Max(0, t - 1)),
]  # fmt: skip


@pytest.mark.parametrize("row", WRONG_ROWS, ids=lambda row: row.name)
def test_an_altered_row_is_refused(row: Row) -> None:
    with pytest.raises(emit.EmissionFailed, match=f"^{row.name}: "):
        emit._row(row)


def test_a_wrong_printed_weight_is_refused() -> None:
    with pytest.raises(emit.EmissionFailed, match="js_printed"):
        emit._printed(replace(JS_PRINTED, weight=-JS_PRINTED.weight))


def loaded(path: Path, text: str) -> ModuleType:
    path.write_text(text, encoding="utf-8")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


# What the emitted text has, what it is changed to, and the check that notices.
CHANGES = [
    (f"return {printer.formula(name)}", f"return 2 * ({printer.formula(name)})", check)
    for name, check in (("tempered", "tempered"), ("tempered_gradient", "tempered"), ("entropy_gradient", "entropy"),
                        ("tilted_weights", "tilted"), ("smooth_ece_gradient", "smooth_ece"))
] + [
    (f"torch.log({printer.formula('target')})", f"torch.log(0.5 * ({printer.formula('target')}))", "target"),
    (printer.formula("logit_gradient"), "w - total", "logit_gradient"),
    (printer.formula("score"), "alpha*distance + log_prob", "score"),
    (printer.formula("score_gradient"), "alpha*force + one_hot*tau_joint", "guidance_gradient"),
    (printer.formula("smooth_ece"), "torch.sqrt(beta + confidence - correct)", "smooth_ece"),
    (").mean()", ").sum()", "smooth_ece"),
    ("- entropy * (torch.exp", "+ entropy * (torch.exp", "score"),
    ("score_gradient + entropy *", "score_gradient - entropy *", "guidance_gradient"),
    ("gather(-1, labels.long()", "gather(-1, 0 * labels.long()", "tempered"),
    ("softplus(x, threshold=40)", "softplus(x, threshold=1)", "softplus"),
    ("w - p * (w / p).gather", "w + p * (w / p).gather", "logit_gradient"),
    ("return u * total", "return total", "value"),
    ("gauge=factor * divergence.gauge", "gauge=divergence.gauge", "scaled"),
    ("at_zero=factor * divergence.at_zero", "at_zero=divergence.at_zero", "scaled"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "check"), CHANGES)
def test_a_changed_formula_or_frame_is_noticed(old: str, new: str, check: str, emitted: str, tmp_path: Path) -> None:
    assert old in emitted
    CHECKS[check](closed_forms)
    changed = loaded(tmp_path / "changed.py", emitted.replace(old, new))
    with pytest.raises(AssertionError):
        CHECKS[check](changed)


QUARTIC = '    Row("quartic_root", "the quartic root\'s", (t ** sp.Rational(1, 4) - 1) ** 2, "ours"),\n'


def test_a_new_row_is_all_that_a_new_divergence_needs(tmp_path: Path) -> None:
    for folder in ("derivations", "reference"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "derivations" / "divergences.py"
    head = "DIVERGENCES: tuple[Row, ...] = (\n"
    table.write_text(table.read_text(encoding="utf-8").replace(head, head + QUARTIC), encoding="utf-8")
    path = os.pathsep.join(map(str, (tmp_path / "reference", tmp_path)))
    command = [sys.executable, "-m", "derivations", "--root", "out"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True)
    text = (tmp_path / "out/reference/fguidance/closed_forms.py").read_text(encoding="utf-8")
    module = loaded(tmp_path / "emitted.py", text)
    log_p, log_q = (torch.tensor(x, dtype=torch.float64).log() for x in ([0.2, 0.5, 0.3], [0.6, 0.1, 0.3]))
    found = module.weight(module.DIVERGENCES["quartic_root"], log_p, log_q)
    exact = []
    for a, b in zip(log_p.tolist(), log_q.tolist(), strict=True):
        slope = mpmath.diff(lambda x: (mpmath.root(x, 4) - 1) ** 2, mpmath.exp(a - b))
        exact.append(float(mpmath.exp(a) * slope))
    torch.testing.assert_close(found, torch.tensor(exact, dtype=torch.float64), rtol=1e-12, atol=1e-14)
