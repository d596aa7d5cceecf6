"""Configurations: read strictly, and every mistake is told on one line that names its place."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fguidance.run import RunConfig, configuration_names, load_config
from fguidance.run.config import ClassifierConfig, FeatureConfig, GuidanceConfig, ModelConfig, SamplingConfig

TABLES = {
    "model": ModelConfig,
    "classifier": ClassifierConfig,
    "guidance": GuidanceConfig,
    "sampling": SamplingConfig,
    "features": FeatureConfig,
}
OTHER_VALUES = {
    "model.weights": "other.pt", "model.null_label": 3,
    "classifier.weights": "other.pt", "classifier.temperature": 2.5,
    "guidance.method": "entropy_aware", "guidance.guidance_scale": 2.0, "guidance.sine_gamma": 0.7,
    "guidance.smallest_share": 0.5, "guidance.divergence": "rkl", "guidance.alpha": 0.25, "guidance.epsilon": 0.5,
    "guidance.tau_joint": 2.0, "guidance.tau_marginal": 2.0, "guidance.tilt": -0.2, "guidance.entropy": 0.1,
    "sampling.num_classes": 9, "sampling.steps": 7, "sampling.schedule": "cosine", "sampling.timesteps": 500,
    "sampling.sampler": "ddim", "sampling.eta": 0.5, "sampling.clip_denoised": False, "sampling.shard_size": 3,
    "sampling.seed": 12, "sampling.precision": "bfloat16", "sampling.compile": True,
    "features.weights": "other.pt", "features.reference": "other.npz",
}  # fmt: skip
"""Of every field that can change alone, a value that `digits` does not have."""
NEEDING_OTHERS = ("model.network", "classifier.network", "classifier.input", "features.network")


def toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def changed(before: RunConfig, after: RunConfig) -> dict[str, Any]:
    """The fields in which two configurations differ, with the second one's values."""
    first, second = before.model_dump(), after.model_dump()
    found = {}
    for table, fields in second.items():
        pairs = fields.items() if isinstance(fields, dict) else ()
        found |= {f"{table}.{name}": value for name, value in pairs if first[table][name] != value}
        if not isinstance(fields, dict) and first[table] != fields:
            found[table] = fields
    return found


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(text: str, name: str = "own.toml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return written


def whole(**replaced: str) -> str:
    """A configuration of nothing but what must be given; a table can be replaced."""
    tables = {
        "top": 'name = "own"\ntitle = "Own"',
        "model": 'weights = "a.pt"\nshape = {}',
        "sampling": "num_classes = 10",
        "features": 'network = "small"\nweights = "b.pt"',
    } | replaced
    top = tables.pop("top")
    return "\n".join([top, *(f"[{name}]\n{text}" for name, text in tables.items())])


class TestPackaged:
    @pytest.mark.parametrize("name", configuration_names())
    def test_each_is_whole_and_has_its_own_name(self, name: str) -> None:
        found = load_config(name)
        assert found.name == name
        assert found.title

    def test_what_only_others_extend_is_no_configuration(self) -> None:
        assert {"digits", "digits/js", "imagenet128/table3/js"} <= set(configuration_names())
        assert not [name for name in configuration_names() if "_base" in name or "_tables" in name]

    def test_a_shape_takes_the_place_of_the_one_below_it(self) -> None:
        below, above = load_config("digits"), load_config("digits/entropy_aware")
        assert "width" in below.classifier.shape
        assert "width" not in above.classifier.shape
        assert above.model == below.model
        assert above.sampling == below.sampling


class TestOverrides:
    def test_there_is_another_value_for_every_field(self) -> None:
        fields = {f"{table}.{name}" for table, kind in TABLES.items() for name in kind.model_fields}
        assert fields == {*OTHER_VALUES, *NEEDING_OTHERS, *(f"{name}.shape" for name in TABLES if name[0] in "mcf")}

    def test_one_reaches_its_field_and_no_other(self) -> None:
        for place, value in OTHER_VALUES.items():
            found = changed(load_config("digits"), load_config("digits", [f"{place}={toml(value)}"]))
            assert found == {place: value}
            assert type(found[place]) is type(value)

    @settings(max_examples=30)
    @given(number=st.floats(allow_nan=False, allow_infinity=False), spaces=st.sampled_from(("", " ", "  ")))
    def test_a_number_is_the_one_that_was_written(self, number: float, spaces: str) -> None:
        found = load_config("digits", [f"guidance.tilt{spaces}={spaces}{number!r}"]).guidance.tilt
        assert (found, math.copysign(1, found)) == (number, math.copysign(1, number))

    @settings(max_examples=20)
    @given(text=st.text("abcxyz_-/.:0=", min_size=1))
    def test_a_text_needs_no_quotes_and_may_have_them(self, text: str) -> None:
        # With a letter in front it can be neither a number nor a date.
        for written in (f"w{text}", f'"w{text}"', f"'w{text}'"):
            assert load_config("digits", [f"model.weights={written}"]).model.weights == f"w{text}"

    def test_the_last_one_counts_and_shapes_can_be_changed_in_part(self) -> None:
        given = ["sampling.seed=1", "sampling.seed=2", "features.shape.width=48"]
        found = load_config("digits", given)
        assert found.sampling.seed == 2
        assert found.features.shape == load_config("digits").features.shape | {"width": 48}

    @pytest.mark.parametrize("override", ("", "seed", "=3", "sampling.=3", ".seed=3", "sampling..seed=3"))
    def test_one_of_another_form(self, override: str) -> None:
        with pytest.raises(ValueError, match=r"an override must be table\.field=value"):
            load_config("digits", [override])


class TestMistakes:
    @pytest.mark.parametrize("table", ("", *(f"{name}." for name in TABLES)))
    def test_an_unknown_field(self, table: str) -> None:
        with pytest.raises(ValueError, match=rf"configuration 'digits': {table}sed: Extra inputs are not permitted"):
            load_config("digits", [f"{table}sed=3"])

    @pytest.mark.parametrize(
        ("replaced", "place"),
        [
            ({"top": 'title = "Own"'}, "name"),
            ({"sampling": ""}, "sampling.num_classes"),
            ({"features": 'network = "small"'}, "features.weights"),
        ],
    )
    def test_a_missing_field(self, write: Any, replaced: dict[str, str], place: str) -> None:
        assert load_config(write(whole())).name == "own"
        with pytest.raises(ValueError, match=rf"{place}: Field required$"):
            load_config(write(whole(**replaced)))

    @pytest.mark.parametrize(
        "override",
        [
            "sampling.seed=1.0", "sampling.seed=true", "sampling.seed=-1", "sampling.steps=1", "sampling.shard_size=0",
            "sampling.num_classes=1", "sampling.timesteps=20", "sampling.compile=1", "sampling.seed=2020-01-01",
            "guidance.alpha='1'", "classifier.temperature=0", "model.weights=3", "model.shape=3", "sampling=3",
            *(f"{place}=nope" for place in NEEDING_OTHERS), "guidance.method=nope", "sampling.schedule=nope",
            "sampling.sampler=nope", "sampling.precision=nope",
        ],
    )  # fmt: skip
    def test_a_value_of_another_type_or_out_of_range(self, override: str) -> None:
        place = override.partition("=")[0]
        with pytest.raises(ValueError, match=rf"^configuration 'digits': {place}: [^\n]*, not [^\n]*$"):
            load_config("digits", [override])

    @pytest.mark.parametrize("number", ("nan", "inf", "-inf"))
    def test_no_number_may_be_nan_or_infinite(self, number: str) -> None:
        for place in (place for place, value in OTHER_VALUES.items() if isinstance(value, float)):
            with pytest.raises(ValueError, match=rf"{place}: Input should be a finite number"):
                load_config("digits", [f"{place}={number}"])

    @pytest.mark.parametrize("content", (b"name = ", b"[model", b"\xff\xfe", b"a = 1\na = 2", b"\x00"))
    def test_a_corrupt_file(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "own.toml"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"own\.toml is no TOML: "):
            load_config(str(path))

    @pytest.mark.parametrize("name", ("nope", "", "digits/", "digits/_tables", "imagenet128/_base", "../digits", "."))
    def test_no_such_configuration(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match=r"there is no configuration .* digits/js"):
            load_config(name)


class TestExtends:
    def test_what_is_above_counts_and_the_rest_stays(self, write: Any) -> None:
        write(whole(sampling="num_classes = 10\nseed = 4\nsteps = 9"), "below.toml")
        write('extends = "../below.toml"\n[sampling]\nsteps = 8\n[model]\nshape = {a = 1}', "folder/middle.toml")
        found = load_config(write('extends = "folder/middle.toml"\ntitle = "Top"\n[model]\nshape = {b = 2}'))
        assert (found.name, found.title) == ("own", "Top")
        assert (found.sampling.seed, found.sampling.steps) == (4, 8)
        assert found.model.shape == {"b": 2}

    @pytest.mark.parametrize("named", ('"own.toml"', '"other.toml"', '"nope.toml"', '"."', '""', "3", '["own.toml"]'))
    def test_a_circle_and_what_is_not_there(self, write: Any, named: str) -> None:
        write('extends = "own.toml"', "other.toml")
        with pytest.raises(ValueError, match=r"\.toml extends .*; there is no such other file beside it"):
            load_config(write(f"extends = {named}"))


class TestFilesBesideTheConfiguration:
    def test_they_are_found_from_anywhere(self, write: Any, tmp_path: Path) -> None:
        for name in ("a.pt", "c.npz"):
            (tmp_path / name).touch()
        own = whole(model='weights = "a.pt:unet"\nshape = {}', features='network = "small"\nweights = "b.pt"')
        found = load_config(write(own + '\nreference = "c.npz"'))
        assert found.model.weights == f"{tmp_path.resolve() / 'a.pt'}:unet"
        assert found.features.reference == str(tmp_path.resolve() / "c.npz")
        assert found.features.weights == "b.pt"  # there is none beside it

    def test_an_assets_name_is_no_files(self, write: Any, tmp_path: Path) -> None:
        (tmp_path / "resnet50").touch()
        assert load_config(write(whole(model='weights = "resnet50"\nshape = {}'))).model.weights == "resnet50"


class TestWhatBelongsTogether:
    @pytest.mark.parametrize(
        ("overrides", "match"),
        [
            (["classifier.network=none"], "method 'score' needs a classifier"),
            (["classifier.network=none", "guidance.method=entropy_aware"], "'entropy_aware' needs a classifier"),
            (["sampling.num_classes=12"], "sampling.num_classes is 12; the model knows 11 labels"),
            (["model.null_label=11"], "model.null_label is 11; the model's labels are below 11"),
            (["model.null_label=-1"], "model.null_label is -1"),
            (["model.shape.image_size=16"], "classifier.shape.image_size is 8, and model.shape.image_size is 16"),
            (["features.shape.in_channels=3"], "features.shape.in_channels is 3, and model.shape.in_channels is 1"),
            (["classifier.input=noisy"], "'small' does not take classifier.input 'noisy'"),
            (["classifier.network=adm"], "'adm' does not take classifier.input 'clean'"),
        ],
    )
    def test_what_does_not_is_refused(self, overrides: list[str], match: str) -> None:
        with pytest.raises(ValueError, match=rf"^configuration 'digits': [^\n]*{match}[^\n]*$"):
            load_config("digits", overrides)

    def test_classifier_free_guidance_needs_a_label_for_none(self, write: Any) -> None:
        text = whole(guidance='method = "classifier_free"')
        with pytest.raises(ValueError, match=r"needs model\.null_label"):
            load_config(write(text))
        assert load_config(write(text), ["model.null_label=0"]).model.null_label == 0
