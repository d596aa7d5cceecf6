"""Post-hoc calibration: what is fitted to held-out logits and labels, after training.

Source: Guo et al. 2017, arXiv:1706.04599, for temperature and vector scaling; isotonic regression is scikit-learn's.
"""

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fguidance.inputs import require_confidence, require_positive, require_samples, require_whole

STEPS = 200
Module = TypeVar("Module", bound=nn.Module)


class TemperatureScaling(nn.Module):
    """Logits divided by a temperature above 0 (:eq:`eq-temperature-scaling`).

    ``nn.Sequential(classifier, TemperatureScaling(2.0))`` is a classifier that guides as any other.

    Args:
        temperature: above 0.

    Raises:
        TypeError: `temperature` is no number.
        ValueError: `temperature` is not finite and above 0.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        known = require_positive("temperature", temperature)
        self.log_temperature = nn.Parameter(torch.tensor(known, dtype=torch.float64).log())

    @property
    def temperature(self) -> float:
        """The temperature."""
        return self.log_temperature.exp().item()

    def forward(self, logits: Tensor) -> Tensor:
        """The logits, divided."""
        return logits / self.log_temperature.exp().to(logits.dtype)


class VectorScaling(nn.Module):
    """A factor and a summand for the logit of each class.

    Args:
        num_classes: how many.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        num_classes = require_whole("num_classes", num_classes)
        self.scale = nn.Parameter(torch.ones(num_classes, dtype=torch.float64))
        self.shift = nn.Parameter(torch.zeros(num_classes, dtype=torch.float64))

    def forward(self, logits: Tensor) -> Tensor:
        """The logits, scaled and shifted."""
        return logits * self.scale.to(logits.dtype) + self.shift.to(logits.dtype)


@torch.inference_mode(False)
def fit_temperature(logits: Tensor, labels: Tensor) -> TemperatureScaling:
    """The temperature of the smallest cross-entropy.

    Args:
        logits: finite, shape (samples, classes), of held-out samples.
        labels: integers, shape (samples,).

    Returns:
        A module from logits to logits; its parameter asks for no gradient.

    Raises:
        TypeError: `logits` are not floating point or `labels` no integers.
        ValueError: a wrong shape, no samples, a label out of range, or no temperature is the best: every label has the
            largest logit, or labels have no larger logits than other classes.
    """
    require_samples(logits, labels, flat=True)
    wide = logits.detach().double()
    own = wide.gather(-1, labels[..., None].long()).squeeze(-1)
    # The slopes of the cross-entropy in 1/temperature, at infinity and at 0: between them it has to turn.
    if (wide.amax(-1) - own).mean() <= 0:
        raise ValueError("labels all have the largest logit: the smaller the temperature, the better")
    if (own - wide.mean(-1)).mean() <= 0:
        raise ValueError("logits tell nothing of labels: the larger the temperature, the better")
    unit = (wide.amax(-1) - wide.mean(-1)).mean()  # logits of any size are searched alike
    found = _fitted(TemperatureScaling(), wide / unit, labels)
    return TemperatureScaling(found.temperature * unit.item()).eval().requires_grad_(False)


@torch.inference_mode(False)
def fit_vector_scaling(logits: Tensor, labels: Tensor) -> VectorScaling:
    """The factors and summands of the smallest cross-entropy.

    Args:
        logits: finite, shape (samples, classes), of held-out samples.
        labels: integers, shape (samples,).

    Returns:
        A module from logits to logits; its parameters ask for no gradient.

    Raises:
        TypeError: `logits` are not floating point or `labels` no integers.
        ValueError: a wrong shape, no samples, or a label out of range.
    """
    require_samples(logits, labels, flat=True)
    return _fitted(VectorScaling(logits.shape[-1]), logits, labels)


def _fitted(module: Module, logits: Tensor, labels: Tensor) -> Module:
    fixed, target = logits.detach().double().clone(), labels.long().clone()  # not of inference mode, as theirs may be
    optimizer = torch.optim.LBFGS(module.parameters(), max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(module(fixed), target)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return module.eval().requires_grad_(False)


class IsotonicScaling:
    """A confidence for each confidence: the best that grows with it, which is a step function joined by lines.

    It has no gradient worth the name, so it is for reporting and not for guidance.

    Args:
        regression: a fitted ``sklearn.isotonic.IsotonicRegression``.
    """

    def __init__(self, regression: Any) -> None:
        self.regression = regression

    def __call__(self, confidence: Tensor) -> Tensor:
        """Confidences of any shape, calibrated; same dtype and device."""
        found = self.regression.predict(confidence.detach().double().cpu().flatten().numpy())
        return torch.as_tensor(found).view(confidence.shape).to(confidence)


def fit_isotonic(confidence: Tensor, correct: Tensor) -> IsotonicScaling:
    """Isotonic regression of being correct on the confidence, by scikit-learn.

    Args:
        confidence: shape (n,), floating point in [0, 1].
        correct: boolean, shape (n,).

    Raises:
        TypeError: `confidence` is not floating point, or `correct` not boolean.
        ValueError: a value outside [0, 1], shapes that disagree, or no samples.
        ImportError: scikit-learn is not installed.
    """
    require_confidence(confidence, correct)
    try:
        from sklearn.isotonic import IsotonicRegression
    except ImportError as error:
        raise ImportError("isotonic regression is scikit-learn's: pip install 'fguidance[calibration]'") from error
    regression = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    flat = confidence.detach().double().cpu().flatten().numpy(), correct.cpu().flatten().double().numpy()
    return IsotonicScaling(regression.fit(*flat))
