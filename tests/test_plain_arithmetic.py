"""The plain arithmetic that guidance takes where a divergence is gentle enough, and when it is not taken."""

import mpmath
import pytest
import torch
from hypothesis import given
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


def lean(name: str, logits: Tensor, log_q: Tensor) -> Tensor:
    return _generated.lean_gradient(GENTLE[name].divergence.definition, logits, log_q)[0]


def test_the_gentle_ones_are_those_whose_slope_is_bounded_or_a_logarithm() -> None:
    assert {"js", "gan", "lin_k", "triangular"} <= set(GENTLE)
    assert not {"rkl", "fkl", "neyman", "pearson", "hellinger", "exponential"} & set(GENTLE)


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
        classes = len(case.logits)
        labels, rest = torch.tensor([label % classes]), (1 - epsilon) / classes
        found = _generated.smoothed_gradient(
            GENTLE[name].divergence.definition, case.logits[None], labels, rest + epsilon, rest
        )[0]
        log_q = torch.full((classes,), rest, dtype=DOUBLE)
        log_q[label % classes] += epsilon
        correct = exact.logit_gradient(GENTLE[name].reference, case.logits, log_q.log())
        assert exact.error_in_ulp(found, correct.gradient, correct.largest_part) <= BOUND_A

    check()


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
    sure = random_logits(7, 5.0, 3) + 40 * torch.eye(7, dtype=DOUBLE)[2]
    logits = torch.stack([random_logits(7, 4.0, 1), sure, random_logits(7, 3.0, 2)])
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
        return _generated.smoothed_gradient(GENTLE[name].divergence.definition, one, label, 0.92, 0.02)

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
        found = _generated.tempered_gradient(case.logits[None], labels, temperature, temperature)[0]
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
    fg.Guidance("js", alpha=0.5).logit_gradient(torch.randn(2, 5), torch.tensor([0, 3]))
    with pytest.raises(AssertionError, match="doubled"):
        fg.Guidance("rkl", alpha=0.5).logit_gradient(torch.randn(2, 5), torch.tensor([0, 3]))
