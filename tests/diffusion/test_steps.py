"""Reverse steps: prediction, mean and variances, and DDIM chains against the formula written out."""

import math

import pytest
import torch
from torch import Tensor

from fguidance.diffusion import (
    GuidanceStepSize,
    Schedule,
    fixed_variance,
    learned_log_variance,
    predict_clean,
    predict_noise,
    reverse_step,
    sample,
)
from fguidance.guidance import Guidance

SCHEDULE = Schedule.linear(1000).respace(10)


def test_fixed_variances_at_step_zero() -> None:
    after = SCHEDULE.posterior_variance[1].item()
    assert fixed_variance("posterior", SCHEDULE, 0) == (0.0, pytest.approx(torch.tensor(after).log().item()))
    assert fixed_variance("beta", SCHEDULE, 0)[0] == after
    assert fixed_variance("beta", SCHEDULE, 3)[0] == SCHEDULE.betas[3]


def test_step_zero_returns_the_predicted_clean_image() -> None:
    x_t, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    step = reverse_step(noise, x_t, SCHEDULE, 0)
    assert step.mean.equal(step.predicted_clean)
    assert step.variance.shape == (1, 1, 1, 1)


def test_only_the_first_channels_are_noise() -> None:
    x_t, output = torch.randn(2, 3, 4, 4), torch.randn(2, 6, 4, 4)
    learned, fixed = reverse_step(output, x_t, SCHEDULE, 5), reverse_step(output[:, :3], x_t, SCHEDULE, 5)
    assert learned.mean.equal(fixed.mean)
    assert learned.variance.shape == (2, 3, 4, 4)
    torch.testing.assert_close(learned.log_variance, learned_log_variance(output[:, 3:], SCHEDULE, 5))


@pytest.mark.parametrize("alpha_cumprod", [0.0, -0.1, 1.1, math.nan])
def test_a_share_outside_its_range_is_refused(alpha_cumprod: float) -> None:
    for function, share in ((predict_clean, alpha_cumprod), (predict_noise, alpha_cumprod), (predict_noise, 1.0)):
        with pytest.raises(ValueError, match="alpha_cumprod is"):
            function(torch.zeros(1), torch.zeros(1), share)


def test_step_size_remembers_the_largest_first_element_only() -> None:
    step_size = GuidanceStepSize(steps=4, gamma=0.5)
    variance = torch.tensor([[0.2, 9.0], [9.0, 9.0]])
    torch.testing.assert_close(step_size(variance, 2), variance + 0.5 * 0.2)
    torch.testing.assert_close(step_size(variance / 2, 1), variance / 2 + math.sin(math.pi / 4) * 0.5 * 0.2)
    torch.testing.assert_close(step_size(variance * 2, 1), variance * 2 + math.sin(math.pi / 4) * 0.5 * 0.4)
    torch.testing.assert_close(step_size(variance, 0), variance)


FIVE = Schedule.linear(1000).respace(5)
LABELS = torch.tensor([1, 0, 2])
GUIDED = {"guidance": Guidance(divergence="js", alpha=0.7), "guidance_scale": 1.7}
NOISE = {
    "initial_noise": torch.randn(3, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)),
    "step_noise": torch.randn(5, 3, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)),
}


def model(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return torch.sin(x + (t / 300.0 + y).view(-1, 1, 1, 1))


def with_variance(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return torch.cat([model(x, t, y), torch.cos(x)], 1)


def classifier(x: Tensor) -> Tensor:
    weight = torch.linspace(-1, 1, 4 * x[0].numel(), dtype=x.dtype).sin().view(-1, 4)
    return torch.tanh(x.flatten(1)) @ weight * 5


def ddim_written_out(eta: float, guided: bool) -> list[Tensor]:
    """Dhariwal & Nichol's program, one number at a time: clip, move the noise, predict again, step."""
    x, images = NOISE["initial_noise"], []
    for count, step in enumerate(range(4, -1, -1)):
        share = math.prod(1 - beta for beta in FIVE.betas[: step + 1].tolist())
        before = math.prod(1 - beta for beta in FIVE.betas[:step].tolist())
        noise = model(x, torch.full((3,), FIVE.timestep_map[step].item()), LABELS)
        clean = ((x - math.sqrt(1 - share) * noise) / math.sqrt(share)).clamp(-1, 1)
        noise = (x - math.sqrt(share) * clean) / math.sqrt(1 - share)
        if guided:
            seen = clean.clone().requires_grad_()
            score = GUIDED["guidance"].score(classifier(seen), LABELS).sum()
            noise = noise - math.sqrt(1 - share) * 1.7 * torch.autograd.grad(score, seen)[0]
            clean = (x - math.sqrt(1 - share) * noise) / math.sqrt(share)
        deviation = eta * math.sqrt((1 - before) / (1 - share)) * math.sqrt(1 - share / before)
        x = math.sqrt(before) * clean + math.sqrt(max(1 - before - deviation**2, 0)) * noise
        if step > 0:
            x = x + deviation * NOISE["step_noise"][count]
        images.append(x)
    return images


@pytest.mark.parametrize(
    ("eta", "guided", "network"), [(0.0, True, with_variance), (0.4, True, model), (1.0, False, with_variance)]
)
def test_a_ddim_chain_equals_the_formula_written_out(eta, guided, network) -> None:
    records, extra = [], {**GUIDED, "classifier": classifier} if guided else {}
    sample(network, FIVE, LABELS, sampler="ddim", eta=eta, progress=False, callback=records.append, **extra, **NOISE)
    for record, expected in zip(records, ddim_written_out(eta, guided), strict=True):
        torch.testing.assert_close(record.sample, expected, rtol=1e-9, atol=1e-9)


def test_with_all_its_noise_it_is_the_ancestral_sampler_of_the_posteriors_variance() -> None:
    ddim = sample(model, FIVE, LABELS, sampler="ddim", eta=1.0, progress=False, **NOISE)
    ancestral = sample(model, FIVE, LABELS, progress=False, **NOISE)
    torch.testing.assert_close(ddim, ancestral, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sampler": "euler"}, "sampler is 'euler'"),
        ({"sampler": "ddim", "eta": 1.5}, "eta must be a finite number from 0 to 1, not 1.5"),
        ({"eta": 0.5}, "eta is 0.5; it must be 0 for the ancestral sampler"),
        ({"sampler": "ddim", "sine_gamma": 0.3}, "sine_gamma is 0.3; it must be 0 for DDIM"),
    ],
)
def test_bad_arguments_of_either_sampler_are_named(changes, match) -> None:
    with pytest.raises(ValueError, match=match):
        sample(model, FIVE, LABELS, progress=False, **changes, **NOISE)
