"""The weights and the force are the derivative of the value."""

import functools
import math
from collections.abc import Callable

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import strategies
from fguidance.testing.check import check
from fguidance.testing.checks import common
from fguidance.testing.checks.common import away_from_kinks, single_or_double, torch_only, with_force, with_value
from fguidance.testing.strategies import Case, Pair
from fguidance.testing.subject import Subject, force_of_weights
from fguidance.testing.tolerance import Violation, conditioning, eps, require_close, rounding_of_parts, smallest

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


def _far_cases(subject: Subject, classes: tuple[int, ...]) -> common.Cases:
    farthest, target = FARTHEST.get(subject.widest, (8.0, 6.0))
    return strategies.cases(subject.widest, farthest, classes=classes, largest_target_spread=target)


def _cases(subject: Subject) -> common.Cases:
    return _far_cases(subject, (*strategies.CLASSES, MANY) if subject.differentiable else (2, 3, 4))


def _of_few_or_many(subject: Subject) -> common.Cases:
    return _far_cases(subject, (*strategies.CLASSES, 11, MANY))


def _value_at(subject: Subject, logits: Tensor, log_q: Tensor) -> Tensor:
    return subject.value(torch.log_softmax(logits, -1), log_q.clone())


def _weights(subject: Subject, case: Case) -> Tensor:
    return subject.weight(case.log_p, case.log_q.clone()).detach()


def _gradient_of_value(subject: Subject, case: Case, finer: float) -> Tensor:
    """The gradient of the value in the logits, by autograd or by differences of the fourth order."""
    if subject.differentiable:
        at = case.logits.clone().requires_grad_()
        (found,) = torch.autograd.grad(UPSTREAM * _value_at(subject, at, case.log_q), at)
        return found / UPSTREAM
    rows = torch.eye(len(case.logits), dtype=case.logits.dtype)
    return torch.stack([_slope_along(subject, case, row, finer) for row in rows])


def _slope_along(subject: Subject, case: Case, direction: Tensor, finer: float) -> Tensor:
    """The derivative of the value along a line of logits, by differences of the fourth order."""
    step = STEP[case.logits.dtype] / finer
    values = [_value_at(subject, case.logits + k * step * direction, case.log_q) for k in (-2, -1, 1, 2)]
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
    for share in (1.0, 1 / 8, 1 / 64):
        nearer = _moved(case, share) if share < 1 else case
        largest = _size(subject, nearer)
        if largest < math.inf:
            if share < 1:
                _require_a_reason(subject, case, share)
            return nearer, largest
    raise Violation("value or weights are not finite even close to p = q", log_p=nearer.log_p, log_q=nearer.log_q)


def _moved(case: Case, share: float) -> Case:
    return Case(case.log_q + share * (case.logits - case.log_q), case.log_q, case.kind)


def _size(subject: Subject, case: Case) -> float:
    """The largest of weights, value and scale; infinite where one of them is no number."""
    numbers = torch.cat((_weights(subject, case), _value_at(subject, case.logits, case.log_q).detach().flatten()))
    return max(subject.scale, float(numbers.abs().max())) if bool(numbers.isfinite().all()) else math.inf


def _require_a_reason(subject: Subject, case: Case, inside: float, outside: float = 1.0) -> None:
    """Raise `Violation` where value or weights become infinite without having grown large."""
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if _size(subject, _moved(case, middle)) < math.inf else (inside, middle)
    last, beyond = _moved(case, inside), _moved(case, outside)
    largest = _size(subject, last)
    if largest < torch.finfo(case.logits.dtype).max ** LARGE:
        raise Violation(
            f"value or weights are not finite where a little closer to p = q they are {largest:.3g} at most",
            log_p=beyond.log_p, log_q=beyond.log_q, log_p_a_little_closer=last.log_p,
            value=_value_at(subject, beyond.logits, beyond.log_q), weights=_weights(subject, beyond),
        )  # fmt: skip


def _reach(subject: Subject, case: Case) -> float:
    """How far in the log-ratios the derivative looks."""
    return 0.0 if subject.differentiable else 4 * STEP[case.logits.dtype]


def _derivative(subject: Subject) -> str | None:
    """In half precision by autograd, with what digits there are; differences need more of them."""
    return None if subject.differentiable else single_or_double(subject)


def _share(subject: Subject) -> float:
    """What the differentiation itself may lose, as a share of the largest weight or value."""
    return (BY_AUTOGRAD if subject.differentiable else BY_DIFFERENCES)[subject.widest]


def _require_gradient(subject: Subject, case: Case, what: str, force: Callable[[Case, Tensor], Tensor]) -> None:
    """Require that a force, of a case and its weights, is the gradient of the value in the logits."""
    case, size = _within_range(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q, _reach(subject, case))
    weights = _weights(subject, case)
    if case.logits.dtype.itemsize > 2:
        allowed: Tensor | float = _share(subject) * size
    else:
        rounding = rounding_of_parts("logit_gradient", case.logits, case.log_q, weights, ULPS, scale=subject.scale)
        allowed = rounding + smallest(case.logits.dtype)
    gradient = functools.partial(_gradient_of_value, subject, case)
    _require_derivative(what, force(case, weights), gradient, allowed, log_p=case.log_p)


@check(_cases, with_value, _derivative)
def weight_is_gradient_of_value(subject: Subject, case: Case) -> None:
    """The force of the weights, w - p sum(w), is the gradient of the value in the logits."""
    _require_gradient(subject, case, "w - p sum(w)", lambda case, weights: force_of_weights(case.log_p, weights))


@check(_cases, with_force, with_value, _derivative)
def force_is_gradient_of_value(subject: Subject, case: Case) -> None:
    """The logit gradient is the gradient of the value in the logits."""
    _require_gradient(subject, case, "logit_gradient", lambda case, _: subject.force(case.logits.clone(), case.log_q))


def _far_apart(_: Subject) -> st.SearchStrategy[Pair]:
    """Two distributions over five classes with log-ratios of up to 60 of either sign."""

    def made(spread: float, seed: int) -> Pair:
        dice = strategies.Dice(seed)
        log_p, log_q = (torch.log_softmax(dice.spread(5, 2 * spread, 8), -1) for _ in range(2))
        return Pair(log_p, log_q)

    return st.builds(made, st.sampled_from((1.0, 4.0, 15.0)), strategies.SEEDS)


@check(_far_apart, with_value, torch_only, common.in_double, common.autograd_runs)
def weight_is_gradient_in_the_log_probabilities(subject: Subject, pair: Pair) -> None:
    """Class by class, the gradient of the value in log p is the weight, but for one multiple of p for all classes."""
    away_from_kinks(subject, pair.log_p, pair.log_q)
    at = pair.log_p.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(subject.value(at, pair.log_q.clone()), at)
    weight = subject.weight(pair.log_p.clone(), pair.log_q.clone()).detach()
    slopes = torch.stack((gradient, weight)) / pair.log_p.exp()
    assume(bool(slopes.isfinite().all()))
    rounding = 64 * eps(torch.float64) / CLASS_BY_CLASS * (pair.log_q - pair.log_p).exp()  # of q, over p
    sizes = slopes.abs().sum(0) + subject.scale * (1 + rounding)
    best = int(sizes.argmin())  # what formulas add to f' for the sake of sum p = 1 shows best where f' is small
    constant = slopes[0, best] - slopes[1, best]
    allowed = CLASS_BY_CLASS * (sizes + sizes[best]) * conditioning(pair.log_p, pair.log_q)
    require_close("the gradient over p, less one constant", slopes[0] - constant, slopes[1], allowed, log_p=pair.log_p)


@check(_of_few_or_many, with_value, single_or_double)
def value_changes_as_the_weights_say(subject: Subject, case: Case) -> None:
    """Along a line of logits the value really changes as w - p sum(w) says: a detached term would deceive autograd."""
    case, size = _within_range(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q, 4 * STEP[case.logits.dtype])
    common.away_from_quick_bends(subject, case)
    direction = torch.cos(torch.arange(len(case.logits), dtype=case.logits.dtype))
    expected = (direction * force_of_weights(case.log_p, _weights(subject, case))).sum()
    slope = functools.partial(_slope_along, subject, case, direction)
    allowed = BY_DIFFERENCES[case.logits.dtype] * size
    _require_derivative("w - p sum(w) along a line", expected, slope, allowed, direction=direction)


@check(_of_few_or_many, with_force)
def force_is_that_of_the_weights(subject: Subject, case: Case) -> None:
    """The logit gradient is w - p sum(w)."""
    away_from_kinks(subject, case.log_p, case.log_q)
    common.away_from_quick_bends(subject, case)
    found = subject.force(case.logits.clone(), case.log_q)
    weights = subject.weight(common.first_argument("weight", case.logits), case.log_q.clone()).double()
    if not bool(weights.isfinite().all()):
        return  # beyond the range of the dtype there is nothing to compare
    scale = max(subject.scale, float(weights.abs().max())) * (100 + float(case.logits.max() - case.logits.min()))
    expected = force_of_weights(case.log_p.double(), weights)
    require_close("logit_gradient", found, expected, 64 * eps(case.logits.dtype) * scale)


@check(
    lambda subject: strategies.cases(subject.widest, classes=(3,), largest_spread=10.0),
    with_value, torch_only, single_or_double, common.autograd_runs, share=0.3,
)  # fmt: skip
def force_is_gradient_in_the_image(subject: Subject, case: Case) -> None:
    """Through a classifier, the force is the gradient of the divergence in the image (one vector-Jacobian product)."""
    case, size = _within_range(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q)
    image = torch.linspace(-1, 1, 4, dtype=case.logits.dtype).requires_grad_()
    matrix = torch.linspace(-1, 1, 12, dtype=case.logits.dtype).reshape(3, 4)

    def classifier(x: Tensor) -> Tensor:
        return case.logits + torch.tanh(matrix @ x) - torch.tanh(matrix @ image.detach())

    logits = classifier(image)  # part of a graph, which the force must leave as it is
    force = subject.force(logits, case.log_q).detach()
    (found,) = torch.autograd.grad(logits, image, force)
    if image.grad is not None:
        raise Violation("logit_gradient calls backward: it leaves gradients in the classifier")
    (expected,) = torch.autograd.grad(_value_at(subject, classifier(image), case.log_q), image)
    require_close("the gradient in the image", found, expected, 4 * _share(subject) * size)
