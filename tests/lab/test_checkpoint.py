"""Training of the small checkpoints: names, loss, and that the package's file is one of those."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributions import Normal, kl_divergence

from fguidance.diffusion import ADMClassifierConfig, ADMConfig, Schedule, load_adm_classifier, load_adm_unet
from fguidance.diffusion.adm import WHOLE as UNET_WHOLE
from fguidance.diffusion.adm_blocks import decoder_blocks, empty_network, encoder_blocks
from fguidance.diffusion.adm_classifier import EMBEDDING, ADMClassifier
from fguidance.diffusion.adm_classifier import WHOLE as CLASSIFIER_WHOLE
from fguidance.run import load_config
from fguidance.run.folder import write_whole
from fguidance.run.networks import load_classifier, load_model
from lab import checkpoint_progress
from lab.checkpoint import RECIPES, calibrated, initialised, make
from lab.checkpoint_names import published_names
from lab.checkpoint_training import Training, hybrid_loss, train_classifier
from lab.digits_data import load
from tests.support.runs import knowledge

SHAPE = {
    "image_size": 8, "in_channels": 1, "model_channels": 32, "num_res_blocks": 1, "attention_downsampling": (2,),
    "channel_mult": (1, 2), "num_classes": 5,
}  # fmt: skip
X, T = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 700])
DIGITS_FILE = Path(str(files("fguidance.run"))) / "weights" / "digits.safetensors"
LARGEST_BYTES = 2_000_000


def randomised(network: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for parameter in initialised(network).parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def test_a_unets_weights_go_out_by_the_published_names_and_come_back() -> None:
    shape = ADMConfig(**SHAPE, out_channels=2, num_heads=4)
    network = randomised(empty_network(shape, 2, 5)).eval()
    state = published_names(network, shape, UNET_WHOLE, (*encoder_blocks(shape), *decoder_blocks(shape)))
    found = load_adm_unet(state, shape)(X, T, torch.tensor([1, 4]))
    torch.testing.assert_close(found, network(X, T, class_labels=torch.tensor([1, 4])).sample)


def test_a_classifiers_weights_go_out_by_the_published_names_and_come_back() -> None:
    shape = ADMClassifierConfig(**SHAPE, num_head_channels=16)
    with torch.device("meta"):
        network = ADMClassifier(empty_network(shape, 1, None), shape)
    network = randomised(network).eval()
    own = {name: network.state_dict()[ours] for name, ours in EMBEDDING.items()}
    state = published_names(network, shape, CLASSIFIER_WHOLE, tuple(encoder_blocks(shape))) | own
    torch.testing.assert_close(load_adm_classifier(state, shape)(X, T), network(X, T))


def test_the_hybrid_loss_is_the_error_and_the_divergence_of_the_two_gaussians() -> None:
    schedule, step = Schedule.linear(1000).respace(50), torch.tensor([3, 41])
    generator = torch.Generator().manual_seed(2)
    clean, noise = (torch.randn(2, 1, 8, 8, generator=generator) for _ in range(2))
    output = torch.randn(2, 2, 8, 8, generator=generator)
    x_t, divergences = schedule.add_noise(clean, noise, step), []
    for row, k in enumerate(step.tolist()):
        share = schedule.alphas_cumprod[k]
        predicted = (x_t[row] - (1 - share).sqrt() * output[row, :1]) / share.sqrt()
        means = [schedule.posterior_mean_clean[k] * one for one in (clean[row], predicted)]
        interpolation = (output[row, 1:] + 1) / 2
        smallest = schedule.posterior_variance[k]
        deviation = (interpolation * schedule.betas[k].log() + (1 - interpolation) * smallest.log()).exp().sqrt()
        divergences.append(kl_divergence(Normal(means[0], smallest.sqrt()), Normal(means[1], deviation)).mean())
    expected = (output[:, :1] - noise).square().mean() + 0.01 * 50 * torch.stack(divergences).mean()
    torch.testing.assert_close(hybrid_loss(output, noise, schedule, step, 0.01), expected.float())


def test_the_variance_is_not_taught_by_the_noises_error_nor_the_noise_by_the_divergence() -> None:
    schedule, step = Schedule.linear(1000), torch.tensor([500])
    noise, output = torch.randn(1, 1, 4, 4), torch.randn(1, 2, 4, 4, requires_grad=True)
    gradients = [
        torch.autograd.grad(hybrid_loss(output, noise, schedule, step, weight), output)[0] for weight in (0.0, 1.0)
    ]  # fmt: skip
    assert gradients[0][:, 1].abs().max() == 0
    assert gradients[1][:, 1].abs().max() > 0
    torch.testing.assert_close(gradients[0][:, 0], gradients[1][:, 0])


class TestInterrupted:
    """Training that is cut off and begun again ends with the very same weights."""

    def train(self, folder: Path | None, steps: int = 30, seed: int = 0) -> nn.Module:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        training = Training(steps, seed, learning_rate=1e-2, warmup=5, folder=folder)
        return train_classifier(network, load(200, 500, 0).train, training, "test")

    def test_it_goes_on_from_what_was_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checkpoint_progress, "EVERY", 7)
        written = []

        def cut_off(path: Path, content: bytes) -> None:
            written.append(path)
            if len(written) == 3:
                raise KeyboardInterrupt
            write_whole(path, content)

        monkeypatch.setattr(checkpoint_progress, "write_whole", cut_off)
        with pytest.raises(KeyboardInterrupt):
            self.train(tmp_path)
        assert torch.load(tmp_path / "test.pt", weights_only=True)["done"] == 14
        torch.testing.assert_close(self.train(tmp_path).state_dict(), self.train(None).state_dict(), rtol=0, atol=0)

    @pytest.mark.parametrize("other", ({"steps": 31}, {"seed": 1}))
    def test_what_was_kept_of_another_training_is_refused(self, other: dict[str, int], tmp_path: Path) -> None:
        self.train(tmp_path)
        with pytest.raises(ValueError, match="remove it to begin anew"):
            self.train(tmp_path, **other)


def test_every_network_of_a_recipe_is_made_and_read(tmp_path: Path) -> None:
    """The whole way of the packaged file, in a few steps: trained, named, written, and read by the configurations."""
    recipe = replace(RECIPES["digits"], steps=(5, 150, 2))  # too few know nothing, and no temperature is best
    state, facts = make(recipe, tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {
        "UNet", "guiding classifier", "judging classifier", "noise-aware classifier"
    }  # fmt: skip
    assert facts["temperature"] > 0
    path = tmp_path / "made.safetensors"
    save_file({name: tensor.half().contiguous() for name, tensor in state.items()}, path)
    packaged = {name: value.shape for name, value in load_file(DIGITS_FILE).items()}
    assert {name: value.shape for name, value in load_file(path).items()} == packaged


class TestTheFileInThePackage:

    @pytest.mark.parametrize("name", ("digits", "digits/dhariwal_nichol"))
    def test_its_networks_know_digits(self, name: str) -> None:
        test = load(200, 500, 0).test
        error, guiding, judging = knowledge(load_config(name), test.images, test.labels)
        assert (error < 0.4, guiding > 0.8, judging > 0.95) == (True, True, True)
        assert DIGITS_FILE.stat().st_size <= LARGEST_BYTES

    def test_its_classifier_is_calibrated_already(self) -> None:
        config, data = load_config("digits"), load(200, 500, 0)
        classifier, model = load_classifier(config.classifier), load_model(config.model)
        assert calibrated(classifier, model, data.calibration, Schedule.linear(1000), 20) == pytest.approx(1, abs=0.02)
