"""Whatever a user has is brought to one shape, or refused in words."""

import types
from typing import Any

import numpy as np
import pytest
import torch

import fguidance as fg
from fguidance.testing import Declaration
from fguidance.testing.exact import t
from fguidance.testing.subject import as_subject


class InTorch:
    generator = "(sqrt(t) - 1)**2"

    def value(self, log_p: Any, log_q: Any) -> Any:
        return (((log_p / 2).exp() - (log_q / 2).exp()) ** 2).sum(-1)

    def weight(self, log_p: Any, log_q: Any) -> Any:
        return log_p.exp() - ((log_p + log_q) / 2).exp()


class InNumPy:
    def value(self, log_p: Any, log_q: Any) -> Any:
        return ((np.exp(log_p / 2) - np.exp(log_q / 2)) ** 2).sum(-1)

    def weight(self, log_p: Any, log_q: Any) -> Any:
        return np.exp(log_p) - np.exp((log_p + log_q) / 2)

    def logit_gradient(self, logits: Any, log_q: Any) -> Any:
        raise NotImplementedError


class WithForce(InTorch):
    def logit_gradient(self, logits: Any, log_q: Any) -> Any:
        return logits


def module() -> types.ModuleType:
    made = types.ModuleType("a_module")
    made.value, made.weight = InTorch().value, InTorch().weight  # type: ignore[attr-defined]
    return made


class TestShapes:
    @pytest.mark.parametrize(
        ("source", "name", "parts", "array", "derived"),
        (
            ("js", "js", 3, "torch", True),
            ("js_printed", "js_printed", 2, "torch", True),
            ("t*log(t)", "t*log(t)", 3, "torch", True),
            (t - 1 - (t - 1) + (t - 1) ** 2, "(t - 1)**2", 3, "torch", True),
            (fg.divergence("alpha", alpha=0.3), "alpha(alpha=0.3)", 3, "torch", True),
            (InTorch, "InTorch", 2, "torch", False),
            (InTorch(), "InTorch", 2, "torch", False),
            (WithForce, "WithForce", 3, "torch", False),
            (InNumPy, "InNumPy", 3, "numpy", False),
            ((InTorch().value, InTorch().weight), "value, weight", 2, "torch", False),
            (module(), "a_module", 2, "torch", False),
        ),
    )
    def test_known(self, source: Any, name: str, parts: int, array: str, derived: bool) -> None:
        found = as_subject(source)
        assert (found.name, len(found.parts), found.array, found.derived) == (name, parts, array, derived)

    def test_generators_and_names(self) -> None:
        assert as_subject(InTorch).generator == (t**0.5 - 1) ** 2 or "sqrt" in str(as_subject(InTorch).generator)
        assert as_subject(InNumPy).generator is None
        assert as_subject(InTorch, name="mine").name == "mine"
        assert as_subject("js", name="mine").name == "mine"

    def test_numpy_takes_and_gives_tensors(self) -> None:
        subject = as_subject(InNumPy)
        log_p = torch.tensor([0.25, 0.75]).log()
        log_q = torch.tensor([0.5, 0.5]).log()
        for part in ("value", "weight"):
            found = subject.parts[part](log_p, log_q)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, getattr(InTorch(), part)(log_p, log_q))
        assert not subject.differentiable

    def test_its_own_declaration_counts_unless_another_is_given(self) -> None:
        source = InTorch()
        source.declaration = Declaration(dtypes=("float64",))  # type: ignore[attr-defined]
        assert as_subject(source).dtypes == (torch.float64,)
        assert as_subject(source, Declaration(dtypes=("float16",))).dtypes == (torch.float16,)

    def test_as_dict_is_plain(self) -> None:
        found = as_subject("t*log(t)", Declaration(generator=t, expected_failures={"a": "b"})).as_dict()
        assert found["generator"] == "t*log(t)"
        assert found["declaration"]["generator"] == "t"
        assert found["declaration"]["expected_failures"] == {"a": "b"}


class TestRefused:
    @pytest.mark.parametrize(
        ("source", "message"),
        (
            (3, "int has no method value and no method weight"),
            (object(), "object has no method value"),
            ((1, 2), r"functions must be \(value, weight\)"),
            ([InTorch().value], r"functions must be \(value, weight\)"),
            (lambda log_p, log_q: 0, "function has no method value"),
            (type("HalfDone", (), {"value": InTorch.value}), r"HalfDone has no method weight\(log_p, log_q\)"),
        ),
    )
    def test_what_is_nothing_that_can_be_tested(self, source: Any, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            as_subject(source)

    def test_a_class_that_needs_arguments(self) -> None:
        class Needs(InTorch):
            def __init__(self, scale: float) -> None:
                self.scale = scale

        with pytest.raises(TypeError, match=r"Needs cannot be made without arguments, give an instance: TypeError: "):
            as_subject(Needs)

    @pytest.mark.parametrize("source", ("t^2", "(t - 1)**3", "nonsense", ""))
    def test_what_is_no_generator(self, source: str) -> None:
        with pytest.raises(ValueError, match="generator"):
            as_subject(source)

    def test_what_is_no_declaration(self) -> None:
        with pytest.raises(TypeError, match="declaration must be a Declaration, not dict"):
            as_subject(InTorch, {"smooth": False})  # type: ignore[arg-type]

    @pytest.mark.parametrize(("base", "result"), ((InTorch, 1.0), (InNumPy, "text")))
    def test_a_result_that_is_no_array(self, base: type, result: object) -> None:
        subject = as_subject(type("Wrong", (base,), {"weight": lambda self, log_p, log_q: result}))
        with pytest.raises(TypeError, match="weight must return"):
            subject.parts["weight"](torch.zeros(1), torch.zeros(1))
