"""f-divergences by name or from a generator of one's own: value, weight and logit gradient."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fguidance import _generated
from fguidance._generated import Definition, Parameter
from fguidance.inputs import holds, readable, require_log_probs, require_logits, require_same_shape

if TYPE_CHECKING:
    import sympy as sp


@dataclass(frozen=True)
class Divergence:
    """An f-divergence D_f(q, p) = sum_i q_i f(p_i / q_i) between a target q and a classifier's p.

    Defined in :eq:`eq-divergence`; its weight in :eq:`eq-weight`, both after arXiv:2511.05844, Proposition 2.
    Make one with `fguidance.divergence` or `Divergence.from_generator`.

    Attributes:
        name: the registered name, or the one given.
        definition: slope difference, tails and limits, as the generated arithmetic takes them.
        source: where the generator comes from.
        make_generator: gives f(t) with t = p/q when it is asked for; None for a printed weight that belongs to no
            f-divergence.
        parameters: the name and the value of the parameter of a family's member, else empty.
    """

    name: str
    definition: Definition
    source: str
    make_generator: "Callable[[], sp.Expr] | None" = field(repr=False, compare=False)
    parameters: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def label(self) -> str:
        """The name, with the parameter of a family's member, as in ``alpha(alpha=0.3)``."""
        given = ", ".join(f"{name}={value:g}" for name, value in self.parameters.items())
        return f"{self.name}({given})" if given else self.name

    @property
    def generator(self) -> "sp.Expr | None":
        """f(t) as a SymPy expression in t, or None for a weight that belongs to no f-divergence."""
        return None if self.make_generator is None else self.make_generator()

    @property
    def is_divergence(self) -> bool:
        """False for `js_printed`, whose weight is p f'(p/q) for no f."""
        return self.definition.is_divergence

    @property
    def is_smooth(self) -> bool:
        """Whether f is twice differentiable; where it is not, f' at t = 1 is a subgradient or f''(1) infinite."""
        return self.definition.smooth

    @property
    def needs_full_support(self) -> bool:
        """Whether the value is infinite where q_i = 0 < p_i, so that an exact zero in the target is refused."""
        return self.definition.limits[1] == math.inf

    @classmethod
    def from_generator(
        cls, generator: "str | sp.Expr", name: str = "custom", parameters: Mapping[str, float] | None = None
    ) -> "Divergence":
        """Derive a divergence from its generator f(t), t = p/q > 0.

        Args:
            generator: text such as ``"(sqrt(t) - 1)**2"``, parsed against a whitelist and never evaluated, or a
                SymPy expression in one symbol.
            name: what to call it.
            parameters: values of further names that the text uses, such as ``{"a": 0.5}``.

        Raises:
            TypeError: `generator` is neither text nor a SymPy expression, or `name` is no text.
            ValueError: it cannot be parsed, f(1) is not 0, f is not convex, the analysis takes over 4.4 s, or no form
                that was derived gives the numbers that 60 digits of the generator give; the message names the place.
        """
        from fguidance.numerical import define
        from fguidance.symbolic import derived_from

        if not isinstance(name, str):
            raise TypeError(f"name must be a string, not {type(name).__name__}")
        expression, definition = derived_from(generator, parameters, define)
        return cls(name, definition, "given by the user", lambda: expression)

    def value(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """D_f = sum_i q_i f(p_i / q_i) >= 0 (:eq:`eq-value`).

        Args:
            log_p: log-probabilities of the classifier, shape (..., classes), floating point.
            log_q: log-probabilities of the target, the same shape; -inf where the target is 0.

        Returns:
            Shape (...), the dtype of `log_p`; inf where the exact value is.

        Raises:
            TypeError: not floating-point tensors.
            ValueError: shapes differ, an entry is NaN or above 0, a distribution does not sum to 1, or there is no
                divergence behind this weight.
        """
        if not self.is_divergence:
            raise ValueError(f"{self.name} is a printed weight that belongs to no f-divergence: it has no value")
        require_log_probs(log_p=log_p, log_q=log_q)
        return _generated.value(self.definition, log_p, log_q)

    def weight(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        """The weights w = p f'(p/q) in the gauge f'(1) = 0 (:eq:`eq-weight`).

        Args:
            log_p: log-probabilities of the classifier, shape (..., classes), floating point.
            log_q: log-probabilities of the target, the same shape.

        Returns:
            Shape (..., classes), the dtype of `log_p`; inf only beyond the range of the dtype.

        Raises:
            TypeError: not floating-point tensors.
            ValueError: shapes differ, an entry is NaN or above 0, a distribution does not sum to 1, or the target
                has a 0 where this divergence is infinite.
        """
        require_log_probs(log_p=log_p, log_q=log_q)
        self._require_support(log_q)
        return _generated.weight(self.definition, log_p, log_q)

    def logit_gradient(self, logits: Tensor, log_q: Tensor, *, faithful: bool = True) -> Tensor:
        """The gradient of D_f in the logits, w - p * sum(w) with p = softmax(logits) (:eq:`eq-logit-gradient`).

        It is computed in the form :eq:`eq-pivot`, which keeps its leading digits when p is all but one-hot. For
        `js_printed` it is the same expression in the printed weight. The error stays within 8 units in the last
        place of the largest weight, probability or component of the gradient, and for logits at least 10 apart within
        256 of its largest component alone, however small that is (tested up to 300 apart, for parameters of the alpha
        family from -2.3 to 3).

        Args:
            logits: finite, shape (..., classes), floating point; half precision is computed in float32.
            log_q: log-probabilities of the target, the same shape.
            faithful: False allows plain arithmetic for all rows, if the divergence has a form for it; the error then
                is a few units in the last place of the largest probability. True takes it for rows that it serves.

        Returns:
            Shape (..., classes), the dtype of `logits`.

        Raises:
            TypeError: not floating-point tensors.
            ValueError: shapes differ, a logit is not finite, `log_q` is no distribution, or the target has a 0
                where this divergence is infinite.
        """
        require_logits(logits)
        require_log_probs(log_q=log_q)
        require_same_shape(logits=logits, log_q=log_q)
        self._require_support(log_q)
        if self.definition.lean is None:
            return _generated.logit_gradient(self.definition, logits, log_q)
        if not faithful:
            return _generated.lean_gradient(self.definition, logits, log_q)[0]
        return _where_it_serves(self.definition, logits, log_q)

    def _require_support(self, log_q: Tensor) -> None:
        if self.needs_full_support and not holds(torch.isfinite(log_q)):
            raise ValueError(f"log_q: {self.name} is infinite where the target is 0; every class needs q > 0")


def _where_it_serves(definition: Definition, logits: Tensor, log_q: Tensor) -> Tensor:
    """Plain arithmetic for the rows in which it keeps the leading digits, doubled arithmetic for the others."""
    differentiated = torch.is_grad_enabled() and (logits.requires_grad or log_q.requires_grad)
    if differentiated or not readable(logits) or not readable(log_q):
        return _generated.logit_gradient(definition, logits, log_q)
    gradient, serves = _generated.lean_gradient(definition, logits, log_q)
    if not bool(serves.all()):
        rows = ~serves.squeeze(-1)
        gradient[rows] = _generated.logit_gradient(definition, logits[rows], log_q[rows])
    return gradient


def divergence_names() -> tuple[str, ...]:
    """The registered names, families included; `js_printed` is the one that is no f-divergence."""
    return (*_generated.DIVERGENCES, *_generated.FAMILIES)


def divergence(name: str, **parameters: float) -> Divergence:
    """A registered divergence.

    Args:
        name: one of `divergence_names()`.
        **parameters: the parameter of a family, such as ``alpha=0.5``.

    Raises:
        TypeError: `name` is not a string.
        ValueError: unknown name, unknown parameter, or a parameter outside its range
            (`divergence_parameters`).
    """
    if not isinstance(name, str):
        raise TypeError(f"divergence must be a registered name, not {type(name).__name__}")
    if name in _generated.FAMILIES:
        return _family_member(name, **parameters)
    if name not in _generated.DIVERGENCES:
        raise ValueError(f"divergence: {name!r} is not one of {', '.join(divergence_names())}")
    if parameters:
        raise ValueError(f"divergence: {name!r} takes no parameter, but got {', '.join(parameters)}")
    definition = _generated.DIVERGENCES[name]
    return Divergence(name, definition, _generated.SOURCES[name], _parser(name) if definition.is_divergence else None)


def _parser(name: str, **parameters: float) -> "Callable[[], sp.Expr]":
    return _parsed(_generated.GENERATORS[name], **parameters)


def _parsed(text: str, **parameters: float) -> "Callable[[], sp.Expr]":
    def parse() -> "sp.Expr":
        from fguidance.symbolic import parse_generator

        return parse_generator(text, parameters)

    return parse


def divergence_parameters(name: str) -> dict[str, Parameter]:
    """The parameters of a registered divergence, by name: a family has one, every other none.

    Args:
        name: one of `divergence_names()`.

    Returns:
        Parameter name to its default and range; both ends are excluded where `is_open`.

    Raises:
        ValueError: unknown name.
    """
    if name not in divergence_names():
        raise ValueError(f"divergence: {name!r} is not one of {', '.join(divergence_names())}")
    found = _generated.PARAMETERS.get(name)
    return {} if found is None else {found.name: found}


def _family_member(name: str, **parameters: float) -> Divergence:
    rule = _generated.PARAMETERS[name]
    value = parameters.pop(rule.name, rule.default)
    if parameters:
        raise ValueError(f"divergence: {name!r} takes the parameter {rule.name}, not {', '.join(parameters)}")
    known = not isinstance(value, bool) and isinstance(value, int | float)
    if not known or not (rule.low < value < rule.high if rule.is_open else rule.low <= value <= rule.high):
        ends = " (both excluded)" if rule.is_open else ""
        raise ValueError(f"{rule.name} must be a number between {rule.low:g} and {rule.high:g}{ends}, not {value!r}")
    given = {rule.name: float(value)}
    limit = _generated.LIMITS[name].get(float(value))
    parser = _parser(name, **given) if limit is None else _parsed(limit)
    return Divergence(name, _generated.FAMILIES[name](float(value)), _generated.SOURCES[name], parser, given)
