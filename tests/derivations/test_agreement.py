"""A wrong factor anywhere in the emitted file is found before it is written."""

import importlib.util
import inspect
from types import ModuleType

import pytest
from torch import Tensor

from derivations.agreement import Disagreement, compare, require_agreement
from fguidance import closed_forms

OF_TENSORS = [
    name for name, function in inspect.getmembers(closed_forms, inspect.isfunction)
    if function.__module__ == closed_forms.__name__ and function.__annotations__["return"] is Tensor
]  # fmt: skip
ROWS = [*closed_forms.DIVERGENCES, *closed_forms.FAMILIES]


@pytest.fixture
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("emitted", closed_forms.__file__)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_functions_are_all_there() -> None:
    assert {"power", "integrated", "logit_gradient", "guidance_score", "smooth_ece_gradient"} <= set(OF_TENSORS)


@pytest.mark.parametrize("name", OF_TENSORS)
def test_a_factor_in_a_function(module: ModuleType, name: str) -> None:
    right = getattr(module, name)
    setattr(module, name, lambda *arguments: 1.00001 * right(*arguments))
    with pytest.raises(Disagreement):
        compare(module)


@pytest.mark.parametrize("part", ("weight", "value", "bend", "gauge"))
@pytest.mark.parametrize("name", ROWS)
def test_a_factor_in_a_row(module: ModuleType, name: str, part: str) -> None:
    def altered(divergence: closed_forms.Divergence) -> closed_forms.Divergence:
        right = getattr(divergence, part)
        wrong = 1e-5 + right if part == "gauge" else right and (lambda *arguments: 1.00001 * right(*arguments))
        return divergence._replace(**{part: wrong})

    made = module.DIVERGENCES.get(name) or module.FAMILIES[name]()
    if getattr(made, part) is None or (name == "js_printed" and part == "gauge"):
        return
    if name in module.DIVERGENCES:
        module.DIVERGENCES[name] = altered(made)
    else:
        right = module.FAMILIES[name]
        module.FAMILIES[name] = lambda parameter: altered(right(parameter))
    with pytest.raises(Disagreement, match=name):
        compare(module)


def test_text_is_run() -> None:
    text = inspect.getsource(closed_forms)
    require_agreement(text)
    for right, wrong in (("2*power(p, q, u, 0.5)", "power(p, q, u, 0.5)"), ("-p*total + w", "-q*total + w")):
        assert text.count(right) == 1
        with pytest.raises(Disagreement, match=r"gives .*, not "):
            require_agreement(text.replace(right, wrong))
