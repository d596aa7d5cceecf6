"""The generated file stands alone, is what the derivations emit, and does what it says."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fguidance as fg
from derivations.divergences import DIVERGENCES
from fguidance import _generated

GENERATED = Path(_generated.__file__)
ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("fguidance", "sympy"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
import torch
import _generated

logits = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
log_q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log()
families = {name: family() for name, family in _generated.FAMILIES.items()}
definitions = {**_generated.DIVERGENCES, **families}
for name, definition in definitions.items():
    weight = _generated.weight(definition, torch.log_softmax(logits, -1), log_q)
    print(name, *_generated.logit_gradient(definition, logits, log_q).tolist(), *weight.tolist())
    if definition.is_divergence:
        assert _generated.value(definition, torch.log_softmax(logits, -1), log_q) > 0
assert "fguidance" not in sys.modules
"""


def test_one_copied_file_works_without_the_library_and_without_sympy(tmp_path: Path) -> None:
    shutil.copy(GENERATED, tmp_path / "_generated.py")
    command = [sys.executable, "-I", "-W", "ignore", "-c", ALONE, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == len(fg.divergence_names())
    logits = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    log_q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log()
    for line in run.stdout.splitlines():
        name, *numbers = line.split()
        divergence = fg.divergence(name)
        weight = divergence.weight(torch.log_softmax(logits, -1), log_q)
        expected = torch.cat((divergence.logit_gradient(logits, log_q), weight))
        found = torch.tensor(list(map(float, numbers)), dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-16)


def test_it_imports_pytorch_and_the_standard_library_alone() -> None:
    imports = [node for node in ast.walk(ast.parse(GENERATED.read_text(encoding="utf-8")))
               if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports}
    assert names <= {"math", "collections.abc", "typing", "torch"}


def test_every_divergence_has_its_row_in_every_table() -> None:
    names = set(_generated.DIVERGENCES) | set(_generated.FAMILIES)
    assert names == set(_generated.SOURCES) == set(_generated.GENERATORS) | {"js_printed"}
    assert names == set(fg.divergence_names())
    assert set(_generated.FAMILIES) == set(_generated.PARAMETERS) == set(_generated.LIMITS)
    assert len(names - {"js_printed"}) == len(DIVERGENCES)


@pytest.mark.parametrize("name", [name for name in _generated.DIVERGENCES if name != "js_printed"])
def test_limits_are_those_of_the_tails(name: str) -> None:
    definition = _generated.DIVERGENCES[name]
    far = torch.tensor(-600.0, dtype=torch.float64)
    for tail, limit in zip(definition.tails(far), definition.limits, strict=True):
        if limit == float("inf"):
            assert tail >= 100
        else:
            torch.testing.assert_close(float(tail), limit)


@pytest.mark.parametrize("name", [name for name in _generated.DIVERGENCES if name != "js_printed"])
def test_value_is_continuous_where_its_two_forms_meet(name: str) -> None:
    definition = _generated.DIVERGENCES[name]
    for edge in (1.0, -1.0):
        ratio = torch.tensor([edge * (1 - 1e-12), edge * (1 + 1e-12)], dtype=torch.float64)[:, None]
        base = torch.full_like(ratio, -2.0)
        inner, outer = _generated.value(definition, base + ratio, base)
        torch.testing.assert_close(inner, outer, rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", list(_generated.FAMILIES))
def test_a_family_without_a_parameter_is_its_default_member(name: str) -> None:
    log_p, log_q = torch.log_softmax(torch.tensor([[0.5, -1.0, 2.0], [0.0, 0.3, 0.1]], dtype=torch.float64), -1)
    default, member = _generated.FAMILIES[name](), _generated.FAMILIES[name](_generated.PARAMETERS[name].default)
    assert torch.equal(_generated.weight(default, log_p, log_q), _generated.weight(member, log_p, log_q))


@pytest.mark.parametrize("name", fg.divergence_names())
def test_a_divergence_is_bounded_if_no_weight_overflows(name: str) -> None:
    members = [_generated.DIVERGENCES[name]] if name in _generated.DIVERGENCES else []
    if name in _generated.FAMILIES:
        rule = _generated.PARAMETERS[name]
        members = [_generated.FAMILIES[name](value) for value in (-1.5, 0.0, 0.5, 1.0, 1.5, 2.5)
                   if rule.low < value < rule.high]  # fmt: skip
    for definition in members:
        log_p = torch.tensor([0.0, -600.0], dtype=torch.float64)
        weights = _generated.weight(definition, log_p, log_p.flip(0))
        assert definition.bounded is bool((weights.abs() < 1e6).all())


def test_the_printed_weight_refuses_a_value() -> None:
    with pytest.raises(ValueError, match="belongs to no"):
        _generated.value(_generated.DIVERGENCES["js_printed"], torch.zeros(1), torch.zeros(1))


def test_no_line_is_longer_than_the_projects_limit_and_the_header_forbids_edits() -> None:
    text = GENERATED.read_text(encoding="utf-8")
    assert "do not edit" in text.partition("import")[0]
    assert "make generate" in text.partition("import")[0]
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", list(_generated.DIVERGENCES))
def test_every_docstring_gives_formula_equation_and_source(name: str) -> None:
    docstring = _generated.DIVERGENCES[name].slope_difference.__doc__ or ""
    assert "w = " in docstring
    assert ":eq:`eq-weight`" in docstring
    assert "Source: " in docstring
