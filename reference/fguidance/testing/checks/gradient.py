"""The weights and the force are the derivative of the value."""

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import strategies
from fguidance.testing.check import Violation, check
from fguidance.testing.checks._subjects import (
    away_from_kinks,
    away_from_quick_bends,
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
from fguidance.testing.strategies import Case, Pair
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import conditioning, eps, require_close

STEP = 2.0**-17  # a generator may bend within a thousandth of t = 1; differences keep nine digits of 1 even so
FARTHEST = 80.0
MANY = 300
BY_AUTOGRAD, BY_DIFFERENCES = 1e-7, 1e-5


CLASS_BY_CLASS = 1e-10
"""Of f'(p/q), what autograd may lose in a class: a value written in p and q keeps 12 digits."""


def _autograd(subject: Subject) -> str | None:
    return None if subject.differentiable else "autograd does not run"


def _wide(subject: Subject) -> str | None:
    return None if torch.float64 in subject.dtypes else "derivatives are compared in float64, which is not promised"


def _cases(subject: Subject) -> st.SearchStrategy[Case]:
    if subject.differentiable:
        return strategies.cases(largest_spread=FARTHEST, classes=(*strategies.CLASSES, MANY))
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


def _within_range(subject: Subject, case: Case) -> tuple[Case, float]:
    """The case, moved towards p = q until value and weights are finite, and the largest of them and the scale."""
    for share in (1.0, 1 / 8, 1 / 64):
        moved = Case(case.log_q + share * (case.logits - case.log_q), case.log_q, case.kind)
        weights = weight_of(subject)(moved.log_p, moved.log_q.clone()).detach()
        value = _value_at(subject, moved.logits, moved.log_q).detach()
        if bool(weights.isfinite().all()) and bool(value.isfinite()):
            return moved, max(subject.scale, float(weights.abs().max()), float(value.abs()))
    raise Violation("value or weights are not finite even close to p = q", value=value, weights=weights)


def _share(subject: Subject) -> float:
    """What the differentiation itself may lose, as a share of the largest weight or value."""
    return BY_AUTOGRAD if subject.differentiable else BY_DIFFERENCES


@check(_cases, both(with_value, _wide))
def weight_is_gradient_of_value(subject: Subject, case: Case) -> None:
    """The force of the weights, w - p sum(w), is the gradient of the value in the logits."""
    case, size = _within_range(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q)
    weights = weight_of(subject)(case.log_p, case.log_q.clone())
    found = weights - case.log_p.exp() * weights.sum(-1, keepdim=True)
    expected = gradient_of_value(subject, case.logits, case.log_q)
    require_close("w - p sum(w)", found, expected, _share(subject) * size, log_p=case.log_p)


@st.composite
def _far_apart(draw: st.DrawFn) -> Pair:
    """Two distributions with log-ratios of up to 60 of either sign."""
    spread = draw(st.sampled_from((1.0, 4.0, 15.0)))
    steps = st.lists(st.integers(-8, 8), min_size=5, max_size=5)
    first, second = (torch.tensor(draw(steps), dtype=torch.float64) / 4 * spread for _ in range(2))
    return Pair(torch.log_softmax(first, -1), torch.log_softmax(second, -1))


@check(lambda subject: _far_apart(), both(with_value, torch_only, _wide, _autograd))
def weight_is_gradient_in_the_log_probabilities(subject: Subject, pair: Pair) -> None:
    """Class by class, the gradient of the value in log p is the weight, but for one multiple of p for all classes."""
    away_from_kinks(subject, pair.log_p, pair.log_q)
    at = pair.log_p.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value_of(subject)(at, pair.log_q.clone()), at)
    weight = weight_of(subject)(pair.log_p.clone(), pair.log_q.clone()).detach()
    slopes = torch.stack((gradient, weight)) / pair.log_p.exp()
    assume(bool(slopes.isfinite().all()))
    rounding = 64 * eps(torch.float64) / CLASS_BY_CLASS * (pair.log_q - pair.log_p).exp()  # of q, over p
    sizes = slopes.abs().sum(0) + subject.scale * (1 + rounding)
    best = int(sizes.argmin())  # what formulas add to f' for the sake of sum p = 1 shows best where f' is small
    constant = slopes[0, best] - slopes[1, best]
    allowed = CLASS_BY_CLASS * (sizes + sizes[best]) * conditioning(pair.log_p, pair.log_q)
    require_close("the gradient over p, less one constant", slopes[0] - constant, slopes[1], allowed, log_p=pair.log_p)


def _along_a_line(subject: Subject) -> st.SearchStrategy[Case]:
    spread = FARTHEST if subject.differentiable else 12.0
    return strategies.cases(largest_spread=spread, classes=(*strategies.CLASSES, MANY))


@check(_along_a_line, both(with_value, _wide))
def value_changes_as_the_weights_say(subject: Subject, case: Case) -> None:
    """Along a line of logits the value really changes as w - p sum(w) says: a detached term would deceive autograd."""
    case, size = _within_range(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q)
    away_from_quick_bends(subject, case)
    direction = torch.cos(torch.arange(len(case.logits), dtype=torch.float64))
    weights = weight_of(subject)(case.log_p, case.log_q.clone())
    expected = (direction * (weights - case.log_p.exp() * weights.sum(-1, keepdim=True))).sum()
    values = [_value_at(subject, case.logits + k * STEP * direction, case.log_q) for k in (-2, -1, 1, 2)]
    found = ((values[0] - values[3]) + 8 * (values[2] - values[1])) / (12 * STEP)
    require_close("the slope of the value", found, expected, BY_DIFFERENCES * size, direction=direction)


@check(_cases, both(with_force, with_value, _wide))
def force_is_gradient_of_value(subject: Subject, case: Case) -> None:
    """The logit gradient is the gradient of the value in the logits."""
    case, size = _within_range(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q)
    found = force_of(subject, case.logits.clone(), case.log_q.clone())
    expected = gradient_of_value(subject, case.logits, case.log_q)
    require_close("logit_gradient", found, expected, _share(subject) * size)


def _of_few_or_many(subject: Subject) -> st.SearchStrategy[Case]:
    spread = FARTHEST if subject.differentiable else 12.0
    return strategies.cases(working_dtype(subject), spread, classes=(*strategies.CLASSES, 11, MANY))


@check(_of_few_or_many, with_force)
def force_is_that_of_the_weights(subject: Subject, case: Case) -> None:
    """The logit gradient is w - p sum(w)."""
    away_from_quick_bends(subject, case)
    dtype = case.logits.dtype
    found = force_of(subject, case.logits.clone(), case.log_q.clone())
    weights = weight_of(subject)(first_argument("weight", case.logits), case.log_q.clone()).double()
    if not bool(weights.isfinite().all()):
        return  # beyond the range of the dtype there is nothing to compare
    expected = weights - case.log_p.double().exp() * weights.sum(-1, keepdim=True)
    scale = max(subject.scale, float(weights.abs().max())) * (100 + float(case.logits.max() - case.logits.min()))
    require_close("logit_gradient", found, expected, 64 * eps(dtype) * scale)


@check(
    lambda subject: strategies.cases(classes=(3,), largest_spread=10.0),
    both(with_value, torch_only, _wide, _autograd),
)
def force_is_gradient_in_the_image(subject: Subject, case: Case) -> None:
    """Through a classifier, the force is the gradient of the divergence in the image (one vector-Jacobian product)."""
    case, size = _within_range(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q)
    image = torch.linspace(-1, 1, 4, dtype=torch.float64).requires_grad_()
    matrix = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)

    def classifier(x: Tensor) -> Tensor:
        return case.logits + torch.tanh(matrix @ x) - torch.tanh(matrix @ image.detach())

    force = force_of(subject, case.logits.clone(), case.log_q.clone()).detach()
    (found,) = torch.autograd.grad(classifier(image), image, force)
    (expected,) = torch.autograd.grad(_value_at(subject, classifier(image), case.log_q), image)
    require_close("the gradient in the image", found, expected, 4 * _share(subject) * size)
