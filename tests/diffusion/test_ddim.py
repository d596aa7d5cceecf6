"""DDIM steps against the formula written out, and where they must agree with the ancestral ones."""

import math

import pytest
import torch
from torch import Tensor

from fguidance.diffusion import Schedule, predict_clean, predict_noise, sample
from fguidance.guidance import Guidance

SCHEDULE = Schedule.linear(1000).respace(5)
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


def written_out(eta: float, guided: bool) -> list[Tensor]:
    """Dhariwal & Nichol's program, one number at a time: clip, move the noise, predict again, step."""
    x, images = NOISE["initial_noise"], []
    for count, step in enumerate(range(4, -1, -1)):
        share = math.prod(1 - beta for beta in SCHEDULE.betas[: step + 1].tolist())
        before = math.prod(1 - beta for beta in SCHEDULE.betas[:step].tolist())
        noise = model(x, torch.full((3,), SCHEDULE.timestep_map[step].item()), LABELS)
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


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("network", [model, with_variance])
def test_a_chain_equals_the_formula_written_out(eta, guided, network) -> None:
    records, extra = [], {**GUIDED, "classifier": classifier} if guided else {}
    sample(
        network, SCHEDULE, LABELS, sampler="ddim", eta=eta, progress=False, callback=records.append, **extra, **NOISE
    )
    for record, expected in zip(records, written_out(eta, guided), strict=True):
        torch.testing.assert_close(record.sample, expected, rtol=1e-9, atol=1e-9)


def test_with_all_its_noise_it_is_the_ancestral_sampler_of_the_posteriors_variance() -> None:
    ddim = sample(model, SCHEDULE, LABELS, sampler="ddim", eta=1.0, progress=False, **NOISE)
    ancestral = sample(model, SCHEDULE, LABELS, progress=False, **NOISE)
    torch.testing.assert_close(ddim, ancestral, rtol=1e-9, atol=1e-9)


def test_without_noise_the_start_decides() -> None:
    other = NOISE | {"step_noise": torch.full_like(NOISE["step_noise"], 9.0)}
    first, second = (sample(model, SCHEDULE, LABELS, sampler="ddim", progress=False, **one) for one in (NOISE, other))
    assert first.equal(second)


@pytest.mark.parametrize("steps", [3, 20])
def test_a_single_point_is_reached_in_any_number_of_steps(steps) -> None:
    schedule, point = Schedule.linear(1000).respace(steps), torch.full((1, 2, 3, 3), 0.3, dtype=torch.float64)

    def exact(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        share = schedule.alphas_cumprod[schedule.timestep_map.tolist().index(int(t[0]))].item()
        return predict_noise(x, point, share)

    images = sample(exact, schedule, LABELS, sampler="ddim", progress=False, initial_noise=NOISE["initial_noise"])
    torch.testing.assert_close(images, point.expand_as(images), rtol=0, atol=1e-9)


def test_noise_and_clean_image_are_each_others_inverse() -> None:
    x, clean = NOISE["initial_noise"], NOISE["step_noise"][0]
    torch.testing.assert_close(predict_clean(x, predict_noise(x, clean, 0.3), 0.3), clean)


@pytest.mark.parametrize("alpha_cumprod", [0.0, 1.0, -0.1, math.nan])
def test_a_share_out_of_range_is_refused(alpha_cumprod) -> None:
    with pytest.raises(ValueError, match="alpha_cumprod is"):
        predict_noise(torch.zeros(1), torch.zeros(1), alpha_cumprod)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sampler": "euler"}, "sampler is 'euler'"),
        ({"sampler": "ddim", "eta": 1.5}, "eta is 1.5"),
        ({"sampler": "ddim", "eta": math.nan}, "eta is nan"),
        ({"eta": 0.5}, "eta is 0.5; it must be 0 for the ancestral sampler"),
        ({"sampler": "ddim", "sine_gamma": 0.3}, "sine_gamma is 0.3; it must be 0 for DDIM"),
    ],
)
def test_bad_arguments_are_named(changes, match) -> None:
    with pytest.raises(ValueError, match=match):
        sample(model, SCHEDULE, LABELS, progress=False, **changes, **NOISE)
