"""Train the small networks that the package ships: `python -m lab.checkpoint digits --out FILE`."""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fguidance.diffusion import ADMClassifierConfig, ADMConfig, Schedule, predict_clean
from fguidance.diffusion.adm import WHOLE as UNET_WHOLE
from fguidance.diffusion.adm_blocks import decoder_blocks, empty_network, encoder_blocks
from fguidance.diffusion.adm_classifier import EMBEDDING, ADMClassifier
from fguidance.diffusion.adm_classifier import WHOLE as CLASSIFIER_WHOLE
from fguidance.run import load_config
from fguidance.run.config import RunConfig
from fguidance.run.networks import shape_of
from fguidance.run.small import SmallClassifier, SmallShape
from lab.checkpoint_names import published_names
from lab.checkpoint_training import Training, train_classifier, train_noise_aware, train_unet
from lab.digits_data import Digits, Part, load
from lab.digits_training import fit_temperature

State = dict[str, Tensor]


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
    noise = model(x_t, schedule.timestep_map[steps], labels)[:, : clean.shape[1]]
    predicted = torch.cat([
        predict_clean(x, e, schedule.alphas_cumprod[step].item())[None]
        for x, e, step in zip(x_t, noise, steps.tolist(), strict=True)
    ])  # fmt: skip
    temperature = fit_temperature(classifier(predicted.clamp(-1, 1)), labels)
    for parameter in classifier.head.parameters():
        parameter.div_(temperature)
    return temperature


def make_digits(steps: int) -> tuple[State, dict[str, object]]:
    """Train all networks of the configurations `digits`; the facts say how."""
    data: Digits = load(calibration=200, test=500, seed=0)
    config, noisy = load_config("digits"), load_config("digits/dhariwal_nichol")
    schedule = Schedule.linear(config.sampling.timesteps)
    model, state = unet(config, data.train, schedule, Training(steps, seed=0))
    guide_shape = shape_of(SmallShape, config.classifier.shape, "classifier.shape")
    judge_shape = shape_of(SmallShape, config.features.shape, "features.shape")
    short = Training(steps // 4, seed=1, weight_decay=0.05)
    guide = small(guide_shape, data.train, short, "guiding classifier")
    judge = small(judge_shape, data.train, Training(steps // 4, seed=2, weight_decay=0.05), "judging classifier")
    facts = {
        name: accuracy(network, data.test) for name, network in (("classifier", guide), ("judge", judge))
    }  # fmt: skip
    facts["temperature"] = calibrated(guide, model, data.calibration, schedule, repeats=20)
    parts = {
        "unet": state,
        "classifier": guide.state_dict(),
        "judge": judge.state_dict(),
        "noise_aware": noise_aware(noisy, data.train, schedule, Training(steps // 2, seed=3)),
    }
    return {f"{part}.{key}": value for part, one in parts.items() for key, value in one.items()}, facts


@torch.no_grad()
def accuracy(network: nn.Module, part: Part) -> float:
    """The share of images that are named rightly."""
    return (network(part.images).argmax(1) == part.labels).double().mean().item()


def main() -> None:
    """Train, and write half-precision weights with what they were made of."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=("digits",))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    state, facts = make_digits(arguments.steps)
    facts |= {"data": arguments.data, "steps": arguments.steps, "torch": torch.__version__, "licence": "MIT"}
    half = {name: tensor.half().contiguous() for name, tensor in state.items()}
    save_file(half, arguments.out, {"made": json.dumps(facts)})
    print(f"wrote {arguments.out}, {arguments.out.stat().st_size / 1e6:.2f} MB: {facts}")


if __name__ == "__main__":
    main()
