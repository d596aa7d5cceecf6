"""What a force on logits is like, whatever the divergence."""

import torch
from hypothesis import assume
from hypothesis import strategies as st

from fguidance.testing import strategies
from fguidance.testing.check import Violation, check
from fguidance.testing.checks._subjects import (
    away_from_kinks,
    both,
    first_argument,
    force_of,
    full_dtypes,
    functions,
    single_or_double,
    value_of,
    weight_of,
    with_force,
    with_value,
    working_dtype,
)  # fmt: skip
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import conditioning, eps, require_close

STEPS = {torch.float64: (1e-3, 1e-4, 1e-5), torch.float32: (2.0**-4, 2.0**-7)}
"""Of the largest logit; a shorter one decides where the divergence is curved and the force is small."""


def _cases(subject: Subject) -> st.SearchStrategy[Case]:
    return st.sampled_from(full_dtypes(subject)).flatmap(lambda dtype: strategies.cases(dtype, 20.0))


def _many(subject: Subject) -> st.SearchStrategy[Case]:
    return strategies.cases(working_dtype(subject), 20.0, classes=(2, 3, 10, strategies.MANY_CLASSES))


def _scale(subject: Subject, case: Case) -> float:
    """The size of the weights, and of what rounding the logits does to them."""
    weights = weight_of(subject)(first_argument("weight", case.logits), case.log_q.clone()).detach().double().abs()
    largest = float(max([subject.scale, *weights[weights.isfinite()].tolist()]))
    return largest * (1 + 2 * float(case.logits.abs().max()))


@check(_many, with_force)
def force_sums_to_zero(subject: Subject, case: Case) -> None:
    """The components of the logit gradient sum to 0."""
    force = force_of(subject, case.logits.clone(), case.log_q.clone()).detach().double()
    weights = weight_of(subject)(first_argument("weight", case.logits), case.log_q.clone()).detach().double()
    if not bool(weights.isfinite().all() and force.isfinite().all()):
        return  # beyond the range of the dtype there is no sum
    sizes = float(force.abs().sum() + weights.abs().sum())
    allowed = eps(case.logits.dtype) * (64 * _scale(subject, case) + 16 * sizes)
    require_close("the sum of the force", force.sum(), torch.zeros(()), allowed, force=force)


@check(_cases, with_force)
def force_ignores_a_shift(subject: Subject, case: Case) -> None:
    """Adding 64 to every logit, or taking it from them, changes no force."""
    rounded = ((case.logits.double() * 2**10).round() / 2**10).to(case.logits.dtype)
    here = force_of(subject, rounded.clone(), case.log_q.clone())
    scale = _scale(subject, Case(rounded, case.log_q, case.kind)) + 2 * float(rounded.abs().max() + 64)
    for shift in (64, -64):
        there = force_of(subject, rounded + shift, case.log_q.clone())
        allowed = 256 * eps(case.logits.dtype) * scale
        require_close(f"the force after a shift by {shift}", there, here, allowed, unshifted=rounded)


@check(_cases)
def classes_may_be_permuted(subject: Subject, case: Case) -> None:
    """Numbering the classes otherwise changes no value, and moves weights and forces along."""
    allowed = 256 * eps(case.logits.dtype) * _scale(subject, case)
    away_from_kinks(subject, case.log_p, case.log_q)
    for name, function in functions(subject).items():
        here = function(first_argument(name, case.logits), case.log_q.clone())
        there = function(first_argument(name, case.logits).flip(-1), case.log_q.flip(-1))
        require_close(f"{name} with the classes reversed", there if name == "value" else there.flip(-1), here, allowed)


def _moderate(subject: Subject) -> st.SearchStrategy[Case]:
    kinds = ("ordinary", "tied", "one-hot on the label", "one-hot on another class")
    return strategies.cases(working_dtype(subject), 8.0, kinds, classes=(2, 3, 5))


@check(_moderate, both(with_value, single_or_double))
def a_step_against_the_force_lowers_the_value(subject: Subject, case: Case) -> None:
    """A small step of the logits along minus the force lowers the divergence."""
    away_from_kinks(subject, case.log_p, case.log_q)
    assume(bool((case.log_p - case.log_q).abs().max() > 0.05))
    force = force_of(subject, case.logits.clone(), case.log_q.clone())
    largest = float(force.detach().abs().max())
    before = float(value_of(subject)(case.log_p, case.log_q.clone()))
    steps, dtype = STEPS[case.logits.dtype], case.logits.dtype
    sizes = (case.log_p.double().exp() + case.log_q.double().exp()) * conditioning(case.log_p, case.log_q)
    rounding = 4 * eps(dtype) * (subject.scale * float(sizes.sum()) + before)
    assume(rounding / steps[-1] < largest < torch.inf)
    for step in steps:
        moved = case.logits - step * force / largest
        after = float(value_of(subject)(torch.log_softmax(moved, -1), case.log_q.clone()))
        if after < before:
            return
    message = f"the divergence goes from {before:.9g} to {after:.9g} along a step of length {step:.1g}"
    raise Violation(message, force=force, before=before, after=after)
