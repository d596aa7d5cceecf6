"""Time and memory of the closed-form gradient, against autograd of the plainly written score and a copy."""

import pytest
import torch
from torch import Tensor
from torch.profiler import profile

import fguidance as fg
from tests.benchmarks.plain import GUIDED, gradient_by_autograd, guidance, inputs

BATCH, CLASSES, FEW = 256, 1000, 4
SIZES = (10, 100, 1000, 10_000, 100_000)
divergences = pytest.mark.parametrize("name", GUIDED)


def test_copy(benchmark):
    logits, _, _ = inputs(BATCH, CLASSES)
    benchmark(logits.clone)


@divergences
@pytest.mark.parametrize("mode", ("eager", "compiled"))
def test_autograd(benchmark, name, mode):
    arguments = (name, *inputs(BATCH, CLASSES))
    torch._dynamo.reset()
    function = torch.compile(gradient_by_autograd) if mode == "compiled" else gradient_by_autograd
    function(*arguments)
    benchmark(function, *arguments)


@divergences
@pytest.mark.parametrize("mode", ("eager", "compiled"))
def test_closed_form(benchmark, name, mode):
    logits, labels, log_q = inputs(BATCH, CLASSES)
    torch._dynamo.reset()
    gradient = guidance(name).logit_gradient
    function = torch.compile(gradient, fullgraph=True) if mode == "compiled" else gradient
    expected = gradient_by_autograd(name, logits, labels, log_q)
    torch.testing.assert_close(function(logits, labels), expected, rtol=1e-4, atol=1e-5)
    benchmark.extra_info["peak_memory_in_logits"] = peak_memory(gradient, logits, labels) / logits.nbytes
    benchmark(function, logits, labels)


def test_divergence_alone(benchmark):
    logits, _, log_q = inputs(BATCH, CLASSES)
    benchmark(fg.divergence("js").logit_gradient, logits, log_q)


def test_divergence_autograd(benchmark):
    logits, _, log_q = inputs(BATCH, CLASSES)

    def gradient() -> Tensor:
        leaf = logits.clone().requires_grad_()
        value = fg.divergence("js").value(torch.log_softmax(leaf, -1), log_q)
        return torch.autograd.grad(value.sum(), leaf)[0]

    benchmark(gradient)


@pytest.mark.parametrize("classes", SIZES)
def test_growth(benchmark, classes):
    logits, labels, _ = inputs(FEW, classes)
    benchmark(guidance("js").logit_gradient, logits, labels)


@pytest.mark.parametrize("classes", SIZES)
def test_growth_of_autograd(benchmark, classes):
    benchmark(gradient_by_autograd, "js", *inputs(FEW, classes))


def peak_memory(function, *arguments: Tensor) -> int:
    """The most bytes that were allocated at once while the function ran, its result included."""
    with profile(profile_memory=True) as recorded:
        function(*arguments)
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    held, peak = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
