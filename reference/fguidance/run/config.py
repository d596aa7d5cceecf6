"""The configuration of a run: small TOML files, read strictly, any field of which can be overridden."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fguidance.diffusion.sampler import ClassifierInput, Sampler
from fguidance.run.assets import ASSETS, file_and_part


class _Table(BaseModel):
    """Unknown fields and other types are refused, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ModelConfig(_Table):
    """The diffusion model.

    Attributes:
        network: which architecture; "adm".
        weights: an asset's name, or a path, which may be relative to the file of the configuration.
        shape: the fields of `fguidance.diffusion.ADMConfig`.
        null_label: the label that stands for none, for classifier-free guidance.
    """

    weights: str
    shape: dict[str, Any]
    network: Literal["adm"] = "adm"
    null_label: int | None = None


class ClassifierConfig(_Table):
    """The classifier that guides.

    Attributes:
        network: "none", "resnet" (of clean images), "adm" (which has seen noise) or "small".
        weights: an asset's name, or a path; empty for "none".
        input: whether it sees the predicted clean image or the noisy one.
        temperature: its logits are divided by this number, above 0.
        shape: "resnet": depth and softplus_beta; "adm": the fields of `ADMClassifierConfig`; "small": those of
            `SmallClassifier`.
    """

    network: Literal["none", "resnet", "adm", "small"] = "none"
    weights: str = ""
    input: ClassifierInput = "clean"
    temperature: float = Field(default=1.0, gt=0)
    shape: dict[str, Any] = {}


class GuidanceConfig(_Table):
    """What guides: the fields of `fguidance.Guidance`, by which method, and how strongly.

    Attributes:
        method: "unguided", "score", "entropy_aware" (the score's gradient by :eq:`eq-entropy-aware`) or
            "classifier_free" (:eq:`eq-classifier-free`).
        guidance_scale: s.
        sine_gamma: of `fguidance.diffusion.GuidanceStepSize`.
        smallest_share: of `fguidance.diffusion.EntropyAware`.
        divergence: a registered name; the rest as in `fguidance.Guidance`.
        alpha: strength of the divergence.
        epsilon: weight of the target on the label.
        tau_joint: temperature of the label's logit.
        tau_marginal: temperature of the logits in the normaliser.
        tilt: t of the tilted score over a shard.
        entropy: strength of the entropy bonus.
    """

    method: Literal["unguided", "score", "entropy_aware", "classifier_free"] = "unguided"
    guidance_scale: float = 1.0
    sine_gamma: float = 0.0
    smallest_share: float = 0.01
    divergence: str = "rkl"
    alpha: float = 0.0
    epsilon: float = 0.9
    tau_joint: float = 1.0
    tau_marginal: float = 0.5
    tilt: float = 0.0
    entropy: float = 0.0

    @property
    def by_classifier(self) -> bool:
        """Whether a classifier guides."""
        return self.method in ("score", "entropy_aware")


class SamplingConfig(_Table):
    """How images are drawn.

    Attributes:
        steps: of the respaced schedule.
        schedule: "linear" or "cosine", of `timesteps` steps.
        timesteps: of the original schedule.
        sampler: "ancestral" or "ddim".
        eta: noise of DDIM.
        clip_denoised: clip the predicted clean image to [-1, 1].
        num_classes: labels are drawn evenly from so many.
        shard_size: images that are sampled together, and kept in one file.
        seed: of the run.
        precision: of the networks; the guidance is always calculated in at least float32.
        compile: the networks, by `torch.compile`; a minute at first, and faster then.
    """

    num_classes: int = Field(ge=2)
    steps: int = Field(default=250, ge=2)
    schedule: Literal["linear", "cosine"] = "linear"
    timesteps: int = Field(default=1000, ge=21)
    sampler: Sampler = "ancestral"
    eta: float = 0.0
    clip_denoised: bool = True
    shard_size: int = Field(default=64, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**63)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False


class FeatureConfig(_Table):
    """The network on whose features samples are compared.

    Attributes:
        network: "inception" (a state dict), "torchscript" (the same as a program) or "small".
        weights: an asset's name, or a path.
        reference: the asset or path of the reference batch; "" to be given with the command.
        shape: "small": the fields of `SmallClassifier`.
    """

    network: Literal["inception", "torchscript", "small"]
    weights: str
    reference: str = ""
    shape: dict[str, Any] = {}


class RunConfig(_Table):
    """All that decides a sample but the number of it."""

    name: str
    title: str
    model: ModelConfig
    sampling: SamplingConfig
    features: FeatureConfig
    classifier: ClassifierConfig = ClassifierConfig()
    guidance: GuidanceConfig = GuidanceConfig()

    @property
    def weights(self) -> tuple[str, ...]:
        """What a sample is drawn with, as the networks' tables name it: assets, files, or parts of files."""
        guiding = (self.classifier.weights,) if self.guidance.by_classifier else ()
        return (self.model.weights, *guiding)

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        guided = self.guidance.by_classifier
        if guided and self.classifier.network == "none":
            raise ValueError(f"guidance.method {self.guidance.method!r} needs a classifier, but there is none")
        if self.guidance.method == "classifier_free" and self.model.null_label is None:
            raise ValueError("guidance.method 'classifier_free' needs model.null_label, the label that stands for none")
        known, null = self.model.shape.get("num_classes"), self.model.null_label
        if isinstance(known, int):  # what else it may be is refused when the network is made
            if self.sampling.num_classes > known:
                raise ValueError(f"sampling.num_classes is {self.sampling.num_classes}; the model knows {known} labels")
            if null is not None and not 0 <= null < known:
                raise ValueError(f"model.null_label is {null}; the model's labels are below {known}")
        noisy, network = self.classifier.input == "noisy", self.classifier.network
        if network != "none" and noisy != (network == "adm"):
            raise ValueError(f"classifier.network {network!r} does not take classifier.input {self.classifier.input!r}")
        for name, shape in (("classifier", self.classifier.shape), ("features", self.features.shape)):
            for field in ("image_size", "in_channels"):
                given, wanted = shape.get(field), self.model.shape.get(field)
                if None not in (given, wanted) and given != wanted:
                    raise ValueError(f"{name}.shape.{field} is {given!r}, and model.shape.{field} is {wanted!r}")
        return self


def configuration_names() -> tuple[str, ...]:
    """The configurations in the package, such as ``digits`` and ``imagenet128/table3/js``."""
    root = _root()
    names = (path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.toml"))
    return tuple(sorted(name for name in names if not name.rpartition("/")[2].startswith("_")))


def load_config(name_or_path: str, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a configuration.

    Args:
        name_or_path: one of `configuration_names`, or the path of a TOML file.
        overrides: ``table.field=value``, the value as TOML writes it; a text needs no quotes.

    Raises:
        ValueError: no such configuration, a corrupt file, a field that is unknown, missing or of another type, or parts
            that do not belong together.
    """
    own = _root() / f"{name_or_path}.toml"
    path = own if name_or_path in configuration_names() else Path(name_or_path)
    if not path.is_file():
        names = ", ".join(configuration_names())
        raise ValueError(f"there is no configuration {name_or_path!r}, neither such a file nor one of {names}")
    tables = _read(path)
    for override in overrides:
        _override(tables, override)
    try:
        return RunConfig.model_validate_json(json.dumps(tables, default=str))
    except ValidationError as error:  # the first of the mistakes, on one line
        found = error.errors()[0]
        place = ".".join(map(str, found["loc"]))
        given = "" if found["type"] in ("missing", "value_error") else f", not {found['input']!r:.100}"
        told = f"{place}: {found['msg'].removeprefix('Value error, ')}{given}".removeprefix(": ")
        raise ValueError(f"configuration {name_or_path!r}: {told}") from error


def _root() -> Path:
    return Path(str(files("fguidance.run"))) / "configs"


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file's tables over those of the file that it `extends`, named relative to it."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from error
    folder = path.parent.resolve()
    for table in (one for one in tables.values() if isinstance(one, dict)):
        for field in ("weights", "reference"):  # a file beside a configuration is found from anywhere
            name = table.get(field)
            if isinstance(name, str) and name not in ASSETS and (folder / file_and_part(name)[0]).is_file():
                table[field] = str(folder / name)
    below = tables.pop("extends", None)
    if below is None:
        return tables
    above = (*above, path.resolve())
    if not isinstance(below, str) or not (path.parent / below).is_file() or (path.parent / below).resolve() in above:
        raise ValueError(f"{path} extends {below!r}; there is no such other file beside it")
    return _merged(_read(path.parent / below, above), tables)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        # A shape is that of one network: another's fields must not stay in it.
        both = key != "shape" and isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _override(tables: dict[str, Any], override: str) -> None:
    place, equals, text = override.partition("=")
    *path, last = place.strip().split(".")
    if not equals or not all((*path, last)):
        raise ValueError(f"an override must be table.field=value, not {override!r}")
    for name in path:
        tables = tables.setdefault(name, {})
        if not isinstance(tables, dict):
            raise ValueError(f"override {override!r}: {name} is no table")
    try:
        tables[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        tables[last] = text.strip()
