"""`Guidance` against float64 autograd of the score as it is written on paper."""

import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fguidance as fg
from fguidance.inputs import without_reading
from tests.support import exact
from tests.support.cases import DIVERGENCES, DOUBLE, DTYPES, GENERATORS, plain_divergence, random_logits, target

CLASSES, BATCH = 5, 6
any_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)

TERMS = {
    "Ma et al.": {"alpha": 0.0},
    "temperatures": {"alpha": 0.0, "tau_joint": 0.7, "tau_marginal": 1.9},
    "tilt, sum": {"tilt": -0.2, "tilt_reduction": "sum"},
    "tilt, mean": {"tilt": 1.5, "tilt_reduction": "mean"},
    "tilt of one": {"tilt": 1.0},
    "entropy": {"entropy": 0.3},
    "entropy of one": {"entropy": 1.0},
    "negative entropy": {"entropy": -0.3},
    **{f"divergence {name}": {"divergence": name, "alpha": 1.0, "epsilon": 0.6} for name in GENERATORS},
    "everything": {
        "divergence": "js", "alpha": 2.0, "epsilon": 0.3, "tau_joint": 1.3, "tau_marginal": 0.4, "tilt": 0.7,
        "entropy": 0.2,
    },
}  # fmt: skip
every_term = pytest.mark.parametrize("settings_of", TERMS.values(), ids=TERMS.keys())


def plain_score(guidance: fg.Guidance, logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over the batch of the score, from its definition alone."""
    own = logits[torch.arange(len(labels)), labels]
    log_prob = guidance.tau_joint * own - (guidance.tau_marginal * logits).exp().sum(-1).log()
    total = log_prob.sum()
    if guidance.tilt:
        total = (guidance.tilt * log_prob).exp().mean().log() / guidance.tilt
        total = total * len(labels) if guidance.tilt_reduction == "sum" else total
    classes = logits.shape[-1]
    q = torch.full_like(logits, (1 - guidance.epsilon) / classes)
    q = q + guidance.epsilon * nn.functional.one_hot(labels, classes).to(logits)
    if guidance.alpha:
        total = total - guidance.alpha * plain_divergence(str(guidance.divergence), logits, q.log()).sum()
    p = torch.softmax(logits, -1)
    return total - guidance.entropy * (p * p.log()).sum()


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(BATCH, CLASSES, generator=generator, dtype=DOUBLE)
    return logits, torch.randint(CLASSES, (BATCH,), generator=generator)


class ConvNet(nn.Module):
    """A small smooth image classifier that counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.Softplus(), nn.Conv2d(4, 4, 3, stride=2), nn.Tanh(), nn.Flatten(),
            nn.Linear(4 * 3 * 3, CLASSES),
        )  # fmt: skip
        self.forwards = self.backwards = 0
        self.layers.register_forward_hook(self._forward_seen)
        self.layers.register_full_backward_hook(self._backward_seen)

    def _forward_seen(self, *_: object) -> None:
        self.forwards += 1

    def _backward_seen(self, *_: object) -> None:
        self.backwards += 1

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.fixture
def classifier() -> ConvNet:
    torch.manual_seed(0)
    return ConvNet().double()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(BATCH, 3, 8, 8, generator=torch.Generator().manual_seed(5), dtype=DOUBLE)


class TestAgainstAutograd:
    @every_term
    def test_score(self, settings_of: dict, batch: tuple[Tensor, Tensor]) -> None:
        guidance = fg.Guidance(**settings_of)
        torch.testing.assert_close(guidance.score(*batch).sum(), plain_score(guidance, *batch), rtol=1e-11, atol=1e-12)
        assert guidance.score(*batch).shape == (BATCH,)

    @every_term
    def test_logit_gradient(self, settings_of: dict, batch: tuple[Tensor, Tensor]) -> None:
        guidance, (logits, labels) = fg.Guidance(**settings_of), batch
        logits.requires_grad_()
        expected = torch.autograd.grad(plain_score(guidance, logits, labels), logits)[0]
        found = guidance.logit_gradient(logits.detach(), labels)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)

    @every_term
    def test_gradient_of_the_librarys_own_score(self, settings_of: dict, batch: tuple[Tensor, Tensor]) -> None:
        guidance, (logits, labels) = fg.Guidance(**settings_of), batch
        logits.requires_grad_()
        through_score = torch.autograd.grad(guidance.score(logits, labels).sum(), logits)[0]
        found = guidance.logit_gradient(logits.detach(), labels)
        torch.testing.assert_close(found, through_score, rtol=1e-9, atol=1e-11)

    @every_term
    def test_image_gradient(
        self, settings_of: dict, batch: tuple[Tensor, Tensor], classifier: ConvNet, images: Tensor
    ) -> None:
        guidance, labels = fg.Guidance(**settings_of), batch[1]
        x = images.clone().requires_grad_()
        expected = torch.autograd.grad(plain_score(guidance, classifier(x), labels), x)[0]
        torch.testing.assert_close(guidance.gradient(classifier, images, labels), expected, rtol=1e-10, atol=1e-12)

    def test_entropy_gradient(self, batch: tuple[Tensor, Tensor]) -> None:
        logits = batch[0].requires_grad_()
        p = torch.softmax(logits, -1)
        expected = torch.autograd.grad(-(p * p.log()).sum(), logits)[0]
        torch.testing.assert_close(fg.entropy_gradient(logits.detach()), expected, rtol=1e-11, atol=1e-13)

    @pytest.mark.parametrize("term", ("everything", "divergence js", "temperatures"))
    def test_double_backward(self, term: str, batch: tuple[Tensor, Tensor]) -> None:
        guidance, (logits, labels) = fg.Guidance(**TERMS[term]), batch
        logits.requires_grad_()
        vector = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
        gradient = torch.autograd.grad(plain_score(guidance, logits, labels), logits, create_graph=True)[0]
        expected = torch.autograd.grad(gradient, logits, vector)[0]
        found = torch.autograd.grad(guidance.logit_gradient(logits, labels), logits, vector)[0]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


class TestForce:
    """The divergence's part of the gradient, in the arithmetic for a smoothed target."""

    @pytest.mark.parametrize("name", DIVERGENCES)
    @pytest.mark.parametrize("dtype", (torch.float32, DOUBLE), ids=str)
    def test_a_small_force_keeps_its_leading_digits(self, name: str, dtype: torch.dtype) -> None:
        member = DIVERGENCES[name]
        for seed, (spread, epsilon) in enumerate(((10, 0.9), (20, 0.5), (40, 0.0), (50, 0.9), (50, 0.5))):
            for top in (0, 1):
                logits = random_logits(5, 0.5, seed)
                logits[top] = logits.min() + spread
                logits = logits.to(dtype)
                correct = exact.logit_gradient(member.reference, logits, target(5, 0, epsilon))
                alpha = 2.0 ** (45 - math.frexp(correct.largest_component)[1])  # beside it the tempered part is nothing
                gradient = fg.Guidance(member.divergence, alpha, epsilon).logit_gradient(logits, torch.tensor(0))
                found = -gradient / alpha
                assert exact.error_in_ulp(found, correct.gradient, correct.largest_component) <= 256

    @pytest.mark.parametrize("name", DIVERGENCES)
    def test_a_one_hot_target_and_the_largest_logits(self, name: str) -> None:
        divergence = DIVERGENCES[name].divergence
        logits = torch.tensor([[[1e4, 0, -1, 3], [0.5, -1, 2, 0]], [[3, 1e3, -1e3, 0], [1, 1, 2, 2]]], dtype=DOUBLE)
        labels = torch.tensor([[0, 2], [3, 1]])
        if name == "osterreicher_vajda=0.3":
            logits = logits / 20  # its power mean overflows before p takes it back
        for epsilon in (0.5,) if divergence.needs_full_support else (0.5, 1.0):
            found = fg.Guidance(divergence, 0.5, epsilon).logit_gradient(logits, labels)
            settings_of = {"alpha": 0.5, "epsilon": epsilon, "tau_joint": 1.0, "tau_marginal": 0.5}
            expected = fg.closed_forms.guidance_gradient(divergence.definition, logits, labels, **settings_of)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


class TestCost:
    """One vector-Jacobian product, and nothing left behind."""

    guidance = fg.Guidance("js", alpha=0.5, tilt=0.3, entropy=0.1)

    def test_one_forward_and_one_backward(self, classifier: ConvNet, images: Tensor, batch: tuple) -> None:
        self.guidance.gradient(classifier, images, batch[1])
        assert (classifier.forwards, classifier.backwards) == (1, 1)

    def test_no_graph_and_no_stored_gradient(self, classifier: ConvNet, images: Tensor, batch: tuple) -> None:
        images.requires_grad_()
        found = self.guidance.gradient(classifier, images, batch[1])
        assert not found.requires_grad
        assert found.grad_fn is None
        assert images.grad is None
        assert images.requires_grad
        assert all(parameter.grad is None for parameter in classifier.parameters())

    def test_plain_and_computed_images(self, classifier: ConvNet, images: Tensor, batch: tuple) -> None:
        expected = self.guidance.gradient(classifier, images, batch[1])
        assert not images.requires_grad
        computed = images.clone().requires_grad_() * 1
        assert torch.equal(self.guidance.gradient(classifier, computed, batch[1]), expected)

    def test_stored_gradients_are_not_touched(self, classifier: ConvNet, images: Tensor, batch: tuple) -> None:
        images.requires_grad_()
        for tensor in (images, *classifier.parameters()):
            tensor.grad = torch.ones_like(tensor)
        self.guidance.gradient(classifier, images, batch[1])
        assert all((tensor.grad == 1).all() for tensor in (images, *classifier.parameters()))

    def test_the_score_makes_no_graph(self, classifier: ConvNet, images: Tensor, batch: tuple) -> None:
        # Every tensor that autograd saves is counted: the guidance must save no more than the classifier itself.
        def saved(run: Callable[[], object]) -> int:
            count = 0

            def pack(tensor: Tensor) -> Tensor:
                nonlocal count
                count += 1
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                run()
            return count

        x = images.clone().requires_grad_()
        alone = saved(lambda: classifier(x))
        assert saved(lambda: self.guidance.gradient(classifier, images, batch[1])) == alone > 0

    @pytest.mark.parametrize("context", (torch.no_grad, torch.inference_mode, torch.enable_grad))
    def test_any_gradient_mode(self, context: Callable, classifier: ConvNet, images: Tensor, batch: tuple) -> None:
        expected = self.guidance.gradient(classifier, images, batch[1])
        with context():
            found = self.guidance.gradient(classifier, images.clone(), batch[1])
            logits_gradient = self.guidance.logit_gradient(batch[0], batch[1])
        assert torch.equal(found, expected)
        assert torch.equal(logits_gradient, self.guidance.logit_gradient(*batch))

    def test_inputs_stay_as_they_were(self, classifier: ConvNet, images: Tensor, batch: tuple) -> None:
        kept = [tensor.clone() for tensor in (images, *batch)]
        self.guidance.gradient(classifier, images, batch[1])
        self.guidance.score(*batch)
        self.guidance.logit_gradient(*batch)
        assert all(map(torch.equal, (images, *batch), kept))

    def test_frozen_classifier(self, classifier: ConvNet, images: Tensor, batch: tuple) -> None:
        expected = self.guidance.gradient(classifier, images, batch[1])
        assert torch.equal(self.guidance.gradient(classifier.requires_grad_(False), images, batch[1]), expected)


class TestMathematics:
    def test_alpha_zero_is_the_guidance_of_ma_et_al(self, batch: tuple[Tensor, Tensor]) -> None:
        logits, labels = batch
        guidance = fg.Guidance("fkl", alpha=0.0, tau_joint=1.2, tau_marginal=0.5)
        expected = 1.2 * nn.functional.one_hot(labels, CLASSES).double() - 0.5 * torch.softmax(0.5 * logits, -1)
        torch.testing.assert_close(guidance.logit_gradient(logits, labels), expected)

    def test_rkl_is_cross_entropy_with_a_smoothed_label(self, batch: tuple[Tensor, Tensor]) -> None:
        logits, labels = batch
        with_rkl, without = (fg.Guidance("rkl", alpha=alpha, epsilon=0.8) for alpha in (1.5, 0.0))
        logits.requires_grad_()
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=0.2, reduction="sum")
        expected = without.logit_gradient(logits.detach(), labels) - 1.5 * torch.autograd.grad(loss, logits)[0]
        torch.testing.assert_close(with_rkl.logit_gradient(logits.detach(), labels), expected)

    def test_fkl_at_a_uniform_target_is_the_entropy_bonus(self, batch: tuple[Tensor, Tensor]) -> None:
        fkl, bonus = fg.Guidance("fkl", alpha=0.7, epsilon=0.0), fg.Guidance(entropy=0.7)
        torch.testing.assert_close(fkl.logit_gradient(*batch), bonus.logit_gradient(*batch))
        constant = bonus.score(*batch) - fkl.score(*batch)
        torch.testing.assert_close(constant, torch.full_like(constant, 0.7 * math.log(CLASSES)))

    @pytest.mark.parametrize("reduction", ("sum", "mean"))
    def test_a_small_tilt_is_the_plain_mean(self, reduction: str, batch: tuple[Tensor, Tensor]) -> None:
        plain = fg.Guidance(alpha=0.0)
        share = 1 if reduction == "sum" else BATCH
        for tilt in (1e-9, -1e-9):
            tilted = fg.Guidance(tilt=tilt, tilt_reduction=reduction)
            expected = plain.logit_gradient(*batch) / share
            torch.testing.assert_close(tilted.logit_gradient(*batch), expected, rtol=1e-7, atol=1e-8)
            expected_score = plain.score(*batch).mean() / share
            torch.testing.assert_close(tilted.score(*batch), expected_score.expand(BATCH), rtol=1e-7, atol=1e-8)

    @pytest.mark.parametrize(("tilt", "extreme"), ((1e6, torch.amax), (-1e6, torch.amin)))
    def test_a_large_tilt_is_an_extreme(self, tilt: float, extreme: Callable) -> None:
        log_prob = torch.tensor([-3.0, -1.0, -7.5])
        torch.testing.assert_close(fg.tilted_mean(log_prob, tilt), extreme(log_prob), rtol=1e-4, atol=1e-4)

    @settings(max_examples=30)
    @given(st.floats(-300, 300).filter(lambda tilt: abs(tilt) > 1e-12), st.integers(1, 9))
    def test_tilted_mean_lies_between_the_extremes(self, tilt: float, size: int) -> None:
        log_prob = -torch.arange(float(size), dtype=DOUBLE) ** 2
        found = fg.tilted_mean(log_prob, tilt)
        assert log_prob.min() - 1e-9 <= found <= log_prob.max() + 1e-9
        assert (found - log_prob.mean()) * tilt >= -1e-9

    @pytest.mark.parametrize("tilt", (-2.5, -1e-8, 1e-8, 0.3, 0.99, 1.0, 1.5, 60.0))
    @pytest.mark.parametrize("entries", ((-1000.0, -1000.5), (0.0, -3.0, -3.5), (-1e-3, -2e-3, -5.0), (-700.0, 600.0)))
    def test_tilted_mean_keeps_its_digits(self, tilt: float, entries: tuple[float, ...]) -> None:
        with mpmath.workdps(60):
            mean = mpmath.fsum(mpmath.exp(mpmath.mpf(tilt) * entry) for entry in entries) / len(entries)
            expected = float(mpmath.log(mean) / mpmath.mpf(tilt))
        found = fg.tilted_mean(torch.tensor(entries, dtype=DOUBLE), tilt)
        torch.testing.assert_close(float(found), expected, rtol=1e-14, atol=1e-14)

    @any_dtype
    @pytest.mark.parametrize("tilt", (-1e30, -1.0, 1e-30, 2.0, 1e30))
    def test_tilted_mean_of_the_largest_numbers_is_finite(self, tilt: float, dtype: torch.dtype) -> None:
        largest = torch.finfo(dtype).max
        for entries in ((-largest, largest), (-largest, -largest), (largest, largest, 0.0)):
            found = fg.tilted_mean(torch.tensor(entries, dtype=dtype), tilt)
            assert found.isfinite()
            assert found.dtype == dtype
            assert min(entries) - 1e-6 * largest <= found <= max(entries) + 1e-6 * largest

    def test_without_weight_an_infinite_divergence_does_no_harm(self, batch: tuple[Tensor, Tensor]) -> None:
        infinite, none = fg.Guidance("fkl", alpha=0.0, epsilon=1.0), fg.Guidance("js", alpha=0.0)
        assert torch.equal(infinite.score(*batch), none.score(*batch))
        assert torch.equal(infinite.logit_gradient(*batch), none.logit_gradient(*batch))

    def test_large_logits_whose_differences_are_small_have_a_score(self) -> None:
        logits = torch.full((1, 2), 2e38)
        for tau in (2.0, 7.0):
            score = fg.Guidance(tau_joint=tau, tau_marginal=tau).score(logits, torch.tensor([0]))
            torch.testing.assert_close(score, torch.tensor([-math.log(2)]))

    @pytest.mark.parametrize("tilt", (-1.0, 1.0))
    def test_tilted_mean_of_distant_entries_has_a_gradient(self, tilt: float) -> None:
        log_prob = torch.tensor([0.0, -2000.0], dtype=DOUBLE, requires_grad=True)
        (found,) = torch.autograd.grad(fg.tilted_mean(log_prob, tilt), log_prob)
        torch.testing.assert_close(found, torch.tensor([0.0, 1.0] if tilt < 0 else [1.0, 0.0], dtype=DOUBLE))

    @pytest.mark.parametrize("tilt", (-1e30, 1e30))
    def test_a_huge_tilt_of_impossible_labels_is_not_nan(self, tilt: float) -> None:
        logits, labels = torch.tensor([[0.0, -1e38], [0.0, -2e38]]), torch.tensor([1, 1])
        found = fg.Guidance(tilt=tilt).logit_gradient(logits, labels)
        assert found.isfinite().all()
        assert found.abs().max() > 0.4

    def test_tilted_mean_of_equal_entries_is_that_entry(self) -> None:
        for tilt in (-3.0, 1e-7, 40.0):
            assert fg.tilted_mean(torch.full((4,), -2.5), tilt) == -2.5

    def test_components_sum_to_the_difference_of_the_temperatures(self, batch: tuple[Tensor, Tensor]) -> None:
        guidance = fg.Guidance("js", alpha=3.0, tau_joint=1.25, tau_marginal=0.75, entropy=0.5)
        total = guidance.logit_gradient(*batch).sum(-1)
        torch.testing.assert_close(total, torch.full_like(total, 0.5))

    def test_saturated_tempered_gradient_keeps_its_digits(self) -> None:
        # At tau_1 = tau_2 = 1 and a sure classifier all that is left is (e_y - p), of the size of 1 - p_y.
        logits = torch.tensor([[40.0, 0.0, 1.0]])
        found = fg.Guidance(tau_marginal=1.0).logit_gradient(logits, torch.tensor([0]))[0].double()
        rest = torch.exp(torch.tensor([-40.0, -39.0], dtype=DOUBLE))
        torch.testing.assert_close(found, torch.cat((rest.sum()[None], -rest)), rtol=1e-6, atol=0)

    def test_own_divergence(self, batch: tuple[Tensor, Tensor]) -> None:
        own = fg.Guidance(fg.Divergence.from_generator("t*log(t)"), alpha=1.0)
        torch.testing.assert_close(own.logit_gradient(*batch), fg.Guidance("fkl", alpha=1.0).logit_gradient(*batch))


class TestTarget:
    @settings(max_examples=40)
    @given(st.integers(2, 60), st.floats(0, 1), st.data())
    def test_definition(self, classes: int, epsilon: float, data: st.DataObject) -> None:
        label = data.draw(st.integers(0, classes - 1))
        q = fg.label_smoothed_log_target(torch.tensor([label]), classes, epsilon, DOUBLE).exp()[0]
        expected = torch.full((classes,), (1 - epsilon) / classes, dtype=DOUBLE)
        expected[label] += epsilon
        torch.testing.assert_close(q, expected, rtol=1e-13, atol=1e-16)

    def test_label_shape_dtype_and_one_hot(self) -> None:
        labels = torch.tensor([[0, 1], [2, 2]], dtype=torch.uint8)
        found = fg.label_smoothed_log_target(labels, 300, 1.0, torch.float16)
        assert (found.shape, found.dtype) == ((2, 2, 300), torch.float16)
        assert (found.argmax(-1) == labels).all()
        assert (found.isinf().sum(-1) == 299).all()


class TestRangeAndTransforms:
    @any_dtype
    @every_term
    def test_extreme_logits_are_never_nan(self, settings_of: dict, dtype: torch.dtype) -> None:
        largest = torch.finfo(dtype).max
        guidance = fg.Guidance(**settings_of)
        for row in ([0.0, 0, 0], [largest, 0, -largest], [largest] * 3, [80.0, 0, 1]):
            logits = torch.tensor([row, [1.0, 2.0, 3.0]], dtype=DOUBLE).to(dtype)
            for labels in (torch.tensor([1, 0]), torch.tensor([2, 2])):
                found = guidance.logit_gradient(logits, labels)
                assert found.dtype == dtype
                assert not found.isnan().any()
                assert not guidance.score(logits, labels).isnan().any()

    @any_dtype
    def test_score_of_sure_classifiers(self, dtype: torch.dtype) -> None:
        logits = torch.tensor([[80.0, 0, 1], [0, 80, 1]], dtype=dtype)
        for settings_of in TERMS.values():
            score = fg.Guidance(**settings_of).score(logits, torch.tensor([0, 0]))
            assert score.dtype == dtype
            assert not score.isnan().any()

    @pytest.mark.parametrize("shape", ((), (2, 3), (0,)))
    def test_any_leading_shape(self, shape: tuple[int, ...]) -> None:
        logits, labels = torch.randn(*shape, 4), torch.zeros(shape, dtype=torch.long)
        for settings_of in ({"divergence": "js", "alpha": 1.0}, {"tilt": 0.5}, {"entropy": 1.0}):
            guidance = fg.Guidance(**settings_of)
            for one in (logits, logits.clone().requires_grad_()):
                assert guidance.logit_gradient(one, labels).shape == logits.shape
            assert guidance.score(logits, labels).shape == shape

    def test_vmap_over_samples(self, batch: tuple[Tensor, Tensor]) -> None:
        guidance = fg.Guidance("js", alpha=0.5, entropy=0.1)
        found = torch.func.vmap(guidance.logit_gradient)(*batch)
        torch.testing.assert_close(found, guidance.logit_gradient(*batch))

    def test_autocast_changes_no_logit_gradient(self, batch: tuple[Tensor, Tensor]) -> None:
        guidance, logits = fg.Guidance(**TERMS["everything"]), batch[0].float()
        expected = guidance.logit_gradient(logits, batch[1])
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(guidance.logit_gradient(logits, batch[1]), expected)

    def test_image_gradient_under_autocast(self, classifier: ConvNet, images: Tensor, batch: tuple) -> None:
        guidance, labels = fg.Guidance("js", alpha=0.5), batch[1]
        classifier, images = classifier.float(), images.float()
        expected = guidance.gradient(classifier, images, labels)
        with torch.autocast("cpu", torch.bfloat16):
            found = guidance.gradient(classifier, images, labels)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0.1, atol=0.02 * float(expected.abs().max()))

    def test_compile_without_graph_breaks(self, batch: tuple[Tensor, Tensor]) -> None:
        guidance, logits = fg.Guidance(**TERMS["everything"]), batch[0].float()
        torch._dynamo.reset()
        compiled = torch.compile(guidance.logit_gradient, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(logits, batch[1]), guidance.logit_gradient(logits, batch[1]))

    def test_half_precision_images(self, batch: tuple[Tensor, Tensor]) -> None:
        torch.manual_seed(0)
        linear = nn.Linear(7, CLASSES).bfloat16()
        x = torch.randn(BATCH, 7).bfloat16()
        assert fg.Guidance("js", alpha=1.0).gradient(linear, x, batch[1]).dtype == torch.bfloat16


def test_settings_are_floats() -> None:
    guidance = fg.Guidance("js", alpha=1, epsilon=0, tau_joint=2, tilt=1)
    assert all(type(getattr(guidance, name)) is float for name in ("alpha", "epsilon", "tau_joint", "tilt"))


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        (
            ({"divergence": 5}, TypeError, "divergence must be a name or a Divergence, not int"),
            ({"divergence": None}, TypeError, "divergence must be .* not NoneType"),
            ({"divergence": "no"}, ValueError, "'no' is not one of rkl"),
            ({"alpha": -1}, ValueError, "alpha must be .*not -1"),
            ({"alpha": math.inf}, ValueError, "alpha must be .*not inf"),
            ({"alpha": math.nan}, ValueError, "alpha must be .*not nan"),
            ({"alpha": "1"}, (TypeError, ValueError), "alpha must be a number, not '1'"),
            ({"alpha": True}, (TypeError, ValueError), "alpha must be a number, not True"),
            ({"epsilon": 1.5}, ValueError, "epsilon must be .* 0 to 1, not 1.5"),
            ({"epsilon": -0.1}, ValueError, "epsilon must be .* 0 to 1, not -0.1"),
            ({"epsilon": math.nan}, ValueError, "epsilon must be .*not nan"),
            ({"epsilon": "x"}, (TypeError, ValueError), "epsilon must be a number, not 'x'"),
            ({"tau_joint": 0}, ValueError, "tau_joint must be .*0"),
            ({"tau_joint": -1.0}, ValueError, "tau_joint must be .*-1"),
            ({"tau_marginal": 0.0}, ValueError, "tau_marginal must be .*0"),
            ({"tau_marginal": math.inf}, ValueError, "tau_marginal must be .*inf"),
            ({"tilt": math.nan}, ValueError, "tilt must be .*nan"),
            ({"entropy": math.inf}, ValueError, "entropy must be .*inf"),
            ({"tilt_reduction": "max"}, ValueError, "tilt_reduction must be 'sum' or 'mean', not 'max'"),
            ({"divergence": "fkl", "alpha": 1.0, "epsilon": 1.0}, ValueError, "epsilon must be below 1.*fkl"),
            ({"divergence": "pearson", "alpha": 1.0, "epsilon": 1}, ValueError, "epsilon must be below 1.*pearson"),
            ({"divergence": "jeffreys", "alpha": 1.0, "epsilon": 1}, ValueError, "epsilon must be below 1.*jeffreys"),
        ),
    )
    def test_settings(self, arguments: dict, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            fg.Guidance(**arguments)

    @pytest.mark.parametrize(
        ("logits", "labels", "error", "message"),
        (
            (torch.zeros(2, 3), torch.tensor([0]), ValueError, r"labels must have .*\(2,\), not \(1,\)"),
            (torch.zeros(2, 3), torch.tensor([[0], [1]]), ValueError, r"labels must have .*\(2,\), not \(2, 1\)"),
            (torch.zeros(2, 3), torch.tensor([0, 3]), ValueError, "labels must lie from 0 to 2.*3"),
            (torch.zeros(2, 3), torch.tensor([-1, 0]), ValueError, "labels must lie from 0 to 2.*-1"),
            (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), TypeError, "labels must be integers, not torch.float32"),
            (torch.zeros(2, 3), torch.tensor([True, False]), TypeError, "labels must be integers, not torch.bool"),
            (torch.zeros(2, 3), [0, 1], (TypeError, ValueError), "labels must .*list"),
            (torch.full((2, 3), math.nan), torch.tensor([0, 1]), ValueError, "logits must be finite.*nan"),
            (torch.full((2, 3), -math.inf), torch.tensor([0, 1]), ValueError, "logits must be finite.*inf"),
            (torch.zeros(2, 3, dtype=torch.long), torch.tensor([0, 1]), TypeError, "logits must be floating point"),
            (torch.zeros(2, 1), torch.tensor([0, 0]), ValueError, "logits must have .*classes.*1"),
        ),
    )
    @pytest.mark.parametrize("method", ("score", "logit_gradient"))
    def test_batches(self, method: str, logits: object, labels: object, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            getattr(fg.Guidance("js", alpha=1.0), method)(logits, labels)

    @pytest.mark.parametrize(
        ("labels", "classes", "epsilon", "dtype", "error", "message"),
        (
            (torch.tensor([0.5]), 3, 0.5, DOUBLE, TypeError, "labels must be integers"),
            ([0], 3, 0.5, DOUBLE, TypeError, "labels must be a torch.Tensor, not list"),
            (torch.tensor([3]), 3, 0.5, DOUBLE, ValueError, "labels must lie from 0 to 2.*3"),
            (torch.tensor([0]), 1, 0.5, DOUBLE, ValueError, "num_classes must be .* at least 2, not 1"),
            (torch.tensor([0]), 2.0, 0.5, DOUBLE, (TypeError, ValueError), "num_classes must be .*not 2.0"),
            (torch.tensor([0]), 3, 1.1, DOUBLE, ValueError, "epsilon must be .*not 1.1"),
            (torch.tensor([0]), 3, math.nan, DOUBLE, ValueError, "epsilon must be .*not nan"),
            (torch.tensor([0]), 3, 0.5, torch.int32, TypeError, "dtype must be a floating-point dtype"),
        ),
    )
    def test_targets(self, labels, classes, epsilon, dtype, error, message: str) -> None:
        with pytest.raises(error, match=message):
            fg.label_smoothed_log_target(labels, classes, epsilon, dtype)

    def test_the_printed_weight_guides_but_has_no_score(self, batch: tuple[Tensor, Tensor]) -> None:
        guidance = fg.Guidance("js_printed", alpha=1.0)
        assert guidance.logit_gradient(*batch).isfinite().all()
        with pytest.raises(ValueError, match="js_printed"):
            guidance.score(*batch)

    @pytest.mark.parametrize(
        "classifier",
        (lambda x: torch.zeros(2, 3), lambda x: 5, lambda x: nn.Parameter(torch.ones(2, 3)) * 1),
        ids=("constant", "no tensor", "ignores x"),
    )
    def test_a_classifier_that_does_not_depend_on_x(self, classifier: Callable) -> None:
        with pytest.raises(ValueError, match="classifier must return logits that depend on x"):
            fg.Guidance().gradient(classifier, torch.zeros(2, 3), torch.tensor([0, 1]))

    def test_integer_images(self) -> None:
        with pytest.raises(TypeError, match="x must be a floating-point tensor"):
            fg.Guidance().gradient(nn.Identity(), torch.zeros(2, 3, dtype=torch.long), torch.tensor([0, 1]))

    def test_a_tilt_of_zero_or_nan(self) -> None:
        for tilt in (0.0, math.nan, math.inf):
            with pytest.raises(ValueError, match="tilt must"):
                fg.tilted_mean(torch.zeros(2), tilt)

    def test_tilted_mean_of_nothing(self) -> None:
        with pytest.raises(ValueError, match="log_prob must hold at least one sample"):
            fg.tilted_mean(torch.zeros(0), 1.0)

    def test_tilted_mean_of_integers(self) -> None:
        with pytest.raises(TypeError, match="log_prob"):
            fg.tilted_mean(torch.tensor([1, 2]), 1.0)


def test_what_is_not_read_is_not_checked_and_shapes_are() -> None:
    guidance, logits, far = fg.Guidance(), torch.zeros(2, 3), torch.tensor([0, 7])
    with without_reading():
        fg.Guidance(divergence="js", alpha=0.5).score(torch.full((2, 3), math.nan), torch.zeros(2, dtype=torch.int64))
        with pytest.raises(ValueError, match="labels must have the logits' shape"):
            guidance.logit_gradient(logits, far[:1])
    with pytest.raises(ValueError, match="labels must lie from 0 to 2"):
        guidance.logit_gradient(logits, far)
