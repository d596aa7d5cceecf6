"""Targets that are exactly 0 for some classes."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from fguidance.testing import exact, strategies
from fguidance.testing.check import check
from fguidance.testing.checks import common
from fguidance.testing.checks.common import away_from_kinks, first_argument, with_value, zeros_are_allowed
from fguidance.testing.strategies import Case
from fguidance.testing.subject import Function, Subject, force_of_weights
from fguidance.testing.tolerance import Violation, eps, require_close

ALL_BUT_ZERO = {torch.float64: -690.0, torch.float32: -80.0}
"""The logarithm of a probability that is still a normal number, and as good as 0 for most divergences."""
SHARE, SHARE_OF_LIMIT = 1e-9, 1e-6


def _cases(subject: Subject) -> common.Cases:
    return st.sampled_from(subject.dtypes).flatmap(lambda dtype: strategies.cases(dtype, 10.0, zeros=True))


@check(_cases, zeros_are_allowed)
def zeros_in_the_target_are_handled(subject: Subject, case: Case) -> None:
    """A target that is 0 for some classes gives no NaN and the right numbers, or is refused with a ValueError."""
    away_from_kinks(subject, case.log_p, case.log_q)
    common.away_from_quick_bends(subject, case)
    weights = _weights_at_zeros(subject, case)
    for name, function in subject.parts.items():
        try:
            found = function(first_argument(name, case.logits), case.log_q.clone()).detach()
        except ValueError:
            continue
        if bool(found.isnan().any()):
            raise Violation(f"{name} holds NaN where the target is 0", found=found)
        if name == "value" and bool(found.isinf()):
            return  # the divergence is infinite there, and so has no force
        wanted = weights
        if name == "value":
            wanted = _value_at_zeros(subject, case)
        elif name == "logit_gradient" and weights is not None:
            wanted = force_of_weights(case.log_p.double(), weights)
        if wanted is not None:
            allowed = max(SHARE if subject.generator is not None else SHARE_OF_LIMIT, 1e3 * eps(found.dtype))
            size = subject.scale + float(wanted.abs().max())
            require_close(f"{name} where the target is 0", found, wanted, allowed * size, log_p=case.log_p)


def _value_at_zeros(subject: Subject, case: Case) -> Tensor | None:
    """sum q f(p/q), where q = 0 with the limit of f(t)/t at infinity; or else the limit of small q."""
    if subject.generator is None:
        return _limit(subject.value, case)
    support = case.log_q.isfinite()
    outside = float(case.log_p.double()[~support].exp().sum())
    inside = float(exact.value(subject.generator, case.log_p[support], case.log_q[support]))
    far = float(exact.end_values(subject.generator)[1]) if outside else 0.0
    return torch.tensor(inside + outside * far, dtype=torch.float64)


def _weights_at_zeros(subject: Subject, case: Case) -> Tensor | None:
    """p f'(p/q), with the limit of f' at infinity, which is that of f(t)/t, where q = 0; None where it is infinite."""
    if subject.generator is None:
        return _limit(subject.weight, case)
    support, gauge = case.log_q.isfinite(), subject.declaration.gauge
    found = case.log_p.double().exp() * (float(exact.end_values(subject.generator)[1]) + gauge)
    found[support] = exact.double(exact.weights(subject.generator, case.log_p[support], case.log_q[support], gauge))
    return found if bool(found.isfinite().all()) else None


def _limit(function: Function, case: Case) -> Tensor | None:
    """The result for all but 0, if that is a number."""
    log_q = case.log_q.clone()
    log_q[log_q.isinf()] = ALL_BUT_ZERO.get(log_q.dtype, -8.0)
    try:
        found = function(case.log_p, log_q).detach().double()
    except ValueError:
        return None
    return found if bool(found.isfinite().all()) else None


@check(_cases, with_value, zeros_are_allowed, common.autograd_runs)
def autograd_runs_at_zeros_in_the_target(subject: Subject, case: Case) -> None:
    """Where the target is 0 for some classes, autograd of the value still gives the force of the weights."""
    away_from_kinks(subject, case.log_p, case.log_q)
    at = case.logits.clone().requires_grad_()
    try:
        value = subject.value(torch.log_softmax(at, -1), case.log_q.clone())
        weights = subject.weight(case.log_p, case.log_q.clone()).detach()
    except ValueError:
        return  # refused
    if not bool(value.detach().isfinite() and weights.isfinite().all()):
        return  # the divergence is infinite there, and so has no gradient
    (found,) = torch.autograd.grad(value, at)
    allowed = max(1e-7, 1e3 * eps(found.dtype)) * (subject.scale + float(weights.abs().max()))
    expected = force_of_weights(case.log_p, weights)
    require_close("the gradient where the target is 0", found, expected, allowed, weights=weights)
