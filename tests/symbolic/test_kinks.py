"""Generators with kinks are found out, derived in parts and calculated with, in any thread."""

import itertools
import subprocess
import sys

import pytest
import sympy as sp
import torch

import fguidance as fg
from fguidance.symbolic.kinks import smooth_parts
from fguidance.symbolic.parsing import parse_generator, t

GENERATORS = {
    # text: is smooth, and f(t) in PyTorch
    "abs(t - 1)": (False, lambda t: (t - 1).abs()),
    "abs(t-1)/2": (False, lambda t: (t - 1).abs() / 2),
    "max(t - 1, 0)": (False, lambda t: (t - 1).clamp_min(0)),
    "-min(t - 1, 0)": (False, lambda t: -(t - 1).clamp_max(0)),
    "t*log(t) + max(t - 2, 0)": (False, lambda t: t * t.log() + (t - 2).clamp_min(0)),
    "max(max(t - 1, 0), 3*(t - 2))": (False, lambda t: torch.maximum((t - 1).clamp_min(0), 3 * (t - 2))),
    "max((t - 1)^2, 2*(t - 1))": (False, lambda t: torch.maximum((t - 1) ** 2, 2 * (t - 1))),
    "max(t - 1, 0)**2": (False, lambda t: (t - 1).clamp_min(0) ** 2),
    "abs(t - 1)**3": (True, lambda t: (t - 1).abs() ** 3),
    "abs(t**(1/3) - 1)**3": (True, lambda t: (t ** (1 / 3) - 1).abs() ** 3),
    "sqrt((t-1)**2)": (False, lambda t: (t - 1).abs()),
    "(t - 1)**2 + abs(tanh(t - 1))": (False, lambda t: (t - 1) ** 2 + (t - 1).tanh().abs()),
}


@pytest.fixture
def log_probs() -> tuple[torch.Tensor, torch.Tensor]:
    logits = 2 * torch.randn(2, 200, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_p, log_q = torch.log_softmax(logits, -1)
    return log_p, log_q


@pytest.mark.parametrize("text", GENERATORS)
def test_value_and_weight_are_those_of_the_formula(text: str, log_probs: tuple[torch.Tensor, torch.Tensor]) -> None:
    log_p, log_q = log_probs
    is_smooth, function = GENERATORS[text]
    divergence, ratio = fg.Divergence.from_generator(text), (log_p - log_q).exp().requires_grad_()
    assert divergence.is_smooth == is_smooth
    function(ratio).sum().backward()
    beside = (1 + torch.tensor((1e-7, -1e-7), dtype=torch.float64)).requires_grad_()
    function(beside).sum().backward()
    tangent = beside.grad.mean()  # the mean of both slopes
    value = (log_q.exp() * (function(ratio) - tangent * (ratio - 1))).sum(-1)
    torch.testing.assert_close(divergence.value(log_p, log_q), value.detach(), rtol=1e-6, atol=1e-6)
    weight = log_p.exp() * (ratio.grad - tangent)
    torch.testing.assert_close(divergence.weight(log_p, log_q), weight, rtol=1e-6, atol=1e-6)


def test_the_registered_total_variation_is_the_same(log_probs: tuple[torch.Tensor, torch.Tensor]) -> None:
    own, registered = fg.Divergence.from_generator("abs(t-1)/2"), fg.divergence("total_variation")
    for log_p, log_q in (log_probs, (log_probs[0], log_probs[0])):
        assert torch.equal(own.weight(log_p, log_q), registered.weight(log_p, log_q))
        torch.testing.assert_close(own.value(log_p, log_q), registered.value(log_p, log_q), rtol=1e-14, atol=0)
        torch.testing.assert_close(own.logit_gradient(log_p, log_q), registered.logit_gradient(log_p, log_q))


def test_a_kink_elsewhere_has_the_mean_of_both_slopes() -> None:
    divergence = fg.Divergence.from_generator("max(t - 2, 0)")
    log_q = torch.tensor([0.25, 0.75], dtype=torch.float64).log()
    log_p = torch.stack((log_q[0] + torch.tensor(2.0, dtype=torch.float64).log(), torch.tensor(0.5).double().log()))
    torch.testing.assert_close(divergence.weight(log_p, log_q)[0], torch.tensor(0.25, dtype=torch.float64))


def test_the_parts_are_those_between_the_zeros() -> None:
    parts = smooth_parts(parse_generator("abs(t - 1) + abs(abs(t - 3) - 1)"))
    assert [part.low for part in parts] == [0, 1, 2, 3, 4]
    assert all(part.high == following.low for part, following in itertools.pairwise(parts))
    assert parts[0].expression == 3 - 2 * t
    assert parts[-1].expression == 2 * t - 5
    (irrational,) = {part.low for part in smooth_parts(sp.Abs(t**2 - 2))} - {0}
    assert abs(irrational - sp.sqrt(2)) < 1e-45


def test_kinks_that_cannot_be_found_are_refused() -> None:
    with pytest.raises(ValueError, match="has a kink cannot be found"):
        fg.Divergence.from_generator("abs(t*log(t) + t**2 - 1)")


def test_several_threads_may_derive_at_once() -> None:
    """In a process of its own, whose caches are empty: mpmath has one precision for all threads."""
    program = """
from concurrent.futures import ThreadPoolExecutor
import fguidance as fg
texts = ["(t-1)**2", "t*log(t)", "-log(t)", "(sqrt(t)-1)**2", "(t-1)^2/t", "(t-1)*ln(t)", "(t-1)**2/(t+1)",
    "abs(t-1)", "max(t-1, 0)", "(t-1)**4", "exp(t-1) - t", "(t-1)*atan(t-1)"]
with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(fg.Divergence.from_generator, texts))
print(len(found))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr[-500:]) == ("12\n", "")
