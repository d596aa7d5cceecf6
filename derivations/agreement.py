"""What the emitted file calculates agrees with the expressions that it is printed from.

Proofs end at expressions. What comes after them, the printers and the hand-written frame, is held here to mpmath, and
each gradient to autograd of its score. Emission runs this, so that a wrong factor is never written.
"""

import importlib.util
import itertools
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import mpmath
import sympy as sp
import torch
from torch import Tensor

from derivations.divergences import DIVERGENCES, JS_PRINTED, Row
from fguidance.symbolic import forms
from fguidance.symbolic.evaluate import MPMATH, evaluate
from fguidance.symbolic.parsing import t

PAIRS = ((0.3, 0.2), (0.1, 0.6), (0.25, 0.255), (0.26, 0.25), (2.0**-10, 0.9), (0.9, 2.0**-9))
"""p and q, on either side of p = q, close to it and far from it."""
Calculated = Iterator[tuple[str, Tensor, Any]]


class Disagreement(ValueError):
    """What the emitted file calculates is not what it says."""


def require_agreement(text: str) -> None:
    """Raise Disagreement unless the emitted text, run, gives the numbers of the generators and of its own scores."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "closed_forms.py"
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location("emitted_closed_forms", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    compare(module)


def compare(module: ModuleType) -> None:
    """Raise Disagreement at the first function of the module that is off."""
    rows = (_row(module, row, parameter) for row in DIVERGENCES for parameter in _parameters(row))
    for name, found, expected in itertools.chain(_helpers(module), *rows, _printed_weight(module), _guidance(module)):
        right = torch.as_tensor(expected, dtype=torch.float64)
        if not torch.allclose(found, right, rtol=1e-11, atol=1e-14):
            raise Disagreement(f"{name} gives {found.tolist()}, not {right.tolist()}")


def _parameters(row: Row) -> tuple[sp.Rational | None, ...]:
    """No parameter, or some of a family between its ends, on both sides of every special one."""
    if row.family is None:
        return (None,)
    low, high = row.family.low, row.family.high
    places = [row.family.default, *(at + side for at in row.family.specials for side in (-1, sp.Rational(-1, 3), 1))]
    return tuple(place for place in places if low < place < high and place not in row.family.specials)


def _row(module: ModuleType, row: Row, parameter: sp.Rational | None) -> Calculated:
    """Weights, values, bends and forces against the generator."""
    generator = row.generator if row.family is None else row.generator.subs(row.family.parameter, parameter)
    divergence = module.DIVERGENCES[row.name] if parameter is None else module.FAMILIES[row.name](float(parameter))
    first, name = sp.diff(generator, t), row.name if parameter is None else f"{row.name}({parameter})"
    bend = t * sp.diff(first, t).replace(sp.DiracDelta, lambda *_: sp.S.Zero)
    kinked = first.has(sp.sign)
    one = mpmath.mpf(1)
    tangent = mpmath.mpf(0) if kinked else evaluate(first, t, one, MPMATH)

    def exact(function: Callable[[mpmath.mpf, mpmath.mpf], mpmath.mpf], p: Tensor, q: Tensor) -> list[float]:
        pairs = zip(p.tolist(), q.tolist(), strict=True)
        return [float(function(mpmath.mpf(a), mpmath.mpf(b))) for a, b in pairs]

    def weight(p: mpmath.mpf, q: mpmath.mpf) -> mpmath.mpf:
        return p * (evaluate(first, t, p / q, MPMATH) - tangent)

    def value(p: mpmath.mpf, q: mpmath.mpf) -> mpmath.mpf:
        return q * (evaluate(generator, t, p / q, MPMATH) - tangent * (p / q - 1))

    with mpmath.workdps(40):
        p, q = torch.tensor(PAIRS, dtype=torch.float64).unbind(1)
        log_p, log_q = p.log(), q.log()
        yield f"the weight of {name}", module.weight(divergence, log_p, log_q), exact(weight, p, q)
        yield f"the value of {name}", module.value(divergence, log_p[:, None], log_q[:, None]), exact(value, p, q)
        if divergence.bend is not None:
            found = divergence.bend(log_p - log_q)
            yield f"the bend of {name}", found, exact(lambda a, b: evaluate(bend, t, a / b, MPMATH), p, q)
        ends = [_limit(lambda size: value(size, one)), _limit(lambda size: value(1 / size, one) * size)]
        found = torch.tensor([divergence.at_zero, divergence.at_infinity], dtype=torch.float64)
        yield f"the limits of {name}", found, ends
        logits, log_q = _logits()[:, 0].T.contiguous(), torch.log_softmax(_logits()[:, 1].T, -1)
        p, q = torch.softmax(logits, -1), log_q.exp()
        weights = torch.tensor([exact(weight, *pair) for pair in zip(p, q, strict=True)], dtype=torch.float64)
        force = weights - p * weights.sum(-1, keepdim=True)
        yield f"the force of {name}", module.logit_gradient(divergence, logits, log_q), force


def _limit(function: Callable[[mpmath.mpf], mpmath.mpf]) -> float:
    """The limit at 0 of a function that has come close to it at 1e-3000; infinite where it still grows."""
    try:
        near, nearer = (function(mpmath.mpf(10) ** -power) for power in (3000, 6000))
    except OverflowError:
        return math.inf
    return math.inf if nearer > 1.5 * near > 100 else float(nearer)


def _helpers(module: ModuleType) -> Calculated:
    """The functions that the rows call against what a proof takes them for."""
    p, q = torch.tensor(PAIRS, dtype=torch.float64).unbind(1)
    u, numbers = (p / q).log(), {"p": p, "q": q, "u": (p / q).log()}
    written: dict[str, tuple[Any, Tensor]] = {
        "softplus": (forms.Softplus(forms.u), module.softplus(u)),
        "difference": (forms.Difference(forms.p, forms.q, forms.u), module.difference(p, q, u)),
    }
    for a in (-1.5, 0.5, 3.0):
        written[f"power at {a}"] = forms.Power(forms.p, forms.q, forms.u, a), module.power(p, q, u, a)
        written[f"relative_power at {a}"] = forms.RelativePower(forms.u, a), module.relative_power(u, a)
    tiny = torch.tensor([2.0**-1030, 2.0**-1040], dtype=torch.float64)  # whose ratio to others is beyond the range
    for small, large, sign in ((tiny, tiny.sqrt().flip(0), -1), (tiny.sqrt().flip(0), tiny, 1)):
        found = module.power(small, large, sign * math.log(2) * torch.tensor([510.0, 525.0], dtype=torch.float64), 0.5)
        yield "power of subnormal numbers", found / (small.sqrt() * large.sqrt()), torch.ones(2)
    for name, (expression, found) in written.items():
        meant = expression.replace(type(expression), forms.MEANINGS[type(expression)])
        places = zip(*(numbers[str(symbol)].tolist() for symbol in sorted(meant.free_symbols, key=str)), strict=True)
        function = sp.lambdify(sorted(meant.free_symbols, key=str), meant, "mpmath")
        yield name, found, [float(function(*map(mpmath.mpf, place))) for place in places]


def _printed_weight(module: ModuleType) -> Calculated:
    u = torch.tensor([-2.0, -0.1, 0.7], dtype=torch.float64)
    right = [float(JS_PRINTED.weight.subs(forms.u, at)) for at in u.tolist()]
    found = module.DIVERGENCES[JS_PRINTED.name].weight(u.exp(), torch.ones_like(u), u)
    yield JS_PRINTED.name, found, right


def _logits() -> Tensor:
    """Numbers without a pattern, shape (5, 2, 3)."""
    places = torch.arange(30, dtype=torch.float64)
    return 2 * torch.sin(places**2 + 1).reshape(5, 2, 3)


def _guidance(module: ModuleType) -> Calculated:
    """The terms of the guidance and the loss, written once more, and their gradients by autograd."""
    logits, labels = _logits()[:, 0], torch.tensor([0, 2, 1, 1, 2])
    alpha, epsilon, tau_joint, tau_marginal, entropy, beta, tilt = 0.6, 0.9, 0.8, 0.5, 0.3, 0.01, 0.7
    terms = alpha, epsilon, tau_joint, tau_marginal, entropy
    own, q = torch.arange(5), torch.full((5, 3), (1 - epsilon) / 3, dtype=torch.float64)
    q[own, labels] += epsilon
    yield "the target", module.label_smoothed_log_target(labels, 3, epsilon), q.log()

    def tempered(f: Tensor) -> Tensor:
        return tau_joint * f[own, labels] - torch.log(torch.exp(tau_marginal * f).sum(-1))

    def entropy_of(f: Tensor) -> Tensor:
        p = torch.softmax(f, -1)
        return -(p * p.log()).sum(-1)

    def score(f: Tensor) -> Tensor:
        p = torch.softmax(f, -1)
        m = (p + q) / 2
        js = ((p * (p / m).log() + q * (q / m).log()) / 2).sum(-1)
        return tempered(f) - alpha * js + entropy * entropy_of(f)

    def loss(f: Tensor) -> Tensor:
        confidence, top = torch.softmax(f, -1).max(-1)
        return torch.sqrt((confidence - (top == labels).double()) ** 2 + beta).mean()

    js = module.DIVERGENCES["js"]
    called = {
        "the tempered score": (tempered, module.tempered_log_prob, module.tempered_gradient, terms[2:4]),
        "the guidance score": (score, module.guidance_score, module.guidance_gradient, terms),
        "the loss": (loss, module.smooth_ece_loss, module.smooth_ece_gradient, (beta,)),
    }
    for name, (function, found, gradient, arguments) in called.items():
        first = (js,) if name == "the guidance score" else ()
        leaf = logits.clone().requires_grad_()
        (expected,) = torch.autograd.grad(function(leaf).sum(), leaf)
        yield name, found(*first, logits, labels, *arguments), function(logits)
        yield f"the gradient of {name}", gradient(*first, logits, labels, *arguments), expected
    leaf = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(entropy_of(leaf).sum(), leaf)
    yield "the gradient of the entropy", module.entropy_gradient(logits), expected
    log_prob = torch.tensor([-1.0, -0.2, -3.0], dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(torch.log(torch.exp(tilt * log_prob).mean()) / tilt, log_prob)
    yield "the tilted weights", module.tilted_weights(log_prob.detach(), tilt), 3 * expected
