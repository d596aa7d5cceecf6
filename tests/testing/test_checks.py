"""The checks pass what is right, and each of them fails something that is wrong."""

from dataclasses import replace

import pytest
import torch

from fguidance.divergence import divergence_names
from fguidance.testing import check_divergence
from fguidance.testing.check import CHECKS
from fguidance.testing.runner import run_check
from fguidance.testing.subject import as_subject
from tests.testing.subjects import RIGHT, WRONG, ForwardKL

FAILURES = [(subject, check) for subject, checks in WRONG for check in checks]
NEEDS_A_GPU = {"devices_agree"}
FEW = 6


@pytest.mark.parametrize("subject", RIGHT, ids=lambda subject: subject.__name__)
def test_a_right_program_passes(subject: type) -> None:
    report = check_divergence(subject, max_examples=30)
    report.raise_for_failures()
    assert report.examples > 300


@pytest.mark.parametrize("name", [name for name in divergence_names() if name != "js_printed"])
def test_a_registered_divergence_passes(name: str) -> None:
    check_divergence(name, max_examples=FEW).raise_for_failures()


def test_a_weight_that_is_no_divergence_is_found_by_its_degree() -> None:
    failures = check_divergence("js_printed", max_examples=30).failures
    assert [record.check for record in failures] == ["weight_is_homogeneous"]


@pytest.mark.parametrize(("subject", "check"), FAILURES, ids=lambda part: getattr(part, "__name__", part))
def test_a_wrong_program_fails_with_a_counterexample(subject: type, check: str) -> None:
    record = run_check(CHECKS[check], as_subject(subject), max_examples=100)
    assert record.status == "failed", record
    assert record.reason
    assert record.examples > 0
    assert record.counterexample


def test_every_check_has_a_wrong_program_that_fails_it() -> None:
    covered = {check for _, checks in WRONG for check in checks} | NEEDS_A_GPU
    assert covered == set(CHECKS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="devices are compared where there is a GPU")
def test_a_result_on_another_device_is_found() -> None:
    subject = as_subject(ForwardKL)
    assert subject.weight is not None
    weight = subject.weight
    on_cpu = replace(subject, weight=lambda log_p, log_q: weight(log_p.cpu(), log_q.cpu()))
    assert run_check(CHECKS["devices_agree"], on_cpu, max_examples=3).status == "failed"


def test_a_check_that_does_not_apply_says_why() -> None:
    for record in check_divergence(ForwardKL, max_examples=1).with_status("skipped"):
        assert record.reason
        assert record.examples == 0


def test_an_exception_is_a_failure_and_not_a_crash() -> None:
    class Raises(ForwardKL):
        def weight(self, log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
            raise KeyError("no such class")

    (record,) = check_divergence(Raises, checks=["weight_matches_high_precision"], max_examples=3).records
    assert record.status == "failed"
    assert "KeyError" in record.reason
