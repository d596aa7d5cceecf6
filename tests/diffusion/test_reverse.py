"""One reverse step: its prediction, mean and variances at the ends of the schedule."""

import pytest
import torch

from fguidance.diffusion import Schedule, fixed_variance, learned_log_variance, predict_clean, reverse_step

SCHEDULE = Schedule.linear(1000).respace(10)


def test_predicting_undoes_adding_noise() -> None:
    clean, noise = torch.rand(2, 1, 3, 3, dtype=torch.float64), torch.randn(2, 1, 3, 3, dtype=torch.float64)
    for step in range(10):
        x_t = SCHEDULE.add_noise(clean, noise, torch.tensor([step, step]))
        predicted = predict_clean(x_t, noise, SCHEDULE.alphas_cumprod[step].item())
        torch.testing.assert_close(predicted, clean, rtol=0, atol=1e-12)


def test_fixed_variances_at_step_zero() -> None:
    after = SCHEDULE.posterior_variance[1].item()
    assert fixed_variance("posterior", SCHEDULE, 0) == (0.0, pytest.approx(torch.tensor(after).log().item()))
    assert fixed_variance("beta", SCHEDULE, 0)[0] == after
    assert fixed_variance("beta", SCHEDULE, 3)[0] == SCHEDULE.betas[3]


def test_the_learned_range_ends_at_the_two_fixed_variances() -> None:
    for step in range(10):
        ends = learned_log_variance(torch.tensor([-1.0, 1.0], dtype=torch.float64), SCHEDULE, step).tolist()
        lowest = SCHEDULE.posterior_log_variance_clipped[step].item()
        assert ends == pytest.approx([lowest, SCHEDULE.betas[step].log().item()], rel=1e-12)


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


@pytest.mark.parametrize("alpha_cumprod", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_outside_its_range_is_refused(alpha_cumprod):
    with pytest.raises(ValueError, match="alpha_cumprod"):
        predict_clean(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), alpha_cumprod)
