"""What the chapter on the vanishing gradient measures, against other ways to measure it."""

import torch

import fguidance as fg
from lab.vanishing import ascend, ask, best_denoiser, pull_back


def small_classifier() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(12, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)
    ).double()


def images_and_labels() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, 2, 2, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])


def test_ask_agrees_with_autograd_and_with_the_definitions():
    classifier, (x, labels) = small_classifier(), images_and_labels()
    answer = ask(classifier, x, labels)
    seen = x.clone().requires_grad_()
    own = classifier(seen).log_softmax(-1)[range(6), labels]
    (gradient,) = torch.autograd.grad(own.sum(), seen)
    p = classifier(x).softmax(-1).detach()
    residual = torch.nn.functional.one_hot(labels, 4) - p
    torch.testing.assert_close(answer.gradient_norm, gradient.flatten(1).norm(dim=1))
    torch.testing.assert_close(answer.residual_norm, residual.norm(dim=1))
    torch.testing.assert_close(answer.missing, 1 - own.exp().detach())
    torch.testing.assert_close(answer.label_probability, own.exp().detach())
    torch.testing.assert_close(answer.entropy, torch.distributions.Categorical(probs=p).entropy())
    torch.testing.assert_close(answer.confidence, p.max(-1).values)
    assert torch.equal(answer.agrees, p.argmax(-1) == labels)


def test_missing_keeps_its_digits():
    logits = torch.tensor([[60.0, 0.0, 0.0]], dtype=torch.float64)
    answer = ask(lambda x: logits + 0 * x, torch.zeros(1, 3, dtype=torch.float64), torch.tensor([0]))
    torch.testing.assert_close(
        answer.missing, 2 * torch.exp(torch.tensor([-60.0], dtype=torch.float64)), rtol=1e-12, atol=0
    )


def test_pull_back_is_the_transposed_jacobian():
    classifier, (x, _) = small_classifier(), images_and_labels()
    direction = torch.randn(6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: classifier(one[None])[0]))(x)
    expected = torch.einsum("bk,bkchw->bchw", direction, jacobian)
    torch.testing.assert_close(pull_back(classifier, x, lambda _: direction), expected)


def test_ascend_climbs_and_reports_the_point_before_each_step():
    classifier, (x, labels) = small_classifier(), images_and_labels()
    guidance = fg.Guidance(tau_joint=1.0, tau_marginal=1.0)
    missing, norms = ascend(classifier, x, labels, guidance, steps=20, step_size=0.1)
    assert missing.shape == norms.shape == (20, 6)
    torch.testing.assert_close(missing[0], ask(classifier, x, labels).missing)
    step = x + 0.1 * guidance.gradient(classifier, x, labels)
    torch.testing.assert_close(missing[1], ask(classifier, step, labels).missing)
    assert bool((missing[-1] < missing[0]).all())


def test_best_denoiser_is_the_posterior_mean_over_the_images():
    generator = torch.Generator().manual_seed(3)
    clean = torch.randn(5, 1, 2, 2, generator=generator, dtype=torch.float64)
    x_t = torch.randn(3, 1, 2, 2, generator=generator, dtype=torch.float64)
    kept = 0.3
    likelihood = torch.distributions.Normal(kept**0.5 * clean, (1 - kept) ** 0.5)
    for one, found in zip(x_t, best_denoiser(clean, x_t, kept), strict=True):
        weights = likelihood.log_prob(one).sum((1, 2, 3)).exp()
        torch.testing.assert_close(found, torch.einsum("n,nchw->chw", weights / weights.sum(), clean))
