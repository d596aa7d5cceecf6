"""What the tests are run on: divergences beside their references, logits and targets, and plain float64 formulas."""

import math
from dataclasses import dataclass

import sympy as sp
import torch
from hypothesis import strategies as st
from torch import Tensor

import fguidance as fg
from fguidance.symbolic import t
from fguidance.symbolic.evaluate import evaluate
from tests.support import exact

ALPHAS = (-2.3, 0.3, 0.999, 1.7, 3.0)
HALF, SINGLE, DOUBLE = (torch.float16, torch.bfloat16), torch.float32, torch.float64
DTYPES = (*HALF, SINGLE, DOUBLE)
LARGEST_SPREAD = 300.0

GENERATORS = {
    "rkl": "-log(t)",
    "fkl": "t*log(t)",
    "js": "(t*log(t) - (1 + t)*log((1 + t)/2))/2",
    "hellinger": "(sqrt(t) - 1)**2",
    "pearson": "(t - 1)**2",
    "neyman": "(t - 1)**2/t",
    "jeffreys": "(t - 1)*log(t)",
    "triangular": "(t - 1)**2/(t + 1)",
    "lin_k": "-log((1 + t)/2)",
    "lin_k_reverse": "t*log(2*t/(1 + t))",
    "gan": "t*log(t) - (1 + t)*log((1 + t)/2)",
    "symmetric_chi_squared": "(t - 1)**2*(t + 1)/t",
    "vajda_chi4": "(t - 1)**4",
    "arithmetic_geometric": "(t + 1)/2*log((t + 1)/(2*sqrt(t)))",
    "perimeter": "sqrt(1 + t**2) - (1 + t)/sqrt(2)",
    "exponential": "exp(t - 1) - t",
    "total_variation": "abs(t - 1)/2",
}
FAMILIES = {
    "alpha": "(t**a - a*t - (1 - a))/(a*(a - 1))",
    "amari": "4/(1 - a**2)*(1 - t**((1 + a)/2))",
    "cressie_read": "2*(t**(a + 1) - t)/(a*(a + 1))",
    "tsallis": "(t**a - t)/(a - 1)",
    "skewed_js": "a*t*log(t) - (a*t + 1 - a)*log(a*t + 1 - a)",
    "skewed_rkl": "-log(a*t + 1 - a)",
    "blended_chi_squared": "(t - 1)**2/(a*t + 1 - a)",
    "softened_total_variation": "(sqrt((t - 1)**2 + a**2) - a)/2",
    "puri_vincze": "abs(t - 1)**a/(t + 1)**(a - 1)/2",
    "osterreicher_vajda": "a/(a - 1)*((1 + t**a)**(1/a) - 2**(1/a - 1)*(1 + t))",
}


def generator_of(name: str) -> sp.Expr:
    """f(t) of a row or, for "family=number", of a member whose parameter is that binary float exactly."""
    family, _, number = name.partition("=")
    if family == "osterreicher_vajda" and float(number) == 1:
        return generator_of("gan")
    names = {"t": t, "abs": sp.Abs} | ({"a": sp.Rational(float(number))} if number else {})
    text = FAMILIES[family] if number else GENERATORS.get(name)
    return sp.sympify(text, names) if text else fg.divergence(name).generator


PARAMETERS = {
    "alpha": ALPHAS,
    "amari": (-0.5,),
    "cressie_read": (0.5,),
    "tsallis": (1.5,),
    "skewed_js": (0.25, 0.875),
    "skewed_rkl": (0.875,),
    "blended_chi_squared": (0.25,),
    "softened_total_variation": (0.25,),
    "puri_vincze": (1.5, 3.0),
    "osterreicher_vajda": (0.3, 4.0),
}


@dataclass(frozen=True)
class Member:
    """A divergence and the exact functions it is held against."""

    divergence: fg.Divergence
    reference: exact.Reference


def family_member(family: str, value: float) -> Member:
    """A member of a family beside its reference."""
    (parameter,) = fg.divergence_parameters(family)
    return Member(fg.divergence(family, **{parameter: value}), exact.reference(generator_of(f"{family}={value!r}")))


def _members() -> dict[str, Member]:
    plain = [name for name in fg.divergence_names() if not fg.divergence_parameters(name)]
    found = {name: Member(fg.divergence(name), exact.reference(generator_of(name))) for name in plain[:-1]}
    found["js_printed"] = Member(fg.divergence("js_printed"), exact.JS_PRINTED)
    return found | {f"{family}={v}": family_member(family, v) for family, values in PARAMETERS.items() for v in values}


MEMBERS = _members()
DIVERGENCES = {name: member for name, member in MEMBERS.items() if member.divergence.is_divergence}
EXTREMES: dict[str, tuple[float, ...]] = {
    "alpha": (-64.0, -9.0, 9.0, 30.0, 64.0),
    "amari": (-64.0, 64.0),
    "cressie_read": (-64.0, 63.0),
    "tsallis": (0.01, 63.0),
    "skewed_js": (0.001, 0.999),
    "skewed_rkl": (0.001, 0.999),
    "blended_chi_squared": (0.001, 0.999),
    "softened_total_variation": (0.001, 60.0),
    "puri_vincze": (1.0, 1.01, 32.0),
    "osterreicher_vajda": (1 / 16, 0.99, 1.0, 1.01, 64.0),
}
VANISHING = ("fkl", "js", "hellinger", "pearson", "triangular", "alpha=0.3", "alpha=0.999", "alpha=1.7", "alpha=3.0")


@dataclass(frozen=True)
class Case:
    """A vector of logits with a target."""

    logits: Tensor
    log_q: Tensor

    @property
    def spread(self) -> float:
        """Largest minus smallest logit."""
        return float(self.logits.double().max() - self.logits.double().min())


def target(classes: int, label: int, epsilon: float, dtype: torch.dtype = DOUBLE) -> Tensor:
    """The label-smoothed log-target of one label."""
    return fg.label_smoothed_log_target(torch.tensor(label), classes, epsilon, dtype)


def random_logits(classes: int, spread: float, seed: int) -> Tensor:
    """Uniform float64 logits of exactly the given spread."""
    drawn = torch.rand(classes, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return spread * (drawn - drawn.min()) / (drawn.max() - drawn.min())


def _shaped(kind: str, logits: Tensor, log_q: Tensor, label: int, spread: float) -> Tensor:
    top = int(logits.argmax())
    other = (top + 1) % len(logits)
    shaped = logits.clone()
    if kind == "tie":
        shaped[other] = shaped[top]
    elif kind == "near tie":
        shaped[other] = shaped[top] - 10.0 ** (-3 - spread % 5)
    elif kind in ("one-hot on the label", "one-hot on a wrong class"):
        shaped = 0.01 * logits
        shaped[label if kind == "one-hot on the label" else (label + 1) % len(logits)] += spread
    elif kind == "near the target":
        shaped = log_q.double() + 1e-6 * logits
    elif kind == "far from zero":
        shaped = logits + (1 if label % 2 else -1) * (5000 + 20 * spread)
    return shaped


KINDS = (
    "spread out", "tie", "near tie", "one-hot on the label", "one-hot on a wrong class", "near the target",
    "far from zero",
)  # fmt: skip


@st.composite
def cases(
    draw: st.DrawFn, dtype: torch.dtype, least_spread: float = 1e-6, kinds: tuple[str, ...] = KINDS
) -> Case:
    """Logits of spread `least_spread` to 300 and every kind, 2 to 50 classes, epsilon from 0 to 0.99."""
    classes = draw(st.sampled_from((2, 3, 4, 7, 10, 50)))
    spread = math.exp(draw(st.floats(math.log(least_spread * 1.05), math.log(LARGEST_SPREAD))))
    label = draw(st.integers(0, classes - 1))
    epsilon = draw(st.sampled_from((0.0, 0.5, 0.9, 0.99)) | st.floats(0, 0.99))
    log_q = target(classes, label, epsilon, dtype)
    logits = random_logits(classes, spread, draw(st.integers(0, 2**16)))
    return Case(_shaped(draw(st.sampled_from(kinds)), logits, log_q, label, spread).to(dtype), log_q)


@st.composite
def distributions(draw: st.DrawFn, dtype: torch.dtype, distance: float) -> tuple[Tensor, Tensor]:
    """log_p and log_q whose log-ratios are of the size `distance`."""
    classes = draw(st.sampled_from((2, 3, 10)))
    seed = draw(st.integers(0, 2**16))
    log_q = torch.log_softmax(random_logits(classes, 3.0, seed), -1)
    log_p = torch.log_softmax(log_q + random_logits(classes, distance, seed + 1), -1)
    return log_p.to(dtype), log_q.to(dtype)


def plain_divergence(name: str, logits: Tensor, log_q: Tensor) -> Tensor:
    """sum_i q_i f(p_i/q_i), as it stands on paper, for autograd in float64."""
    q = log_q.exp()
    return (q * evaluate(generator_of(name), t, torch.softmax(logits, -1) / q)).sum(-1)
