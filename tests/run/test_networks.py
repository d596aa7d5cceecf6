"""From configurations to networks: the right weights into the right shape, or one line that says why not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import fguidance as fg
from fguidance.diffusion import ADMConfig, EntropyAware, Schedule
from fguidance.diffusion.small_classifier import SmallClassifier
from fguidance.run import configuration_names, load_config, networks
from fguidance.run.networks import (
    AtTemperature,
    empty_classifier,
    empty_model,
    load_classifier,
    load_guidance,
    load_judge,
    load_model,
    load_schedule,
    read_weights,
    shape_of,
)
from lab.published_weights import arrays, inception_images, made_weights
from tests.support.runs import tiny

OWN = "digits.safetensors"


class TestWeights:
    def test_a_part_is_all_that_begins_with_its_name(self, tmp_path: Path) -> None:
        state = {"a.x": torch.tensor([1.0]), "a.b.y": torch.tensor([2.0]), "ab.x": torch.tensor([3.0])}
        save_file(state, tmp_path / "mine.safetensors")
        assert read_weights(f"{tmp_path / 'mine.safetensors'}:a") == {"x": state["a.x"], "b.y": state["a.b.y"]}
        assert set(read_weights(str(tmp_path / "mine.safetensors"))) == set(state)
        with pytest.raises(ValueError, match=r"mine\.safetensors has no part 'b'"):
            read_weights(f"{tmp_path / 'mine.safetensors'}:b")

    @pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float32))
    def test_numbers_become_single_precision_and_counts_stay(self, tmp_path: Path, dtype: torch.dtype) -> None:
        values = torch.tensor([1.5, -0.25], dtype=dtype)
        torch.save({"weight": values, "batches": torch.tensor(3)}, tmp_path / "mine.pt")
        found = read_weights(str(tmp_path / "mine.pt"))
        assert found["weight"].dtype == torch.float32
        assert found["weight"].equal(torch.tensor([1.5, -0.25]))
        assert found["batches"].dtype == torch.int64


class TestLoaded:
    def test_a_temperature_divides_the_logits(self) -> None:
        plain = load_classifier(tiny().classifier)
        divided = load_classifier(tiny("classifier.temperature=2.5").classifier)
        images = torch.linspace(-1, 1, 128).view(2, 1, 8, 8)
        assert isinstance(plain, SmallClassifier)
        assert isinstance(divided, AtTemperature)
        torch.testing.assert_close(divided(images), plain(images) / 2.5)

    @pytest.mark.parametrize(
        ("shape", "match"),
        [
            ("{depth=50, width=3}", r"classifier\.shape\.width is no field; there are depth, softplus_beta"),
            ("{}", r"classifier\.shape\.depth is missing"),
            ("{depth=18}", r"classifier\.shape: depth must be one of 50, 101, not 18"),
            ("{depth='50'}", r"classifier\.shape: depth must be one of 50, 101, not '50'"),
            ("{depth=50, softplus_beta=0}", "softplus_beta must be a finite number above 0, not 0"),
            ("{depth=50, softplus_beta='3'}", "softplus_beta must be a number, not '3'"),
        ],
    )
    def test_a_resnet_of_a_shape_that_there_is_not(self, shape: str, match: str) -> None:
        config = tiny("classifier.network=resnet", f"classifier.shape={shape}").classifier
        for load in (load_classifier, empty_classifier):
            with pytest.raises(ValueError, match=match):
                load(config)


class TestEmpty:
    """Networks without storage are the ones that weights are put into."""

    @pytest.mark.parametrize("name", ("digits", "digits/entropy_aware"))
    def test_they_have_the_shapes_of_the_loaded_ones(self, name: str) -> None:
        config = tiny(name=name)
        classifier = load_classifier(config.classifier)
        assert classifier is not None
        for empty, loaded in (
            (empty_model(config.model), load_model(config.model)),
            (empty_classifier(config.classifier), classifier),
        ):
            assert all(tensor.is_meta for tensor in empty.state_dict().values())
            assert {name: tensor.shape for name, tensor in empty.state_dict().items()} == {
                name: tensor.shape for name, tensor in loaded.state_dict().items()
            }

    @pytest.mark.parametrize("beta", (3.0, None))
    def test_a_resnets_activation(self, beta: float | None) -> None:
        config = load_config("imagenet128/table3/js").classifier
        shape = {"depth": 50} | ({} if beta is None else {"softplus_beta": beta})
        network = empty_classifier(config.model_copy(update={"shape": shape}))
        kinds = {(type(one), getattr(one, "beta", None)) for one in network.modules()}
        assert ((nn.ReLU, None) in kinds) == (beta is None)
        assert ((nn.Softplus, beta) in kinds) == (beta is not None)


class TestJudge:
    def test_features_and_logits_stand_side_by_side(self) -> None:
        judge = load_judge(tiny().features)
        pixels = torch.arange(2 * 64).to(torch.uint8).view(2, 1, 8, 8)
        found = judge.features_and_logits(pixels)
        scaled = pixels.float() / 127.5 - 1
        torch.testing.assert_close(found[:, : judge.num_features], judge.network.features(scaled))
        torch.testing.assert_close(found[:, judge.num_features :], judge.network(scaled))

    def test_the_state_dict_of_inception(self, tmp_path: Path) -> None:
        torch.save(made_weights("inception", gain=4), tmp_path / "inception.pth")
        given = [f"features.weights={tmp_path / 'inception.pth'}", "features.network=inception", "features.shape={}"]
        judge, images = load_judge(tiny(*given).features), inception_images()["high"]
        found, published = judge.features_and_logits(images), arrays("inception_outputs.npz")
        torch.testing.assert_close(found[:, : judge.num_features], published["features_high"], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found[:, judge.num_features :], published["logits_high"], rtol=1e-4, atol=1e-3)

    def test_a_torchscript_file_is_inception(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "inception.pt").write_bytes(b"")
        monkeypatch.setattr(networks, "load_feature_network", lambda path: nn.Identity())
        given = [f"features.weights={tmp_path / 'inception.pt'}", "features.network=torchscript"]
        assert load_judge(tiny(*given).features).num_features == 2048


class TestGuidance:
    @pytest.mark.parametrize("name", configuration_names())
    def test_every_configurations_can_be_made(self, name: str) -> None:
        config = load_config(name).guidance
        found = load_guidance(config)
        if config.method in ("unguided", "classifier_free"):
            assert found is None
            return
        guidance = found.guidance if isinstance(found, EntropyAware) else found
        assert isinstance(found, EntropyAware) == (config.method == "entropy_aware")
        assert isinstance(guidance, fg.Guidance)
        for field in ("alpha", "epsilon", "tau_joint", "tau_marginal", "tilt", "entropy"):
            assert getattr(guidance, field) == getattr(config, field)

    def test_the_divergence_is_the_named_one(self) -> None:
        found = load_guidance(tiny("guidance.divergence=hellinger").guidance)
        expected = fg.Guidance("hellinger", alpha=0.5, epsilon=0.9, tau_joint=1.0, tau_marginal=0.5)
        logits, labels = torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([1])
        assert isinstance(found, fg.Guidance)
        assert found.logit_gradient(logits, labels).equal(expected.logit_gradient(logits, labels))


@pytest.mark.parametrize("kind", ("linear", "cosine"))
def test_the_schedule(kind: str) -> None:
    found = load_schedule(tiny("sampling.steps=7", "sampling.timesteps=300", f"sampling.schedule={kind}").sampling)
    expected = getattr(Schedule, kind)(300).respace(7)
    assert list(found.timestep_map) == list(expected.timestep_map)
    assert list(found.betas) == list(expected.betas)
    with pytest.raises(ValueError, match="steps must be a whole number from 2 to 300, not 301"):
        load_schedule(tiny("sampling.steps=301", "sampling.timesteps=300").sampling)


class TestShape:
    TABLE = tiny().model.shape

    def test_the_place_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"here\.width is no field; there are image_size, "):
            shape_of(ADMConfig, self.TABLE | {"width": 3}, "here")
        for field in self.TABLE:
            table = {name: value for name, value in self.TABLE.items() if name != field}
            with pytest.raises(ValueError, match=rf"here\.{field} is missing"):
                shape_of(ADMConfig, table, "here")
            with pytest.raises(ValueError, match="here: "):
                shape_of(ADMConfig, self.TABLE | {field: "x"}, "here")
