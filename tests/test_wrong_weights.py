"""Deliberately wrong weights: the check that passes the right one must catch each of them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fguidance as fg
from fguidance import closed_forms
from tests.support import exact
from tests.support.cases import DIVERGENCES, DOUBLE, Case, Member, random_logits, target

Gradient = Callable[[Tensor, Tensor], Tensor]
BATCH = tuple(
    Case(logits, target(4, label, epsilon))
    for label, epsilon, logits in (
        (0, 0.9, random_logits(4, 2.0, 1)),
        (2, 0.5, random_logits(4, 5.0, 2)),
        (0, 0.9, torch.tensor([0.0, 30.0, 1.0, -2.0], dtype=DOUBLE)),
        (1, 0.3, torch.tensor([0.0, 30.0, 1.0, -2.0], dtype=DOUBLE)),
    )
)


def check_gradient(gradient: Gradient, member: Member, cases: tuple[Case, ...] = BATCH) -> None:
    """Raise AssertionError unless `gradient` is that of the divergence, to 256 ulp of its largest component."""
    for case in cases:
        correct = exact.logit_gradient(member.reference, case.logits, case.log_q)
        found = gradient(case.logits, case.log_q)
        assert exact.error_in_ulp(found, correct.gradient, correct.largest_component) <= 256


def centred(w: Tensor, p: Tensor) -> Tensor:
    return w - p * w.sum(-1, keepdim=True)


def with_wrong_weight(divergence: fg.Divergence, weight: Callable[[Tensor, Tensor], Tensor]) -> Gradient:
    """The plain gradient of a weight that takes the logarithms of p and q."""

    def gradient(logits: Tensor, log_q: Tensor) -> Tensor:
        log_p = torch.log_softmax(logits, -1)
        return centred(weight(log_p, log_q), log_p.exp())

    return gradient


def wrong_sign(divergence: fg.Divergence) -> Gradient:
    return lambda logits, log_q: -divergence.logit_gradient(logits, log_q)


def factor_two(divergence: fg.Divergence) -> Gradient:
    return lambda logits, log_q: 2 * divergence.logit_gradient(logits, log_q)


def swapped_arguments(divergence: fg.Divergence) -> Gradient:
    return with_wrong_weight(divergence, lambda log_p, log_q: divergence.weight(log_q, log_p))


def another_gauge(divergence: fg.Divergence, logits: Tensor, log_q: Tensor) -> Tensor:
    """The weights with 1 taken from f', for RKL the printed -q: in the gauge f'(1) = 0 RKL needs no centring."""
    log_p = torch.log_softmax(logits, -1)
    return divergence.weight(log_p, log_q) - log_p.exp()


def missing_centring(divergence: fg.Divergence) -> Gradient:
    return lambda logits, log_q: another_gauge(divergence, logits, log_q)


def wrong_gauge_at_saturation(divergence: fg.Divergence) -> Gradient:
    """A constant added to f' is harmless on paper, but not where p is all but one-hot."""

    def gradient(logits: Tensor, log_q: Tensor) -> Tensor:
        p = torch.softmax(logits, -1)
        return centred(divergence.weight(p.log(), log_q) + 1e6 * p, p)

    return gradient


def stale_softmax(divergence: fg.Divergence) -> Gradient:
    """The weights are those of now, the probabilities in the centring those of a moment ago."""

    def gradient(logits: Tensor, log_q: Tensor) -> Tensor:
        return centred(another_gauge(divergence, logits, log_q), torch.softmax(0.9 * logits, -1))

    return gradient


def dropped_label_smoothing(divergence: fg.Divergence) -> Gradient:
    """The weight on the label is taken as all but 1, whatever epsilon says."""

    def gradient(logits: Tensor, log_q: Tensor) -> Tensor:
        return divergence.logit_gradient(logits, target(logits.shape[-1], int(log_q.argmax()), 1 - 1e-6))

    return gradient


def slope_for_weight(divergence: fg.Divergence) -> Gradient:
    """f'(p/q) without the factor p."""
    return with_wrong_weight(divergence, lambda log_p, log_q: divergence.weight(log_p, log_q) / log_p.exp())


MISTAKES = (
    wrong_sign, factor_two, swapped_arguments, missing_centring, wrong_gauge_at_saturation, stale_softmax,
    dropped_label_smoothing, slope_for_weight,
)  # fmt: skip


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_right_gradient_passes(name: str) -> None:
    check_gradient(DIVERGENCES[name].divergence.logit_gradient, DIVERGENCES[name])


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_mistake_is_caught(name: str, mistake: Callable[[fg.Divergence], Gradient]) -> None:
    with pytest.raises(AssertionError):
        check_gradient(mistake(DIVERGENCES[name].divergence), DIVERGENCES[name])


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_caught_without_saturated_cases(mistake: Callable[[fg.Divergence], Gradient]) -> None:
    # All but the wrong gauge, which is no mistake there beyond its rounding.
    member = DIVERGENCES["js"]
    if mistake is wrong_gauge_at_saturation:
        gradient = mistake(member.divergence)
        for case in BATCH[:2]:
            right = member.divergence.logit_gradient(case.logits, case.log_q)
            torch.testing.assert_close(gradient(case.logits, case.log_q), right, rtol=0, atol=1e-9)
        return
    with pytest.raises(AssertionError):
        check_gradient(mistake(member.divergence), member, BATCH[:2])


def test_the_weight_printed_for_js_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_gradient(fg.divergence("js_printed").logit_gradient, DIVERGENCES["js"])


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_mistake_in_the_emitted_weight_is_caught(name: str) -> None:
    # The same mistake made below the arithmetic, in the one function that makes the divergence.
    member = DIVERGENCES[name]
    definition = member.divergence.definition

    broken = definition._replace(weight=lambda p, q, u: -definition.weight(p, q, u))
    with pytest.raises(AssertionError):
        check_gradient(lambda logits, log_q: closed_forms.logit_gradient(broken, logits, log_q), member)
