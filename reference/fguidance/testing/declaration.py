"""What somebody states about a divergence of their own, so that the suite can hold it to its word."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import sympy as sp

DTYPES = ("float16", "bfloat16", "float32", "float64")
Saturation = Literal["vanishes", "stays", "grows"]


@dataclass(frozen=True)
class Declaration:
    """What is known of a divergence, or what an implementation promises; all of it is optional and all is checked.

    Attributes:
        generator: f(t), t = p/q, as text or a SymPy expression: what `value` and `weight` are held against.
        symmetric: whether D(q, p) = D(p, q).
        smooth: False for a generator with kinks, such as total variation: derivatives are then checked off the kinks.
        kinks: the t > 0 at which f has them, where `smooth` is False.
        differentiable: False for a value in PyTorch that autograd is not meant to run through.
        saturation: what the force does when the classifier is all but sure of a wrong class.
        bounded: whether the value is bounded over all pairs of distributions.
        full_support: True if every class of the target must have q > 0; False promises that zeros are handled, and
            has them tried. None tries them on what this library derived only.
        gauge: f'(1) of the weights, w = p f'(p/q). The house's weights have 0; another constant leaves the force as
            it is.
        dtypes: the floating-point types that are promised to work, from ``float16`` to ``float64``.
        precision: ``"plain"`` asks for what ordinary rounding leaves: a value to a few ulps of 1, a force to a few
            ulps of the largest weight, log-ratios as large as the cube of the ratio can be held. ``"faithful"`` asks
            for the leading digits of the value however close p is to q, and of the force however one-hot p is. None
            stands for faithful where this library promises it of its own divergences, else plain.
        array: the library of the arrays it takes, found by trying where None.
        expected_failures: check name to the reason why that check must fail; a check that then passes is a failure.
    """

    generator: "str | sp.Expr | None" = None
    symmetric: bool | None = None
    smooth: bool = True
    kinks: tuple[float, ...] = (1.0,)
    differentiable: bool = True
    saturation: Saturation | None = None
    bounded: bool | None = None
    full_support: bool | None = None
    gauge: float = 0.0
    dtypes: tuple[str, ...] = ("float32", "float64")
    precision: Literal["plain", "faithful"] | None = None
    array: Literal["torch", "numpy"] | None = None
    expected_failures: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError on an entry that is not one of those above."""
        choices: dict[str, tuple[object, ...]] = {
            **dict.fromkeys(("symmetric", "bounded", "full_support"), (None, True, False)),
            **dict.fromkeys(("smooth", "differentiable"), (True, False)),
            "saturation": (None, "vanishes", "stays", "grows"),
            "precision": (None, "plain", "faithful"),
            "array": (None, "torch", "numpy"),
        }
        for name, allowed in choices.items():
            value = getattr(self, name)
            if not any(value is one or (isinstance(one, str) and value == one) for one in allowed):
                raise ValueError(f"{name} must be one of {allowed}, not {value!r}")
        if not _is_finite(self.gauge):
            raise ValueError(f"gauge must be a finite number, f'(1), not {self.gauge!r}")
        if not isinstance(self.kinks, tuple) or not all(_is_finite(kink) and kink > 0 for kink in self.kinks):
            raise ValueError(f"kinks must be a tuple of numbers t > 0, not {self.kinks!r}")
        if not isinstance(self.dtypes, tuple) or not self.dtypes or not set(self.dtypes) <= set(DTYPES):
            raise ValueError(f"dtypes must be some of {', '.join(DTYPES)}, not {self.dtypes!r}")
        if not isinstance(self.expected_failures, Mapping) or not all(self.expected_failures.values()):
            raise ValueError(f"expected_failures must give a reason for each check, not {self.expected_failures!r}")

    def with_changes(self, **changes: object) -> "Declaration":
        """This declaration with some entries replaced.

        Raises:
            TypeError: an entry that a declaration does not have.
        """
        known = [entry.name for entry in fields(self)]
        for name in (name for name in changes if name not in known):
            raise TypeError(f"a declaration has no entry {name!r}; it has {', '.join(known)}")
        return replace(self, **changes)  # type: ignore[arg-type]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
