"""Training of the denoiser and of the classifiers, and what the one that guides will see."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from fguidance.diffusion import Schedule, predict_clean
from lab.digits_networks import Denoiser
from lab.parts import Part


@dataclass(frozen=True)
class DenoiserTraining:
    """Steps of AdamW on batches of images; the learning rate rises, then falls along a cosine."""

    width: int = 32
    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup: int = 100
    ema_decay: float = 0.995
    seed: int = 0


@dataclass(frozen=True)
class ClassifierTraining:
    """Steps of AdamW on batches of images; the learning rate falls along a cosine."""

    steps: int = 500
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 1


def train_denoiser(part: Part, schedule: Schedule, config: DenoiserTraining) -> tuple[Denoiser, list[float]]:
    """Return the average of the weights over the last steps (EMA) and the loss of every step."""
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    model = Denoiser(config.width)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, config.warmup, config.steps))
    losses = []
    for rows in tqdm(batches(len(part), config.batch_size, config.steps, generator), "denoiser", config.steps):
        clean = part.images[rows]
        noise = torch.randn(clean.shape, generator=generator)
        step = torch.randint(len(schedule), (len(rows),), generator=generator)
        loss = F.mse_loss(model(schedule.add_noise(clean, noise, step), schedule.timestep_map[step]), noise)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        decay = min(config.ema_decay, (1 + len(losses)) / (10 + len(losses)))
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - decay)
        losses.append(loss.item())
    return average, losses


def train_classifier(model: nn.Module, part: Part, config: ClassifierTraining, name: str) -> nn.Module:
    """Fit the freshly made ``model`` by cross-entropy and return it in evaluation mode."""
    generator = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for rows in tqdm(batches(len(part), config.batch_size, config.steps, generator), name, config.steps):
        loss = F.cross_entropy(model(part.images[rows]), part.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def predicted_clean_images(
    model: Denoiser, schedule: Schedule, part: Part, repeats: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Noise real images to random steps and predict them back: what a guiding classifier gets to see.

    Returns:
        predicted clean images ``(repeats * n, 1, 8, 8)`` clipped to [-1, 1], their labels and their steps.
    """
    generator = torch.Generator().manual_seed(seed)
    clean, labels = part.images.repeat(repeats, 1, 1, 1), part.labels.repeat(repeats)
    noise = torch.randn(clean.shape, generator=generator)
    steps = torch.randint(len(schedule), (len(labels),), generator=generator)
    x_t = schedule.add_noise(clean, noise, steps)
    predicted_noise = model(x_t, schedule.timestep_map[steps])
    predicted = torch.stack([
        predict_clean(x, e, schedule.alphas_cumprod[step].item())
        for x, e, step in zip(x_t, predicted_noise, steps.tolist(), strict=True)
    ])  # fmt: skip
    return predicted.clamp(-1.0, 1.0), labels, steps


def batches(size: int, batch_size: int, steps: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows of each batch, drawn with replacement."""
    for _ in range(steps):
        yield torch.randint(size, (batch_size,), generator=generator)


def warm_cosine(step: int, warmup: int, steps: int) -> float:
    """The learning rate's share at a step: up along a line, down along a cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + torch.tensor((step - warmup) / (steps - warmup) * torch.pi).cos().item())
