"""The noise schedule: how much noise each timestep holds, and which timesteps a sampler visits."""

import math
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from fguidance.inputs import require_whole


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    r"""Variances of the forward process and of its exact posterior, one float64 table entry per step.

    Step ``k`` runs from 0 (almost clean) to ``len(schedule) - 1`` (almost pure noise). A network knows only the
    timesteps it was trained on, so ``timestep_map[k]`` tells it which of them step ``k`` is. The tables are on the CPU.

    Args:
        betas: ``(steps,)`` float64, the variance :math:`\beta_k` added at each step, each in the open interval (0, 1).
        timestep_map: ``(steps,)`` int64, the original timestep of each step, strictly increasing from at least 0.

    Attributes:
        alphas_cumprod: ``(steps,)`` the share of the clean image's variance left, :math:`\bar\alpha_k`.
        alphas_cumprod_previous: ``(steps,)`` the same one step earlier, 1 before step 0.
        posterior_variance: ``(steps,)`` :math:`\tilde\beta_k`, exactly 0 at step 0.
        posterior_log_variance_clipped: ``(steps,)`` its logarithm, with the entry of step 1 in place of log 0.
        posterior_mean_clean: ``(steps,)`` the posterior mean's coefficient of the clean image.
        posterior_mean_noisy: ``(steps,)`` the posterior mean's coefficient of the noisy image.

    Raises:
        ValueError: a table has the wrong shape or values outside its range.
        TypeError: a table has the wrong dtype.

    Source: equations :eq:`eq-forward-process` and :eq:`eq-posterior`; Ho et al. 2020, arXiv:2006.11239, section 2.
    """

    betas: Tensor
    timestep_map: Tensor
    alphas_cumprod: Tensor = field(init=False)
    alphas_cumprod_previous: Tensor = field(init=False)
    posterior_variance: Tensor = field(init=False)
    posterior_log_variance_clipped: Tensor = field(init=False)
    posterior_mean_clean: Tensor = field(init=False)
    posterior_mean_noisy: Tensor = field(init=False)

    def __post_init__(self) -> None:
        _check_tables(self.betas, self.timestep_map)
        alphas = 1.0 - self.betas
        cumprod = alphas.cumprod(0)
        previous = torch.cat([cumprod.new_ones(1), cumprod[:-1]])
        variance = self.betas * (1.0 - previous) / (1.0 - cumprod)
        tables = {
            "alphas_cumprod": cumprod,
            "alphas_cumprod_previous": previous,
            "posterior_variance": variance,
            "posterior_log_variance_clipped": torch.cat([variance[1:2], variance[1:]]).log(),
            "posterior_mean_clean": self.betas * previous.sqrt() / (1.0 - cumprod),
            "posterior_mean_noisy": (1.0 - previous) * alphas.sqrt() / (1.0 - cumprod),
        }
        for name, table in tables.items():
            object.__setattr__(self, name, table)  # the dataclass is frozen: the tables belong together

    def __repr__(self) -> str:
        first, last = int(self.timestep_map[0]), int(self.timestep_map[-1])
        return f"Schedule({len(self)} steps, timesteps {first} to {last})"

    def __len__(self) -> int:
        return len(self.betas)

    @classmethod
    def linear(cls, num_timesteps: int) -> "Schedule":
        r"""Return betas rising linearly from 0.1/T to 20/T, which is 1e-4 to 0.02 for T = 1000 timesteps.

        Args:
            num_timesteps: T, at least 21 (with fewer the last beta would reach 1 and leave nothing of the image).

        Raises:
            ValueError: ``num_timesteps`` is smaller than 21.
            TypeError: ``num_timesteps`` is not an integer.

        Source: Ho et al. 2020, arXiv:2006.11239; scaled to T as in Dhariwal & Nichol 2021, arXiv:2105.05233.
        """
        num_timesteps = require_whole("num_timesteps", num_timesteps, 21)
        betas = torch.linspace(0.1 / num_timesteps, 20.0 / num_timesteps, num_timesteps, dtype=torch.float64)
        return cls(betas, torch.arange(num_timesteps))

    @classmethod
    def cosine(cls, num_timesteps: int) -> "Schedule":
        r"""Return betas whose :math:`\bar\alpha` follows a squared cosine, each beta at most 0.999.

        Args:
            num_timesteps: T, at least 2.

        Raises:
            ValueError: ``num_timesteps`` is smaller than 2.
            TypeError: ``num_timesteps`` is not an integer.

        Source: Nichol & Dhariwal 2021, arXiv:2102.09672, equation 17.
        """
        num_timesteps = require_whole("num_timesteps", num_timesteps, 2)
        time = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
        remaining = ((time + 0.008) / 1.008 * (math.pi / 2)).cos().square()
        betas = (1.0 - remaining[1:] / remaining[:-1]).clamp(max=0.999)
        return cls(betas, torch.arange(num_timesteps))

    def respace(self, steps: int) -> "Schedule":
        r"""Return the schedule that visits ``steps`` evenly spread timesteps of this one.

        The first and the last timestep are always kept, and :math:`\bar\alpha` at every kept timestep is unchanged.

        Args:
            steps: from 2 to ``len(self)``.

        Raises:
            ValueError: ``steps`` is outside that range.
            TypeError: ``steps`` is not an integer.

        Source: Nichol & Dhariwal 2021, arXiv:2102.09672, section 4; rounding as in their published program.
        """
        stride = (len(self) - 1) / (require_whole("steps", steps, 2, len(self)) - 1)
        # Accumulated, and not multiplied out: the published program's roundings depend on it.
        kept = torch.tensor([round(position) for position in accumulate([stride] * (steps - 1), initial=0.0)])
        cumprod = self.alphas_cumprod[kept]
        previous = torch.cat([cumprod.new_ones(1), cumprod[:-1]])
        return Schedule(1.0 - cumprod / previous, self.timestep_map[kept])

    def add_noise(self, clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        r"""Return the forward process's noisy images at the given steps, equation :eq:`eq-forward-process`.

        Args:
            clean: ``(batch, ...)`` floating images.
            noise: standard normal noise of the same shape and dtype.
            step: ``(batch,)`` integers in ``0 .. len(self) - 1``.

        Returns:
            :math:`\sqrt{\bar\alpha}\, x_0 + \sqrt{1 - \bar\alpha}\, \varepsilon`, shape and dtype of ``clean``.

        Raises:
            ValueError: shapes disagree or a step is out of range.
        """
        if noise.shape != clean.shape:
            raise ValueError(f"noise has shape {tuple(noise.shape)}; it must be that of clean, {tuple(clean.shape)}")
        if step.shape != clean.shape[:1]:
            raise ValueError(f"step has shape {tuple(step.shape)}; it must be ({clean.shape[0]},)")
        if step.numel() and not 0 <= int(step.min()) <= int(step.max()) < len(self):
            raise ValueError(f"step runs from {int(step.min())} to {int(step.max())}; allowed is 0 to {len(self) - 1}")
        share = self.alphas_cumprod[step.cpu()].view(-1, *[1] * (clean.ndim - 1))
        return share.sqrt().to(clean) * clean + (1.0 - share).sqrt().to(clean) * noise


def _check_tables(betas: Tensor, timestep_map: Tensor) -> None:
    if betas.dtype != torch.float64:
        raise TypeError(f"betas has dtype {betas.dtype}; it must be torch.float64")
    if betas.ndim != 1 or len(betas) < 2:
        raise ValueError(f"betas has shape {tuple(betas.shape)}; it must be (steps,) with at least 2 steps")
    if not bool(((betas > 0) & (betas < 1)).all()):
        raise ValueError(f"betas run from {betas.min():g} to {betas.max():g}; each must be in the open interval (0, 1)")
    if timestep_map.dtype != torch.int64:
        raise TypeError(f"timestep_map has dtype {timestep_map.dtype}; it must be torch.int64")
    if timestep_map.shape != betas.shape:
        raise ValueError(
            f"timestep_map has shape {tuple(timestep_map.shape)}; it must be ({len(betas)},), one per beta"
        )
    if timestep_map[0] < 0 or not bool((timestep_map.diff() > 0).all()):
        raise ValueError("timestep_map must be strictly increasing and start at 0 or later")
