"""The plain arithmetic that guidance takes where a divergence is gentle enough, and when it is not taken."""

import mpmath
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from mpmath import mpf
from torch import Tensor

import fguidance as fg
from fguidance import _generated
from tests.support import exact
from tests.support.cases import DOUBLE, MEMBERS, SINGLE, Case, cases, random_logits, target

GENTLE = {name: member for name, member in MEMBERS.items() if member.divergence.definition.lean is not None}
BOUND_A = 8
gentle = pytest.mark.parametrize("name", GENTLE)
full_precision = pytest.mark.parametrize("dtype", (SINGLE, DOUBLE), ids=str)


def rebuilt(name: str) -> fg.Divergence:
    """The divergence, made anew."""
    divergence = GENTLE[name].divergence
    return fg.divergence(divergence.name, **divergence.parameters)


def lean(name: str, logits: Tensor, log_q: Tensor) -> Tensor:
    return _generated.lean_gradient(rebuilt(name).definition, logits, log_q)[0]


def smoothed(name: str, logits: Tensor, labels: Tensor, q_label: float, q_other: float) -> Tensor:
    centred = _generated.centred_logits(logits)
    powers, _ = _generated.lean_powers(centred, 0.5, overwrite=False)
    lean = rebuilt(name).definition.lean
    assert lean is not None
    return _generated.smoothed_gradient(lean, powers, labels, q_label, q_other, centred)


def test_the_gentle_ones_are_those_without_weights_that_grow() -> None:
    assert {"js", "gan", "lin_k", "triangular", "rkl", "fkl", "jeffreys", "hellinger"} <= set(GENTLE)
    assert not {"neyman", "pearson", "exponential", "perimeter"} & set(GENTLE)


@gentle
@full_precision
def test_accuracy(name: str, dtype: torch.dtype) -> None:
    @given(cases(dtype))
    def check(case: Case) -> None:
        found = lean(name, case.logits, case.log_q)
        correct = exact.logit_gradient(GENTLE[name].reference, case.logits, case.log_q)
        assert exact.error_in_ulp(found, correct.gradient, correct.largest_part) <= BOUND_A

    check()


@gentle
@full_precision
def test_smoothed_accuracy(name: str, dtype: torch.dtype) -> None:
    @given(cases(dtype), st.sampled_from((0.0, 0.5, 0.9, 1.0)), st.integers(0, 49))
    def check(case: Case, epsilon: float, label: int) -> None:
        assume(epsilon < 1 or not GENTLE[name].divergence.needs_full_support)
        classes = len(case.logits)
        labels, rest = torch.tensor([label % classes]), (1 - epsilon) / classes
        found = smoothed(name, case.logits[None], labels, rest + epsilon, rest)[0]
        log_q = torch.full((classes,), rest, dtype=DOUBLE)
        log_q[label % classes] += epsilon
        correct = exact.logit_gradient(GENTLE[name].reference, case.logits, log_q.log())
        assert exact.error_in_ulp(found, correct.gradient, correct.largest_part) <= BOUND_A

    check()


@gentle
def test_a_sure_classifier_keeps_the_digits_of_its_small_force(name: str) -> None:
    """Whichever class it is sure of, and whatever the other rows of the batch are sure of."""
    sure = [random_logits(6, 3.0, top) + 30 * torch.eye(6, dtype=DOUBLE)[top] for top in (0, 2, 2)]
    logits, labels = torch.stack([*sure, random_logits(6, 3.0, 9)]), torch.tensor([0, 2, 5, 1])
    for epsilon in (0.0, 0.7) if GENTLE[name].divergence.needs_full_support else (0.0, 0.7, 1.0):
        rest = (1 - epsilon) / 6
        found = smoothed(name, logits, labels, rest + epsilon, rest)
        for row, one, label in zip(found, logits, labels, strict=True):
            assert torch.equal(row, smoothed(name, one[None], label[None], rest + epsilon, rest)[0])
            log_q = torch.full((6,), rest, dtype=DOUBLE)
            log_q[label] += epsilon
            correct = exact.logit_gradient(GENTLE[name].reference, one, log_q.log())
            assert exact.error_in_ulp(row, correct.gradient, correct.largest_component) <= 256


def test_a_slope_of_all_three_parts_is_their_sum() -> None:
    js, kls = _generated.DIVERGENCES["js"], [_generated.DIVERGENCES[name] for name in ("fkl", "rkl")]
    assert js.lean is not None
    three = js._replace(lean=js.lean._replace(logarithm=2.0, inverse=3.0))
    logits, log_q = random_logits(6, 4.0, 2), target(6, 1, 0.4)
    parts = [_generated.lean_gradient(one, logits, log_q)[0] for one in (js, *kls)]
    expected = parts[0] + 2 * parts[1] + 3 * parts[2]
    torch.testing.assert_close(_generated.lean_gradient(three, logits, log_q)[0], expected, rtol=1e-12, atol=1e-15)
    centred = _generated.centred_logits(logits[None])
    powers, q = _generated.lean_powers(centred, 1.0, overwrite=False)[0], log_q.exp()
    found = _generated.smoothed_gradient(three.lean, powers, torch.tensor([1]), float(q[1]), float(q[0]), centred)
    torch.testing.assert_close(found[0], expected, rtol=1e-12, atol=1e-15)


def test_the_target_may_be_what_is_differentiated() -> None:
    logits, log_q = random_logits(4, 2.0, 1), target(4, 1, 0.4)
    for name in ("js", "fkl", "rkl"):
        found = torch.func.jacrev(lambda at, name=name: lean(name, logits, at))(log_q)
        doubled = _generated.DIVERGENCES[name]
        expected = torch.func.jacrev(lambda at, one=doubled: _generated.logit_gradient(one, logits, at))(log_q)
        torch.testing.assert_close(found, expected)
        at = log_q.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(lean(name, logits, at)[0], at)
        torch.testing.assert_close(gradient, expected[0])
        assert torch.equal(at.detach(), log_q)


def test_large_log_ratios_that_cancel_are_left_to_doubled_arithmetic() -> None:
    logits, log_q = torch.tensor([0.0, 0.0, -50.0]), torch.tensor([-200.0, -200.2, 0.0])
    found, serves = _generated.lean_gradient(_generated.DIVERGENCES["fkl"], logits, log_q)
    assert 16 * found.abs().max() >= 0.5
    assert not serves


@gentle
def test_a_row_is_said_to_be_served_only_if_it_keeps_its_digits(name: str) -> None:
    @given(cases(SINGLE))
    def check(case: Case) -> None:
        found, serves = _generated.lean_gradient(GENTLE[name].divergence.definition, case.logits, case.log_q)
        if serves:
            correct = exact.logit_gradient(GENTLE[name].reference, case.logits, case.log_q)
            assert exact.error_in_ulp(found, correct.gradient, correct.largest_component) <= 16 * BOUND_A

    check()


@gentle
def test_rows_that_are_not_served_are_computed_in_doubled_precision(name: str) -> None:
    at_target = target(7, 2, 0.5) + 1e-9 * random_logits(7, 1.0, 3)
    logits = torch.stack([random_logits(7, 4.0, 1), at_target, random_logits(7, 3.0, 2)])
    log_q = torch.stack([target(7, label, 0.5) for label in (0, 2, 6)])
    _, serves = _generated.lean_gradient(GENTLE[name].divergence.definition, logits, log_q)
    assert serves.flatten().tolist()[1] is False
    found = GENTLE[name].divergence.logit_gradient(logits, log_q)
    doubled = _generated.logit_gradient(GENTLE[name].divergence.definition, logits, log_q)
    assert torch.equal(found[1], doubled[1])
    plain = GENTLE[name].divergence.logit_gradient(logits, log_q, faithful=False)
    assert torch.equal(plain, lean(name, logits, log_q))


@gentle
def test_the_same_while_somebody_differentiates_or_transforms(name: str) -> None:
    logits = torch.stack([random_logits(5, 6.0, seed) for seed in range(3)])
    labels = torch.tensor([0, 3, 4])
    kept = logits.clone()

    def gradient(one: Tensor, label: Tensor) -> Tensor:
        return smoothed(name, one, label, 0.92, 0.02)

    expected = gradient(logits, labels)
    assert torch.equal(logits, kept)
    mapped = torch.vmap(gradient)(logits, labels)
    torch.testing.assert_close(mapped, expected, rtol=1e-13, atol=1e-16)
    over_labels = torch.vmap(gradient, in_dims=(None, 0))(logits[0], labels)
    torch.testing.assert_close(over_labels[0], expected[0], rtol=1e-13, atol=1e-16)
    differentiated = gradient(logits.clone().requires_grad_(), labels)
    torch.testing.assert_close(differentiated, expected, rtol=1e-13, atol=1e-16)
    hessian = torch.func.jacrev(gradient)(logits[0], labels[0])
    steps = torch.eye(5, dtype=DOUBLE) * 1e-6
    differences = [gradient(logits[0] + step, labels[0]) - gradient(logits[0] - step, labels[0]) for step in steps]
    torch.testing.assert_close(hessian, torch.stack(differences).T / 2e-6, rtol=1e-6, atol=1e-9)


@full_precision
@pytest.mark.parametrize("temperature", (0.5, 1.0, 3.0))
def test_the_tempered_gradient_keeps_its_digits(dtype: torch.dtype, temperature: float) -> None:
    """At equal temperatures the label's component is the sum of the other probabilities, however small it is."""

    @given(cases(dtype), st.integers(0, 49))
    def check(case: Case, label: int) -> None:
        labels = torch.tensor([label % len(case.logits)])
        centred = _generated.centred_logits(case.logits[None])
        marginal = _generated.lean_powers(centred, temperature, overwrite=True)[1]
        found = _generated.tempered_gradient(marginal, labels, temperature, temperature)[0]
        with mpmath.workdps(exact.DIGITS):
            entries = exact.numbers(case.logits)
            powers = [mpmath.exp(temperature * (entry - max(entries))) for entry in entries]
            probabilities = [power / mpmath.fsum(powers) for power in powers]
            own = mpmath.fsum(p for i, p in enumerate(probabilities) if i != labels[0])
            correct = [temperature * (own if i == labels[0] else -p) for i, p in enumerate(probabilities)]
        allowed = 16 + 2 * temperature * case.spread  # half a unit of the exponent, a few times
        assert exact.error_in_ulp(found, correct, max(map(abs, correct))) <= allowed or max(map(abs, correct)) < mpf(
            torch.finfo(dtype).tiny
        )

    check()


def test_guidance_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("doubled arithmetic was used")

    monkeypatch.setattr(_generated, "logit_gradient", refuse)
    for name in ("js", "rkl", "fkl"):
        fg.Guidance(name, alpha=0.5).logit_gradient(torch.randn(2, 5), torch.tensor([0, 3]))
    with pytest.raises(AssertionError, match="doubled"):
        fg.Guidance("pearson", alpha=0.5).logit_gradient(torch.randn(2, 5), torch.tensor([0, 3]))
