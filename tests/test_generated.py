"""The generated file stands alone, is what the derivations emit, and does what it says."""

import ast
import math
import shutil
import subprocess
import sys
from pathlib import Path

import mpmath
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


def members(name: str) -> list[_generated.Definition]:
    """The divergence, or some members of the family, built anew."""
    if name in _generated.DIVERGENCES:
        return [_generated.DIVERGENCES[name]]
    rule = _generated.PARAMETERS[name]
    within = [number for number in (-1.5, 0.0, 0.3, 0.5, 1.0, 1.5, 2.5) if rule.low < number < rule.high]
    return [_generated.FAMILIES[name](number) for number in (*within, rule.default)]


def weight_at(definition: _generated.Definition, log_p: float, log_q: float) -> float:
    place = torch.tensor([log_p], dtype=torch.float64), torch.tensor([log_q], dtype=torch.float64)
    return float(_generated.weight(definition, *place))


@pytest.mark.parametrize("name", [name for name in fg.divergence_names() if name != "js_printed"])
def test_limits_are_those_of_the_tails(name: str) -> None:
    far = torch.tensor(-600.0, dtype=torch.float64)
    for definition in members(name):
        growths = (0.0, 0.0) if definition.growth is None else map(float, definition.growth(far))
        for tail, growth, limit in zip(definition.tails(far), growths, definition.limits, strict=True):
            assert tail.isfinite()
            if limit == float("inf"):
                assert tail.log() + growth >= math.log(100)
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
    for definition in members(name):
        weights = weight_at(definition, 0.0, -600.0), weight_at(definition, -600.0, 0.0)
        assert definition.bounded is all(abs(weight) < 1e6 for weight in weights)


@pytest.mark.parametrize("name", [name for name in fg.divergence_names() if name != "js_printed"])
def test_a_member_built_anew_has_the_weights_of_its_value(name: str) -> None:
    """q f(p/q) by itself, whose derivative in p is f'(p/q), at a distance from p = q where f may not be smooth."""
    q = torch.tensor(0.3, dtype=torch.float64)
    for definition in members(name):
        for number in (0.01, 0.2, 0.6):
            p = torch.tensor(number, dtype=torch.float64, requires_grad=True)
            value = _generated.value(definition, p.log()[None], q.log()[None])
            (slope,) = torch.autograd.grad(value, p)
            found = weight_at(definition, math.log(number), math.log(0.3))
            torch.testing.assert_close(found, float(number * slope), rtol=1e-9, atol=1e-12)


def test_two_sides_are_joined_at_equality() -> None:
    places = []

    def sides(log_ratio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        places.append(log_ratio)
        return 10 + log_ratio, 20 + log_ratio

    at = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0])
    assert _generated.two_sided(sides)(at).tolist() == [7.0, 9.5, 20.0, 19.5, 17.0]
    assert all(bool((place <= 0).all()) for place in places)


@pytest.mark.parametrize("share", (1e-6, 0.3, 0.5, 0.7, 1 - 2.0**-20))
@pytest.mark.parametrize("log_ratio", (0.0, -1e-9, -0.7, -30.0, -700.0))
def test_log_mixture_keeps_its_digits(share: float, log_ratio: float) -> None:
    with mpmath.workdps(60):
        expected = float(mpmath.log1p(mpmath.mpf(share) * mpmath.expm1(mpmath.mpf(log_ratio))))
    found = _generated.log_mixture(torch.tensor(log_ratio, dtype=torch.float64), share)
    torch.testing.assert_close(float(found), expected, rtol=2e-15, atol=2e-16 * share)


def test_the_crowded_nodes_integrate_what_is_steep_at_an_end() -> None:
    nodes = _generated._double_exponential(1 / 24, 78)
    assert nodes == _generated.CROWDED_NODES
    for function, exact in (
        (lambda x: 1.0, 1.0), (lambda x: x**2, 1 / 3), (lambda x: -math.log(x), 1.0),
        (lambda x: 1 / (1e-4 + x), math.log1p(1e4)), (lambda x: x**60, 1 / 61),
    ):  # fmt: skip
        assert math.isclose(math.fsum(share * function(x) for x, share in nodes), exact, rel_tol=1e-13)


@pytest.mark.parametrize("name", [name for name in _generated.DIVERGENCES if name != "js_printed"])
def test_a_multiple_has_multiples_of_everything(name: str) -> None:
    definition = _generated.DIVERGENCES[name]
    tripled = _generated.scaled(definition, 3.0)
    assert tripled.lean is None  # a plain form, which is that of the whole
    logits = torch.tensor([[0.5, -1.0, 2.0], [1e-6, 0.0, -1e-6], [60.0, 0.0, 1.0]], dtype=torch.float64)
    log_q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log().expand(3, 3)
    log_q = torch.where(logits.abs().amax(-1, keepdim=True) < 0.1, torch.log_softmax(-logits, -1), log_q)
    log_p = torch.log_softmax(logits, -1)
    for function, first, rounding in (
        (_generated.value, log_p, 0.0), (_generated.weight, log_p, 1e-12), (_generated.logit_gradient, logits, 1e-12)
    ):  # fmt: skip
        expected = 3 * function(definition, first, log_q)
        rounding *= float(expected.abs().max())
        torch.testing.assert_close(function(tripled, first, log_q), expected, rtol=1e-9, atol=rounding)


def test_the_printed_weight_has_no_tails() -> None:
    with pytest.raises(ValueError, match="js_printed belongs to no f-divergence, so it has no value"):
        _generated.DIVERGENCES["js_printed"].tails(torch.zeros(1))


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
