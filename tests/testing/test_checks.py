"""What a check does beside passing and failing: it says why it does not apply, and an exception is a failure."""

import re
from dataclasses import replace

import pytest
import sympy as sp
import torch

from fguidance.testing import Record, check_divergence
from fguidance.testing.check import CHECKS
from fguidance.testing.exact import t
from fguidance.testing.runner import run_check
from fguidance.testing.strategies import Case
from fguidance.testing.subject import as_subject
from tests.testing.right import ForwardKL, KumarChhina, Neyman, VajdaBetweenTheOrders, VajdaInPlainPowers

pytestmark = pytest.mark.usefixtures("unshrunk")


def _record(source: object, check: str, **declared: object) -> object:
    (record,) = check_divergence(source, checks=[check], max_examples=5, **declared).records
    return record


def test_a_weight_that_is_no_divergence_is_found_by_its_degree() -> None:
    failures = check_divergence("js_printed", max_examples=3).failures
    assert [record.check for record in failures] == ["weight_is_homogeneous"]


def test_a_check_that_does_not_apply_says_why() -> None:
    skipped = check_divergence(ForwardKL, max_examples=1).with_status("skipped")
    assert skipped
    for record in skipped:
        assert record.reason
        assert record.examples == 0


def test_an_exception_is_a_failure_and_not_a_crash() -> None:
    class Raises(ForwardKL):
        def weight(self, log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
            raise KeyError("no such class")

    record = _record(Raises, "weight_matches_high_precision")
    assert record.status == "failed"
    assert re.search(r"KeyError: .* \(weight, line \d+ of test_checks\.py\)", record.reason)


def test_the_place_of_an_exception_is_not_in_a_library() -> None:
    class Raises(ForwardKL):
        def weight(self, log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.interpolate(log_p)  # which raises in a file of PyTorch

    reason = _record(Raises, "weight_matches_high_precision").reason
    assert re.search(r"\(weight, line \d+ of test_checks\.py\)$", reason)


def test_a_shape_is_told_with_the_right_one() -> None:
    class SumsAll(ForwardKL):
        def value(self, log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
            return super().value(log_p, log_q).sum()

    assert _record(SumsAll, "a_batch_is_its_members").reason == "value returns shape () for (2, 2), not (2,)"


def test_where_nearly_all_examples_are_given_up_no_setting_of_hypothesis_is_advised() -> None:
    class NotANumber(ForwardKL):
        def value(self, log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
            return super().value(log_p, log_q) * torch.nan

    reason = _record(NotANumber, "weight_is_gradient_in_the_log_probabilities").reason
    assert reason.startswith("hardly any example could be tried")


def test_a_declared_generator_that_is_not_convex_is_reported_with_a_point() -> None:
    record = _record(ForwardKL, "generator_is_convex", generator=(t - 1) ** 2 - 3 * (t - 1) ** 2 * sp.exp(-t))
    assert record.status == "failed"
    assert isinstance(record.counterexample["log_t"], float)
    assert _record(ForwardKL, "generator_is_convex", generator="-t*log(t)").status == "failed"


def test_gradients_and_the_default_dtype_are_put_back() -> None:
    class Careless(Neyman):
        def weight(self, log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
            torch.set_grad_enabled(False)
            torch.set_default_dtype(torch.float64)
            return super().weight(log_p, log_q)

    before = torch.get_rng_state(), torch.get_default_dtype()
    assert _record(Careless, "surroundings_are_left_alone").status == "failed"
    _record(Careless, "weight_is_gradient_of_value")
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == before[1]
    assert torch.equal(torch.get_rng_state(), before[0])


def test_a_weight_of_the_target_alone_hides_no_nan() -> None:
    class MinusQ(ForwardKL):
        def weight(self, log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
            return -log_q.exp()

    assert _record(MinusQ, "nan_is_not_hidden").status == "passed"


def test_a_value_without_a_graph_is_found_unless_that_is_declared() -> None:
    class Detached(Neyman):
        def value(self, log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
            return super().value(log_p.detach(), log_q)

    assert _record(Detached, "autograd_runs_through_the_value").status == "failed"
    assert _record(Detached, "autograd_runs_through_the_value", differentiable=False).status == "skipped"


def test_vmap_may_be_refused_but_not_wrong() -> None:
    class ReadsANumber(Neyman):
        def weight(self, log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
            assert float(log_p.max()) < 1
            return super().weight(log_p, log_q)

    assert _record(ReadsANumber, "vmap_gives_the_same").status == "passed"


def test_what_is_not_deterministic_is_told_apart() -> None:
    class FailsOnce(ForwardKL):
        calls = 0

        def value(self, log_p, log_q):  # type: ignore[no-untyped-def]
            self.calls += 1
            return super().value(log_p, log_q) - 1e3 * (self.calls == 20)

    record = run_check(CHECKS["value_is_not_negative"], as_subject(FailsOnce()), max_examples=50)
    assert record.status == "failed"
    assert "not deterministic; when it failed: the value is -" in record.reason
    assert record.counterexample


@pytest.mark.parametrize(("gauge", "is_meant"), ((0.5, True), (-3.0, True), (2e-6, False)))
def test_a_gauge_is_suggested_where_one_may_be_meant(gauge: float, is_meant: bool) -> None:
    class Gauged(ForwardKL):
        def weight(self, log_p, log_q):  # type: ignore[no-untyped-def]
            return super().weight(log_p, log_q) + gauge * log_p.exp()

    record = run_check(CHECKS["weight_is_zero_at_equality"], as_subject(Gauged()), max_examples=5)
    assert record.status == "failed"
    assert (f"declare gauge={gauge:g}" in record.reason) == is_meant
    assert ("declare gauge" in record.reason) == is_meant


def test_a_plain_program_may_overflow_in_a_power_but_not_anywhere() -> None:
    def record(factor: float) -> Record:
        class Overflows(VajdaInPlainPowers):
            def value(self, log_p, log_q):  # type: ignore[no-untyped-def]
                found = super().value(log_p, log_q)
                return torch.where(found > factor, torch.inf, found)

        return run_check(CHECKS["value_is_right_at_the_ends"], as_subject(Overflows()), max_examples=100)

    assert record(1e200).status == "passed"
    assert record(1e30).status == "failed"


@pytest.mark.parametrize("name", ("js", "pearson"))
@pytest.mark.parametrize(
    ("check", "part", "ulps", "status"),
    (
        ("weight_matches_high_precision", "weight", 4, "passed"),
        ("weight_matches_high_precision", "weight", 400, "failed"),
        ("force_matches_high_precision", "logit_gradient", 4, "passed"),
        ("force_matches_high_precision", "logit_gradient", 4000, "failed"),
        ("force_is_right_at_saturation", "logit_gradient", 100, "passed"),
    ),
)  # fmt: skip
def test_this_librarys_own_are_held_to_what_is_promised(
    name: str, check: str, part: str, ulps: int, status: str
) -> None:
    assert _off_by(ulps, name, check, part).status == status


def test_the_exact_ones_are_held_to_more() -> None:
    assert _off_by(12, "js", "weight_matches_high_precision", "weight").status == "failed"
    assert _off_by(400, "js", "force_is_right_at_saturation", "logit_gradient").status == "failed"


def _off_by(ulps: int, name: str, check: str, part: str) -> Record:
    subject = as_subject(name)

    def scaled(first: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
        found = subject.parts[part](first, log_q)
        return found * (1 + ulps * torch.finfo(found.dtype).eps)

    return run_check(CHECKS[check], replace(subject, parts={**subject.parts, part: scaled}), max_examples=50)


class _Blind(ForwardKL):
    """A value that is infinite from a log-ratio of 9 on, where it has reached a given size."""

    generator = None

    def __init__(self, size: float) -> None:
        self.size = size

    def value(self, log_p, log_q):  # type: ignore[no-untyped-def]
        found = self.size * super().value(log_p, log_q)
        return torch.where((log_p - log_q).abs().amax(-1) > 9, torch.inf, found)

    def weight(self, log_p, log_q):  # type: ignore[no-untyped-def]
        return self.size * super().weight(log_p, log_q)


@pytest.mark.parametrize(("size", "status"), ((1.0, "failed"), (1e90, "passed")))
def test_what_becomes_infinite_must_have_been_large(size: float, status: str) -> None:
    record = run_check(CHECKS["weight_is_gradient_of_value"], as_subject(_Blind(size)), max_examples=50)
    assert record.status == status
    assert ("a little closer to p = q" in record.reason) == (status == "failed")


def test_a_divergence_whose_weights_overflow_has_a_scale_all_the_same() -> None:
    checks = ("force_sums_to_zero", "force_ignores_a_shift", "classes_may_be_permuted")
    check_divergence("(t**50 + t**-50)/2 - 1", checks=checks, max_examples=50).raise_for_failures()


def test_symmetry_is_seen_in_a_divergence_of_small_numbers() -> None:
    report = check_divergence("(t - 1)**2*1e-29", checks=["symmetry_is_as_declared"], max_examples=10)
    report.raise_for_failures()


def test_a_step_is_shortened_where_the_force_is_small_and_the_divergence_curved() -> None:
    check = CHECKS["a_step_against_the_force_lowers_the_value"]
    row = torch.tensor([-5.0, 6.25, 10.0], dtype=torch.float64)
    log_q = torch.tensor([0.0, 0.0, 3.75], dtype=torch.float64).log_softmax(-1)
    check.body(as_subject(ForwardKL), Case(row, log_q, "ordinary"))


def test_without_a_generator_an_infinite_curvature_is_given_as_a_possible_reason() -> None:
    smooth = replace(VajdaBetweenTheOrders.declaration, smooth=True)
    record = _record(VajdaBetweenTheOrders, "curvature_is_that_of_the_generator", declaration=smooth)
    assert record.status == "failed"
    assert "declare smooth=False" in record.reason


def test_a_generator_that_enclosures_do_not_know_is_undecided() -> None:
    record = _record(KumarChhina(), "generator_is_convex")
    assert record.status == "skipped"
    assert record.reason.startswith("undecided: ")


def test_a_generator_with_kinks_is_declared_with_them() -> None:
    with pytest.raises(ValueError, match="declare smooth=False"):
        check_divergence(ForwardKL, generator="abs(t - 1)/2")
    with pytest.raises(ValueError, match="is not convex"):
        check_divergence(ForwardKL, generator="-abs(t - 1)/2", smooth=False)


def test_a_mistyped_name_is_answered_with_the_names() -> None:
    with pytest.raises(ValueError, match="'reverse_kl' is no generator and no registered divergence, which are rkl, "):
        check_divergence("reverse_kl")


def test_every_title_is_a_sentence() -> None:
    for check in CHECKS.values():
        assert check.title.endswith(".")
