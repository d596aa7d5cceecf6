"""Training small ADM networks: the noise and its variance together, as Nichol & Dhariwal do, and the classifiers."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from fguidance.diffusion import Schedule
from lab.checkpoint_progress import Progress
from lab.digits_training import batches, warm_cosine
from lab.parts import Part


@dataclass(frozen=True)
class Training:
    """Steps of AdamW on batches of images; the learning rate rises, then falls along a cosine.

    Where there is a folder, a training that was interrupted goes on from what it left there.
    """

    steps: int
    seed: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.0
    ema_decay: float = 0.995
    variance_weight: float = 1e-3
    label_dropout: float = 0.15
    folder: Path | None = None


def hybrid_loss(output: Tensor, noise: Tensor, schedule: Schedule, step: Tensor, weight: float) -> Tensor:
    """The squared error of the noise, plus the divergence of the reverse step from the posterior for the variance.

    Source: Nichol & Dhariwal 2021, arXiv:2102.09672, section 3.1; at step 0 the posterior's clipped variance stands in.
    """
    channels = noise.shape[1]
    simple = F.mse_loss(output[:, :channels], noise)
    at = {
        name: getattr(schedule, name)[step].float().view(-1, 1, 1, 1)
        for name in ("alphas_cumprod", "betas", "posterior_log_variance_clipped", "posterior_mean_clean")
    }
    predicted = output[:, :channels].detach()
    # The two means differ by what the clean images differ, which is the noises' difference up to a factor.
    distance = at["posterior_mean_clean"] * (1 / at["alphas_cumprod"] - 1).sqrt() * (predicted - noise)
    share, smallest = (output[:, channels:] + 1) / 2, at["posterior_log_variance_clipped"]
    log_variance = share * at["betas"].log() + (1 - share) * smallest
    excess = smallest - log_variance
    divergence = (excess.exp() - excess - 1 + distance.square() * (-log_variance).exp()) / 2
    return simple + weight * len(schedule) * divergence.mean()


def train_unet(network: nn.Module, part: Part, schedule: Schedule, null_label: int, training: Training) -> nn.Module:
    """Fit a network that is called ``(x_t, t, y)``; some labels are replaced by the one that stands for none.

    Returns:
        The same network with the average of its weights over the last steps.
    """
    generator = torch.Generator().manual_seed(training.seed)

    def loss(rows: Tensor) -> Tensor:
        clean, labels = part.images[rows], part.labels[rows].clone()
        labels[torch.rand(len(rows), generator=generator) < training.label_dropout] = null_label
        noise = torch.randn(clean.shape, generator=generator)
        step = torch.randint(len(schedule), (len(rows),), generator=generator)
        x_t = schedule.add_noise(clean, noise, step)
        output = network(x_t, schedule.timestep_map[step], labels)
        return hybrid_loss(output, noise, schedule, step, training.variance_weight)

    return _fit(network, len(part), loss, training, generator, "UNet")


def train_noise_aware(network: nn.Module, part: Part, schedule: Schedule, training: Training) -> nn.Module:
    """Fit a classifier that is called ``(x_t, t)``, on images of every noise level."""
    generator = torch.Generator().manual_seed(training.seed)

    def loss(rows: Tensor) -> Tensor:
        clean = part.images[rows]
        step = torch.randint(len(schedule), (len(rows),), generator=generator)
        x_t = schedule.add_noise(clean, torch.randn(clean.shape, generator=generator), step)
        return F.cross_entropy(network(x_t, schedule.timestep_map[step]), part.labels[rows])

    return _fit(network, len(part), loss, training, generator, "noise-aware classifier")


def train_classifier(network: nn.Module, part: Part, training: Training, name: str) -> nn.Module:
    """Fit a classifier of clean images."""
    generator = torch.Generator().manual_seed(training.seed)

    def loss(rows: Tensor) -> Tensor:
        return F.cross_entropy(network(part.images[rows]), part.labels[rows])

    return _fit(network, len(part), loss, training, generator, name)


def _fit(
    network: nn.Module,
    size: int,
    loss: Callable[[Tensor], Tensor],
    training: Training,
    generator: torch.Generator,
    name: str,
) -> nn.Module:
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    steps, warmup = training.steps, training.warmup
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, warmup, steps))
    path = None if training.folder is None else training.folder / f"{name}.pt"
    parts = {"network": network, "average": average, "optimizer": optimizer, "rate": rate}
    progress = Progress(path, str(asdict(replace(training, folder=None))), parts, generator)
    done = progress.restore()
    rows = batches(size, training.batch_size, steps - done, generator)
    for count, batch in enumerate(tqdm(rows, name, steps, initial=done), done):
        value = loss(batch)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        decay = min(training.ema_decay, (1 + count) / (10 + count))
        torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1.0 - decay)
        progress.keep(count + 1, steps)
    return average
