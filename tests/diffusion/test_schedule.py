"""The schedule's tables against the published program's and against their definitions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fguidance.diffusion import Schedule

FIXTURES = Path(__file__).parents[1] / "fixtures"
TABLES = ("timestep_map", "betas", "alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped")


@pytest.mark.parametrize("steps", [25, 250])
@pytest.mark.parametrize("table", TABLES)
def test_respaced_tables_equal_the_published_programs(steps: int, table: str) -> None:
    expected = np.load(FIXTURES / f"schedule_linear1000_to_{steps}.npz")[table]
    actual = getattr(Schedule.linear(1000).respace(steps), table)
    assert actual.dtype == (torch.int64 if table == "timestep_map" else torch.float64)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", [Schedule.linear(1000), Schedule.linear(50), Schedule.cosine(100)])
def test_posterior_is_bayes_rule(schedule: Schedule) -> None:
    """q(x_{k-1} | x_k, x_0) by multiplying the two Gaussians q(x_k | x_{k-1}) and q(x_{k-1} | x_0)."""
    previous = schedule.alphas_cumprod_previous[1:]
    alphas, betas = 1 - schedule.betas[1:], schedule.betas[1:]
    precision = alphas / betas + 1 / (1 - previous)
    torch.testing.assert_close(schedule.posterior_variance[1:], 1 / precision, rtol=1e-9, atol=0)
    clean = previous.sqrt() / (1 - previous) / precision
    noisy = alphas.sqrt() / betas / precision
    torch.testing.assert_close(schedule.posterior_mean_clean[1:], clean, rtol=1e-9, atol=0)
    torch.testing.assert_close(schedule.posterior_mean_noisy[1:], noisy, rtol=1e-9, atol=0)


def test_cosine_follows_its_formula_where_beta_is_not_capped() -> None:
    schedule = Schedule.cosine(200)
    time = (np.arange(1, 201) / 200 + 0.008) / 1.008
    expected = np.cos(time * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(schedule.alphas_cumprod[:-1].numpy(), expected[:-1], rtol=1e-10)
    assert schedule.betas[-1] == 0.999


@pytest.mark.parametrize("steps", [2, 3, 7, 50, 999, 1000])
def test_respacing_keeps_the_ends_and_the_noise_levels(steps: int) -> None:
    full = Schedule.linear(1000)
    respaced = full.respace(steps)
    assert len(respaced) == steps
    assert respaced.timestep_map[0] == 0
    assert respaced.timestep_map[-1] == 999
    torch.testing.assert_close(respaced.alphas_cumprod, full.alphas_cumprod[respaced.timestep_map], rtol=1e-12, atol=0)


@pytest.mark.parametrize("steps", [21, 23, 31, 43])
def test_respacing_rounds_as_the_published_program_does(steps: int) -> None:
    """Adding the stride up and multiplying it out differ for these: 10 * 49.95 is 499.5, ten times added just less."""
    position, kept = 0.0, []
    for _ in range(steps):
        kept.append(round(position))
        position += 999 / (steps - 1)
    assert kept != [round(index * (999 / (steps - 1))) for index in range(steps)]
    assert Schedule.linear(1000).respace(steps).timestep_map.tolist() == kept


def test_adding_noise_keeps_unit_variance_and_uses_each_samples_step() -> None:
    schedule = Schedule.linear(1000)
    clean, noise = torch.ones(3, 1, 2, 2), torch.full((3, 1, 2, 2), 2.0)
    noisy = schedule.add_noise(clean, noise, torch.tensor([0, 500, 999]))
    for row, step in enumerate((0, 500, 999)):
        share = schedule.alphas_cumprod[step].item()
        torch.testing.assert_close(noisy[row], torch.full((1, 2, 2), share**0.5 + 2 * (1 - share) ** 0.5))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Schedule(torch.tensor([0.1, 0.2]), torch.arange(2)), TypeError, "betas has dtype torch.float32"),
        (lambda: Schedule(torch.tensor([0.1, 1.0]).double(), torch.arange(2)), ValueError, "betas run from 0.1 to 1"),
        (lambda: Schedule(torch.tensor([0.1, torch.nan]).double(), torch.arange(2)), ValueError, "betas run"),
        (lambda: Schedule(torch.tensor([0.1]).double(), torch.arange(1)), ValueError, "betas has shape"),
        (lambda: Schedule(torch.tensor([0.1, 0.2]).double(), torch.arange(3)), ValueError, "timestep_map has shape"),
        (lambda: Schedule(torch.tensor([0.1, 0.2]).double(), torch.ones(2)), TypeError, "timestep_map has dtype"),
        (
            lambda: Schedule(torch.tensor([0.1, 0.2]).double(), torch.tensor([3, 3])),
            ValueError,
            "timestep_map must be strictly increasing",
        ),
    ],
)
def test_bad_arguments_are_named(make, error, match) -> None:
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize(
    ("noise", "step", "match"),
    [
        (torch.zeros(2, 1, 2, 3), torch.tensor([0, 1]), "noise has shape"),
        (torch.zeros(2, 1, 2, 2), torch.tensor([0]), "step has shape"),
        (torch.zeros(2, 1, 2, 2), torch.tensor([0, 100]), "step runs from 0 to 100"),
        (torch.zeros(2, 1, 2, 2), torch.tensor([-1, 5]), "step runs from -1 to 5"),
    ],
)
def test_bad_noise_or_steps_are_named(noise, step, match) -> None:
    with pytest.raises(ValueError, match=match):
        Schedule.linear(100).add_noise(torch.zeros(2, 1, 2, 2), noise, step)
