"""Who tests the tests: every wrong divergence fails the check made for its mistake, with a counterexample."""

import json
from dataclasses import replace

import pytest
import torch

from fguidance.testing import check_divergence
from fguidance.testing.check import CHECKS
from fguidance.testing.runner import run_check
from fguidance.testing.subject import as_subject
from tests.mutation.run import RECORD, wrong_programs
from tests.testing.right import ForwardKL
from tests.testing.wrong import WRONG

FAILURES = [(make, check) for make, checks in WRONG for check in checks]
NEEDS_A_GPU = {"devices_agree"}

pytestmark = pytest.mark.usefixtures("unshrunk")


@pytest.mark.parametrize(("make", "check"), FAILURES, ids=lambda part: getattr(part, "__name__", part))
def test_it_fails_with_a_counterexample(make, check):
    record = run_check(CHECKS[check], as_subject(make()), max_examples=100)
    assert record.status == "failed", record
    assert record.reason
    assert record.examples > 0
    assert record.counterexample


def test_there_are_many_and_none_is_listed_twice():
    names = [make.__name__ for make, _ in WRONG]
    assert len(names) == len(set(names)) >= 60


def test_the_book_tells_how_many_there_are():
    """`python -m tests.mutation.run --programs` brings the record up to date."""
    assert json.loads(RECORD.read_text(encoding="utf-8"))["wrong_programs"] == wrong_programs()


def test_every_check_fails_something():
    assert {check for _, check in FAILURES} | NEEDS_A_GPU == set(CHECKS)


def test_a_wrong_one_fails_as_a_whole():
    make, (check, *_) = WRONG[0]
    report = check_divergence(make(), checks=[check, "value_is_not_negative"], max_examples=10)
    assert not report.passed
    assert check in [record.check for record in report.failures]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="devices are compared where there is a GPU")
def test_a_result_on_another_device_is_found():
    subject = as_subject(ForwardKL)
    weight = {"weight": lambda log_p, log_q: subject.weight(log_p.cpu(), log_q.cpu())}
    on_cpu = replace(subject, parts={**subject.parts, **weight})
    assert run_check(CHECKS["devices_agree"], on_cpu, max_examples=3).status == "failed"
