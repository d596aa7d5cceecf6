"""The generated file stands alone, is what the derivations emit, and does what it says."""

import ast
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fguidance as fg
from derivations import agreement
from derivations.divergences import DIVERGENCES
from fguidance import catalogue, closed_forms

GENERATED = Path(closed_forms.__file__)
ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("fguidance", "sympy"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
import torch
import closed_forms

logits = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
log_q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log()
families = {name: family() for name, family in closed_forms.FAMILIES.items()}
definitions = {**closed_forms.DIVERGENCES, **families}
for name, definition in definitions.items():
    weight = closed_forms.weight(definition, torch.log_softmax(logits, -1), log_q)
    print(name, *closed_forms.logit_gradient(definition, logits, log_q).tolist(), *weight.tolist())
    if definition.value is not None:
        assert closed_forms.value(definition, torch.log_softmax(logits, -1), log_q) > 0
assert "fguidance" not in sys.modules
"""


def test_one_copied_file_works_without_the_library_and_without_sympy(tmp_path: Path) -> None:
    shutil.copy(GENERATED, tmp_path / "closed_forms.py")
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
    names = set(closed_forms.DIVERGENCES) | set(closed_forms.FAMILIES)
    assert names == set(catalogue.ROWS) == set(fg.divergence_names())
    assert set(closed_forms.FAMILIES) == set(catalogue.PARAMETERS) == set(catalogue.LIMITS)
    assert len(names - {"js_printed"}) == len(DIVERGENCES)


def members(name: str) -> list[closed_forms.Divergence]:
    """The divergence, or some members of the family, built anew."""
    if name in closed_forms.DIVERGENCES:
        return [closed_forms.DIVERGENCES[name]]
    rule = catalogue.PARAMETERS[name]
    within = [number for number in (-1.5, 0.0, 0.3, 0.5, 1.0, 1.5, 2.5) if rule.low < number < rule.high]
    return [closed_forms.FAMILIES[name](number) for number in (*within, rule.default)]


def at(log_p: float, log_q: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([log_p], dtype=torch.float64), torch.tensor([log_q], dtype=torch.float64)


WITH_VALUE = [name for name in fg.divergence_names() if name != "js_printed"]


@pytest.mark.parametrize("name", WITH_VALUE)
def test_limits_are_those_of_the_value(name: str) -> None:
    for definition in members(name):
        for place, limit in ((at(-600.0, 0.0), definition.at_zero), (at(0.0, -600.0), definition.at_infinity)):
            found = float(closed_forms.value(definition, *place))
            assert found >= 100 if limit == math.inf else math.isclose(found, limit, rel_tol=1e-12)


@pytest.mark.parametrize("name", WITH_VALUE)
def test_value_is_continuous_where_its_two_forms_meet(name: str) -> None:
    for definition in members(name):
        for edge in (definition.radius, -definition.radius):
            inner, outer = (closed_forms.value(definition, *at(-2 + edge * (1 + s), -2.0)) for s in (-1e-12, 1e-12))
            torch.testing.assert_close(inner, outer, rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", fg.divergence_names())
def test_a_divergence_is_bounded_if_no_weight_overflows(name: str) -> None:
    for definition in members(name):
        weights = [float(closed_forms.weight(definition, *place)) for place in (at(0.0, -600.0), at(-600.0, 0.0))]
        assert definition.bounded is all(abs(weight) < 1e6 for weight in weights)


@pytest.mark.parametrize("name", fg.divergence_names())
def test_a_divergence_is_smooth_if_its_slope_vanishes_in_proportion_to_u(name: str) -> None:
    for definition in members(name):
        for sign in (-1e-5, 1e-5):
            once, twice = (closed_forms.weight(definition, *at(-1 + k * sign, -1.0)) for k in (1, 2))
            assert definition.smooth is bool((twice / once).abs() > 1.9)


@pytest.mark.parametrize("name", catalogue.PARAMETERS)
def test_the_default_of_a_family_is_that_of_the_catalogue(name: str) -> None:
    family, place = closed_forms.FAMILIES[name], at(-1.0, -2.0)
    default = family(catalogue.PARAMETERS[name].default)
    assert torch.equal(closed_forms.weight(family(), *place), closed_forms.weight(default, *place))


@pytest.mark.parametrize("name", fg.divergence_names())
def test_a_weight_takes_u_only_where_it_says_so(name: str) -> None:
    p, q = (torch.tensor([number], dtype=torch.float64) for number in (0.2, 0.3))
    for definition in members(name):
        if not definition.logarithmic:
            right, nothing = (definition.weight(p, q, u) for u in (torch.log(p / q), torch.full_like(p, math.nan)))
            torch.testing.assert_close(nothing, right)


@pytest.mark.parametrize("name", WITH_VALUE)
def test_weights_are_the_derivative_of_the_value(name: str) -> None:
    """q f(p/q) by itself, whose derivative in p is f'(p/q), at a distance from p = q where f may not be smooth."""
    q = torch.tensor(0.3, dtype=torch.float64)
    for definition in members(name):
        for number in (0.01, 0.2, 0.6):
            p = torch.tensor(number, dtype=torch.float64, requires_grad=True)
            (slope,) = torch.autograd.grad(closed_forms.value(definition, p.log()[None], q.log()[None]), p)
            found = float(closed_forms.weight(definition, *at(math.log(number), math.log(0.3))))
            torch.testing.assert_close(found, float(number * slope), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", WITH_VALUE)
def test_a_multiple_has_multiples_of_everything(name: str) -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0], [60.0, 0.0, 1.0]], dtype=torch.float64)
    log_q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log().expand(2, 3)
    log_p = torch.log_softmax(logits, -1)
    for definition in members(name):
        tripled = closed_forms.scaled(definition, 3.0)
        functions = (closed_forms.value, log_p), (closed_forms.weight, log_p), (closed_forms.logit_gradient, logits)
        for function, first in functions:
            expected = 3 * function(definition, first, log_q)
            torch.testing.assert_close(function(tripled, first, log_q), expected, rtol=1e-12, atol=1e-13)
        assert (tripled.at_zero, tripled.at_infinity) == (3 * definition.at_zero, 3 * definition.at_infinity)


def test_the_printed_weight_refuses_a_value() -> None:
    with pytest.raises(ValueError, match="belongs to no"):
        closed_forms.value(closed_forms.DIVERGENCES["js_printed"], torch.zeros(1), torch.zeros(1))


def test_it_agrees_with_the_generators_and_with_autograd_of_its_scores() -> None:
    agreement.compare(closed_forms)


def test_leading_axes_are_a_batch() -> None:
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([[0, 3, 1], [2, 2, 0]])
    guidance, js = (0.6, 0.9, 0.8, 0.5), closed_forms.DIVERGENCES["js"]
    functions = (
        lambda x, y, *_: closed_forms.tempered_log_prob(x, y, 0.8, 0.5),
        lambda x, y, *_: closed_forms.tempered_gradient(x, y, 0.8, 0.5),
        lambda x, y, *_: closed_forms.entropy_gradient(x),
        lambda x, y, *entropy: closed_forms.guidance_score(js, x, y, *guidance, *entropy),
        lambda x, y, *entropy: closed_forms.guidance_gradient(js, x, y, *guidance, *entropy),
        lambda x, y, *_: closed_forms.smooth_ece_gradient(x, y, 0.01) * y.numel(),
    )
    for function in functions:
        alone = [function(x, y, 0.0) for x, y in zip(logits.view(6, 4), labels.flatten(), strict=True)]
        torch.testing.assert_close(function(logits, labels).flatten(0, 1), torch.stack(alone))
        assert function(logits.float(), labels).dtype == torch.float32
    sizes = (2, 3, 4), (6, 4)
    losses = (closed_forms.smooth_ece_loss(logits.view(size), labels.view(size[:-1]), 0.01) for size in sizes)
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("name", ("rkl", "fkl", "js", "jeffreys", "pearson"))
def test_the_library_gives_the_same_guidance(name: str) -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    labels = torch.tensor([0, 3, 6, 1, 1])
    found = closed_forms.guidance_gradient(closed_forms.DIVERGENCES[name], logits, labels, 0.6, 0.9, 0.8, 0.5, 0.3)
    guidance = fg.Guidance(name, alpha=0.6, epsilon=0.9, tau_joint=0.8, tau_marginal=0.5, entropy=0.3)
    torch.testing.assert_close(guidance.logit_gradient(logits, labels), found, rtol=0, atol=1e-13)
    loss = closed_forms.smooth_ece_loss(logits, labels, 0.01)
    torch.testing.assert_close(fg.smooth_ece_loss(logits, labels, beta=0.01), loss)
