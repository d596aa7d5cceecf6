"""What several checks ask of a subject."""

import math
from collections.abc import Callable

import torch
from hypothesis import assume
from torch import Tensor

from fguidance.symbolic.numerical import places
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Function, Subject
from fguidance.testing.tolerance import eps

Condition = Callable[[Subject], str | None]


def working_dtype(subject: Subject) -> torch.dtype:
    """The widest dtype that is promised."""
    return max(subject.dtypes, key=lambda dtype: -torch.finfo(dtype).eps)


def full_dtypes(subject: Subject) -> tuple[torch.dtype, ...]:
    """Those of float32 and float64 that are promised; the widest promised one if neither is."""
    found = tuple(dtype for dtype in subject.dtypes if dtype in (torch.float32, torch.float64))
    return found or (working_dtype(subject),)


def single_or_double(subject: Subject) -> str | None:
    """The check needs seven digits."""
    digits = any(dtype in subject.dtypes for dtype in (torch.float32, torch.float64))
    return None if digits else "it needs float32 or float64, and neither is promised"


def share(dtype: torch.dtype) -> float:
    """What a sum of a few terms with log-ratios of up to 12 may lose of its size."""
    return 1e-9 if dtype == torch.float64 else 1e-4


def with_generator(subject: Subject) -> str | None:
    """The check needs a generator."""
    return "no generator is declared" if subject.generator is None else with_value(subject)


def with_value(subject: Subject) -> str | None:
    """The check needs a value."""
    return "it has no value" if subject.value is None else None


def with_force(subject: Subject) -> str | None:
    """The check needs a logit gradient."""
    return "no logit_gradient is given" if subject.logit_gradient is None else None


def both(*conditions: Condition) -> Condition:
    """All of the conditions; the first reason is given."""

    def condition(subject: Subject) -> str | None:
        return next((reason for one in conditions if (reason := one(subject)) is not None), None)

    return condition


def smooth(subject: Subject) -> str | None:
    """The check needs a differentiable generator."""
    return None if subject.declaration.smooth else "it is declared not to be smooth"


def is_general_form(subject: Subject) -> bool:
    """Whether every number takes milliseconds."""
    from fguidance.symbolic import pieces

    return subject.derived and subject.generator is not None and pieces(subject.generator) is None


def torch_only(subject: Subject) -> str | None:
    """The check needs PyTorch."""
    return None if subject.array == "torch" else "it takes NumPy arrays"


def zeros_are_allowed(subject: Subject) -> str | None:
    """The check needs targets that are 0 for some classes."""
    stated = subject.declaration.full_support
    if stated is None and not subject.derived:
        return "nothing is declared of targets with zeros; declare full_support=False to have them tried"
    return "every class of the target needs q > 0" if stated else None


def value_of(subject: Subject) -> Function:
    """The value, where a condition has made sure of it."""
    assert subject.value is not None
    return subject.value


def weight_of(subject: Subject) -> Function:
    """The weight."""
    assert subject.weight is not None
    return subject.weight


NEAREST_KINK = 1e-3
NEAREST_BEND = 5e-4
"""The log-ratio from a kink within which rounding, or a step of a difference, may decide between two slopes."""


def away_from_kinks(subject: Subject, log_p: Tensor, log_q: Tensor, reach: float = 0.0) -> None:
    """Give up an example in which some class is at a kink, or within `reach` of it."""
    if subject.declaration.smooth:
        return
    rounding = 64 * eps(log_p.dtype) * float(log_p.detach().abs().max() + 1)
    ratio = (log_p.detach().double() - log_q.double())[..., None]
    kinks = torch.tensor(subject.declaration.kinks, dtype=torch.float64).log()
    assume(bool(((ratio - kinks).abs() > max(NEAREST_KINK, rounding, reach)).all()))


def away_from_quick_bends(subject: Subject, case: Case) -> None:
    """Give up an example at a bend of the generator that is narrower than differences and logarithms resolve."""
    for place, distance in places(subject.generator) if subject.generator is not None else ():
        if distance < NEAREST_BEND * place:
            ratios = case.log_p.double() - case.log_q.double()
            assume(bool(((ratios - math.log(place)).abs() > NEAREST_BEND).all()))


def force_of(subject: Subject, logits: Tensor, log_q: Tensor) -> Tensor:
    """The subject's own force, or that of its weights, w - p sum(w)."""
    away_from_kinks(subject, torch.log_softmax(logits, -1), log_q)
    if subject.logit_gradient is not None:
        return subject.logit_gradient(logits, log_q)
    log_p = torch.log_softmax(logits, -1)
    weights = weight_of(subject)(log_p.clone(), log_q.clone())
    return weights - log_p.exp() * weights.sum(-1, keepdim=True)


def functions(subject: Subject) -> dict[str, Function]:
    """What it has of value, weight and logit_gradient, by name."""
    found = {"value": subject.value, "weight": subject.weight, "logit_gradient": subject.logit_gradient}
    return {name: function for name, function in found.items() if function is not None}


def first_argument(name: str, logits: Tensor) -> Tensor:
    """The logits for the force, log-probabilities for the others; always a fresh tensor."""
    if name == "logit_gradient":
        return logits.clone()
    return torch.log_softmax(logits.double(), -1).to(logits.dtype)
