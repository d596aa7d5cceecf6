"""`Divergence` against mpmath, float64 autograd and the mathematics it claims."""

import functools
import math

import mpmath
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fguidance as fg
from fguidance.symbolic import parse_generator
from tests.support import exact
from tests.support.cases import (
    DIVERGENCES,
    DOUBLE,
    DTYPES,
    EXTREMES,
    HALF,
    KINDS,
    MEMBERS,
    SINGLE,
    VANISHING,
    Case,
    Member,
    cases,
    distributions,
    family_member,
    plain_divergence,
    random_logits,
    target,
)

BOUND_A, BOUND_B = 8, 256
FEWER = settings(max_examples=max(1, settings().max_examples // 5))
every_member = pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS.keys())
every_divergence = pytest.mark.parametrize("name", DIVERGENCES)
any_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def found_and_exact(member: Member, case: Case) -> tuple[Tensor, exact.ExactGradient]:
    found = member.divergence.logit_gradient(case.logits, case.log_q)
    return found, exact.logit_gradient(member.reference, case.logits, case.log_q)


def scale_of_bound_a(member: Member, correct: exact.ExactGradient) -> mpmath.mpf:
    """max(largest |weight|, largest probability), and the largest component where that can exceed it N-fold.

    It can where f'(t) grows faster than 1/t towards t = 0 (Neyman, alpha < 0): a sure classifier's component is then
    the sum of N - 1 weights of one sign. It can for the printed JS weight too, which does not shrink with p. With
    N = 50 the correctly rounded gradient is more than 20 ulp of the largest weight away from the exact one.
    """
    exceeding = [MEMBERS[name] for name in ("neyman", "pearson", "symmetric_chi_squared", "alpha=-2.3", "js_printed")]
    if member not in exceeding:
        return correct.largest_part
    # Printed weights near p = q all share the rounding of log p, half an ulp, and p sum(w) adds it up N times.
    shared = 1 if member.divergence.is_divergence else max(1, len(correct.weights) / 16)
    return shared * max(correct.largest_part, correct.largest_component)


def assert_a(member: Member, case: Case, bound: float = BOUND_A) -> None:
    found, correct = found_and_exact(member, case)
    assert exact.error_in_ulp(found, correct.gradient, scale_of_bound_a(member, correct)) <= bound


def assert_b(member: Member, case: Case) -> None:
    found, correct = found_and_exact(member, case)
    assert exact.error_in_ulp(found, correct.gradient, correct.largest_component) <= BOUND_B


def steepness(member: Member, log_p: Tensor, log_q: Tensor) -> float:
    """What t is to be multiplied by its rounding with: e^t grows by t ulp for each."""
    return max(1.0, float((log_p - log_q).exp().max())) if member.divergence.name == "exponential" else 1.0


class TestAccuracy:
    """Against hundreds of digits, computed from exactly the same binary inputs."""

    @every_member
    def test_logit_gradient_is_within_8_ulp_of_its_largest_part(self, member: Member) -> None:
        steep = member is MEMBERS["puri_vincze=1.5"]  # f'' is infinite at p = q: there the rounding of u is enlarged
        kinds, least = (("one-hot on the label",), 1.0) if steep else (KINDS, 1e-6)

        @FEWER
        @given(cases(DOUBLE, least, kinds))
        def check(case: Case) -> None:
            assert_a(member, case, BOUND_A * steepness(member, case.logits.log_softmax(-1), case.log_q))

        check()

    @every_member
    def test_saturated_gradient_keeps_its_leading_digits(self, member: Member) -> None:
        @FEWER
        @given(cases(DOUBLE, least_spread=12, kinds=("one-hot on the label", "one-hot on a wrong class")))
        def check(case: Case) -> None:
            assert_b(member, case)

        check()

    @every_member
    def test_where_digits_are_lost_most_easily(self, member: Member) -> None:
        """One-hot, two equal classes, many classes near the target; and probabilities that are subnormal in float32."""
        for spread, top in ((10.0, 0), (40.0, 1), (300.0, 0), (300.0, 1)):
            logits = random_logits(4, 0.5, 7)
            logits[top] = logits.min() + spread
            assert_b(member, Case(logits, target(4, 0, 0.9)))
        for gap, epsilon in ((0.0, 0.9), (1e-3, 0.0), (1e-7, 0.9)):
            assert_a(member, Case(torch.tensor([-25.0, 3.0, 3.0 - gap, -40.0]).double(), target(4, 1, epsilon)))
        log_q = target(50, 13, 0.3)
        assert_a(member, Case(log_q - 1.88 * torch.nn.functional.one_hot(torch.tensor(12), 50), log_q))
        for spread, label in ((95.0, 0), (104.0, 1)):
            logits = torch.cat((torch.tensor([spread]), torch.zeros(49)))
            assert_b(member, Case(logits, target(50, label, 0.5, SINGLE)))

    @every_member
    @pytest.mark.parametrize("dtype", (*HALF, SINGLE), ids=str)
    def test_lower_precision_is_rounded_once(self, member: Member, dtype: torch.dtype) -> None:
        for seed, spread in enumerate((1e-2, 1.0, 10.0, 80.0)):
            assert_a(member, Case(random_logits(5, spread, seed).to(dtype), target(5, 1, 0.9, dtype)), 0.6)

    @every_member
    @pytest.mark.parametrize("distance", (1e-8, 1.0, 20.0))
    def test_every_weight_is_accurate(self, member: Member, distance: float) -> None:
        """To 8 ulp of the largest weight or probability of its row, as near p = q all of them cancel."""
        @FEWER
        @given(distributions(DOUBLE, distance))
        def check(pair: tuple[Tensor, Tensor]) -> None:
            found, correct = member.divergence.weight(*pair), exact.weights(member.reference, *pair)
            scale = max(*map(abs, correct), *exact.exponentials(pair[0]))
            assert exact.error_in_ulp(found, correct, scale) <= BOUND_A * steepness(member, *pair)

        check()

    @every_divergence
    @pytest.mark.parametrize("distance", (1e-8, 1e-3, 2.0, 20.0))
    def test_value_is_accurate(self, name: str, distance: float) -> None:
        """Relatively near p = q, and elsewhere to what the rounding of u costs."""
        member = DIVERGENCES[name]

        @FEWER
        @given(distributions(DOUBLE, distance))
        def check(pair: tuple[Tensor, Tensor]) -> None:
            correct = exact.value(member.reference, *pair)
            bound = 64 * steepness(member, *pair)
            assert exact.error_in_ulp(member.divergence.value(*pair)[None], [correct], correct) <= bound

        check()

    @pytest.mark.parametrize("name", ("pearson", "alpha=1.7", "alpha=3.0"))
    def test_nearly_uniform_probabilities_of_many_classes(self, name: str) -> None:
        # The normaliser's rounding is multiplied by the power of t; this is where it shows.
        for classes in range(10, 50, 6):
            for spread in (3e-5, 0.13):
                assert_a(MEMBERS[name], Case(random_logits(classes, spread, classes), target(classes, 0, 0.5)))

    @pytest.mark.parametrize("name", VANISHING)
    def test_the_plain_closed_form_fails_where_the_library_holds(self, name: str) -> None:
        member = MEMBERS[name]
        case = Case(torch.tensor([45.0, 0.0, 1.0, -2.0]), target(4, 0, 0.9, SINGLE))
        log_p = torch.log_softmax(case.logits, -1)
        w = member.divergence.weight(log_p, case.log_q)
        plain = w - log_p.exp() * w.sum()
        found, correct = found_and_exact(member, case)
        scale = correct.largest_component
        assert exact.error_in_ulp(plain, correct.gradient, scale) > 4 * BOUND_B
        assert exact.error_in_ulp(found, correct.gradient, scale) <= BOUND_B


class TestExtremeMembers:
    """Members at the ends of a family's range are as good as those in the middle."""

    def test_every_family_is_tried(self) -> None:
        assert set(EXTREMES) == {name for name in fg.divergence_names() if fg.divergence_parameters(name)}

    @pytest.mark.parametrize(("family", "parameter"), [(name, end) for name, ends in EXTREMES.items() for end in ends])
    def test_weight_value_and_force(self, family: str, parameter: float) -> None:
        member, steep = family_member(family, parameter), max(1, abs(parameter))
        if family == "osterreicher_vajda":
            steep = max(16 * steep, 2 ** (1 / parameter))  # its bend is narrow, or its gauge large
        assert member.divergence.generator.free_symbols
        for size in (1e-5, 0.12, 0.99, 1.01, 3.0, 8.0):
            for ratio in (size, -size) if size * abs(parameter) < 80 else ():
                log_p = torch.tensor([-3.0], dtype=DOUBLE)
                log_q = log_p - ratio
                correct, both = exact.value(member.reference, log_p, log_q), mpmath.exp(log_p.item() - min(0, ratio))
                found = fg.closed_forms.value(member.divergence.definition, log_p, log_q)[None]
                scale = correct if size < 1 else max(correct, both)  # two skewed families are nearly 0 at the ends
                assert exact.error_in_ulp(found, [correct], scale) <= 64 * steep
                (correct,) = exact.weights(member.reference, log_p, log_q)
                found = fg.closed_forms.weight(member.divergence.definition, log_p, log_q)
                assert exact.error_in_ulp(found, [correct], max(abs(correct), mpmath.exp(-3))) <= 64 * steep
        for seed, epsilon in ((1, 0.9), (2, 0.5), (3, 0.1)):
            case = Case(random_logits(5, 1.0, seed), target(5, seed, epsilon))
            found, correct = found_and_exact(member, case)
            assert exact.error_in_ulp(found, correct.gradient, correct.largest_part) <= 32 * steep

    @pytest.mark.parametrize(
        ("family", "special"),
        (("alpha", 0), ("alpha", 1), ("amari", -1), ("cressie_read", -1), ("tsallis", 1), ("osterreicher_vajda", 1)),
    )
    @pytest.mark.parametrize("distance", (1e-3, -1e-6, 1e-9))
    def test_accuracy_near_special_parameters(self, family: str, special: float, distance: float) -> None:
        member = family_member(family, special + distance)
        case = Case(random_logits(5, 6.0, 3), target(5, 1, 0.5))
        assert_a(member, case)
        log_p = torch.log_softmax(case.logits, -1)
        value = exact.value(member.reference, log_p, case.log_q)
        allowed = 64 + (1 / abs(distance) if family == "osterreicher_vajda" else 0)  # a difference over beta - 1
        assert exact.error_in_ulp(member.divergence.value(log_p, case.log_q)[None], [value], value) <= allowed


class TestRange:
    """Finite logits never give NaN, and an infinity only beyond the range of the dtype."""

    @every_member
    @any_dtype
    def test_extreme_logits(self, member: Member, dtype: torch.dtype) -> None:
        """Also for 1 - epsilon so small that several weights are infinite."""
        finfo = torch.finfo(dtype)
        subnormal = finfo.smallest_normal * finfo.eps
        rows = [
            [0.0, 0.0, 0.0], [finfo.max] * 3, [-finfo.max] * 3, [finfo.max, 0, 0], [finfo.max, -finfo.max, 0],
            [-finfo.max, 0, 0], [subnormal, 0, -subnormal], [1e3, -1e3, 0], [0, 3e4, 6e4], [88, 0, -1], [700, 0, 1],
        ]  # fmt: skip
        logits = torch.tensor(rows, dtype=DOUBLE).to(dtype)
        for epsilon in (0.0, 0.99, 1 - 1e-12, 1.0):
            if epsilon == 1 and member.divergence.needs_full_support:
                continue
            for label in range(3):
                log_q = target(3, label, epsilon).expand(logits.shape)
                assert not member.divergence.logit_gradient(logits, log_q).isnan().any()

    @every_member
    @pytest.mark.parametrize("dtype", (torch.float16, SINGLE, DOUBLE), ids=str)
    def test_infinite_only_where_the_exact_gradient_is_beyond_range(self, member: Member, dtype: torch.dtype) -> None:
        for logits in ([60.0, -60, 1], [300, 0, 150], [300, -300, 0], [0, 3e3, 6e3], [1e4, 0, -1]):
            if max(logits) > 500 and member is MEMBERS["osterreicher_vajda=0.3"]:
                continue  # its power mean overflows before p takes it back
            found, correct = found_and_exact(member, Case(torch.tensor(logits, dtype=dtype), target(3, 0, 0.5, dtype)))
            for entry, right in zip(found.tolist(), correct.gradient, strict=True):
                rounding = 2.0**-50 * correct.largest_component
                assert math.isfinite(entry) or abs(right) + rounding >= 0.99 * torch.finfo(dtype).max

    @every_divergence
    def test_a_value_is_infinite_only_where_it_is_beyond_the_range(self, name: str) -> None:
        member = DIVERGENCES[name]
        if name in ("vajda_chi4", "alpha=-2.3"):
            pytest.skip("(p/q)^a leaves the range before q (p/q)^a does")
        for first in (-8.0, -160.0, -640.0):
            for second in (-24.0, -480.0, -700.0):
                log_p, log_q = torch.tensor([[first], [second]], dtype=DOUBLE)
                for p, q in ((log_p, log_q), (log_q, log_p)):
                    correct = exact.value(member.reference, p, q)
                    found = fg.closed_forms.value(member.divergence.definition, p, q)[None]
                    assert found.isfinite() or correct >= 0.99 * torch.finfo(DOUBLE).max
                    assert found >= 0

    @every_member
    def test_a_tiny_target_gives_no_nan(self, member: Member) -> None:
        for far in (-95.0, -800.0, -1e5, -1e35):
            log_p, log_q = torch.tensor([-1e-9, -20.0]).double(), torch.tensor([far, -1e-9]).double()
            for pair in ((log_p, log_q), (log_q, log_p)):
                assert not fg.closed_forms.weight(member.divergence.definition, *pair).isnan().any()

    @every_member
    def test_one_hot_target(self, member: Member) -> None:
        log_q = target(4, 1, 1.0)
        for logits in ([0.0, 0, 0, 0], [5.0, 0, -1, 2], [0.0, 40, 1, 2], [80.0, 0, 1, 2]):
            case = Case(torch.tensor(logits, dtype=DOUBLE), log_q)
            if member.divergence.needs_full_support:
                with pytest.raises(ValueError, match="log_q"):
                    member.divergence.logit_gradient(case.logits, log_q)
            else:
                assert_a(member, case)

    @every_divergence
    def test_gradient_of_the_value_at_zeros_in_the_target(self, name: str) -> None:
        divergence = DIVERGENCES[name].divergence
        if divergence.needs_full_support:
            return
        logits, log_q = torch.zeros(2, dtype=torch.float64), torch.tensor([-math.inf, 0.0], dtype=torch.float64)
        at = logits.clone().requires_grad_()
        (found,) = torch.autograd.grad(divergence.value(at.log_softmax(-1), log_q), at)
        assert torch.allclose(found, divergence.logit_gradient(logits, log_q), rtol=1e-12)

    @every_divergence
    def test_value_at_distributions_with_zeros(self, name: str) -> None:
        member = DIVERGENCES[name]
        one_hot, half = torch.tensor([0.0, -math.inf]), torch.tensor([0.5, 0.5]).log()
        for log_p, log_q in ((one_hot, half), (half, one_hot), (one_hot, one_hot)):
            assert member.divergence.value(log_p, log_q) >= 0
        assert member.divergence.value(one_hot, one_hot) == 0
        assert member.divergence.value(half, one_hot).isinf() == member.divergence.needs_full_support


def float64_case(name: str, batch: tuple[int, ...] = (4,), classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    logits = 2 * torch.randn(*batch, classes, generator=generator, dtype=DOUBLE)
    labels = torch.randint(classes, batch, generator=generator)
    return logits, fg.label_smoothed_log_target(labels, classes, 0.7, DOUBLE)


class TestAutograd:
    """Against autograd of sum_i q_i f(p_i/q_i), written as on paper, in float64."""

    @every_divergence
    def test_value_and_its_derivatives(self, name: str) -> None:
        """The value, its gradient and Hessian-vector products, by autograd of what is on paper and of the library."""
        logits, log_q = float64_case(name)
        divergence = DIVERGENCES[name].divergence
        vector = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
        logits.requires_grad_()
        plain, own = plain_divergence(name, logits, log_q), divergence.value(torch.log_softmax(logits, -1), log_q)
        torch.testing.assert_close(own, plain, rtol=1e-11, atol=1e-13)
        expected, through_value = (torch.autograd.grad(v.sum(), logits, create_graph=True)[0] for v in (plain, own))
        closed = divergence.logit_gradient(logits, log_q)
        torch.testing.assert_close(closed, expected, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(through_value, expected, rtol=1e-9, atol=1e-10)
        product, *others = (torch.autograd.grad(g, logits, vector)[0] for g in (expected, closed, through_value))
        for found in others:
            torch.testing.assert_close(found, product, rtol=1e-8, atol=1e-9)

    @pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # PyTorch's own, in forward mode
    @every_divergence
    def test_hessian_where_classes_are_tied(self, name: str) -> None:
        """Differences that are 0 still have a derivative; at p = q the Hessian is f''(1) (diag p - p p^T)."""
        divergence = DIVERGENCES[name].divergence
        tied = (([0.0, 0, 0, 0], 0.7), ([1.5, 1.5, 0, -2], 0.0), ([0, 0, 9.0, 9], 0.7))
        for logits, epsilon in tied if divergence.is_smooth else ():
            z, log_q = torch.tensor(logits, dtype=DOUBLE), target(4, 0, epsilon)
            for at in (z, log_q):
                plain = torch.func.hessian(lambda y, q=log_q: plain_divergence(name, y, q))(at)
                by_value = torch.func.hessian(lambda y, q=log_q: divergence.value(y.log_softmax(-1), q))(at)
                by_force = torch.func.jacrev(divergence.logit_gradient)(at, log_q)
                forward = torch.func.jacfwd(divergence.logit_gradient)(at, log_q)
                for found in (by_force, forward, by_value):
                    torch.testing.assert_close(found, plain, rtol=1e-8, atol=1e-10)

    @every_divergence
    def test_derivatives_are_never_nan_where_the_gradient_is_finite(self, name: str) -> None:
        divergence = DIVERGENCES[name].divergence
        for spread in (0.5, 20.0, 60.0, 300.0):
            for epsilon in (0.0, 0.9):
                logits, log_q = random_logits(4, spread, 1), target(4, 0, epsilon)
                if divergence.logit_gradient(logits, log_q).abs().max() < torch.finfo(DOUBLE).max / 1e20:
                    assert not torch.func.jacrev(divergence.logit_gradient)(logits, log_q).isnan().any()
                    by_value = torch.func.grad(lambda y, q=log_q: divergence.value(y.log_softmax(-1), q))(logits)
                    assert not by_value.isnan().any()

    @pytest.mark.parametrize("name", [name for name in DIVERGENCES if name.startswith("puri_vincze")])
    def test_the_value_is_flat_at_agreement(self, name: str) -> None:
        """Though f'' is infinite there for exponents between 1 and 2."""
        log_q = torch.tensor([-2.0, -1.0, 0.5], dtype=DOUBLE).log_softmax(-1)
        value = DIVERGENCES[name].divergence.value
        assert torch.func.grad(lambda y: value(y, log_q))(log_q).tolist() == [0.0, 0.0, 0.0]


class TestProperties:
    """What holds of every f-divergence."""

    @every_divergence
    def test_nowhere_negative_and_zero_only_at_equality(self, name: str) -> None:
        divergence = DIVERGENCES[name].divergence

        @FEWER
        @given(cases(SINGLE))
        def check(case: Case) -> None:
            log_p = torch.log_softmax(case.logits, -1)
            assert divergence.value(log_p, case.log_q) >= 0
            assert divergence.value(log_p, log_p) == 0
            if (log_p - case.log_q).abs().max() > 1e-3:
                assert divergence.value(log_p, case.log_q) > 0

        check()

    @every_member
    def test_components_sum_to_zero(self, member: Member) -> None:
        @FEWER
        @given(cases(DOUBLE))
        def check(case: Case) -> None:
            gradient = member.divergence.logit_gradient(case.logits, case.log_q)
            if gradient.isfinite().all():
                assert gradient.sum().abs() <= 1e-13 * gradient.abs().max() * len(gradient) + 1e-300

        check()

    @every_member
    def test_permuting_the_classes_permutes_the_gradient(self, member: Member) -> None:
        logits, log_q = float64_case("permutation")
        order = torch.tensor([3, 0, 4, 2, 1])
        found = member.divergence.logit_gradient(logits[:, order], log_q[:, order])
        torch.testing.assert_close(found, member.divergence.logit_gradient(logits, log_q)[:, order])

    @every_member
    @pytest.mark.parametrize("shift", (-1024.0, 0.5, 4096.0))
    def test_a_constant_added_to_the_logits_changes_nothing(self, member: Member, shift: float) -> None:
        logits = torch.tensor([0.0, 1.5, -2.25, 8.0])  # exact sums, so the result must be equal to the last bit
        log_q = target(4, 1, 0.9, SINGLE)
        shifted = member.divergence.logit_gradient(logits + shift, log_q)
        torch.testing.assert_close(shifted, member.divergence.logit_gradient(logits, log_q), rtol=0, atol=0)

    @every_divergence
    def test_weights_are_homogeneous_of_degree_one(self, name: str) -> None:
        # Splitting each class in halves scales p and q by 1/2 and keeps both distributions.
        logits, log_q = float64_case(name)
        log_p = torch.log_softmax(logits, -1)
        divergence = DIVERGENCES[name].divergence
        split = [torch.cat((log_prob, log_prob), -1) - math.log(2) for log_prob in (log_p, log_q)]
        twice = torch.cat([divergence.weight(log_p, log_q)] * 2, -1)
        torch.testing.assert_close(2 * divergence.weight(*split), twice, rtol=1e-12, atol=1e-14)

    def test_the_printed_js_weight_is_not_homogeneous_of_degree_one(self) -> None:
        log_p, log_q = torch.tensor([0.2, 0.8]).log(), torch.tensor([0.6, 0.4]).log()
        printed = fg.divergence("js_printed")
        split = [torch.cat((log_prob, log_prob)) - math.log(2) for log_prob in (log_p, log_q)]
        torch.testing.assert_close(printed.weight(*split), torch.cat([printed.weight(log_p, log_q)] * 2))

    @pytest.mark.parametrize(
        ("name", "parameters", "other", "factor"),
        (
            ("gan", {}, "js", 2),
            ("amari", {"alpha": -1}, "rkl", 1),
            ("amari", {"alpha": 1}, "fkl", 1),
            ("amari", {"alpha": 0}, "hellinger", 2),
            ("cressie_read", {"lambda_": -1}, "rkl", 2),
            ("cressie_read", {"lambda_": 0}, "fkl", 2),
            ("cressie_read", {"lambda_": 1}, "pearson", 1),
            ("tsallis", {"order": 1}, "fkl", 1),
            ("tsallis", {"order": 2}, "pearson", 1),
            ("skewed_js", {"skew": 0.5}, "js", 1),
            ("skewed_rkl", {"skew": 0.5}, "lin_k", 1),
            ("blended_chi_squared", {"blend": 0.5}, "triangular", 2),
            ("puri_vincze", {"exponent": 2}, "triangular", 0.5),
            ("osterreicher_vajda", {"beta": 0.5}, "hellinger", 1),
            ("osterreicher_vajda", {"beta": 1}, "gan", 1),
            ("osterreicher_vajda", {"beta": 2}, "perimeter", 2),
        ),
    )
    def test_members_that_are_other_rows(self, name: str, parameters: dict, other: str, factor: float) -> None:
        logits, log_q = float64_case("others")
        log_p = torch.log_softmax(logits, -1)
        found, expected = fg.divergence(name, **parameters), fg.divergence(other)
        gradient = factor * expected.logit_gradient(logits, log_q)
        torch.testing.assert_close(found.logit_gradient(logits, log_q), gradient, rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(found.value(log_p, log_q), factor * expected.value(log_p, log_q), rtol=1e-12, atol=0)
        point = {symbol: sp.Rational(3, 2) for symbol in expected.generator.free_symbols}
        bends = [sp.diff(d.generator, *d.generator.free_symbols, 2).subs(point) for d in (found, expected)]
        assert float(bends[0]) == pytest.approx(factor * float(bends[1]))

    def test_the_least_exponent_of_puri_and_vincze_is_total_variation(self) -> None:
        logits, log_q = float64_case("kink")
        least, expected = fg.divergence("puri_vincze", exponent=1), fg.divergence("total_variation")
        torch.testing.assert_close(least.logit_gradient(logits, log_q), expected.logit_gradient(logits, log_q))
        log_p = torch.log_softmax(logits, -1)
        torch.testing.assert_close(least.value(log_p, log_q), expected.value(log_p, log_q))
        assert str(least.generator) == str(expected.generator)

    @pytest.mark.parametrize(
        ("name", "parameter", "difference"),
        (("softened_total_variation", 1e-3, 1e-3 / 2), ("osterreicher_vajda", 64.0, 2 * 0.011)),
    )
    def test_limits_that_are_total_variation(self, name: str, parameter: float, difference: float) -> None:
        (rule,) = fg.divergence_parameters(name)
        logits, log_q = float64_case("total")
        log_p = torch.log_softmax(logits, -1)
        found = fg.divergence(name, **{rule: parameter}).value(log_p, log_q)
        assert (found - fg.divergence("total_variation").value(log_p, log_q)).abs().max() <= difference

    def test_total_variation_has_the_gauge_slope_0_at_agreement(self) -> None:
        log_q = torch.tensor([0.25, 0.25, 0.5], dtype=DOUBLE).log()
        log_p = torch.tensor([0.25, 0.5, 0.25], dtype=DOUBLE).log()
        found = fg.divergence("total_variation").weight(log_p, log_q)
        torch.testing.assert_close(found, torch.tensor([0, 0.25, -0.125], dtype=DOUBLE))
        assert not fg.divergence("total_variation").is_smooth
        smooth = [fg.divergence("puri_vincze", exponent=k).is_smooth for k in (1, 1.5, 2, 3)]
        assert smooth == [False, False, True, True]

    def test_labels_and_parameters(self) -> None:
        assert fg.divergence("cressie_read", lambda_=0.5).label == "cressie_read(lambda_=0.5)"
        assert fg.divergence("js").label == "js"
        assert fg.divergence_parameters("js") == {}
        (parameter,) = fg.divergence_parameters("tsallis").values()
        assert (parameter.name, parameter.low, parameter.high, parameter.is_open) == ("order", 0, 64, True)
        assert fg.divergence("tsallis").parameters == {"order": parameter.default}
        with pytest.raises(ValueError, match="'kl' is not one of"):
            fg.divergence_parameters("kl")


class TestShapesAndTransforms:
    """Batch shapes, memory layouts, devices, and what PyTorch does to a function."""

    @every_member
    def test_shapes_layouts_and_dtypes(self, member: Member) -> None:
        divergence = member.divergence
        for batch in ((), (1,), (2, 3), (2, 1, 3), (0,)):
            logits, log_q = float64_case("shape", batch)
            found = divergence.logit_gradient(logits, log_q)
            assert found.shape == logits.shape
            for row, *case in zip(found.view(-1, 5), logits.view(-1, 5), log_q.view(-1, 5), strict=True):
                torch.testing.assert_close(row, divergence.logit_gradient(*case), rtol=1e-13, atol=1e-15)
            assert not member.divergence.is_divergence or divergence.value(logits.log_softmax(-1), log_q).shape == batch
        logits, log_q = float64_case("strides", (4,), 4)
        log_p, kept = torch.log_softmax(logits, -1), (logits.clone(), log_q.clone())
        expected = divergence.logit_gradient(logits.T.contiguous(), log_q[:1].repeat(4, 1))
        found = divergence.logit_gradient(logits.T, log_q[:1].expand(4, 4))
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)
        divergence.weight(log_p, log_q)
        assert torch.equal(log_p, torch.log_softmax(kept[0], -1))
        assert all(map(torch.equal, (logits, log_q), kept))
        for dtype in DTYPES:
            assert divergence.logit_gradient(torch.zeros(3, dtype=dtype), target(3, 0, 0.5, DOUBLE)).dtype == dtype
            pair = target(3, 1, 0.5, dtype), target(3, 0, 0.5, DOUBLE)
            assert divergence.weight(*pair).dtype == dtype
            assert not divergence.is_divergence or divergence.value(*pair).dtype == dtype

    @every_member
    def test_vmap_autocast_and_meta_tensors(self, member: Member) -> None:
        gradient, (logits, log_q) = member.divergence.logit_gradient, float64_case("vmap")
        expected = gradient(logits, log_q)
        torch.testing.assert_close(torch.func.vmap(gradient)(logits, log_q), expected, rtol=1e-13, atol=1e-15)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(gradient(logits, log_q), expected)
        found = gradient(logits.to("meta"), log_q.to("meta"))
        assert (found.shape, found.device.type) == (logits.shape, "meta")

    @pytest.mark.parametrize("name", ("js", "alpha=-2.3", "triangular"))
    def test_compile_without_graph_breaks(self, name: str) -> None:
        logits, log_q = (tensor.float() for tensor in float64_case("compile"))
        divergence = MEMBERS[name].divergence
        torch._dynamo.reset()
        compiled = torch.compile(divergence.logit_gradient, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(logits, log_q), divergence.logit_gradient(logits, log_q))

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
    @every_member
    def test_cuda_agrees_with_the_cpu(self, member: Member) -> None:
        logits, log_q = (tensor.float() for tensor in float64_case("cuda"))
        found = member.divergence.logit_gradient(logits.cuda(), log_q.cuda())
        assert found.is_cuda
        torch.testing.assert_close(found.cpu(), member.divergence.logit_gradient(logits, log_q))


OWN = (
    "(t-1)**4", "t*log(2*t/(1+t))", "exp(t-1)-t", "sqrt(1+t**2)-(1+t)/2**0.5", "(t+1)/2*log((t+1)/(2*sqrt(t)))",
)  # fmt: skip
own_generators = pytest.mark.parametrize("text", OWN)


@functools.cache
def made(text: str) -> Member:
    """Derived once in a process: mutants of what calculates with it, which are forked, derive nothing again."""
    return Member(fg.Divergence.from_generator(text), exact.reference(parse_generator(text)))


class TestFromGenerator:
    """Generators of one's own."""

    def test_what_is_said_of_it(self) -> None:
        own = fg.Divergence.from_generator("(t-1)**2")
        assert (own.name, own.source) == ("custom", "given by the user")
        assert fg.Divergence.from_generator("(t-1)**2", "mine").name == "mine"
        with pytest.raises(TypeError, match="name must be a string, not int"):
            fg.Divergence.from_generator("(t-1)**2", 3)  # type: ignore[arg-type]

    def test_parameters(self) -> None:
        found = fg.Divergence.from_generator("a*(t-1)**2", parameters={"a": 2.5}).generator
        assert sp.expand(found - sp.Rational(5, 2) * (sp.Symbol("t", positive=True) - 1) ** 2) == 0

    def test_a_limit_that_is_too_large(self) -> None:
        with pytest.raises(ValueError, match=r"the limit of f\(t\) at 0, .* is too large to calculate with"):
            fg.Divergence.from_generator("6*10**29*(t-1)**2 + 6*10**29*(t-1)**4")

    @pytest.mark.parametrize(("text", "constant"), (("t*log(t)", "5"), ("(t-1)**4", "-3.25")))
    def test_gauge_invariance(self, text: str, constant: str) -> None:
        first = fg.Divergence.from_generator(text)
        second = fg.Divergence.from_generator(f"{text} + ({constant})*(t - 1)")
        logits, log_q = float64_case("gauge")
        log_p = torch.log_softmax(logits, -1)
        torch.testing.assert_close(second.logit_gradient(logits, log_q), first.logit_gradient(logits, log_q))
        torch.testing.assert_close(second.weight(log_p, log_q), first.weight(log_p, log_q))
        torch.testing.assert_close(second.value(log_p, log_q), first.value(log_p, log_q))

    def test_a_sympy_expression_in_any_symbol(self) -> None:
        x = sp.Symbol("x")
        logits, log_q = float64_case("sympy")
        found = fg.Divergence.from_generator(x * sp.log(x), name="mine")
        assert (found.name, found.formula) == ("mine", "t*log(t)")
        expected = fg.divergence("fkl").logit_gradient(logits, log_q)
        torch.testing.assert_close(found.logit_gradient(logits, log_q), expected)

    @own_generators
    def test_accuracy(self, text: str) -> None:
        for seed, spread in enumerate((1e-6, 0.3, 3.0)):
            for epsilon in (0.0, 0.5):
                assert_a(made(text), Case(random_logits(5, spread, seed), target(5, 0, epsilon)), 32)
        for seed, spread in enumerate((10.0, 50.0, 300.0)):
            assert_b(made(text), Case(random_logits(5, spread, seed), target(5, seed, 0.5)))
        log_q = torch.log_softmax(random_logits(4, 2.0, 1), -1)
        for distance in (1e-6, 1e-3, 0.5, 2.0):
            log_p = torch.log_softmax(log_q + random_logits(4, distance, 2), -1)
            correct = exact.value(made(text).reference, log_p, log_q)
            assert exact.error_in_ulp(made(text).divergence.value(log_p, log_q)[None], [correct], correct) <= 256

    @own_generators
    @any_dtype
    def test_never_nan(self, text: str, dtype: torch.dtype) -> None:
        for spread in (0.0, 1.0, 10.0, 100.0, 1e4, torch.finfo(dtype).max):
            for top in (0, 1):
                logits = torch.zeros(10, dtype=dtype)
                logits[top] = spread
                for epsilon in (0.0, 0.99):
                    assert not made(text).divergence.logit_gradient(logits, target(10, 0, epsilon, dtype)).isnan().any()

    @own_generators
    def test_double_backward(self, text: str) -> None:
        logits, log_q = float64_case("own", (), 4)
        gradient = made(text).divergence.logit_gradient
        found = torch.func.jacrev(gradient)(logits, log_q)
        step = 1e-6 * torch.eye(4, dtype=DOUBLE)
        expected = torch.stack([(gradient(logits + s, log_q) - gradient(logits - s, log_q)) / 2e-6 for s in step], -1)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)

    def test_the_generator_can_be_read_back(self) -> None:
        for text in ("exp(t)/exp(1) - t", "exp(1)*(t - 1)**2", "(t-1)**2 + (t**3-3*t+2)/7", "t**(5/3) - 5*t/3 + 2/3"):
            given_back = fg.Divergence.from_generator(text).generator
            point = {symbol: sp.Rational(7, 3) for symbol in given_back.free_symbols}
            expected = sp.N(sp.sympify(sp.parse_expr(text)).subs(sp.Symbol("t"), sp.Rational(7, 3)))
            assert abs(float(given_back.subs(point)) - float(expected)) < 1e-12


class TestErrors:
    """Bad input names the argument, what it holds and the rule."""

    divergence = fg.divergence("js")
    log_q = torch.tensor([0.2, 0.8]).log()

    @pytest.mark.parametrize(
        ("logits", "error", "message"),
        (
            (torch.zeros(3), ValueError, r"log_q must have the shape of logits, \(3,\), not \(2,\)"),
            (torch.zeros(4, 2), ValueError, r"log_q must have the shape of logits, \(4, 2\), not \(2,\)"),
            (torch.tensor([0, 1]), TypeError, "logits must be floating point, not torch.int64"),
            (torch.tensor([True, False]), TypeError, "logits must be floating point, not torch.bool"),
            (torch.zeros(2, dtype=torch.complex64), TypeError, "logits must be floating point, not torch.complex64"),
            ([0.0, 1.0], TypeError, "logits must be a torch.Tensor, not list"),
            (torch.tensor([math.nan, 0]), ValueError, "logits must be finite.*nan"),
            (torch.tensor([math.inf, 0]), ValueError, "logits must be finite.*inf"),
            (torch.tensor(1.0), ValueError, r"logits must have shape \(..., classes\), not \(\)"),
            (torch.zeros(2, 0), ValueError, r"logits must have shape \(..., classes\), not \(2, 0\)"),
        ),
    )
    def test_logits(self, logits: object, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            self.divergence.logit_gradient(logits, self.log_q)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("log_q", "message"),
        (
            (torch.tensor([0.2, 0.8]), "log_q must be log-probabilities, at most 0.*0.2"),
            (torch.tensor([-1.0, -1.0]), "log_q must be the logarithm of a distribution.*sum to 0.73"),
            (torch.tensor([math.nan, 0.0]), "log_q must be log-probabilities.*nan"),
            (torch.tensor([-math.inf, -math.inf]), "log_q must be the logarithm of a distribution"),
            # The message tells the first that is wrong. Half precision may be off by 16 epsilons and not by 17.
            (torch.tensor([-0.7, 0.5]), "at most 0, but holds 0.5$"),
            (torch.tensor([[0.5, 0.5], [0.75, 0.25], [0.6, 0.6]]).log(), "sum to 1.2, not 1"),
            (torch.tensor([0.125, -math.inf], dtype=torch.bfloat16), "sum to 1.13"),
            (torch.tensor([17 / 128, -math.inf], dtype=torch.bfloat16), "at most 0, but holds 0.1328"),
            (torch.tensor([0.125, 0.25], dtype=torch.bfloat16), "at most 0, but holds 0.25$"),
        ),
    )
    def test_a_target_that_is_no_distribution(self, log_q: Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.divergence.logit_gradient(torch.zeros(2), log_q)

    @pytest.mark.parametrize("method", ("value", "weight"))
    def test_probabilities_in_place_of_their_logarithms(self, method: str) -> None:
        with pytest.raises(ValueError, match="log_p must be log-probabilities"):
            getattr(self.divergence, method)(torch.tensor([0.2, 0.8]), self.log_q)

    @pytest.mark.parametrize("method", ("value", "weight"))
    def test_log_probabilities_of_two_shapes(self, method: str) -> None:
        message = r"log_q must have the shape of log_p, \(2, 2\), not \(2,\)"
        with pytest.raises(ValueError, match=message):
            getattr(self.divergence, method)(self.log_q.expand(2, 2), self.log_q)

    @pytest.mark.parametrize("name", [n for n, m in MEMBERS.items() if m.divergence.needs_full_support])
    @pytest.mark.parametrize("method", ("weight", "logit_gradient"))
    def test_a_zero_in_the_target_of_a_divergence_that_is_infinite_there(self, name: str, method: str) -> None:
        with pytest.raises(ValueError, match=f"log_q.*{name.partition('=')[0]} is infinite"):
            getattr(MEMBERS[name].divergence, method)(torch.tensor([0.5, 0.5]).log(), torch.tensor([0.0, -math.inf]))

    def test_the_printed_weight_has_no_value(self) -> None:
        with pytest.raises(ValueError, match="js_printed"):
            fg.divergence("js_printed").value(self.log_q, self.log_q)
        assert fg.divergence("js_printed").generator is None

    @pytest.mark.parametrize(
        ("name", "parameters", "error", "message"),
        (
            ("kl", {}, ValueError, "'kl' is not one of rkl, fkl, js"),
            (5, {}, TypeError, "divergence must be .* not int"),
            (["js"], {}, TypeError, "divergence must be .* not list"),
            ("js", {"alpha": 1}, ValueError, "'js' takes no parameter.*alpha"),
            ("alpha", {"beta": 1}, ValueError, "beta"),
            ("alpha", {"alpha": math.nan}, ValueError, "alpha must be a number between -64 and 64, not nan"),
            ("alpha", {"alpha": math.inf}, ValueError, "alpha must be .*inf"),
            ("alpha", {"alpha": "x"}, (TypeError, ValueError), "alpha must be .*'x'"),
            ("alpha", {"alpha": True}, (TypeError, ValueError), "alpha must be .*True"),
            ("tsallis", {"order": 0}, ValueError, "order must be .* between 0 and 64 .*excluded.*, not 0"),
            ("skewed_js", {"skew": 1.0}, ValueError, "skew must be .* between 0 and 1 .*excluded.*, not 1.0"),
            ("blended_chi_squared", {"blend": -0.5}, ValueError, "blend must be .*-0.5"),
            ("cressie_read", {"alpha": 1}, ValueError, "takes the parameter lambda_, not alpha"),
        ),
    )
    def test_unknown_names_and_parameters(self, name, parameters, error, message: str) -> None:
        with pytest.raises(error, match=message):
            fg.divergence(name, **parameters)

    @pytest.mark.parametrize("alpha", (-2.3, 0, 0.5, 1, 1e-9, 2))
    def test_every_member_of_the_family_has_a_generator(self, alpha: float) -> None:
        generator = fg.divergence("alpha", alpha=alpha).generator
        assert abs(generator.subs(dict.fromkeys(generator.free_symbols, 1))) < 1e-12

    @settings(max_examples=20)
    @given(st.floats(-64, 64))
    def test_any_parameter_of_the_family_works(self, alpha: float) -> None:
        gradient = fg.divergence("alpha", alpha=alpha).logit_gradient(torch.zeros(2), self.log_q)
        assert gradient.isfinite().all()
