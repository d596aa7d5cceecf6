"""f-divergences by name or from a generator of one's own: value, weight and logit gradient."""

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fguidance import catalogue, closed_forms
from fguidance.catalogue import Parameter
from fguidance.inputs import holds, require_log_probs, require_logits, require_same_shape

if TYPE_CHECKING:
    import sympy as sp


@dataclass(frozen=True)
class Divergence:
    """An f-divergence D_f(q, p) = sum_i q_i f(p_i / q_i) between a target q and a classifier's p.

    Defined in :eq:`eq-divergence`; its weight in :eq:`eq-weight`, both after arXiv:2511.05844, Proposition 2.
    Make one with `fguidance.divergence` or `Divergence.from_generator`. Float32 and half precision are calculated in
    float64 where the device has it.

    Attributes:
        name: the registered name, or the one given.
        formula: f(t), t = p/q, as text; empty for a printed weight that belongs to no f-divergence.
        source: where the generator comes from.
        parameters: the values of further names in the formula: of a family's parameter, or as given.
        definition: the closed forms that are calculated with.
    """

    name: str
    formula: str
    source: str
    parameters: Mapping[str, float] = field(default_factory=dict)
    definition: closed_forms.Divergence = field(repr=False, compare=False, kw_only=True)

    def __hash__(self) -> int:
        return hash((self.name, self.formula, *sorted(self.parameters.items())))

    def __reduce__(self) -> tuple[Callable[..., "Divergence"], tuple[Any, ...]]:
        return _again, (self.name, self.formula, self.source, dict(self.parameters))

    @property
    def label(self) -> str:
        """The name, with the parameter of a family's member, as in ``alpha(alpha=0.3)``."""
        given = ", ".join(f"{name}={value:g}" for name, value in self.parameters.items())
        return f"{self.name}({given})" if given else self.name

    @property
    def generator(self) -> "sp.Expr | None":
        """f(t) as a SymPy expression in t, or None for a weight that belongs to no f-divergence."""
        from fguidance.symbolic.parsing import parse_generator

        if not self.formula:
            return None
        limit = catalogue.LIMITS.get(self.name, {}).get(next(iter(self.parameters.values()), math.nan))
        return parse_generator(limit or self.formula, {} if limit else self.parameters)

    @property
    def is_divergence(self) -> bool:
        """False for `js_printed`, whose weight is p f'(p/q) for no f."""
        return self.definition.value is not None

    @property
    def is_smooth(self) -> bool:
        """Whether f is twice differentiable; where it is not, f' at t = 1 is a subgradient or f''(1) infinite."""
        return self.definition.smooth

    @property
    def needs_full_support(self) -> bool:
        """Whether the value is infinite where q_i = 0 < p_i, so that an exact zero in the target is refused."""
        return self.definition.at_infinity == math.inf

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
        from fguidance.symbolic.generator import derived_from
        from fguidance.symbolic.numerical import define

        if not isinstance(name, str):
            raise TypeError(f"name must be a string, not {type(name).__name__}")
        expression, definition = derived_from(generator, parameters, define)
        formula = generator if isinstance(generator, str) else str(expression)
        return cls(name, formula, GIVEN, dict(parameters or {}), definition=definition)

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
        return closed_forms.value(self.definition, _wide(log_p), _wide(log_q)).to(log_p.dtype)

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
        return closed_forms.weight(self.definition, _wide(log_p), _wide(log_q)).to(log_p.dtype)

    def logit_gradient(self, logits: Tensor, log_q: Tensor) -> Tensor:
        """The gradient of D_f in the logits, w - p * sum(w) with p = softmax(logits) (:eq:`eq-logit-gradient`).

        It is computed in the form :eq:`eq-pivot`, which keeps its leading digits when p is all but one-hot. For
        `js_printed` it is the same expression in the printed weight. The error stays within 8 units in the last
        place of the largest weight, probability or component of the gradient, and where one logit is at least 10 above
        the others within 256 of its largest component alone, however small that is (tested up to 300, for parameters
        of the alpha family from -2.3 to 3). Both grow with p/q for `exponential`, and neither holds near p = q where
        f''(1) is infinite.

        Args:
            logits: finite, shape (..., classes), floating point.
            log_q: log-probabilities of the target, the same shape.

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
        return closed_forms.logit_gradient(self.definition, _wide(logits), _wide(log_q)).to(logits.dtype)

    def _require_support(self, log_q: Tensor) -> None:
        if self.needs_full_support and not holds(torch.isfinite(log_q)):
            raise ValueError(f"log_q: {self.name} is infinite where the target is 0; every class needs q > 0")


def _wide(tensor: Tensor) -> Tensor:
    """In float64; in float32 on devices that have no other (Apple's)."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def _again(name: str, formula: str, source: str, parameters: dict[str, float]) -> Divergence:
    """The divergence that was pickled or copied."""
    if source == GIVEN:
        return Divergence.from_generator(formula, name, parameters or None)
    return divergence(name, **parameters)


GIVEN = "given by the user"


def divergence_names() -> tuple[str, ...]:
    """The registered names, families included; `js_printed` is the one that is no f-divergence."""
    return (*closed_forms.DIVERGENCES, *closed_forms.FAMILIES)


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
    if name in closed_forms.FAMILIES:
        return _family_member(name, **parameters)
    if name not in closed_forms.DIVERGENCES:
        raise ValueError(f"divergence: {name!r} is not one of {', '.join(divergence_names())}")
    if parameters:
        raise ValueError(f"divergence: {name!r} takes no parameter, but got {', '.join(parameters)}")
    return Divergence(name, *catalogue.ROWS[name], definition=closed_forms.DIVERGENCES[name])


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
    found = catalogue.PARAMETERS.get(name)
    return {} if found is None else {found.name: found}


def _family_member(name: str, **parameters: float) -> Divergence:
    rule = catalogue.PARAMETERS[name]
    value = parameters.pop(rule.name, rule.default)
    if parameters:
        raise ValueError(f"divergence: {name!r} takes the parameter {rule.name}, not {', '.join(parameters)}")
    known = not isinstance(value, bool) and isinstance(value, numbers.Real)
    if not known or not (rule.low < value < rule.high if rule.is_open else rule.low <= value <= rule.high):
        ends = " (both excluded)" if rule.is_open else ""
        raise ValueError(f"{rule.name} must be a number between {rule.low:g} and {rule.high:g}{ends}, not {value!r}")
    given = {rule.name: float(value)}
    definition = closed_forms.FAMILIES[name](float(value))
    return Divergence(name, *catalogue.ROWS[name], given, definition=definition)
