"""The four numbers that describe a set of generated digits, and how far they would move with other noise."""

from collections.abc import Callable
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from fguidance.evaluation import feature_statistics, frechet_distance, precision_recall
from lab.digits_networks import JudgingClassifier


@dataclass(frozen=True)
class Metrics:
    """Fréchet distance (lower is better), precision, recall and the judge's agreement (higher is better)."""

    frechet_distance: float
    precision: float
    recall: float
    agreement: float


@dataclass(frozen=True)
class Judged:
    """What the judge makes of some images: features ``(n, 64)`` and whether it reads the label asked for ``(n,)``."""

    features: Tensor
    agrees: Tensor

    def without(self, rows: Tensor) -> "Judged":
        """Leave out the rows where ``rows``, a boolean ``(n,)``, is true."""
        return Judged(self.features[~rows], self.agrees[~rows])


@torch.no_grad()
def judge(judging: JudgingClassifier, images: Tensor, labels: Tensor) -> Judged:
    """Look at images ``(n, 1, 8, 8)`` with the judge."""
    features = judging.body(images)
    return Judged(features, judging.head(features).argmax(1) == labels)


def measure(judged: Judged, reference: Judged, k: int) -> Metrics:
    """Compare generated images with reference images in the judge's features."""
    distance = frechet_distance(*feature_statistics(reference.features), *feature_statistics(judged.features))
    return Metrics(
        distance,
        *precision_recall(reference.features, judged.features, k=k),
        judged.agrees.double().mean().item(),
    )


def jackknife_error(statistic: Callable[[Tensor], Tensor], count: int, groups: int) -> Tensor:
    """Return the standard error of a statistic of ``count`` samples by leaving out one group of them at a time.

    Args:
        statistic: maps a boolean ``(count,)``, true for the samples to leave out, to values of any one shape.
        count: the number of samples.
        groups: into how many interleaved groups they are cut.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 11. The jackknife, not the bootstrap:
    drawing samples twice would put points at distance 0 from each other and spoil every neighbour distance.
    """
    group = torch.arange(count) % groups
    values = torch.stack([statistic(group == index) for index in range(groups)])
    return ((groups - 1) / groups * (values - values.mean(0)).square().sum(0)).sqrt()


def as_row(metrics: Metrics) -> Tensor:
    """The four numbers as a float64 tensor ``(4,)``."""
    return torch.tensor(astuple(metrics), dtype=torch.float64)
