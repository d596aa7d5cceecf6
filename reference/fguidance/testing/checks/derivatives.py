"""The weights and the force are the derivative of the value: by autograd, by differences, and in themselves."""

import functools
import math
from collections.abc import Callable

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import strategies, tolerance
from fguidance.testing.check import check
from fguidance.testing.checks import common
from fguidance.testing.checks.common import away_from_kinks, single_or_double, torch_only, with_force, with_value
from fguidance.testing.strategies import CLASSES, MANY_CLASSES, Case, Pair
from fguidance.testing.subject import Subject, force_of_weights
from fguidance.testing.tolerance import Violation, conditioning, eps, require_close, rounding_of_parts, smallest

ULPS = 8.0
"""Per step, in which a dtype may differ from a wider one, and where half precision leaves no more."""
WANTED = {"the first argument wants": (True, False), "the target wants": (False, True), "both want": (True, True)}
STEPS = {torch.float64: (1e-3, 1e-4, 1e-5), torch.float32: (2.0**-4, 2.0**-7)}
"""Of the largest logit; a shorter one decides where the divergence is curved and the force is small."""
STEP = {torch.float64: 2.0**-17, torch.float32: 2.0**-5}
"""A generator may bend within a thousandth of t = 1; differences of double precision keep nine digits of 1 even so."""
FARTHEST = {torch.float64: (130.0, 110.0), torch.float32: (35.0, 12.0)}
"""How far logits and targets are spread: losses are known that clamp a logarithm at -100, and ratios at 30 or 88."""
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

_meant_for_autograd = common.needs(
    lambda subject: subject.declaration.differentiable, "it is declared not to be differentiable"
)
DIFFERENTIABLE = (with_value, torch_only, _meant_for_autograd, common.autograd_runs)


def _value_at(subject: Subject, logits: Tensor, log_q: Tensor) -> Tensor:
    return subject.value(torch.log_softmax(logits, -1), log_q.clone())


def _weights(subject: Subject, case: Case) -> Tensor:
    return subject.weight(case.log_p, case.log_q.clone()).detach()


@check(common.with_leading_axes, torch_only, share=0.3)
def recording_gradients_changes_nothing(subject: Subject, example: common.Example) -> None:
    """The same numbers come out under torch.no_grad, and where the logits or the target want a gradient."""
    for name, function in subject.parts.items():
        plain = function(*common.repeated(name, *example)).detach()
        with torch.no_grad():
            found = function(*common.repeated(name, *example))
        common.require_same(subject, f"{name} under torch.no_grad", found, plain, 16)
        for what, recorded in WANTED.items():
            pairs = zip(common.repeated(name, *example), recorded, strict=True)
            given = [one.requires_grad_(wanted) for one, wanted in pairs]
            common.require_same(subject, f"{name} where {what} a gradient", function(*given), plain, 16)
            if any(one.grad is not None for one in given):
                raise Violation(f"{name} calls backward: it leaves a gradient in its input")


@check(common.wide_cases, with_value, torch_only, _meant_for_autograd, share=0.4)
def autograd_runs_through_the_value(subject: Subject, case: Case) -> None:
    """A value in PyTorch is part of the graph of its logits; declare differentiable=False where that is not meant."""
    if not _value_at(subject, case.logits.clone().requires_grad_(), case.log_q).requires_grad:
        raise Violation("the value is cut off from the graph: a loss made of it trains nothing")


def _gradient(subject: Subject, logits: Tensor, log_q: Tensor) -> Tensor:
    """The gradient of the values, summed."""
    at = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(_value_at(subject, at, log_q).sum(), at)
    return found


def _gradient_under_way(subject: Subject, logits: Tensor, log_q: Tensor, upstream: Tensor) -> Tensor:
    """The gradient of `upstream` times the values, over `upstream`.

    What comes from above is not 1, and another value is asked for before: a gradient written by hand may forget to
    hand it on, or what the value was of.
    """
    at = logits.clone().requires_grad_()
    values = _value_at(subject, at, log_q)
    _value_at(subject, logits.flip(-1), log_q.roll(1, -1))
    (found,) = torch.autograd.grad(values, at, upstream)
    return found / upstream[..., None]


@check(common.in_dtypes, *DIFFERENTIABLE, share=0.6)
def autograd_agrees_in_every_dtype(subject: Subject, case: Case) -> None:
    """The gradient of the value in every promised dtype is that in the widest, to its own rounding."""
    wide, dtype = subject.widest, case.logits.dtype
    away_from_kinks(subject, case.log_p, case.log_q)
    weight = subject.weight(case.log_p.to(wide), case.log_q.to(wide)).detach()
    if not float(weight.abs().max()) < torch.finfo(dtype).max / 2**10:
        return  # beyond the range of the dtype there is no gradient
    found = _gradient_under_way(subject, case.logits, case.log_q, torch.tensor(2.0, dtype=dtype))
    expected = _gradient(subject, case.logits.to(wide), case.log_q.to(wide))
    rounding = rounding_of_parts("logit_gradient", case.logits, case.log_q, weight, ULPS, scale=subject.scale)
    further = tolerance.further(case.log_p, case.log_q).to(wide)
    moved = functools.partial(_gradient, subject, case.logits.to(wide), further)
    what = f"the gradient of the value in {dtype}"
    tolerance.require_close_if_steep(what, found, expected, rounding + smallest(dtype), moved)


@check(common.in_dtypes, *DIFFERENTIABLE, share=0.4)
def autograd_gives_no_nan_at_equality(subject: Subject, case: Case) -> None:
    """At p = q, where roots of squares have no derivative, the gradient of the value is a number."""
    at = case.log_q.clone().requires_grad_()
    (found,) = torch.autograd.grad(subject.value(at, case.log_q.clone()), at)
    if bool(found.isnan().any()):
        raise Violation("the gradient of the value holds NaN where p = q", log_q=case.log_q, found=found)


@check(common.rows_of_two, *DIFFERENTIABLE, share=0.4)
def autograd_of_a_batch_is_that_of_its_members(subject: Subject, example: tuple[common.Two, int]) -> None:
    """The gradient of a weighted sum of the values of a batch is, row by row, what autograd gives for each alone."""
    logits, log_q = common.as_batch("logit_gradient", *example)
    away_from_kinks(subject, torch.log_softmax(logits, -1), log_q)
    upstream = torch.tensor([61.37, -1.083, 0.517]).repeat(len(logits))[: len(logits)].to(logits.dtype)
    kept, some = upstream.clone(), common.some_rows(logits)
    found = _gradient_under_way(subject, logits, log_q, upstream)[some]
    if not torch.equal(kept, upstream):
        raise Violation("the gradient writes over what it is multiplied by", before=kept, after=upstream)
    alone = torch.stack([_gradient(subject, *row) for row in zip(logits[some], log_q[some], strict=True)])
    finite = alone.isfinite()  # beyond the range of the dtype there is nothing to compare
    weights = subject.weight(torch.log_softmax(logits, -1), log_q.clone())  # of which the gradients may be far less
    allowed = 64 * eps(found.dtype) * (common.size_of(subject, alone) + common.size_of(subject, weights))
    require_close("the gradient of a batch", found[finite], alone[finite], allowed)


def _in_full(subject: Subject) -> common.Cases:
    return common.in_full(subject, lambda dtype: strategies.cases(dtype, 20.0))


def _size_of_forces(subject: Subject, case: Case) -> float:
    """The size of the weights, and of what rounding the logits does to them."""
    weights = _weights(subject, case).double().abs()
    largest = float(max([subject.scale, *weights[weights.isfinite()].tolist()]))
    return largest * (1 + 2 * float(case.logits.abs().max()))


@check(lambda subject: common.wide_cases(subject, classes=(2, 3, 10, MANY_CLASSES)), with_force, share=0.5)
def force_sums_to_zero(subject: Subject, case: Case) -> None:
    """The components of the logit gradient sum to 0."""
    away_from_kinks(subject, case.log_p, case.log_q)
    force = subject.force(case.logits.clone(), case.log_q).detach().double()
    weights = _weights(subject, case).double()
    if not bool(weights.isfinite().all() and force.isfinite().all()):
        return  # beyond the range of the dtype there is no sum
    sizes = float(force.abs().sum() + weights.abs().sum())
    allowed = eps(case.logits.dtype) * (64 * _size_of_forces(subject, case) + 16 * sizes)
    require_close("the sum of the force", force.sum(), torch.zeros(()), allowed, force=force)


@check(_in_full, with_force, share=0.5)
def force_ignores_a_shift(subject: Subject, case: Case) -> None:
    """Adding 64 to every logit, or taking it from them, changes no force."""
    rounded = ((case.logits.double() * 2**10).round() / 2**10).to(case.logits.dtype)
    moved = Case(rounded, case.log_q, case.kind)
    away_from_kinks(subject, moved.log_p, case.log_q)
    here = subject.force(rounded.clone(), case.log_q)
    size = _size_of_forces(subject, moved) + 2 * float(rounded.abs().max() + 64)
    for shift in (64, -64):
        there = subject.force(rounded + shift, case.log_q)
        allowed = 256 * eps(case.logits.dtype) * size
        require_close(f"the force after a shift by {shift}", there, here, allowed, unshifted=rounded)


@check(_in_full, share=0.5)
def classes_may_be_permuted(subject: Subject, case: Case) -> None:
    """Numbering the classes otherwise changes no value, and moves weights and forces along."""
    allowed = 256 * eps(case.logits.dtype) * _size_of_forces(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q)
    for name, function in subject.parts.items():
        here = function(*common.repeated(name, case))
        there = function(*(argument.flip(-1) for argument in common.repeated(name, case)))
        require_close(f"{name} with the classes reversed", there if name == "value" else there.flip(-1), here, allowed)


def _moderate(subject: Subject) -> common.Cases:
    return common.wide_cases(subject, 8.0, kinds=("ordinary", "tied", *common.ONE_HOT), classes=(2, 3, 5))


@check(_moderate, with_value, single_or_double)
def a_step_against_the_force_lowers_the_value(subject: Subject, case: Case) -> None:
    """A small step of the logits along minus the force lowers the divergence."""
    away_from_kinks(subject, case.log_p, case.log_q)
    assume(bool((case.log_p - case.log_q).abs().max() > 0.05))
    force = subject.force(case.logits.clone(), case.log_q)
    largest = float(force.detach().abs().max())
    before = float(subject.value(case.log_p, case.log_q.clone()))
    steps, dtype = STEPS[case.logits.dtype], case.logits.dtype
    sizes = (case.log_p.double().exp() + case.log_q.double().exp()) * conditioning(case.log_p, case.log_q)
    rounding = 4 * eps(dtype) * (subject.scale * float(sizes.sum()) + before)
    assume(rounding / steps[-1] < largest < torch.inf)
    for step in steps:
        after = float(_value_at(subject, case.logits - step * force / largest, case.log_q))
        if after < before:
            return
    message = f"the divergence goes from {before:.9g} to {after:.9g} along a step of length {step:.1g}"
    raise Violation(message, force=force, before=before, after=after)


def _far_cases(subject: Subject, classes: tuple[int, ...] = (*CLASSES, 11, MANY)) -> common.Cases:
    farthest, target = FARTHEST.get(subject.widest, (8.0, 6.0))
    return strategies.cases(subject.widest, farthest, classes=classes, largest_target_spread=target)


def _cases(subject: Subject) -> common.Cases:
    return _far_cases(subject, (*CLASSES, MANY) if subject.differentiable else (2, 3, 4))


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


def _can_be_differentiated(subject: Subject) -> str | None:
    """In half precision by autograd, with what digits there are; differences need more of them."""
    return None if subject.differentiable else single_or_double(subject)


def _share(subject: Subject) -> float:
    """What the differentiation itself may lose, as a share of the largest weight or value."""
    return (BY_AUTOGRAD if subject.differentiable else BY_DIFFERENCES)[subject.widest]


def _require_gradient(subject: Subject, case: Case, what: str, force: Callable[[Case, Tensor], Tensor]) -> None:
    """Require that a force, of a case and its weights, is the gradient of the value in the logits."""
    case, size = _within_range(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q, 0.0 if subject.differentiable else 4 * STEP[case.logits.dtype])
    weights = _weights(subject, case)
    if case.logits.dtype.itemsize > 2:
        allowed: Tensor | float = _share(subject) * size
    else:
        rounding = rounding_of_parts("logit_gradient", case.logits, case.log_q, weights, ULPS, scale=subject.scale)
        allowed = rounding + smallest(case.logits.dtype)
    gradient = functools.partial(_gradient_of_value, subject, case)
    _require_derivative(what, force(case, weights), gradient, allowed, log_p=case.log_p)


@check(_cases, with_value, _can_be_differentiated)
def weight_is_gradient_of_value(subject: Subject, case: Case) -> None:
    """The force of the weights, w - p sum(w), is the gradient of the value in the logits."""
    _require_gradient(subject, case, "w - p sum(w)", lambda case, weights: force_of_weights(case.log_p, weights))


@check(_cases, with_force, with_value, _can_be_differentiated)
def force_is_gradient_of_value(subject: Subject, case: Case) -> None:
    """The logit gradient is the gradient of the value in the logits."""
    _require_gradient(subject, case, "logit_gradient", lambda case, _: subject.force(case.logits.clone(), case.log_q))


def _far_apart(_: Subject) -> st.SearchStrategy[Pair]:
    """Two distributions over five classes with log-ratios of up to 60 of either sign."""

    def made(spread: float, seed: int) -> Pair:
        dice = strategies.Dice(seed)
        return Pair(*(torch.log_softmax(dice.spread(5, 2 * spread, 8), -1) for _ in range(2)))

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


@check(_far_cases, with_value, single_or_double)
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


@check(_far_cases, with_force)
def force_is_that_of_the_weights(subject: Subject, case: Case) -> None:
    """The logit gradient is w - p sum(w)."""
    away_from_kinks(subject, case.log_p, case.log_q)
    common.away_from_quick_bends(subject, case)
    found, weights = subject.force(case.logits.clone(), case.log_q), _weights(subject, case).double()
    if not bool(weights.isfinite().all()):
        return  # beyond the range of the dtype there is nothing to compare
    size = max(subject.scale, float(weights.abs().max())) * (100 + float(case.logits.max() - case.logits.min()))
    expected = force_of_weights(case.log_p.double(), weights)
    require_close("logit_gradient", found, expected, 64 * eps(case.logits.dtype) * size)


@check(
    lambda subject: common.wide_cases(subject, 10.0, classes=(3,)),
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
