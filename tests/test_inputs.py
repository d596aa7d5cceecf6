"""The rules for arguments: each tells name, value and rule, and every public function asks those that concern it."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fguidance as fg
from fguidance.calibration import (
    TemperatureScaling,
    VectorScaling,
    binned_smooth_ece_loss,
    brier_score,
    classwise,
    expected_calibration_error,
    finetune,
    fit_isotonic,
    fit_temperature,
    fit_vector_scaling,
    negative_log_likelihood,
    reliability_curve,
    smooth_ece,
    smooth_ece_loss,
    top_label,
)
from fguidance.diffusion import DDIMStep, EntropyAware, GuidanceStepSize, Schedule, SmallShape, classifier_free
from fguidance.evaluation import inception_score, precision_recall
from fguidance.inputs import require_features, require_number, require_positive, require_samples, require_whole

LOGITS, LABELS = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])
ONES, RIGHT = torch.ones(3), torch.ones(3, dtype=torch.bool)
WRONG_LOGITS: list[tuple[Any, Any, type[Exception], str]] = [
    ([[0.0, 1.0]], LABELS, TypeError, "logits must be a torch.Tensor, not list"),
    (LOGITS.long(), LABELS, TypeError, "logits must be floating point, not torch.int64"),
    (LOGITS, [0, 1, 2, 0], TypeError, "labels must be a torch.Tensor, not list"),
    (LOGITS, LABELS.float(), TypeError, "labels must be integers, not torch.float32"),
    (LOGITS, LABELS.to(torch.complex64), TypeError, "labels must be integers, not torch.complex64"),
    (LOGITS, LABELS > 0, TypeError, "labels must be integers, not torch.bool"),
    (torch.tensor(0.0), torch.tensor(0), ValueError, "logits must have shape"),
    (torch.zeros(4, 0), LABELS, ValueError, "logits must have shape"),
    (torch.zeros(4, 1), 0 * LABELS, ValueError, r"logits must have at least 2 classes, not the shape \(4, 1\)"),
    (LOGITS, LABELS[:3], ValueError, r"labels must have the logits' shape without classes, \(4,\), not \(3,\)"),
    (LOGITS, LABELS[:, None], ValueError, "labels must have the logits' shape"),
    (torch.zeros(0, 3), LABELS[:0], ValueError, r"labels must hold at least one sample, not the shape \(0,\)"),
    (LOGITS, LABELS + 1, ValueError, "labels must lie from 0 to 2, but run from 1 to 3"),
    (LOGITS, LABELS - 1, ValueError, "labels must lie from 0 to 2, but run from -1 to 1"),
    (LOGITS / 0, LABELS, ValueError, "logits must be finite, but hold nan"),
    (LOGITS + torch.inf, LABELS, ValueError, "logits must be finite, but hold inf"),
]
WRONG_CONFIDENCES: list[tuple[Any, Any, type[Exception], str]] = [
    ([0.5], RIGHT, TypeError, "confidence must be a torch.Tensor, not list"),
    (ONES, [True], TypeError, "correct must be a torch.Tensor, not list"),
    (ONES.long(), RIGHT, TypeError, "confidence must be floating point, not torch.int64"),
    (ONES.to(torch.complex64), RIGHT, TypeError, "confidence must be floating point"),
    (ONES, RIGHT.long(), TypeError, "correct must be boolean, not torch.int64"),
    (torch.tensor(0.5), torch.tensor(True), ValueError, "confidence must have shape"),
    (torch.ones(2, 0), torch.ones(2, 0, dtype=torch.bool), ValueError, "confidence must have shape .* not be empty"),
    (ONES, RIGHT[None], ValueError, r"correct must have the shape of confidence, \(3,\), not \(1, 3\)"),
    (torch.tensor([0.5, torch.nan, 1]), RIGHT, ValueError, r"confidence must lie in \[0, 1\], but holds nan"),
    (torch.tensor([0.5, 1.5, 1]), RIGHT, ValueError, r"confidence must lie in \[0, 1\], but holds 1.5"),
    (torch.tensor([0.5, -1e-9, 1]), RIGHT, ValueError, r"confidence must lie in \[0, 1\], but holds -9.99"),
]
OF_LOGITS = (
    smooth_ece_loss, binned_smooth_ece_loss, top_label, classwise, brier_score, negative_log_likelihood,
    fit_temperature, fit_vector_scaling,
)  # fmt: skip
OF_CONFIDENCE = (expected_calibration_error, smooth_ece, reliability_curve, fit_isotonic)


@pytest.mark.parametrize(("logits", "labels", "wrong", "match"), WRONG_LOGITS)
def test_wrong_logits_and_labels_are_named(logits, labels, wrong: type[Exception], match: str) -> None:
    with pytest.raises(wrong, match=match):
        require_samples(logits, labels)


@pytest.mark.parametrize("function", OF_LOGITS)
@pytest.mark.parametrize("row", (WRONG_LOGITS[3], WRONG_LOGITS[11], WRONG_LOGITS[14]))
def test_every_function_of_logits_asks(function: Callable[..., Any], row: tuple[Any, ...]) -> None:
    with pytest.raises(row[2], match=row[3]):
        function(*row[:2])


@pytest.mark.parametrize("function", (classwise, fit_temperature, fit_vector_scaling))
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_some_take_samples_and_classes_only(function: Callable[..., Any], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"logits must have shape \(samples, classes\), not"):
        function(torch.zeros(*shape, 3), torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize(("confidence", "correct", "wrong", "match"), WRONG_CONFIDENCES)
def test_wrong_confidences_are_named(confidence, correct, wrong: type[Exception], match: str) -> None:
    with pytest.raises(wrong, match=match):
        smooth_ece(confidence, correct)


@pytest.mark.parametrize("function", OF_CONFIDENCE)
def test_every_function_of_confidences_asks(function: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"confidence must lie in \[0, 1\], but holds 2"):
        function(2 * ONES, RIGHT)


def test_values_are_named_without_a_warning_where_they_ask_for_a_gradient() -> None:
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with pytest.raises(ValueError, match="logits must be finite, but hold nan"):
            smooth_ece_loss((LOGITS / 0).requires_grad_(), LABELS)
        with pytest.raises(ValueError, match=r"confidence must lie in \[0, 1\], but holds 2"):
            smooth_ece((2 * ONES).requires_grad_(), RIGHT)
    finally:
        torch.set_warn_always(before)


NUMBERS: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    "beta": (lambda value: smooth_ece_loss(LOGITS, LABELS, value), (-1e-9, math.nan, math.inf)),
    " beta": (lambda value: binned_smooth_ece_loss(LOGITS, LABELS, value), (-1e-9,)),
    "  beta": (lambda value: finetune(nn.Identity(), [], beta=value), (-0.1,)),
    "weight": (lambda value: finetune(nn.Identity(), [], weight=value), (-0.1, math.nan)),
    "learning_rate": (lambda value: finetune(nn.Identity(), [], learning_rate=value), (0, 0.0, -0.1, math.inf)),
    "bandwidth": (lambda value: smooth_ece(ONES, RIGHT, value), (0, -0.1, 3e-5, math.inf)),
    " bandwidth": (lambda value: reliability_curve(ONES, RIGHT, value), (0, 3e-5)),
    "level": (lambda value: reliability_curve(ONES, RIGHT, level=value), (0, 1, -0.5, 95, math.nan)),
    "temperature": (TemperatureScaling, (0, -1.0, math.nan, math.inf)),
    "alpha": (lambda value: fg.Guidance(alpha=value), (-1, math.nan)),
    "epsilon": (lambda value: fg.Guidance(epsilon=value), (-0.1, 1.1)),
    "tau_joint": (lambda value: fg.Guidance(tau_joint=value), (0, -1)),
    "tilt": (lambda value: fg.Guidance(tilt=value), (math.inf,)),
    "gamma": (lambda value: GuidanceStepSize(4, value), (-1.0, math.nan)),
    "eta": (lambda value: DDIMStep(Schedule.linear(30), 1.0, value), (-0.1, 1.5, math.nan)),
    "smallest_share": (lambda value: EntropyAware(fg.Guidance(), value), (0.0, -1.0, 1.1)),
    "guidance_scale": (lambda value: classifier_free(lambda x, t, y: x, value, null_label=1), (math.inf,)),
}
COUNTS: dict[str, tuple[Callable[[Any], Any], tuple[Any, ...]]] = {
    "bins": (lambda value: expected_calibration_error(ONES, RIGHT, value), (0, -1)),
    " bins": (lambda value: binned_smooth_ece_loss(LOGITS, LABELS, bins=value), (0,)),
    "resamples": (lambda value: reliability_curve(ONES, RIGHT, resamples=value), (0,)),
    "num_classes": (VectorScaling, (0,)),
    " num_classes": (lambda value: fg.label_smoothed_log_target(LABELS, value, 0.9), (1,)),
    "epochs": (lambda value: finetune(nn.Identity(), [], epochs=value), (0, -1)),
    "patience": (lambda value: finetune(nn.Identity(), [], validation=[], patience=value), (0,)),
    "num_timesteps": (Schedule.linear, (20,)),
    "steps": (Schedule.linear(100).respace, (1, 101)),
    " steps": (lambda value: GuidanceStepSize(value, 0.0), (0,)),
    "width": (lambda value: SmallShape(8, 1, value, 1, 2), (0, -4)),
    "k": (lambda value: precision_recall(LOGITS, LOGITS, value), (0,)),
    "chunk_size": (lambda value: precision_recall(LOGITS, LOGITS, chunk_size=value), (0,)),
    "split_size": (lambda value: inception_score(LOGITS, value), (0,)),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_out_of_range_and_what_is_no_number_are_named(name: str) -> None:
    function, values = NUMBERS[name]
    for value in values:
        with pytest.raises(ValueError, match=f"{name.strip()} must be"):
            function(value)
    for value in ("1", True, torch.tensor(0.5), 1j):
        with pytest.raises(TypeError, match=f"{name.strip()} must be a number, not"):
            function(value)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_out_of_range_and_what_is_no_integer_are_named(name: str) -> None:
    function, values = COUNTS[name]
    for value in values:
        with pytest.raises(ValueError, match=f"{name.strip()} must be a whole number .*, not {value}"):
            function(value)
    for value in (50.0, "50", True, np.float64(50)):
        with pytest.raises(TypeError, match=f"{name.strip()} must be a whole number .*, not"):
            function(value)


def test_messages_tell_the_range() -> None:
    inf = math.inf
    ranges = (-inf, inf, ""), (0, inf, " of at least 0"), (0, 1, " from 0 to 1"), (-inf, 3, " of at most 3")
    for low, high, rule in ranges:
        with pytest.raises(ValueError, match=f"^x must be a finite number{rule}, not nan$"):
            require_number("x", math.nan, low, high)
    with pytest.raises(ValueError, match=r"^x must be a finite number above 0, not 0$"):
        require_positive("x", 0)
    with pytest.raises(ValueError, match=r"^x must be a whole number from 2 to 5, not 6$"):
        require_whole("x", 6, 2, 5)


class TestNumpysNumbers:
    """They are taken as Python's are, and become Python's."""

    @pytest.mark.parametrize("value", (2, np.int8(2), np.uint64(2), 2.0, np.float16(2), np.float64(2), Fraction(2)))
    def test_what_they_become(self, value: Any) -> None:
        found = require_number("x", value)
        assert (found, type(found)) == (2.0, float)
        if not isinstance(value, Fraction) and int(value) is not value and not isinstance(value, float | np.floating):
            whole = require_whole("x", value)
            assert (whole, type(whole)) == (2, int)

    def test_public_functions_take_them(self) -> None:
        confidence = torch.linspace(0, 1, 60, dtype=torch.float64)
        correct = torch.arange(60) % 3 > 0
        assert expected_calibration_error(confidence, correct, np.int64(15)) == expected_calibration_error(
            confidence, correct
        )
        schedule = Schedule.linear(np.int64(1000)).respace(np.int32(25))
        assert schedule.betas.equal(Schedule.linear(1000).respace(25).betas)
        logits, labels = torch.eye(3), torch.tensor([0, 2, 1])
        numbers = {"alpha": np.float32(0.5), "tau_marginal": np.float32(0.5), "tilt": np.float16(0.25)}
        found = fg.Guidance(**numbers, entropy=np.int8(1))
        expected = fg.Guidance(alpha=0.5, tau_marginal=0.5, tilt=0.25, entropy=1)
        assert found == expected
        assert found.logit_gradient(logits, labels).equal(expected.logit_gradient(logits, labels))
        assert smooth_ece_loss(logits, labels, np.float32(0.25)) == smooth_ece_loss(logits, labels, 0.25)


@pytest.mark.parametrize(("dtype", "classes"), ((torch.int8, 200), (torch.uint8, 300), (torch.int16, 70_000)), ids=str)
def test_labels_may_be_of_a_dtype_that_cannot_count_the_classes(dtype: torch.dtype, classes: int) -> None:
    labels = torch.tensor([0, 100, 127], dtype=dtype)
    logits = torch.zeros(3, classes)
    logits[:, 100] = 1.0
    guidance = fg.Guidance(divergence="js", alpha=0.5)
    for function in (*OF_LOGITS[:6], guidance.score, guidance.logit_gradient):
        found, expected = function(logits, labels), function(logits, labels.long())
        pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
        assert all(one.equal(other) for one, other in pairs)
    with pytest.raises(ValueError, match=f"labels must lie from 0 to {classes - 1}, but run from -1 to 0"):
        guidance.score(logits[:2], torch.tensor([0, -1], dtype=torch.int8))


@pytest.mark.parametrize(
    ("features", "error", "match"),
    [
        ([[0.0]], TypeError, "mine must be a torch.Tensor, not list"),
        (torch.zeros(3, 2).long(), TypeError, "mine must be floating point, not torch.int64"),
        (torch.zeros(3), ValueError, r"mine must have shape \(n, d\), n at least 2, not \(3,\)"),
        (torch.zeros(1, 3), ValueError, "n at least 2"),
        (torch.tensor([[0.0], [math.nan]]), ValueError, "mine must be finite"),
    ],
)
def test_wrong_features_are_named(features: Tensor, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        require_features("mine", features, at_least=2)
