"""Fine-tuning against a plain loop, and what it promises: a copy, the best epoch, the same again from the same seed."""

import copy
import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fguidance.calibration import Epoch, Finetuned, finetune, smooth_ece_loss
from fguidance.calibration.losses import binned_smooth_ece_loss

Batches = list[tuple[Tensor, Tensor]]
CLASSES = 3
quiet = {"progress": False}


def samples(size: int = 60, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Points in the plane around three corners, which overlap."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (size,), generator=generator)
    corners = torch.tensor([[0.0, 0.0], [1.5, 0.0], [0.0, 1.5]])
    return corners[labels] + torch.randn(size, 2, generator=generator), labels


def batches(size: int = 60, seed: int = 0, of: int = 25) -> Batches:
    points, labels = samples(size, seed)
    return list(zip(points.split(of), labels.split(of), strict=True))


def linear(seed: int = 0) -> nn.Module:
    return seeded(lambda: nn.Linear(2, CLASSES), seed)


def noisy(seed: int = 0) -> nn.Module:
    """With dropout and with statistics that are kept."""
    layers = (lambda: nn.Linear(2, 8), lambda: nn.BatchNorm1d(8), nn.Dropout, lambda: nn.Linear(8, CLASSES))
    return seeded(lambda: nn.Sequential(*(layer() for layer in layers)), seed)


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(first.equal(other.state_dict()[name]) for name, first in one.state_dict().items())


def plain_loop(classifier: nn.Module, data: Batches, loss, weight: float, epochs: int, rate: float) -> list[nn.Module]:
    """The classifier after each epoch."""
    tuned, found = copy.deepcopy(classifier), []
    optimizer = torch.optim.AdamW(tuned.parameters(), lr=rate)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * epoch / epochs)) / 2
        for images, labels in data:
            logits = tuned(images)
            optimizer.zero_grad()
            (F.cross_entropy(logits, labels) + weight * loss(logits, labels)).backward()
            optimizer.step()
        found.append(copy.deepcopy(tuned))
    return found


def total(classifier: nn.Module, data: Batches, loss, weight: float) -> float:
    """Over the samples, of all batches."""
    with torch.no_grad():
        sums = [
            len(labels) * (F.cross_entropy(classifier(x), labels) + weight * loss(classifier(x), labels)).item()
            for x, labels in data
        ]
    return sum(sums) / sum(len(labels) for _, labels in data)


def no_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.new_zeros(())


NAMED = {
    "cross_entropy": no_loss,
    "smooth_ece": lambda logits, labels: smooth_ece_loss(logits, labels, 0.1),
    "binned_smooth_ece": lambda logits, labels: binned_smooth_ece_loss(logits, labels, 0.1),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("by_name", [True, False])
def test_it_is_adamw_on_the_sum_with_a_rate_that_falls_along_a_cosine(name: str, by_name: bool) -> None:
    data, classifier = batches(), linear()
    loss = name if by_name else NAMED[name]
    found = finetune(classifier, data, loss, 0.7, beta=0.1, epochs=3, learning_rate=0.05, **quiet)
    *_, expected = plain_loop(classifier, data, NAMED[name], 0.7, 3, 0.05)
    for one, other in zip(found.classifier.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert found.best == 2
    assert len(found.history) == 3


def test_the_history_is_of_the_losses_that_were_descended() -> None:
    """One batch an epoch, so that its loss is that of the classifier before it."""
    data, other, classifier = batches(20), batches(30, 1, of=7), linear()
    loss = NAMED["smooth_ece"]
    found = finetune(classifier, data, loss, 0.7, epochs=3, learning_rate=0.05, validation=other, **quiet)
    steps = [classifier, *plain_loop(classifier, data, loss, 0.7, 3, 0.05)]
    for epoch, (before, after) in zip(found.history, itertools.pairwise(steps), strict=True):
        assert isinstance(epoch, Epoch)
        assert epoch.training == pytest.approx(total(before, data, loss, 0.7), rel=1e-5)
        assert epoch.cross_entropy == pytest.approx(total(before, data, no_loss, 0.0), rel=1e-5)
        assert epoch.validation == pytest.approx(total(after, other, loss, 0.7), rel=1e-5)


def test_batches_count_by_their_samples() -> None:
    """At a rate that moves nothing, the training loss is that of the classifier as it was given."""
    data, classifier = batches(60, of=25), linear()
    assert {len(labels) for _, labels in data} == {25, 10}
    found = finetune(classifier, data, weight=2.0, beta=0.1, epochs=1, learning_rate=1e-12, **quiet)
    expected = total(classifier, data, NAMED["smooth_ece"], 2.0)
    assert found.history[0].training == pytest.approx(expected, rel=1e-6)
    assert math.isnan(found.history[0].validation)


def test_training_and_validation_each_have_their_mode() -> None:
    """Also for a classifier that is given in evaluation mode, and in the second epoch as in the first."""
    seen: list[tuple[bool, bool]] = []

    class Watched(nn.Linear):
        def forward(self, images: Tensor) -> Tensor:
            seen.append((self.training, torch.is_grad_enabled()))
            return super().forward(images)

    classifier = Watched(2, CLASSES).eval()
    finetune(classifier, batches(), epochs=2, learning_rate=0.05, validation=batches(20, 1), **quiet)
    validated, trained = [(False, False)], [(True, True)]
    assert seen == validated + 2 * (3 * trained + validated)


class TestTheGivenClassifier:
    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("make", [linear, noisy])
    def test_it_stays_as_it_is(self, make, training: bool) -> None:
        classifier = make().train(training)
        before = copy.deepcopy(classifier)
        found = finetune(classifier, batches(), epochs=2, learning_rate=0.05, validation=batches(20, 1), **quiet)
        assert equal(classifier, before)
        assert all(module.training == training for module in classifier.modules())
        assert all(parameter.grad is None for parameter in classifier.parameters())
        assert isinstance(found, Finetuned)
        assert found.classifier is not classifier
        assert not equal(found.classifier, classifier)
        assert not any(module.training for module in found.classifier.modules())

    def test_it_can_be_tuned_where_gradients_are_off(self) -> None:
        with torch.no_grad():
            inside = finetune(linear(), batches(), epochs=1, learning_rate=0.05, **quiet)
        outside = finetune(linear(), batches(), epochs=1, learning_rate=0.05, **quiet)
        assert equal(inside.classifier, outside.classifier)


class TestSeed:
    @staticmethod
    def tuned(seed: int = 0) -> nn.Module:
        loader = DataLoader(TensorDataset(*samples()), batch_size=25, shuffle=True)
        return finetune(noisy(), loader, epochs=2, learning_rate=0.05, seed=seed, **quiet).classifier

    def test_the_same_seed_gives_the_same_classifier(self) -> None:
        first = self.tuned(3)
        torch.rand(7)
        assert equal(first, self.tuned(3))
        assert not equal(first, self.tuned(4))


def scripted(values: list[float]):
    """A loss that teaches nothing and says on validation data what it is told to, one number each time."""
    left = iter(values)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return logits.new_tensor(0.0 if torch.is_grad_enabled() else next(left))

    return loss


class TestValidation:
    @pytest.mark.parametrize(
        ("values", "patience", "best", "epochs"),
        [
            ([5, 3, 4, 2, 4, 4], None, 2, 5),
            ([5, 3, 4, 4], 2, 0, 3),
            ([5, 3, 4, 2, 4, 4], 2, 2, 5),
            ([5, 4, 3, 2, 1, 0], 1, 4, 5),
            ([1, 2], 1, -1, 1),
            ([1, 2, 3, 4], 3, -1, 3),
            ([1, 2, 3, 4, 5, 6], None, -1, 5),
            ([1, 2, 0, 3, 3, 3], 4, 1, 5),
        ],
    )
    def test_the_best_epoch_is_kept(self, values: list[float], patience, best: int, epochs: int) -> None:
        data, classifier, other = batches(), linear(), batches(10, of=10)
        rate = {"epochs": 5, "learning_rate": 0.05}
        options = {"validation": other, "patience": patience, **rate, **quiet}
        found = finetune(classifier, data, scripted(values), 1e3, **options)
        steps = [*plain_loop(classifier, data, no_loss, 0.0, 5, 0.05), classifier]
        assert found.best == best
        assert len(found.history) == epochs
        assert equal(found.classifier, steps[best])

    def test_statistics_of_the_best_epoch_are_kept_too(self) -> None:
        """The classifier that comes back has the validation loss that was told."""
        other = batches(30, 1)
        found = finetune(noisy(), batches(), beta=0.1, epochs=4, learning_rate=0.03, validation=other, **quiet)
        assert found.best >= 0
        smallest = min(epoch.validation for epoch in found.history)
        assert found.history[found.best].validation == smallest
        assert total(found.classifier, other, NAMED["smooth_ece"], 1.0) == pytest.approx(smallest, rel=1e-5)


class TestErrors:
    @pytest.mark.parametrize("loss", ["smoothece", "", None, 3])
    def test_an_unknown_loss(self, loss) -> None:
        with pytest.raises(ValueError, match="loss must be a function or one of cross_entropy, smooth_ece, binned_"):
            finetune(linear(), batches(), loss, **quiet)

    @pytest.mark.parametrize("classifier", [None, lambda images: images, "linear"])
    def test_what_is_no_module(self, classifier) -> None:
        with pytest.raises(TypeError, match=r"classifier must be a torch.nn.Module, not"):
            finetune(classifier, batches(), **quiet)

    def test_patience_without_validation(self) -> None:
        with pytest.raises(ValueError, match="patience needs validation"):
            finetune(linear(), batches(), patience=2, **quiet)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_loss_that_is_not_finite(self, value: float) -> None:
        classifier, state = noisy(), torch.random.get_rng_state()
        before = copy.deepcopy(classifier)
        with pytest.raises(ValueError, match=f"the loss is {value}"):
            finetune(classifier, batches(), lambda logits, labels: logits.sum() * 0 + value, **quiet)
        assert equal(classifier, before)
        assert torch.random.get_rng_state().equal(state)

    @pytest.mark.parametrize("values", [[math.nan] * 3, [1, math.nan, 0]])
    def test_a_validation_loss_that_is_not_finite(self, values: list[float]) -> None:
        other = batches(10, of=10)
        with pytest.raises(ValueError, match="loss is"):
            finetune(linear(), batches(), scripted(values), epochs=2, validation=other, **quiet)

    @pytest.mark.parametrize(
        ("changes", "name"), [({"data": []}, "data"), ({"data": iter([])}, "data"), ({"validation": []}, "validation")]
    )
    def test_no_batches(self, changes, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} has no batches"):
            finetune(**({"classifier": linear(), "data": batches()} | changes), **quiet)

    def test_an_iterator_is_enough_for_one_epoch_and_no_more(self) -> None:
        found = finetune(linear(), iter(batches()), epochs=1, learning_rate=0.05, **quiet)
        expected = finetune(linear(), batches(), epochs=1, learning_rate=0.05, **quiet)
        assert equal(found.classifier, expected.classifier)
        with pytest.raises(ValueError, match=r"data has no batches \(an iterator is used up"):
            finetune(linear(), iter(batches()), epochs=2, **quiet)


@pytest.mark.parametrize("progress", [True, False])
def test_progress_goes_to_standard_error_alone(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    found = finetune(linear(), batches(), epochs=1, progress=progress)
    assert len(found.history) == 1
    written = capsys.readouterr()
    assert written.out == ""
    assert progress or written.err == ""
