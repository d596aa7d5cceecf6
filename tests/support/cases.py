"""What the tests are run on: divergences beside their references, logits and targets, and plain float64 formulas."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import mpmath
import torch
from hypothesis import strategies as st
from mpmath import mpf
from torch import Tensor

import fguidance as fg
from fguidance.symbolic.evaluate import evaluate
from tests.support import exact

ALPHAS = (-2.3, 0.3, 0.999, 1.7, 3.0)
HALF, SINGLE, DOUBLE = (torch.float16, torch.bfloat16), torch.float32, torch.float64
DTYPES = (*HALF, SINGLE, DOUBLE)
LARGEST_SPREAD = 300.0

Generator = Callable[[Tensor], Tensor]
PLAIN_GENERATORS: dict[str, Generator] = {
    "rkl": lambda t: -t.log(),
    "fkl": lambda t: t * t.log(),
    "js": lambda t: (t * t.log() - (1 + t) * ((1 + t) / 2).log()) / 2,
    "hellinger": lambda t: (t.sqrt() - 1) ** 2,
    "pearson": lambda t: (t - 1) ** 2,
    "neyman": lambda t: (t - 1) ** 2 / t,
    "jeffreys": lambda t: (t - 1) * t.log(),
    "triangular": lambda t: (t - 1) ** 2 / (t + 1),
    "lin_k": lambda t: -((1 + t) / 2).log(),
    "lin_k_reverse": lambda t: t * (2 * t / (1 + t)).log(),
    "gan": lambda t: t * t.log() - (1 + t) * ((1 + t) / 2).log(),
    "symmetric_chi_squared": lambda t: (t - 1) ** 2 * (t + 1) / t,
    "vajda_chi4": lambda t: (t - 1) ** 4,
    "arithmetic_geometric": lambda t: (t + 1) / 2 * ((t + 1) / (2 * t.sqrt())).log(),
    "perimeter": lambda t: (1 + t**2).sqrt() - (1 + t) / math.sqrt(2),
    "exponential": lambda t: (t - 1).exp() - t,
    "total_variation": lambda t: (t - 1).abs() / 2,
}


def _alpha_generator(a: float) -> Generator:
    return lambda t: (t**a - a * t - (1 - a)) / (a * (a - 1))


PLAIN_FAMILIES: dict[str, Callable[[float], Generator]] = {
    "alpha": _alpha_generator,
    "amari": lambda a: lambda t: 4 / (1 - a**2) * (1 - t ** ((1 + a) / 2)),
    "cressie_read": lambda a: lambda t: 2 * (t ** (a + 1) - t) / (a * (a + 1)),
    "tsallis": lambda r: lambda t: (t**r - t) / (r - 1),
    "skewed_js": lambda s: lambda t: s * t * t.log() - (s * t + 1 - s) * (s * t + 1 - s).log(),
    "skewed_rkl": lambda s: lambda t: -(s * t + 1 - s).log(),
    "blended_chi_squared": lambda b: lambda t: (t - 1) ** 2 / (b * t + 1 - b),
    "softened_total_variation": lambda w: lambda t: (((t - 1) ** 2 + w**2).sqrt() - w) / 2,
    "puri_vincze": lambda k: lambda t: (t - 1).abs() ** k / (t + 1) ** (k - 1) / 2,
    "osterreicher_vajda": lambda b: (
        lambda t: b / (b - 1) * ((1 + t**b) ** (1 / b) - 2 ** (1 / b - 1) * (1 + t))
    ),
}
FAMILY_REFERENCES: dict[str, Callable[[float], exact.Reference]] = {
    "alpha": exact.alpha_reference,
    "amari": lambda a: exact.scaled_alpha_reference(1, (1 + mpf(a)) / 2),
    "cressie_read": lambda a: exact.scaled_alpha_reference(2, 1 + mpf(a)),
    "tsallis": lambda r: exact.scaled_alpha_reference(mpf(r), mpf(r)),
    "skewed_js": exact.skewed_js_reference,
    "skewed_rkl": exact.skewed_rkl_reference,
    "blended_chi_squared": exact.blended_reference,
    "softened_total_variation": exact.softened_total_variation_reference,
    "puri_vincze": exact.puri_vincze_reference,
    "osterreicher_vajda": exact.osterreicher_vajda_reference,
}
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
    with mpmath.workdps(exact.DIGITS):
        reference = FAMILY_REFERENCES[family](value)
    return Member(fg.divergence(family, **{parameter: value}), reference)


def _members() -> dict[str, Member]:
    plain = [name for name in fg.divergence_names() if not fg.divergence_parameters(name)]
    found = {}
    for name in plain:
        divergence = fg.divergence(name)
        reference = exact.REFERENCES.get(name) or exact.from_generator(divergence.generator)
        found[name] = Member(divergence, reference)
    members = {f"{family}={v}": family_member(family, v) for family, values in PARAMETERS.items() for v in values}
    return found | members


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
        shaped = logits - 20 * spread
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
    return (q * plain_generator(name)(torch.softmax(logits, -1) / q)).sum(-1)


def plain_generator(name: str):
    """The generator f(t) as a function of a tensor."""
    family, _, value = name.partition("=")
    if value:
        return PLAIN_FAMILIES[family](float(value))
    generator = fg.divergence(name).generator
    return PLAIN_GENERATORS.get(name) or (lambda t: evaluate(generator, *generator.free_symbols, t))
