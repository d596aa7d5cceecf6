"""Measuring what a run drew against a reference, with a record of how."""

import datetime
import json
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fguidance.evaluation import (
    Reference,
    extract_features,
    feature_statistics,
    frechet_distance,
    inception_score,
    precision_recall,
    read_reference,
    read_samples,
    to_uint8,
)
from fguidance.run.assets import file_and_part, file_sha256, locate
from fguidance.run.config import RunConfig
from fguidance.run.folder import SAMPLES, device_kind, read_identity, write_whole
from fguidance.run.networks import Judge, load_inception_judge, load_judge

DIGITS = "digits"
NEIGHBOURS = 3


@dataclass(frozen=True)
class Measures:
    """Quality of samples: the numbers of the paper's tables, and two more.

    Attributes:
        frechet_distance: of features of samples and reference (:eq:`eq-frechet`).
        precision: share of samples within the reference (:eq:`eq-precision-recall`), or None without its images.
        recall: share of the reference within the samples, or None.
        inception_score: of the judge's answers (:eq:`eq-inception-score`).
        agreement: share of samples that the judge calls by the label they were asked for, or None without labels or
            where the judge has other classes.
    """

    frechet_distance: float
    precision: float | None
    recall: float | None
    inception_score: float
    agreement: float | None


def evaluate_folder(
    folder: Path,
    reference: str = "",
    device: torch.device | None = None,
    batch_size: int = 64,
    features: str = "",
) -> tuple[Measures, Path]:
    """Measure a finished run, and write the measures beside its samples.

    Args:
        folder: of the run.
        reference: an ``.npz`` file, an asset, or "digits"; empty for the one that the configuration names.
        device: where features are computed; None for the CPU.
        batch_size: images at a time.
        features: a file or asset of the Inception network, see :func:`~fguidance.evaluation.load_feature_network`;
            empty for the network that the configuration names.

    Returns:
        The measures, and the file ``evaluation-….json`` that holds them.

    Raises:
        FileNotFoundError: no finished run, or a file is missing.
        ValueError: a corrupt file, or a reference of other images.
        ImportError: the digits are asked for, and scikit-learn is not installed.
    """
    device, begun = device or torch.device("cpu"), time.perf_counter()
    run = read_identity(folder)
    config = RunConfig.model_validate_json(json.dumps(run.config))
    if not (folder / SAMPLES).is_file():
        raise FileNotFoundError(f"{folder} is not finished: there is no {SAMPLES}; run 'fguidance sample' again")
    images, labels = read_samples(folder / SAMPLES)
    judge = (load_inception_judge(features) if features else load_judge(config.features)).to(device)
    judged_by = features or config.features.weights
    name = reference or config.features.reference
    sha256 = None if name == DIGITS else file_sha256(locate(name))
    judge_sha256 = file_sha256(locate(file_and_part(judged_by)[0]))
    found = measure(judge, images, labels, load_reference(name), batch_size, device)
    record = {
        "measures": vars(found), "num_samples": len(images), "neighbours": NEIGHBOURS, "reference": name,
        "reference_sha256": sha256, "features": judged_by, "features_sha256": judge_sha256,
        "samples_sha256": file_sha256(folder / SAMPLES), "run": run.digest, "config": run.config,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "device": device_kind(device),
        "versions": {one: version(one) for one in ("fguidance", "torch", "numpy")},
        "seconds": round(time.perf_counter() - begun, 1),
    }  # fmt: skip
    told = "" if sha256 is None else f"-{sha256[:8]}"  # two files may have the same name
    told += f"-{judge_sha256[:8]}" if features else ""
    path = folder / f"evaluation-{Path(name).stem}{told}.json"
    write_whole(path, (json.dumps(record, indent=2) + "\n").encode())
    return found, path


def measure(
    judge: Judge, images: Tensor, labels: Tensor | None, reference: Reference, batch_size: int, device: torch.device
) -> Measures:
    """The measures of images ``(n, H, W, C)`` uint8, and of labels ``(n,)`` where there are any."""
    if reference.images is not None and reference.images.shape[1:] != images.shape[1:]:
        of_reference, of_samples = tuple(reference.images.shape[1:]), tuple(images.shape[1:])
        raise ValueError(f"the reference's images are {of_reference}, height, width and channels, not {of_samples}")

    def extracted(given: Tensor) -> tuple[Tensor, Tensor]:
        both = extract_features(judge.features_and_logits, given, batch_size=batch_size, device=device)
        return both[:, : judge.num_features], both[:, judge.num_features :]

    features, logits = extracted(images)
    precision = recall = None
    statistics = (reference.mu, reference.sigma)
    if reference.images is not None:
        true_features, _ = extracted(reference.images)
        precision, recall = precision_recall(true_features.to(device), features.to(device), NEIGHBOURS)
        if reference.mu is None:
            statistics = feature_statistics(true_features)
    mu, sigma = statistics
    if mu is None or sigma is None or len(mu) != features.shape[1]:
        raise ValueError(f"the reference's statistics are not of the judge's {features.shape[1]} features")
    agreement = None
    if labels is not None and judge.knows_labels:
        agreement = float((logits.argmax(1) == labels).double().mean())
    distance = frechet_distance(*feature_statistics(features), mu, sigma)
    return Measures(distance, precision, recall, inception_score(logits)[0], agreement)


def load_reference(name: str) -> Reference:
    """A reference batch by its asset, its path, or "digits".

    Raises:
        FileNotFoundError: no such file.
        ValueError: no name, or a corrupt file.
        ImportError: the digits are asked for, and scikit-learn is not installed.
    """
    if not name:
        raise ValueError("no reference is named, neither by the command nor by the configuration")
    return Reference(None, None, digits_images()) if name == DIGITS else read_reference(locate(name))


def digits_images() -> Tensor:
    """The 1,797 digits of scikit-learn, ``(1797, 8, 8, 1)`` uint8.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install scikit-learn") from error
    pixels = torch.from_numpy(load_digits().images).float()[:, None]
    return to_uint8(pixels / 8 - 1)


def read_measures(path: Path) -> dict[str, Any]:
    """The record that `evaluate_folder` wrote.

    Raises:
        ValueError: it is corrupt.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        Measures(**found["measures"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no record of an evaluation: {error!r}") from error
    return dict(found)
