"""Anything that can be tested, brought to one shape: functions from tensors to tensors and what is declared."""

import functools
import inspect
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fguidance.divergence import Divergence, divergence, divergence_names
from fguidance.testing.declaration import Declaration
from fguidance.testing.plain import plain
from fguidance.testing.scale import scale
from fguidance.testing.surroundings import settings_kept

if TYPE_CHECKING:
    import sympy as sp

Function = Callable[[Tensor, Tensor], Tensor]
_NAME = re.compile(r"(?!pi$)[A-Za-z_]\w+")
"""What is no generator: one name that is neither t nor a constant."""
PARTS = ("value", "weight", "logit_gradient")


@dataclass(frozen=True)
class Subject:
    """What is under test.

    Attributes:
        name: what reports call it.
        value: D(log_p, log_q), shapes (..., classes) to (...); None if there is none.
        weight: w(log_p, log_q), the same shape as its arguments; None if there is none.
        logit_gradient: force(logits, log_q), the same shape as its arguments; None if there is none.
        generator: f(t) in `fguidance.symbolic.t`, where it is known.
        declaration: what is stated about it.
        array: ``"torch"`` or ``"numpy"``: what the functions take underneath; here they all take tensors.
        differentiable: whether autograd runs through `value`.
        derived: whether this library derived it from a generator.
    """

    name: str
    value: Function | None
    weight: Function | None
    logit_gradient: Function | None
    generator: "sp.Expr | None"
    declaration: Declaration
    array: str
    differentiable: bool
    derived: bool

    @property
    def faithful(self) -> bool:
        """Whether the leading digits of the force are promised however one-hot p is."""
        stated = self.declaration.precision
        return self.derived if stated is None else stated == "faithful"

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """The dtypes that are promised to work."""
        return tuple(getattr(torch, name) for name in self.declaration.dtypes)

    @functools.cached_property
    def scale(self) -> float:
        """The size of its numbers: 1, but for a divergence that is a very small or a very large multiple of others."""
        return scale(self.value, torch.float64 if torch.float64 in self.dtypes else self.dtypes[0])

    def parts(self) -> dict[str, Function]:
        """What it has of value, weight and logit_gradient, by name."""
        found = {part: getattr(self, part) for part in PARTS}
        return {part: function for part, function in found.items() if function is not None}

    def as_dict(self) -> dict[str, Any]:
        """What is known of it, in plain types for JSON."""
        return {
            "generator": None if self.generator is None else str(self.generator),
            "parts": list(self.parts()),
            "array": self.array,
            "differentiable": self.differentiable,
            "derived": self.derived,
            "declaration": plain(self.declaration),
        }


def as_subject(source: Any, declaration: Declaration | None = None, name: str | None = None) -> Subject:
    """Bring what a user has to the shape that the checks take.

    Args:
        source: a registered name, a generator as text or SymPy expression, a `Divergence`, an object or a class with
            methods `value` and `weight` (and perhaps `logit_gradient`, `generator`, `declaration`), or a pair or
            triple of such functions; torch or NumPy.
        declaration: what is stated about it; None takes the object's own attribute `declaration`, if there is one.
        name: what to call it.

    Raises:
        TypeError: nothing of the above.
        ValueError: a name that is not registered, or a generator that cannot be parsed or is not convex.
    """
    import sympy as sp

    if isinstance(source, type):
        source = _made(source)
    stated = declaration or attribute_of(source, "declaration") or Declaration()
    if not isinstance(stated, Declaration):
        raise TypeError(f"declaration must be a Declaration, not {type(stated).__name__}")
    if isinstance(source, str) and source in divergence_names():
        source = divergence(source)
    elif isinstance(source, str) and _NAME.fullmatch(source):
        known = ", ".join(divergence_names())
        raise ValueError(f"{source!r} is no generator and no registered divergence, which are {known}")
    if isinstance(source, str | sp.Expr):
        source = Divergence.from_generator(source, name=name or str(source))
    if isinstance(source, Divergence):
        return _from_divergence(source, stated, name)
    return _from_functions(source, stated, name)


def _made(source: type) -> Any:
    try:
        return source()
    except (Exception, SystemExit) as error:  # whatever the user's class raises
        reason = f"{type(error).__name__}: {error}"
        raise TypeError(f"{source.__name__} cannot be made without arguments, give an instance: {reason}") from error


def _from_divergence(source: Divergence, stated: Declaration, name: str | None) -> Subject:
    value = source.value if source.is_divergence else None
    if source.needs_full_support:
        stated = stated.with_changes(full_support=True)
    if not source.is_smooth:
        stated = stated.with_changes(smooth=False)
    return Subject(
        name=name or source.label,
        value=value,
        weight=source.weight,
        logit_gradient=source.logit_gradient,
        generator=source.generator,
        declaration=stated,
        array="torch",
        differentiable=True,
        derived=True,
    )


def _from_functions(source: Any, stated: Declaration, name: str | None) -> Subject:
    parts = _parts(source)
    array, differentiable = _kind(parts, stated)
    adapt = _from_numpy if array == "numpy" else _from_torch
    functions = {part: adapt(part, function) if function else None for part, function in parts.items()}
    return Subject(
        name=name or _name_of(source),
        generator=_generator_of(source, stated),
        declaration=stated,
        array=array,
        differentiable=differentiable,
        derived=False,
        **functions,
    )


def _parts(source: Any) -> dict[str, Callable[..., Any] | None]:
    if isinstance(source, tuple | list):
        if len(source) not in (2, 3) or not all(callable(part) for part in source):
            raise TypeError(f"functions must be (value, weight) or (value, weight, logit_gradient), not {source!r}")
        return dict(zip(PARTS, (*source, None)[:3], strict=True))
    found = {part: attribute_of(source, part) for part in PARTS}
    missing = [part for part in ("value", "weight") if not callable(found[part])]
    if missing:
        raise TypeError(f"{_name_of(source)} has no method {' and no method '.join(missing)}(log_p, log_q)")
    return {part: function if callable(function) else None for part, function in found.items()}


def attribute_of(source: Any, name: str) -> Any:
    """An attribute, None where there is none; whatever reading it raises becomes a TypeError that says so."""
    try:
        return getattr(source, name, None)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise TypeError(f"the attribute {name} of {type(source).__name__} cannot be read: {reason}") from error


def _name_of(source: Any) -> str:
    if isinstance(source, tuple | list):
        return ", ".join(getattr(part, "__name__", type(part).__name__) for part in source)
    if inspect.ismodule(source):
        return source.__name__
    named = attribute_of(source, "name")
    return named if isinstance(named, str) and named else type(source).__name__


def _generator_of(source: Any, stated: Declaration) -> "sp.Expr | None":
    from fguidance.symbolic import as_generator
    from fguidance.symbolic.parsing import in_t, parse_generator

    generator = stated.generator if stated.generator is not None else attribute_of(source, "generator")
    try:
        return None if generator is None else as_generator(generator, kinks=not stated.smooth)
    except ValueError as error:
        if "twice differentiable" in str(error):
            raise ValueError(f"{error}; of a program with kinks, declare smooth=False and where they are") from None
        if "is not convex" not in str(error) or not stated.smooth:
            raise
        # The check generator_is_convex reports it, with the point that shows it.
        return parse_generator(generator) if isinstance(generator, str) else in_t(generator)


def _kind(parts: dict[str, Callable[..., Any] | None], stated: Declaration) -> tuple[str, bool]:
    """Which arrays the functions take, and whether autograd runs through the value: found by one call of each.

    NumPy's functions take tensors too, and some then return one; so they are NumPy's if more of them work with arrays.
    """
    if stated.array == "numpy":
        return "numpy", False
    functions = [function for function in parts.values() if function is not None]
    found = [_tried(function, lambda tensor, grad: tensor.clone().requires_grad_(grad)) for function in functions]
    in_torch = [isinstance(result, Tensor) for result in found]
    if stated.array is None and not all(in_torch):
        arrays = [_tried(function, lambda tensor, _: tensor.numpy().copy()) for function in functions]
        in_numpy = [isinstance(result, np.ndarray | np.floating | float) for result in arrays]
        if sum(in_numpy) > sum(in_torch):
            return "numpy", False
    return "torch", isinstance(found[0], Tensor) and found[0].requires_grad


def _tried(function: Callable[..., Any], like: Callable[[Tensor, bool], Any]) -> Any:
    """What it returns for two distributions, the first of which wants a gradient; None where it raises."""
    log_p = torch.log_softmax(torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64), -1)
    log_q = torch.log_softmax(torch.tensor([0.1, 0.2, -0.4], dtype=torch.float64), -1)
    try:
        with settings_kept(), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(like(log_p, True), like(log_q, False))
    except (Exception, SystemExit):
        return None


def _from_torch(part: str, function: Callable[..., Any]) -> Function:
    def call(first: Tensor, log_q: Tensor) -> Tensor:
        found = function(first, log_q)
        if not isinstance(found, Tensor):
            raise TypeError(f"{part} must return a tensor, not {type(found).__name__}")
        return found

    return call


def _from_numpy(part: str, function: Callable[..., Any]) -> Function:
    def call(first: Tensor, log_q: Tensor) -> Tensor:
        found = function(first.detach().numpy(), log_q.detach().numpy())
        if not isinstance(found, np.ndarray | np.floating | float):
            raise TypeError(f"{part} must return a NumPy array, not {type(found).__name__}")
        return torch.from_numpy(np.asarray(found))

    return call
