"""The chapters' own arithmetic of forces: it judges the library, so it must be right by itself."""

import math

import mpmath
import pytest
import torch

import fguidance as fg
from lab import forces

NAMES = [name for name in fg.divergence_names() if fg.divergence(name).is_divergence]


def sample() -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.tensor([1.5, -0.5, 0.25, 2.0], dtype=torch.float64)
    return logits, fg.label_smoothed_log_target(torch.tensor(2), 4, 0.6, torch.float64)


def test_logits_at_reaches_far_below_the_precision_of_one():
    missing = torch.tensor(1e-200, dtype=torch.float64)
    logits = forces.logits_at(missing, 3, sits_on=0)
    others = (logits - logits[0]).exp()[1:].sum()
    assert others.item() == pytest.approx(1e-200, rel=1e-12, abs=0)


def test_log_log_slopes_of_a_power():
    x = torch.tensor([1e-3, 1e-5, 1e-9], dtype=torch.float64)
    torch.testing.assert_close(forces.log_log_slopes(x, -7 * x**1.5), torch.full((2,), 1.5, dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
def test_plain_and_exact_agree_with_autograd_where_nothing_cancels(name: str):
    divergence = fg.divergence(name)
    logits, log_q = sample()
    seen = logits.clone().requires_grad_()
    by_autograd = torch.autograd.grad(divergence.value(seen.log_softmax(-1), log_q), seen)[0]
    exact = torch.tensor([*map(float, forces.exact_logit_gradient(divergence, logits, log_q))], dtype=torch.float64)
    torch.testing.assert_close(forces.plain_logit_gradient(divergence, logits, log_q), by_autograd, rtol=1e-9, atol=0)
    torch.testing.assert_close(exact, by_autograd, rtol=1e-9, atol=0)


def test_exact_keeps_all_digits_where_the_plain_form_has_none():
    logits = torch.tensor([60.0, 0.0], dtype=torch.float64)
    log_q = fg.label_smoothed_log_target(torch.tensor(0), 2, 0.9, torch.float64)
    first, second = forces.exact_logit_gradient(fg.divergence("fkl"), logits, log_q)
    # For two classes F = p_1 p_2 (u_1 - u_2), and here u_1 - u_2 = 60 - log(q_1 / q_2).
    expected = (60 - (log_q[0] - log_q[1]).item()) * math.exp(-60) / (1 + math.exp(-60)) ** 2
    assert float(first) == pytest.approx(expected, rel=1e-12, abs=0)
    assert float(second) == pytest.approx(-expected, rel=1e-12, abs=0)
    plain = forces.plain_logit_gradient(fg.divergence("fkl"), logits, log_q)
    assert abs(plain[0].item() - expected) >= expected


def test_error_in_ulp_counts_neighbours_of_the_largest_component():
    exact = [mpmath.mpf(3), mpmath.mpf("1e-3")]
    found = torch.tensor([3.0, 1e-3], dtype=torch.float32)
    assert forces.error_in_ulp(found, exact) < 0.01
    after = torch.nextafter(found, torch.tensor(math.inf))
    after[1] = found[1]
    assert forces.error_in_ulp(after, exact) == pytest.approx(1)
