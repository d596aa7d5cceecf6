"""Train the small networks that come with the project: `python -m lab.checkpoint digits --out FILE`, or fashion_mnist.

Digits take some minutes, Fashion-MNIST an hour or two; with `--folder` the same command goes on where it was
interrupted.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fguidance.calibration import fit_temperature
from fguidance.diffusion import ADMClassifierConfig, ADMConfig, Schedule, predict_clean
from fguidance.diffusion.adm import WHOLE as UNET_WHOLE
from fguidance.diffusion.adm_blocks import decoder_blocks, empty_network, encoder_blocks
from fguidance.diffusion.adm_classifier import EMBEDDING, ADMClassifier
from fguidance.diffusion.adm_classifier import WHOLE as CLASSIFIER_WHOLE
from fguidance.diffusion.small_classifier import SmallClassifier, SmallShape
from fguidance.run import load_config
from fguidance.run.config import RunConfig
from fguidance.run.networks import shape_of
from lab import digits_data, fashion_data
from lab.checkpoint_names import published_names
from lab.checkpoint_training import Training, train_classifier, train_noise_aware, train_unet
from lab.parts import Part, Parts

State = dict[str, Tensor]
CHUNK = 500


@dataclass(frozen=True)
class Recipe:
    """What is trained on what: two configurations, the second with a classifier that has seen noise.

    Steps are of the diffusion model, of each classifier of clean images, and of the one that has seen noise.
    """

    load: Callable[[], Parts]
    config: str
    noise_aware: str
    steps: tuple[int, int, int]


LAB = Path(__file__).parent
RECIPES = {
    "digits": Recipe(
        lambda: digits_data.load(200, 500, seed=0), "digits", "digits/dhariwal_nichol", steps=(4000, 1000, 2000)
    ),
    "fashion_mnist": Recipe(
        lambda: fashion_data.load(4000, seed=0),
        fashion_data.CONFIG,
        str(LAB / "fashion_mnist_noisy.toml"),
        steps=(3000, 3000, 1500),
    ),
}


def initialised(network: nn.Module) -> nn.Module:
    """A network from the meta device with every layer's own initial weights; the last of each branch begins at zero."""
    network = network.to_empty(device="cpu")
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    for name, parameter in network.named_parameters():
        if ".conv2." in name or ".to_out.0." in name or name.startswith(("conv_out.", "network.conv_out.")):
            nn.init.zeros_(parameter)
        elif name.endswith("positional_embedding"):
            nn.init.normal_(parameter, std=parameter.shape[0] ** -0.5)
    return network


class _Called(nn.Module):
    """diffusers' network as the sampler calls it, for training."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.network(x_t, t, class_labels=y).sample


def unet(config: RunConfig, part: Part, schedule: Schedule, training: Training) -> tuple[nn.Module, State]:
    """The diffusion model, and its weights under the published names."""
    torch.manual_seed(training.seed)
    shape = shape_of(ADMConfig, config.model.shape, "model.shape")
    network = _Called(initialised(empty_network(shape, shape.out_channels, shape.num_classes)))
    trained = train_unet(network, part, schedule, config.model.null_label, training)
    blocks = (*encoder_blocks(shape), *decoder_blocks(shape))
    return trained, published_names(trained.network, shape, UNET_WHOLE, blocks)


def noise_aware(config: RunConfig, part: Part, schedule: Schedule, training: Training) -> State:
    """The classifier that has seen noise, under the published names."""
    torch.manual_seed(training.seed)
    shape = shape_of(ADMClassifierConfig, config.classifier.shape, "classifier.shape")
    with torch.device("meta"):
        network = ADMClassifier(empty_network(shape, shape.in_channels, None), shape)
    trained = train_noise_aware(initialised(network), part, schedule, training)
    weights = trained.state_dict()
    own = {name: weights[ours] for name, ours in EMBEDDING.items()}
    return published_names(trained, shape, CLASSIFIER_WHOLE, tuple(encoder_blocks(shape))) | own


def small(shape: SmallShape, part: Part, training: Training, name: str) -> SmallClassifier:
    """A classifier of clean images."""
    torch.manual_seed(training.seed)
    network: SmallClassifier = train_classifier(SmallClassifier(shape), part, training, name)
    return network


@torch.no_grad()
def calibrated(classifier: SmallClassifier, model: nn.Module, part: Part, schedule: Schedule, repeats: int) -> float:
    """Divide the last layer by the temperature that fits predicted clean images of every noise level; return it."""
    generator = torch.Generator().manual_seed(0)
    clean, labels = part.images.repeat(repeats, 1, 1, 1), part.labels.repeat(repeats)
    steps = torch.randint(len(schedule), (len(labels),), generator=generator)
    x_t = schedule.add_noise(clean, torch.randn(clean.shape, generator=generator), steps)
    logits = [
        classifier(predicted_images(model, schedule, x_t[at], steps[at], labels[at]))
        for at in torch.arange(len(labels)).split(CHUNK)
    ]  # fmt: skip
    temperature = fit_temperature(torch.cat(logits), labels).temperature
    for parameter in classifier.head.parameters():
        parameter.div_(temperature)
    return temperature


def predicted_images(model: nn.Module, schedule: Schedule, x_t: Tensor, steps: Tensor, labels: Tensor) -> Tensor:
    """The clean images that the model sees in noisy ones, each of its own step."""
    noise = model(x_t, schedule.timestep_map[steps], labels)[:, : x_t.shape[1]]
    clean = [
        predict_clean(x, e, schedule.alphas_cumprod[step].item())
        for x, e, step in zip(x_t, noise, steps.tolist(), strict=True)
    ]  # fmt: skip
    return torch.stack(clean).clamp(-1, 1)


def make(recipe: Recipe, folder: Path | None) -> tuple[State, dict[str, object]]:
    """Train all networks of a recipe, going on with what is in the folder; the facts say how well they do."""
    data, config, noisy = recipe.load(), load_config(recipe.config), load_config(recipe.noise_aware)
    schedule = Schedule.linear(config.sampling.timesteps)
    of_model, of_clean, of_noisy = recipe.steps
    long = Training(of_model, seed=0, folder=folder)
    model, state = unet(config, data.train, schedule, long)
    guide_shape = shape_of(SmallShape, config.classifier.shape, "classifier.shape")
    judge_shape = shape_of(SmallShape, config.features.shape, "features.shape")
    short = replace(long, steps=of_clean, weight_decay=0.05)
    guide = small(guide_shape, data.train, replace(short, seed=1), "guiding classifier")
    judge = small(judge_shape, data.train, replace(short, seed=2), "judging classifier")
    facts: dict[str, object] = {
        name: accuracy(network, data.test) for name, network in (("classifier", guide), ("judge", judge))
    }  # fmt: skip
    facts["temperature"] = calibrated(guide, model, data.calibration, schedule, 4000 // len(data.calibration))
    parts = {
        "unet": state,
        "classifier": guide.state_dict(),
        "judge": judge.state_dict(),
        "noise_aware": noise_aware(noisy, data.train, schedule, replace(long, steps=of_noisy, seed=3)),
    }
    return {f"{part}.{key}": value for part, one in parts.items() for key, value in one.items()}, facts


@torch.no_grad()
def accuracy(network: nn.Module, part: Part) -> float:
    """The share of images that are named rightly."""
    return (network(part.images).argmax(1) == part.labels).double().mean().item()


def main() -> None:
    """Train, and write half-precision weights with what they were made of."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=tuple(RECIPES))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="keeps how far it went; the same command goes on from there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = RECIPES[arguments.data]
    state, facts = make(recipe, arguments.folder)
    facts |= {"data": arguments.data, "steps": recipe.steps, "torch": torch.__version__, "licence": "MIT"}
    half = {name: tensor.half().contiguous() for name, tensor in state.items()}
    save_file(half, arguments.out, {"made": json.dumps(facts)})
    print(f"wrote {arguments.out}, {arguments.out.stat().st_size / 1e6:.2f} MB: {facts}")


if __name__ == "__main__":
    main()
