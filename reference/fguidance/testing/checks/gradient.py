"""The weights and the force are the derivative of the value."""

import functools
import math
from collections.abc import Callable

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
    single_or_double,
    torch_only,
    value_of,
    weight_of,
    with_force,
    with_value,
    working_dtype,
)  # fmt: skip
from fguidance.testing.strategies import Case, Pair
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import conditioning, eps, require_close, rounding_of_parts, smallest

STEP = {torch.float64: 2.0**-17, torch.float32: 2.0**-5}
"""A generator may bend within a thousandth of t = 1; differences of double precision keep nine digits of 1 even so."""
FARTHEST = {torch.float64: (130.0, 110.0), torch.float32: (35.0, 12.0)}
"""How far logits and targets are spread: losses are known that clamp a logarithm at -100, and ratios at 30 or 88."""
ULPS = 8.0
"""Per step, where half precision leaves no more."""
UPSTREAM = 61.37
"""What a gradient of the value is multiplied by, as one written by hand must hand it on, and one clipped is seen."""
MANY = 300
BY_AUTOGRAD = {torch.float64: 1e-7, torch.float32: 3e-4}
BY_DIFFERENCES = {torch.float64: 1e-7, torch.float32: 2e-3}
"""What differentiation may lose, as a share of the largest weight or value."""
BISECTIONS, LARGE = 40, 0.25
"""How closely the place is looked for where something becomes infinite; by then it is more than max^0.25, or wrong."""
CLASS_BY_CLASS = 1e-10
"""Of f'(p/q), what autograd may lose in a class: a value written in p and q keeps 12 digits."""


def _autograd(subject: Subject) -> str | None:
    return None if subject.differentiable else "autograd does not run"


def _wide(subject: Subject) -> str | None:
    return None if torch.float64 in subject.dtypes else "it needs float64, which is not promised"


def _far_cases(subject: Subject, classes: tuple[int, ...]) -> st.SearchStrategy[Case]:
    dtype = working_dtype(subject)
    farthest, target = FARTHEST.get(dtype, (8.0, 6.0))
    return strategies.cases(dtype, farthest, classes=classes, largest_target_spread=target)


def _cases(subject: Subject) -> st.SearchStrategy[Case]:
    return _far_cases(subject, (*strategies.CLASSES, MANY) if subject.differentiable else (2, 3, 4))


def _value_at(subject: Subject, logits: Tensor, log_q: Tensor) -> Tensor:
    return value_of(subject)(torch.log_softmax(logits, -1), log_q.clone())


def gradient_of_value(subject: Subject, logits: Tensor, log_q: Tensor, finer: float = 1.0) -> Tensor:
    """The gradient of the value in the logits, by autograd or by differences of the fourth order."""
    if subject.differentiable:
        at = logits.clone().requires_grad_()
        value = _value_at(subject, at, log_q)
        (found,) = torch.autograd.grad(UPSTREAM * value, at)
        return found / UPSTREAM
    rows = torch.eye(len(logits), dtype=logits.dtype)
    return torch.stack([_slope_along(subject, logits, log_q, row, finer) for row in rows])


def _slope_along(subject: Subject, logits: Tensor, log_q: Tensor, direction: Tensor, finer: float = 1.0) -> Tensor:
    """The derivative of the value along a line of logits, by differences of the fourth order."""
    step = STEP[logits.dtype] / finer
    values = [_value_at(subject, logits + k * step * direction, log_q) for k in (-2, -1, 1, 2)]
    return ((values[0] - values[3]) + 8 * (values[2] - values[1])) / (12 * step)


def _require_derivative(
    what: str, found: Tensor, derivative: Callable[[float], Tensor], allowed: Tensor | float, **evidence: object
) -> None:
    """Compare with a derivative by steps, and by steps an eighth as long where those are too coarse for a jump of f''.

    `derivative` takes how many times finer the steps are.
    """
    try:
        require_close(what, found, derivative(1.0), allowed, **evidence)
    except Violation:
        require_close(what, found, derivative(8.0), allowed, **evidence)


def _within_range(subject: Subject, case: Case) -> tuple[Case, float]:
    """The case, moved towards p = q until value and weights are finite, and the largest of them and the scale."""
    largest = _size(subject, case)
    if largest < math.inf:
        return case, largest
    for share in (1 / 8, 1 / 64):
        nearer = _moved(case, share)
        largest = _size(subject, nearer)
        if largest < math.inf:
            _require_a_reason(subject, case, share)
            return nearer, largest
    raise Violation("value or weights are not finite even close to p = q", log_p=nearer.log_p, log_q=nearer.log_q)


def _moved(case: Case, share: float) -> Case:
    return Case(case.log_q + share * (case.logits - case.log_q), case.log_q, case.kind)


def _size(subject: Subject, case: Case) -> float:
    """The largest of weights, value and scale; infinite where one of them is no number."""
    weights = weight_of(subject)(case.log_p, case.log_q.clone()).detach()
    value = _value_at(subject, case.logits, case.log_q).detach()
    if not (bool(weights.isfinite().all()) and bool(value.isfinite())):
        return math.inf
    return max(subject.scale, float(weights.abs().max()), float(value.abs()))


def _require_a_reason(subject: Subject, case: Case, inside: float, outside: float = 1.0) -> None:
    """Raise `Violation` where value or weights become infinite without having grown large."""
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if _size(subject, _moved(case, middle)) < math.inf else (inside, middle)
    last, largest = _moved(case, inside), _size(subject, _moved(case, inside))
    if largest < torch.finfo(case.logits.dtype).max ** LARGE:
        beyond = _moved(case, outside)
        weights = weight_of(subject)(beyond.log_p, beyond.log_q.clone()).detach()
        value = _value_at(subject, beyond.logits, beyond.log_q).detach()
        raise Violation(
            f"value or weights are not finite where a little closer to p = q they are {largest:.3g} at most",
            log_p=beyond.log_p, log_q=beyond.log_q, log_p_a_little_closer=last.log_p, value=value, weights=weights,
        )  # fmt: skip


def _reach(subject: Subject, case: Case) -> float:
    """How far in the log-ratios the derivative looks."""
    return 0.0 if subject.differentiable else 4 * STEP[case.logits.dtype]


def _derivative(subject: Subject) -> str | None:
    """In half precision by autograd, with what digits there are; differences need more of them."""
    return None if subject.differentiable else single_or_double(subject)


def _allowed(subject: Subject, case: Case, weights: Tensor, size: float) -> Tensor | float:
    if case.logits.dtype.itemsize > 2:
        return _share(subject) * size
    rounding = rounding_of_parts("logit_gradient", case.logits, case.log_q, weights.detach(), ULPS, scale=subject.scale)
    return rounding + smallest(case.logits.dtype)


def _share(subject: Subject) -> float:
    """What the differentiation itself may lose, as a share of the largest weight or value."""
    return (BY_AUTOGRAD if subject.differentiable else BY_DIFFERENCES)[working_dtype(subject)]


@check(_cases, both(with_value, _derivative))
def weight_is_gradient_of_value(subject: Subject, case: Case) -> None:
    """The force of the weights, w - p sum(w), is the gradient of the value in the logits."""
    case, size = _within_range(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q, _reach(subject, case))
    weights = weight_of(subject)(case.log_p, case.log_q.clone())
    found = weights - case.log_p.exp() * weights.sum(-1, keepdim=True)
    gradient = functools.partial(gradient_of_value, subject, case.logits, case.log_q)
    _require_derivative("w - p sum(w)", found, gradient, _allowed(subject, case, weights, size), log_p=case.log_p)


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


def _of_few_or_many(subject: Subject) -> st.SearchStrategy[Case]:
    return _far_cases(subject, (*strategies.CLASSES, 11, MANY))


@check(_of_few_or_many, both(with_value, single_or_double))
def value_changes_as_the_weights_say(subject: Subject, case: Case) -> None:
    """Along a line of logits the value really changes as w - p sum(w) says: a detached term would deceive autograd."""
    case, size = _within_range(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q, 4 * STEP[case.logits.dtype])
    away_from_quick_bends(subject, case)
    direction = torch.cos(torch.arange(len(case.logits), dtype=case.logits.dtype))
    weights = weight_of(subject)(case.log_p, case.log_q.clone())
    expected = (direction * (weights - case.log_p.exp() * weights.sum(-1, keepdim=True))).sum()
    slope = functools.partial(_slope_along, subject, case.logits, case.log_q, direction)
    allowed = BY_DIFFERENCES[case.logits.dtype] * size
    _require_derivative("w - p sum(w) along a line", expected, slope, allowed, direction=direction)


@check(_cases, both(with_force, with_value, _derivative))
def force_is_gradient_of_value(subject: Subject, case: Case) -> None:
    """The logit gradient is the gradient of the value in the logits."""
    case, size = _within_range(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q, _reach(subject, case))
    found = force_of(subject, case.logits.clone(), case.log_q.clone())
    gradient = functools.partial(gradient_of_value, subject, case.logits, case.log_q)
    weights = weight_of(subject)(case.log_p, case.log_q.clone())
    _require_derivative("logit_gradient", found, gradient, _allowed(subject, case, weights, size))


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
    lambda subject: strategies.cases(working_dtype(subject), classes=(3,), largest_spread=10.0),
    both(with_value, torch_only, single_or_double, _autograd),
)
def force_is_gradient_in_the_image(subject: Subject, case: Case) -> None:
    """Through a classifier, the force is the gradient of the divergence in the image (one vector-Jacobian product)."""
    case, size = _within_range(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q)
    image = torch.linspace(-1, 1, 4, dtype=case.logits.dtype).requires_grad_()
    matrix = torch.linspace(-1, 1, 12, dtype=case.logits.dtype).reshape(3, 4)

    def classifier(x: Tensor) -> Tensor:
        return case.logits + torch.tanh(matrix @ x) - torch.tanh(matrix @ image.detach())

    logits = classifier(image)  # part of a graph, which the force must leave as it is
    force = force_of(subject, logits, case.log_q.clone()).detach()
    (found,) = torch.autograd.grad(logits, image, force)
    if image.grad is not None:
        raise Violation("logit_gradient calls backward: it leaves gradients in the classifier")
    (expected,) = torch.autograd.grad(_value_at(subject, classifier(image), case.log_q), image)
    require_close("the gradient in the image", found, expected, 4 * _share(subject) * size)
