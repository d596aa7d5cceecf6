"""Targets that are exactly 0 for some classes."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import exact, strategies
from fguidance.testing.check import Violation, check
from fguidance.testing.checks._subjects import (
    away_from_kinks,
    away_from_quick_bends,
    first_argument,
    functions,
    value_of,
    weight_of,
    with_value,
    zeros_are_allowed,
)  # fmt: skip
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Subject
from fguidance.testing.tolerance import eps, require_close

ALL_BUT_ZERO = {torch.float64: -690.0, torch.float32: -80.0}
"""The logarithm of a probability that is still a normal number, and as good as 0 for most divergences."""
SHARE, SHARE_OF_LIMIT = 1e-9, 1e-6


def _cases(subject: Subject) -> st.SearchStrategy[Case]:
    return st.sampled_from(subject.dtypes).flatmap(lambda dtype: strategies.cases(dtype, 10.0, zeros=True))


@check(_cases, zeros_are_allowed)
def zeros_in_the_target_are_handled(subject: Subject, case: Case) -> None:
    """A target that is 0 for some classes gives no NaN and the right numbers, or is refused with a ValueError."""
    away_from_kinks(subject, case.log_p, case.log_q)
    away_from_quick_bends(subject, case)
    weights = _weights_at_zeros(subject, case)
    for name, function in functions(subject).items():
        try:
            found = function(first_argument(name, case.logits), case.log_q.clone()).detach()
        except ValueError:
            continue
        if bool(found.isnan().any()):
            raise Violation(f"{name} holds NaN where the target is 0", found=found)
        if name == "value" and bool(found.isinf()):
            return  # the divergence is infinite there, and so has no force
        wanted = _wanted(subject, name, weights, case)
        if wanted is not None:
            allowed = max(SHARE if subject.generator is not None else SHARE_OF_LIMIT, 1e3 * eps(found.dtype))
            size = subject.scale + float(wanted.abs().max())
            require_close(f"{name} where the target is 0", found, wanted, allowed * size, log_p=case.log_p)


def _wanted(subject: Subject, name: str, weights: Tensor | None, case: Case) -> Tensor | None:
    """What the generator says, or else the limit of small q; None where neither is known."""
    if name == "value":
        return _value_at_zeros(subject, case)
    if weights is None or name == "weight":
        return weights
    return weights - case.log_p.double().exp() * weights.sum()


def _value_at_zeros(subject: Subject, case: Case) -> Tensor | None:
    from fguidance.symbolic import end_values

    if subject.generator is None:
        return _limit(value_of(subject), case)
    support = case.log_q.isfinite()
    outside = float(case.log_p.double()[~support].exp().sum())
    inside = float(exact.value(subject.generator, case.log_p[support], case.log_q[support]))
    far = float(end_values(subject.generator)[1]) if outside else 0.0
    return torch.tensor(inside + outside * far, dtype=torch.float64)


def _weights_at_zeros(subject: Subject, case: Case) -> Tensor | None:
    """p f'(p/q), with the limit of f' at infinity, which is that of f(t)/t, where q = 0."""
    from fguidance.symbolic import end_values

    if subject.generator is None:
        return _limit(weight_of(subject), case)
    support, gauge = case.log_q.isfinite(), subject.declaration.gauge
    far = float(end_values(subject.generator)[1]) + gauge
    found = case.log_p.double().exp() * far
    inside = exact.weights(subject.generator, case.log_p[support], case.log_q[support], gauge)
    found[support] = torch.tensor([float(weight) for weight in inside], dtype=torch.float64)
    return found if bool(found.isfinite().all()) else None


def _limit(function, case: Case) -> Tensor | None:  # type: ignore[no-untyped-def]
    """What comes out for all but 0, if that is a number."""
    log_q = case.log_q.clone()
    log_q[log_q.isinf()] = ALL_BUT_ZERO.get(log_q.dtype, -8.0)
    try:
        found: Tensor = function(case.log_p, log_q).detach().double()
    except ValueError:
        return None
    return found if bool(found.isfinite().all()) else None


def _autograd_at_zeros(subject: Subject) -> str | None:
    reason = with_value(subject) or zeros_are_allowed(subject)
    return reason or (None if subject.differentiable else "autograd does not run")


@check(_cases, _autograd_at_zeros)
def autograd_runs_at_zeros_in_the_target(subject: Subject, case: Case) -> None:
    """Where the target is 0 for some classes, autograd of the value still gives the force of the weights."""
    away_from_kinks(subject, case.log_p, case.log_q)
    at = case.logits.clone().requires_grad_()
    try:
        value = value_of(subject)(torch.log_softmax(at, -1), case.log_q.clone())
        weights = weight_of(subject)(case.log_p, case.log_q.clone()).detach()
    except ValueError:
        return  # refused
    if not bool(value.detach().isfinite() and weights.isfinite().all()):
        return  # the divergence is infinite there, and so has no gradient
    (found,) = torch.autograd.grad(value, at)
    expected = weights - case.log_p.exp() * weights.sum()
    allowed = max(1e-7, 1e3 * eps(found.dtype)) * (subject.scale + float(weights.abs().max()))
    require_close("the gradient where the target is 0", found, expected, allowed, weights=weights)
