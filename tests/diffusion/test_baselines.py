"""Guidance of other papers: entropy-aware scaling, classifier-free, and a classifier that has seen noise."""

import math

import pytest
import torch
from torch import Tensor

import fguidance as fg
from fguidance.diffusion import EntropyAware, Schedule, classifier_free, sample

SCHEDULE = Schedule.linear(1000).respace(4)
LABELS = torch.tensor([1, 0, 2])
DHARIWAL_NICHOL = fg.Guidance(alpha=0.0, tau_marginal=1.0)


def noise(batch: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    shapes = {"initial_noise": (batch, 1, 2, 2), "step_noise": (4, batch, 1, 2, 2)}
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def model(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    phase = (t / 300.0 + y).view(-1, 1, 1, 1)
    return torch.cat([torch.sin(x + phase), torch.cos(2 * x - phase)], 1)


def classifier(x: Tensor) -> Tensor:
    weight = torch.linspace(-3, 3, 12, dtype=x.dtype).sin().view(4, 3)
    return torch.tanh(x.flatten(1)) @ weight * 5


class TestEntropyAware:
    images = noise()["initial_noise"]

    def test_the_gradient_is_scaled_sample_by_sample(self) -> None:
        found = EntropyAware(DHARIWAL_NICHOL).gradient(classifier, self.images, LABELS)
        plain = DHARIWAL_NICHOL.gradient(classifier, self.images, LABELS)
        p = classifier(self.images).softmax(-1)
        factor = math.log(3) / -(p * p.log()).sum(-1)
        assert factor.min() > 1
        torch.testing.assert_close(found, plain * factor.view(-1, 1, 1, 1))

    def test_a_uniform_prediction_leaves_the_gradient_as_it_is(self) -> None:
        assert EntropyAware(DHARIWAL_NICHOL).factor(torch.full((2, 5), 7.0)).tolist() == [1.0, 1.0]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
    def test_certainty_does_not_divide_by_zero(self, dtype) -> None:
        logits = torch.tensor([[6e4, 0.0, -6e4], [40.0, 0.0, 0.0]], dtype=dtype)
        found = EntropyAware(DHARIWAL_NICHOL, smallest_share=0.05).factor(logits)
        assert found.tolist() == pytest.approx([20.0, 20.0])

    def test_the_classifier_is_passed_once(self) -> None:
        calls = []
        EntropyAware(DHARIWAL_NICHOL).gradient(lambda x: calls.append(1) or classifier(x), self.images, LABELS)
        assert calls == [1]


class TestClassifierFree:
    x, t = noise()["initial_noise"], torch.full((3,), 400)

    def test_the_noise_is_moved_and_the_variance_is_not(self) -> None:
        found = classifier_free(model, 1.5, null_label=9)(self.x, self.t, LABELS)
        conditional, other = model(self.x, self.t, LABELS), model(self.x, self.t, torch.full((3,), 9))
        torch.testing.assert_close(found[:, :1], 2.5 * conditional[:, :1] - 1.5 * other[:, :1])
        assert found[:, 1:].equal(conditional[:, 1:])

    def test_another_network_may_be_the_unconditional_one(self) -> None:
        found = classifier_free(model, 1.5, unconditional=lambda x, t: 0 * x)(self.x, self.t, LABELS)
        torch.testing.assert_close(found[:, :1], 2.5 * model(self.x, self.t, LABELS)[:, :1])

    def test_a_scale_of_zero_is_the_model(self) -> None:
        found = sample(classifier_free(model, 0.0, null_label=9), SCHEDULE, LABELS, progress=False, **noise())
        assert found.equal(sample(model, SCHEDULE, LABELS, progress=False, **noise()))

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({}, "exactly one of null_label and unconditional"),
            ({"null_label": 1, "unconditional": lambda x, t: x}, "exactly one of null_label and unconditional"),
        ],
    )
    def test_bad_arguments_are_named(self, changes, match) -> None:
        with pytest.raises(ValueError, match=match):
            classifier_free(**({"model": model, "guidance_scale": 1.0} | changes))
