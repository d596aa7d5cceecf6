"""The weights and the force are the derivative of the value."""

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import strategies
from fguidance.testing.check import check
from fguidance.testing.checks._subjects import (
    both,
    first_argument,
    force_of,
    torch_only,
    value_of,
    weight_of,
    with_force,
    with_value,
    working_dtype,
)  # fmt: skip
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import eps, require_close

STEP = 2.0**-9
BY_AUTOGRAD, BY_DIFFERENCES = 1e-7, 1e-5


def _wide(subject: Subject) -> str | None:
    return None if torch.float64 in subject.dtypes else "derivatives are compared in float64, which is not promised"


def _cases(subject: Subject) -> st.SearchStrategy[Case]:
    if subject.differentiable:
        return strategies.cases(largest_spread=30.0)
    return strategies.cases(largest_spread=12.0, classes=(2, 3, 4))


def _value_at(subject: Subject, logits: Tensor, log_q: Tensor) -> Tensor:
    return value_of(subject)(torch.log_softmax(logits, -1), log_q.clone())


def gradient_of_value(subject: Subject, logits: Tensor, log_q: Tensor) -> Tensor:
    """The gradient of the value in the logits, by autograd or by differences of the fourth order."""
    if subject.differentiable:
        at = logits.clone().requires_grad_()
        (found,) = torch.autograd.grad(_value_at(subject, at, log_q), at)
        return found
    shifts = torch.eye(len(logits), dtype=logits.dtype) * STEP
    steps = (-2, -1, 1, 2)
    values = [torch.stack([_value_at(subject, logits + k * row, log_q) for row in shifts]) for k in steps]
    return ((values[0] - values[3]) + 8 * (values[2] - values[1])) / (12 * STEP)


def _allowed(subject: Subject, case: Case) -> float:
    """A share of the largest weight or value: what the differentiation itself may lose."""
    weights = weight_of(subject)(case.log_p, case.log_q.clone()).detach().abs()
    value = _value_at(subject, case.logits, case.log_q).detach().abs()
    share = BY_AUTOGRAD if subject.differentiable else BY_DIFFERENCES
    finite = torch.cat((weights, value.reshape(1), torch.ones(1, dtype=torch.float64)))
    return share * float(finite[finite.isfinite()].max())


def _away_from_kinks(subject: Subject, case: Case) -> None:
    assume(subject.declaration.smooth or bool(((case.log_p - case.log_q).abs() > 0.05).all()))


@check(_cases, both(with_value, _wide))
def weight_is_gradient_of_value(subject: Subject, case: Case) -> None:
    """The force of the weights, w - p sum(w), is the gradient of the value in the logits."""
    _away_from_kinks(subject, case)
    weights = weight_of(subject)(case.log_p, case.log_q.clone())
    found = weights - case.log_p.exp() * weights.sum(-1, keepdim=True)
    expected = gradient_of_value(subject, case.logits, case.log_q)
    require_close("w - p sum(w)", found, expected, _allowed(subject, case), log_p=case.log_p)


@check(_cases, both(with_force, with_value, _wide))
def force_is_gradient_of_value(subject: Subject, case: Case) -> None:
    """The logit gradient is the gradient of the value in the logits."""
    _away_from_kinks(subject, case)
    found = force_of(subject, case.logits.clone(), case.log_q.clone())
    expected = gradient_of_value(subject, case.logits, case.log_q)
    require_close("logit_gradient", found, expected, _allowed(subject, case))


@check(_cases, with_force)
def force_is_that_of_the_weights(subject: Subject, case: Case) -> None:
    """The logit gradient is w - p sum(w)."""
    dtype = working_dtype(subject)
    case = case.to(dtype)
    found = force_of(subject, case.logits.clone(), case.log_q.clone())
    weights = weight_of(subject)(first_argument("weight", case.logits), case.log_q.clone()).double()
    expected = weights - case.log_p.double().exp() * weights.sum(-1, keepdim=True)
    scale = max(1.0, float(weights.abs().max())) * (100 + float(case.logits.max() - case.logits.min()))
    require_close("logit_gradient", found, expected, 64 * eps(dtype) * scale)


@check(lambda subject: strategies.cases(classes=(3,), largest_spread=10.0), both(with_value, torch_only, _wide))
def force_is_gradient_in_the_image(subject: Subject, case: Case) -> None:
    """Through a classifier, the force is the gradient of the divergence in the image (one vector-Jacobian product)."""
    _away_from_kinks(subject, case)
    if not subject.differentiable:
        return
    image = torch.linspace(-1, 1, 4, dtype=torch.float64).requires_grad_()
    matrix = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)

    def classifier(x: Tensor) -> Tensor:
        return case.logits + torch.tanh(matrix @ x) - torch.tanh(matrix @ image.detach())

    force = force_of(subject, case.logits.clone(), case.log_q.clone()).detach()
    (found,) = torch.autograd.grad(classifier(image), image, force)
    (expected,) = torch.autograd.grad(_value_at(subject, classifier(image), case.log_q), image)
    require_close("the gradient in the image", found, expected, 4 * _allowed(subject, case))
