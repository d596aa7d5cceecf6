"""The generated file stands alone, and each of its functions is the derivative or the formula that it says."""

import ast
import math
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

import fguidance as fg
from derivations.divergences import DIVERGENCES
from fguidance import catalogue, closed_forms

FILE = Path(closed_forms.__file__)
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
for name, divergence in {**closed_forms.DIVERGENCES, **families}.items():
    weight = closed_forms.weight(divergence, torch.log_softmax(logits, -1), log_q)
    print(name, *closed_forms.logit_gradient(divergence, logits, log_q).tolist(), *weight.tolist())
    assert divergence.value is None or closed_forms.value(divergence, torch.log_softmax(logits, -1), log_q) > 0
assert "fguidance" not in sys.modules
"""


def test_one_copied_file_works_without_the_library_and_without_sympy(tmp_path: Path) -> None:
    shutil.copy(FILE, tmp_path)
    command = [sys.executable, "-I", "-W", "ignore", "-c", ALONE, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    logits = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    log_q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log()
    lines = [line.split() for line in run.stdout.splitlines()]
    assert tuple(name for name, *_ in lines) == fg.divergence_names()
    for name, *numbers in lines:
        divergence = fg.divergence(name)
        weight = divergence.weight(torch.log_softmax(logits, -1), log_q)
        assert list(map(float, numbers)) == [*divergence.logit_gradient(logits, log_q).tolist(), *weight.tolist()]


def test_the_text() -> None:
    text = FILE.read_text(encoding="utf-8")
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in found}
    assert names == {"math", "collections.abc", "typing", "torch"}
    assert "do not edit" in text.partition("import")[0]
    assert max(map(len, text.splitlines())) <= 120
    assert len(text.splitlines()) <= 600


def test_every_divergence_has_its_row_in_every_table() -> None:
    names = set(closed_forms.DIVERGENCES) | set(closed_forms.FAMILIES)
    assert names == set(catalogue.ROWS) == set(fg.divergence_names()) == {row.name for row in DIVERGENCES} | {"js_printed"}
    assert set(closed_forms.FAMILIES) == set(catalogue.PARAMETERS) == set(catalogue.LIMITS)


GIVEN = torch.Generator().manual_seed(0)
LOGITS = 2 * torch.randn(6, 5, generator=GIVEN, dtype=torch.float64)
LABELS = torch.randint(5, (6,), generator=GIVEN)
Q = 0.2 * (1 - 0.7) + 0.7 * torch.nn.functional.one_hot(LABELS, 5).double()
ONE_HOT = torch.nn.functional.one_hot(LABELS, 5).double()


def derivative(function: object, at: Tensor = LOGITS) -> Tensor:
    return torch.func.grad(lambda x: function(x).sum())(at)


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def plain_log_prob(logits: Tensor) -> Tensor:
    """Of temperatures 1.3 and 0.4."""
    return 1.3 * (logits * ONE_HOT).sum(-1) - (0.4 * logits).exp().sum(-1).log()


def plain_entropy(logits: Tensor) -> Tensor:
    p = torch.softmax(logits, -1)
    return -(p * p.log()).sum(-1)


def plain_js(logits: Tensor) -> Tensor:
    p = torch.softmax(logits, -1)
    return ((p * (2 * p / (p + Q)).log() + Q * (2 * Q / (p + Q)).log()) / 2).sum(-1)


def plain_score(logits: Tensor) -> Tensor:
    return plain_log_prob(logits) - 0.6 * plain_js(logits) + 0.3 * plain_entropy(logits)


def plain_loss(logits: Tensor) -> Tensor:
    confidence, top = torch.softmax(logits, -1).max(-1)
    return ((confidence - (top == LABELS).double()) ** 2 + 0.01).sqrt().mean()


def check_target(forms: ModuleType) -> None:
    same(forms.label_smoothed_log_target(LABELS, 5, 0.7), Q.log())


def check_tempered(forms: ModuleType) -> None:
    same(forms.tempered_log_prob(LOGITS, LABELS, 1.3, 0.4), plain_log_prob(LOGITS))
    same(forms.tempered_gradient(LOGITS, LABELS, 1.3, 0.4), derivative(plain_log_prob))


def check_entropy(forms: ModuleType) -> None:
    same(forms.entropy_gradient(LOGITS), derivative(plain_entropy))


def check_tilted(forms: ModuleType) -> None:
    log_prob = plain_log_prob(LOGITS)
    tilted = derivative(lambda x: len(x) * (0.7 * x).exp().mean().log() / 0.7, log_prob)
    same(forms.tilted_weights(log_prob, 0.7), tilted)


def check_logit_gradient(forms: ModuleType) -> None:
    same(forms.logit_gradient(forms.DIVERGENCES["js"], LOGITS, Q.log()), derivative(plain_js))


def check_value(forms: ModuleType) -> None:
    log_p = torch.log_softmax(LOGITS, -1)
    same(forms.value(forms.DIVERGENCES["js"], log_p, Q.log()), plain_js(LOGITS))


def check_score(forms: ModuleType) -> None:
    found = forms.guidance_score(forms.DIVERGENCES["js"], LOGITS, LABELS, 0.6, 0.7, 1.3, 0.4, 0.3)
    same(found, plain_score(LOGITS))


def check_guidance_gradient(forms: ModuleType) -> None:
    settings = forms.DIVERGENCES["js"], LOGITS, LABELS, 0.6, 0.7, 1.3, 0.4, 0.3
    same(forms.guidance_gradient(*settings), derivative(plain_score))


def check_smooth_ece(forms: ModuleType) -> None:
    same(forms.smooth_ece_loss(LOGITS, LABELS, 0.01), plain_loss(LOGITS))
    same(forms.smooth_ece_gradient(LOGITS, LABELS, 0.01), derivative(plain_loss))


def check_softplus(forms: ModuleType) -> None:
    at = torch.tensor([-700.0, -3.0, 0.0, 2.0, 39.0, 41.0, 1e30], dtype=torch.float64)
    same(forms.softplus(at), torch.logaddexp(at, torch.zeros_like(at)))
    same(derivative(forms.softplus, at), torch.sigmoid(at))


def check_scaled(forms: ModuleType) -> None:
    """Near and far from p = q, and at zeros in p."""
    log_p = torch.cat((torch.log_softmax(LOGITS, -1), torch.log_softmax(1e-3 * LOGITS + Q.log(), -1)))
    log_q = Q.log().repeat(2, 1)
    log_p[0] = torch.tensor([0.0, *[-math.inf] * 4])
    for name in ("hellinger", "triangular", "js", "exponential"):
        once, thrice = forms.DIVERGENCES[name], forms.scaled(forms.DIVERGENCES[name], 3.0)
        for function in (forms.value, forms.weight):
            same(function(thrice, log_p, log_q), 3 * function(once, log_p, log_q))


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}


@pytest.mark.parametrize("name", CHECKS)
def test_each_function_is_what_it_says(name: str) -> None:
    CHECKS[name](closed_forms)


def members(name: str) -> list[closed_forms.Divergence]:
    """The divergence, or some members of the family."""
    if name in closed_forms.DIVERGENCES:
        return [closed_forms.DIVERGENCES[name]]
    rule = catalogue.PARAMETERS[name]
    inside = [number for number in (-1.5, 0.0, 0.3, 0.5, 1.0, 1.5, 2.5) if rule.low < number < rule.high]
    return [closed_forms.FAMILIES[name](number) for number in (*inside, rule.default)]


every_divergence = pytest.mark.parametrize("name", [name for name in fg.divergence_names() if name != "js_printed"])


@every_divergence
def test_the_fields_are_those_of_the_functions(name: str) -> None:
    """Limits and bounds far out; and both forms of the value, and the derivative of one, at a distance from p = q."""
    for divergence in members(name):
        for log_ratio, limit in ((-600.0, divergence.at_zero), (600.0, divergence.at_infinity)):
            u = torch.tensor([log_ratio], dtype=torch.float64)
            log_p, log_q = u.clamp_max(0), (-u).clamp_max(0)
            value = float(closed_forms.value(divergence, log_p, log_q))
            assert value > 100 if limit == math.inf else math.isclose(value, limit, rel_tol=1e-9)
            if not divergence.bounded:
                continue
            assert float(closed_forms.weight(divergence, log_p, log_q).abs()) < 1e6
        assert divergence.bounded or not all(
            abs(float(closed_forms.weight(divergence, *map(torch.tensor, pair)))) < 1e6
            for pair in (([0.0], [-85.0]), ([-85.0], [0.0]))
        )
        edge = divergence.radius * torch.tensor([[1 - 1e-12], [1 + 1e-12], [1e-12 - 1], [-1 - 1e-12]]).double()
        values = closed_forms.value(divergence, edge - 2.0, torch.full_like(edge, -2.0))
        torch.testing.assert_close(values[::2], values[1::2], rtol=1e-9, atol=0)
        log_p = torch.tensor([-4.6, -1.6, -0.5], dtype=torch.float64)[:, None]
        log_q = torch.full_like(log_p, math.log(0.3))
        slope = derivative(lambda x, d=divergence, y=log_q: closed_forms.value(d, x, y), log_p)
        weight = closed_forms.weight(divergence, log_p, log_q)
        torch.testing.assert_close(slope, weight, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", closed_forms.FAMILIES)
def test_a_family_without_a_parameter_is_its_default_member(name: str) -> None:
    first, second = closed_forms.FAMILIES[name](), closed_forms.FAMILIES[name](catalogue.PARAMETERS[name].default)
    log_p = torch.log_softmax(LOGITS, -1)
    assert torch.equal(closed_forms.weight(first, log_p, Q.log()), closed_forms.weight(second, log_p, Q.log()))


def test_the_printed_weight_refuses_a_value() -> None:
    with pytest.raises(ValueError, match="belongs to no f-divergence"):
        closed_forms.value(closed_forms.DIVERGENCES["js_printed"], torch.zeros(1), torch.zeros(1))
