"""What a force on logits is like, whatever the divergence."""

import torch
from hypothesis import assume

from fguidance.testing import strategies
from fguidance.testing.check import check
from fguidance.testing.checks import common
from fguidance.testing.checks.common import away_from_kinks, first_argument, single_or_double, with_force, with_value
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import Violation, conditioning, eps, require_close

STEPS = {torch.float64: (1e-3, 1e-4, 1e-5), torch.float32: (2.0**-4, 2.0**-7)}
"""Of the largest logit; a shorter one decides where the divergence is curved and the force is small."""


def _cases(subject: Subject) -> common.Cases:
    return common.in_full(subject, lambda dtype: strategies.cases(dtype, 20.0))


def _scale(subject: Subject, case: Case) -> float:
    """The size of the weights, and of what rounding the logits does to them."""
    weights = subject.weight(first_argument("weight", case.logits), case.log_q.clone()).detach().double().abs()
    largest = float(max([subject.scale, *weights[weights.isfinite()].tolist()]))
    return largest * (1 + 2 * float(case.logits.abs().max()))


@check(lambda subject: common.wide_cases(subject, classes=(2, 3, 10, strategies.MANY_CLASSES)), with_force, share=0.5)
def force_sums_to_zero(subject: Subject, case: Case) -> None:
    """The components of the logit gradient sum to 0."""
    away_from_kinks(subject, case.log_p, case.log_q)
    force = subject.force(case.logits.clone(), case.log_q).detach().double()
    weights = subject.weight(first_argument("weight", case.logits), case.log_q.clone()).detach().double()
    if not bool(weights.isfinite().all() and force.isfinite().all()):
        return  # beyond the range of the dtype there is no sum
    sizes = float(force.abs().sum() + weights.abs().sum())
    allowed = eps(case.logits.dtype) * (64 * _scale(subject, case) + 16 * sizes)
    require_close("the sum of the force", force.sum(), torch.zeros(()), allowed, force=force)


@check(_cases, with_force, share=0.5)
def force_ignores_a_shift(subject: Subject, case: Case) -> None:
    """Adding 64 to every logit, or taking it from them, changes no force."""
    rounded = ((case.logits.double() * 2**10).round() / 2**10).to(case.logits.dtype)
    moved = Case(rounded, case.log_q, case.kind)
    away_from_kinks(subject, moved.log_p, case.log_q)
    here = subject.force(rounded.clone(), case.log_q)
    scale = _scale(subject, moved) + 2 * float(rounded.abs().max() + 64)
    for shift in (64, -64):
        there = subject.force(rounded + shift, case.log_q)
        allowed = 256 * eps(case.logits.dtype) * scale
        require_close(f"the force after a shift by {shift}", there, here, allowed, unshifted=rounded)


@check(_cases, share=0.5)
def classes_may_be_permuted(subject: Subject, case: Case) -> None:
    """Numbering the classes otherwise changes no value, and moves weights and forces along."""
    allowed = 256 * eps(case.logits.dtype) * _scale(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q)
    for name, function in subject.parts.items():
        here = function(first_argument(name, case.logits), case.log_q.clone())
        there = function(first_argument(name, case.logits).flip(-1), case.log_q.flip(-1))
        require_close(f"{name} with the classes reversed", there if name == "value" else there.flip(-1), here, allowed)


def _moderate(subject: Subject) -> common.Cases:
    kinds = ("ordinary", "tied", "one-hot on the label", "one-hot on another class")
    return common.wide_cases(subject, 8.0, kinds=kinds, classes=(2, 3, 5))


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
        moved = case.logits - step * force / largest
        after = float(subject.value(torch.log_softmax(moved, -1), case.log_q.clone()))
        if after < before:
            return
    message = f"the divergence goes from {before:.9g} to {after:.9g} along a step of length {step:.1g}"
    raise Violation(message, force=force, before=before, after=after)
