"""The strategies cover what a divergence meets, and serve for properties of one's own."""

import torch
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from fguidance import testing
from fguidance.testing import strategies
from fguidance.testing.strategies import KINDS, MANY_CLASSES, Case

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
ANY = settings(max_examples=200, phases=[Phase.generate], derandomize=True, database=None)


def test_they_are_exported() -> None:
    for name in ("logits", "targets", "log_ratios", "cases", "pairs"):
        assert getattr(testing, name) is getattr(strategies, name)
        assert name in testing.__all__
    assert "strategies" in testing.__all__


@given(st.sampled_from(DTYPES).flatmap(lambda dtype: st.tuples(st.just(dtype), testing.cases(dtype))))
def test_cases_in_every_dtype(drawn: tuple[torch.dtype, Case]) -> None:
    dtype, case = drawn
    assert {case.logits.dtype, case.log_q.dtype, case.log_p.dtype} == {dtype}
    assert case.logits.shape == case.log_q.shape == case.log_p.shape
    assert bool(case.logits.isfinite().all())
    assert abs(float(case.log_q.double().exp().sum()) - 1) < 16 * torch.finfo(dtype).eps
    assert case.kind in KINDS


@given(testing.cases(classes=(MANY_CLASSES, 4096)))
@settings(max_examples=10)
def test_many_classes(case: Case) -> None:
    assert len(case.logits) in (1000, 4096)
    assert abs(float(case.log_p.exp().sum()) - 1) < 1e-12


def found(condition: object) -> Case:
    return find(testing.cases(), condition, settings=ANY)  # type: ignore[arg-type]


def test_each_kind_is_drawn() -> None:
    assert float(found(lambda case: float(case.log_p.max()) > -1e-10).log_p.max()) > -1e-10  # saturated
    found(lambda case: float(case.log_p[case.log_q.argmax()]) < -20)  # saturated on another class
    found(lambda case: len(set(case.logits.tolist())) < len(case.logits))  # tied
    found(lambda case: 0 < float((case.log_p - case.log_q).abs().max()) < 0.05)  # near the target
    found(lambda case: float(case.logits.abs().min()) > 500)  # far from zero


def test_zeros_in_the_target_on_request() -> None:
    for zeros in (1, 2):
        log_q = find(testing.targets(3, zeros=True), lambda log_q: int(log_q.isinf().sum()) == zeros, settings=ANY)  # noqa: B023
        assert abs(float(log_q.exp().sum()) - 1) < 1e-12


@given(testing.targets(4))
def test_no_zeros_otherwise(log_q: torch.Tensor) -> None:
    assert bool(log_q.isfinite().all())


def test_targets_are_smoothed_or_have_a_share_of_their_own_for_each_class() -> None:
    for distinct in (1, 2, 5):
        find(testing.targets(5), lambda log_q: len(set(log_q.tolist())) == distinct, settings=ANY)  # noqa: B023
    find(testing.targets(5), lambda log_q: float(log_q.min()) < -9, settings=ANY)


@given(testing.pairs())
def test_pairs_are_distributions(pair: strategies.Pair) -> None:
    for log in (pair.log_p, pair.log_q):
        assert abs(float(log.exp().sum()) - 1) < 1e-12


@given(testing.log_ratios(50.0))
def test_log_ratios_stay_in_their_range(ratio: float) -> None:
    assert ratio == 0 or 0.99e-8 <= abs(ratio) <= 50.01
