"""The sampler against closed forms and a plain loop, and its promises about noise, seeds and bad input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fguidance.diffusion import Schedule, sample
from fguidance.diffusion.sampler import WATCHED, FiniteWatch
from fguidance.guidance import Guidance
from fguidance.inputs import _unread

SCHEDULE = Schedule.linear(1000).respace(5)
LABELS = torch.tensor([1, 0, 2])
SHAPE = (2, 3, 3)


def zero_noise(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return torch.zeros_like(x)


def wavy(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """A learned-range network without parameters: every input matters to the output."""
    phase = (t / 300.0 + y).view(-1, 1, 1, 1).to(x)
    return torch.cat([torch.sin(x + phase), torch.cos(3 * x.flip(-1) - phase)], 1)


def classifier(x: Tensor) -> Tensor:
    weight = torch.linspace(-1, 1, 4 * x[0].numel(), dtype=x.dtype).sin().view(-1, 4)
    return torch.tanh(x.flatten(1)) @ weight * 5


def given_noise(batch: int = 3, steps: int = 5) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    draw = {"generator": generator, "dtype": torch.float64}
    return {
        "initial_noise": torch.randn(batch, *SHAPE, **draw),
        "step_noise": torch.randn(steps, batch, *SHAPE, **draw),
    }


class Gaussian:
    """Data drawn from N(mean, variance): the exact noise prediction and the exact reverse variance."""

    def __init__(self, schedule: Schedule, mean: float, variance: float) -> None:
        self.schedule, self.mean, self.variance = schedule, mean, variance

    def __call__(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        step = self.schedule.timestep_map.tolist().index(int(t[0]))
        share = self.schedule.alphas_cumprod[step]
        total = share * self.variance + 1 - share
        noise = (1 - share).sqrt() * (x - share.sqrt() * self.mean) / total
        spread = self.variance * (1 - share) / total  # of the clean image, given the noisy one
        table = self.schedule
        wanted = table.posterior_variance[step] + table.posterior_mean_clean[step] ** 2 * spread
        low, high = table.posterior_log_variance_clipped[step], table.betas[step].log()
        interpolation = 2 * (wanted.log() - low) / (high - low) - 1 if step else torch.tensor(0.0)
        return torch.cat([noise, interpolation.expand_as(noise)], 1)


@pytest.mark.parametrize(("steps", "mean", "variance"), [(2, 0.7, 0.04), (10, 0.0, 0.5), (100, 0.7, 0.04)])
def test_gaussian_data_comes_out_with_its_exact_mean_and_variance(steps, mean, variance) -> None:
    """The chain is affine in its noises: zero noise gives the mean, unit impulses the variance, without sampling."""
    schedule = Schedule.linear(1000).respace(steps)
    batch = steps + 2  # one sample without noise, one per impulse
    share = schedule.alphas_cumprod[-1].item()
    start = torch.full((batch, 1, 1, 1), math.sqrt(share) * mean, dtype=torch.float64)
    start[1] += math.sqrt(share * variance + 1 - share)
    impulses = torch.zeros(steps, batch, 1, 1, 1, dtype=torch.float64)
    impulses[torch.arange(steps), torch.arange(steps) + 2] = 1.0
    images = sample(
        Gaussian(schedule, mean, variance), schedule, torch.zeros(batch, dtype=torch.int64), initial_noise=start,
        step_noise=impulses, clip_denoised=False, progress=False,
    ).flatten()  # fmt: skip
    first = schedule.alphas_cumprod[0].item()
    # The last step returns the conditional mean and so leaves out what is still unknown there.
    expected = variance * (first * variance) / (first * variance + 1 - first)
    assert images[0].item() == pytest.approx(mean, abs=1e-9)
    assert (images[1:] - images[0]).square().sum().item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["posterior", "beta"])
def test_fixed_variances_reach_standard_normal_data_and_one_point(kind) -> None:
    """Ho et al.: beta is exact for standard normal data, the posterior variance for data that is one point."""
    schedule = Schedule.linear(1000).respace(20)
    variance = {"beta": 1.0, "posterior": 0.0}[kind]
    network = Gaussian(schedule, 0.0, variance)
    expected = 1 - (1 - variance) * schedule.alphas_cumprod
    start, found = torch.eye(21, dtype=torch.float64)[0] * expected[-1].sqrt(), []
    sample(
        lambda x, t, y: network(x, t, y)[:, :1], schedule, torch.zeros(21, dtype=torch.int64),
        initial_noise=start.view(-1, 1, 1, 1), fixed_variance=kind, clip_denoised=False, progress=False,
        step_noise=torch.eye(21, dtype=torch.float64)[1:].view(20, 21, 1, 1, 1),
        callback=lambda record: found.append(record.sample.square().sum().item()),
    )  # fmt: skip
    # After the step k the images stand at the noise level of step k - 1; the last step adds no noise.
    assert found[:-1] == pytest.approx(expected.flip(0)[1:].tolist(), rel=1e-9)


def test_a_seed_alone_decides_a_samples_noise() -> None:
    together = sample(wavy, SCHEDULE, LABELS, shape=SHAPE, seeds=[5, 6, 7], progress=False)
    alone = sample(wavy, SCHEDULE, LABELS[1:2], shape=SHAPE, seeds=[6], progress=False)
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=0)
    other = sample(wavy, SCHEDULE, LABELS[1:2], shape=SHAPE, seeds=[8], progress=False)
    assert (other - alone).abs().max() > 0.1


def test_noise_is_drawn_first_for_the_start_and_then_step_by_step() -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6, 7)]
    drawn = [torch.stack([torch.randn(SHAPE, generator=generator) for generator in generators]) for _ in range(6)]
    given = sample(
        wavy, SCHEDULE, LABELS, initial_noise=drawn[0], step_noise=torch.stack(drawn[1:]), progress=False
    )  # fmt: skip
    seeded = sample(wavy, SCHEDULE, LABELS, shape=SHAPE, seeds=[5, 6, 7], progress=False)
    torch.testing.assert_close(seeded, given, rtol=0, atol=0)


def test_the_global_generator_decides_without_seeds() -> None:
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(sample(wavy, SCHEDULE, LABELS, shape=SHAPE, progress=False))
    assert runs[0].equal(runs[1])
    assert not runs[0].equal(runs[2])


def test_the_last_steps_noise_is_not_used() -> None:
    noise = given_noise()
    first = sample(wavy, SCHEDULE, LABELS, progress=False, **noise)
    noise["step_noise"][-1] = 100.0
    assert sample(wavy, SCHEDULE, LABELS, progress=False, **noise).equal(first)
    noise["step_noise"][-2] += 1.0
    assert not sample(wavy, SCHEDULE, LABELS, progress=False, **noise).equal(first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_initial_noises_dtype_is_the_runs_and_no_graph_is_built(dtype) -> None:
    noise, weight = {name: value.to(dtype) for name, value in given_noise().items()}, torch.ones(1, requires_grad=True)
    images = sample(
        lambda x, t, y: weight.to(x) * wavy(x, t, y), SCHEDULE, LABELS, guidance=Guidance(), classifier=classifier,
        progress=False, **noise,
    )  # fmt: skip
    assert images.dtype == dtype
    assert not images.requires_grad


def test_the_progress_bar_goes_to_standard_error(capsys) -> None:
    sample(zero_noise, SCHEDULE, LABELS, shape=SHAPE, progress=True)
    shown = capsys.readouterr()
    assert "5/5" in shown.err
    assert shown.out == ""
    sample(zero_noise, SCHEDULE, LABELS, shape=SHAPE, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"shape": None}, ValueError, "exactly one of shape and initial_noise"),
        ({"initial_noise": torch.zeros(3, *SHAPE)}, ValueError, "exactly one of shape and initial_noise"),
        ({"shape": (3, *SHAPE)}, ValueError, r"shape is \(3, 2, 3, 3\); it must be \(channels, height, width\)"),
        ({"shape": (0, 3, 3)}, ValueError, "each at least 1"),
        ({"labels": LABELS.float()}, TypeError, "labels has dtype torch.float32"),
        ({"labels": LABELS[None]}, ValueError, "labels has shape"),
        ({"labels": LABELS[:0]}, ValueError, "at least one sample"),
        ({"seeds": [1, 2]}, ValueError, "seeds has 2 entries; it must have one per label, 3"),
        ({"shape": None, "initial_noise": torch.zeros(2, *SHAPE)}, ValueError, "initial_noise has shape"),
        ({"shape": None, "initial_noise": torch.zeros(3, *SHAPE).long()}, TypeError, "initial_noise has dtype"),
        ({"step_noise": torch.zeros(4, 3, *SHAPE)}, ValueError, "step_noise has shape"),
        ({"shape": None, "seeds": [1, 2, 3], **given_noise()}, ValueError, "seeds has no use"),
        ({"guidance": Guidance()}, ValueError, "guidance and classifier must be given together"),
        ({"classifier": classifier}, ValueError, "guidance and classifier must be given together"),
        ({"guidance_scale": math.inf}, ValueError, "guidance_scale must be a finite number, not inf"),
        ({"sine_gamma": -0.1}, ValueError, "sine_gamma must be a finite number of at least 0, not -0.1"),
        ({"fixed_variance": "small"}, ValueError, "fixed_variance is 'small'"),
        ({"classifier_input": "dirty"}, ValueError, "classifier_input is 'dirty'; it must be one of"),
        ({"model": lambda x, t, y: x[:, :1]}, ValueError, "output has shape"),
        ({"model": lambda x, t, y: x[..., :2]}, ValueError, "output has shape"),
        ({"model": lambda x, t, y: x * math.nan}, FloatingPointError, r"output .* at step 4 \(timestep 999\)"),
    ],
)
def test_bad_arguments_are_named(changes, error, match) -> None:
    arguments = {"model": zero_noise, "schedule": SCHEDULE, "labels": LABELS, "shape": SHAPE} | changes
    with pytest.raises(error, match=match):
        sample(**arguments, progress=False)


def test_a_non_finite_guidance_gradient_stops_the_run() -> None:
    class Broken:
        def gradient(self, classifier, x, labels):
            return torch.full_like(x, math.inf)

    with pytest.raises(FloatingPointError, match=r"the guidance gradient has 54 of 54 values .* at step 4"):
        sample(zero_noise, SCHEDULE, LABELS, shape=SHAPE, guidance=Broken(), classifier=classifier, progress=False)


def test_nothing_is_read_from_another_device_while_the_loop_runs(monkeypatch) -> None:
    """On the meta device a number cannot be read: what would make a GPU wait is an error there."""
    unread: list[bool] = []

    def on_meta(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :4].sin()

    class Watched(Guidance):
        def gradient(self, classifier, x, labels):
            unread.append(_unread.get())
            return super().gradient(classifier, x, labels)

    monkeypatch.setattr(FiniteWatch, "settle", lambda watch: None)  # reads, but some steps later
    noise = {name: value.to("meta") for name, value in given_noise().items()}
    settings = {"guidance": Watched(divergence="js", alpha=0.7), "sine_gamma": 0.3, "progress": False}
    images = sample(wavy, SCHEDULE, LABELS.to("meta"), classifier=on_meta, **settings, **noise)
    assert images.shape == noise["initial_noise"].shape
    assert unread == [False, True, True, True, True]


class Elsewhere:
    """A tensor on a device where reading a number waits, as far as the watch can see."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.device = values, torch.device("cuda")

    def numel(self) -> int:
        return self.values.numel()

    def isfinite(self) -> Tensor:
        return self.values.isfinite()


class TestFiniteWatch:
    """At once on a CPU; elsewhere it looks at many results together and still names the first."""

    def test_on_a_cpu_it_stops_at_once_and_says_where(self) -> None:
        watch = FiniteWatch()
        watch.step, watch.timestep = 3, 30
        watch.look("the output", torch.tensor([torch.finfo(torch.float16).max, 0.0], dtype=torch.float16))
        expected = (
            r"^the output has 3 of 5 values that are NaN or infinite at step 3 \(timestep 30\); sampling stops here$"
        )
        with pytest.raises(FloatingPointError, match=expected):
            watch.look("the output", torch.tensor([math.nan, 1.0, math.inf, -math.inf, 0.0]))
        watch.look("the output", torch.ones(2))
        watch.settle()

    @given(st.sets(st.integers(0, WATCHED - 1)))
    def test_elsewhere_many_are_read_together_and_the_first_is_named(self, bad: set[int]) -> None:
        watch, read = FiniteWatch(), []
        really = watch.settle
        watch.settle = lambda: (read.append(watch.step), really())  # type: ignore[method-assign]

        def look_at_all() -> None:
            for watch.step in range(WATCHED):
                values = torch.ones(8)
                values[2] = math.nan if watch.step in bad else 1.0
                watch.look(f"result {watch.step}", Elsewhere(values))

        if bad:
            with pytest.raises(
                FloatingPointError, match=rf"^result {min(bad)} has 1 of 8 values .* at step {min(bad)} "
            ):
                look_at_all()
        else:
            look_at_all()
        assert read == [WATCHED - 1]
        really()

    @pytest.mark.parametrize("settle", (FiniteWatch.settle, lambda watch: watch.look("the gradient", torch.ones(1))))
    def test_the_end_and_a_result_on_the_cpu_settle_what_is_left(self, settle) -> None:
        watch = FiniteWatch()
        watch.look("the output", Elsewhere(torch.tensor([math.nan])))
        with pytest.raises(FloatingPointError, match="the output has 1 of 1"):
            settle(watch)
