"""Deliberately wrong weights: the check that passes the right one must catch each of them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fguidance as fg
from fguidance import closed_forms
from tests.support import exact
from tests.support.cases import DIVERGENCES, DOUBLE, Case, Member, random_logits, target

SATURATED = torch.tensor([0.0, 30.0, 1.0, -2.0], dtype=DOUBLE)
BATCH = (
    Case(random_logits(4, 2.0, 1), target(4, 0, 0.9)), Case(random_logits(4, 5.0, 2), target(4, 2, 0.5)),
    Case(SATURATED, target(4, 0, 0.9)), Case(SATURATED, target(4, 1, 0.3)),
)  # fmt: skip


def check_gradient(gradient: Callable[[Tensor, Tensor], Tensor], member: Member, cases: tuple[Case, ...]) -> None:
    """Raise AssertionError unless `gradient` is that of the divergence, to 256 ulp of its largest component."""
    for case in cases:
        correct = exact.logit_gradient(member.reference, case.logits, case.log_q)
        found = gradient(case.logits, case.log_q)
        assert exact.error_in_ulp(found, correct.gradient, correct.largest_component) <= 256


def centred(w: Tensor, p: Tensor) -> Tensor:
    return w - p * w.sum(-1, keepdim=True)


def weight(divergence: fg.Divergence, logits: Tensor, log_q: Tensor) -> Tensor:
    return divergence.weight(torch.log_softmax(logits, -1), log_q)


# RKL needs no centring in the gauge f'(1) = 0, so there 1 is taken from f'. In the gauge of the fifth a constant is
# added to f', which is harmless on paper, but not where p is all but one-hot.
MISTAKES: dict[str, Callable[[fg.Divergence, Tensor, Tensor, Tensor], Tensor]] = {
    "wrong sign": lambda d, x, log_q, p: -d.logit_gradient(x, log_q),
    "factor two": lambda d, x, log_q, p: 2 * d.logit_gradient(x, log_q),
    "swapped arguments": lambda d, x, log_q, p: centred(d.weight(log_q, torch.log_softmax(x, -1)), p),
    "missing centring": lambda d, x, log_q, p: weight(d, x, log_q) - p,
    "wrong gauge": lambda d, x, log_q, p: centred(d.weight(p.log(), log_q) + 1e6 * p, p),
    "stale softmax": lambda d, x, log_q, p: centred(weight(d, x, log_q) - p, torch.softmax(0.9 * x, -1)),
    "no smoothing": lambda d, x, log_q, p: d.logit_gradient(x, target(len(x), int(log_q.argmax()), 1 - 1e-6)),
    "slope for weight": lambda d, x, log_q, p: centred(weight(d, x, log_q) / p, p),
}


def wrong(mistake: str, divergence: fg.Divergence) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, log_q: MISTAKES[mistake](divergence, logits, log_q, torch.softmax(logits, -1))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_right_gradient_passes_and_each_mistake_is_caught(name: str) -> None:
    member = DIVERGENCES[name]
    check_gradient(member.divergence.logit_gradient, member, BATCH)
    for mistake in MISTAKES:
        with pytest.raises(AssertionError):
            check_gradient(wrong(mistake, member.divergence), member, BATCH)
    definition = member.divergence.definition
    broken = definition._replace(weight=lambda p, q, u: -definition.weight(p, q, u))
    with pytest.raises(AssertionError):
        check_gradient(lambda logits, log_q: closed_forms.logit_gradient(broken, logits, log_q), member, BATCH)


def test_all_but_the_wrong_gauge_are_caught_without_saturated_cases() -> None:
    member = DIVERGENCES["js"]
    for mistake in set(MISTAKES) - {"wrong gauge"}:
        with pytest.raises(AssertionError):
            check_gradient(wrong(mistake, member.divergence), member, BATCH[:2])
    for case in BATCH[:2]:
        found = wrong("wrong gauge", member.divergence)(case.logits, case.log_q)
        torch.testing.assert_close(found, member.divergence.logit_gradient(case.logits, case.log_q), rtol=0, atol=1e-9)


def test_the_weight_printed_for_js_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_gradient(fg.divergence("js_printed").logit_gradient, DIVERGENCES["js"], BATCH)
