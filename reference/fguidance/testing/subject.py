"""Anything that can be tested, brought to one shape: functions from tensors to tensors and what is declared."""

import functools
import importlib
import inspect
import math
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from fguidance.divergence import Divergence, divergence, divergence_names
from fguidance.testing import exact, tolerance
from fguidance.testing.declaration import Declaration
from fguidance.testing.surroundings import settings_kept

Function = Callable[[Tensor, Tensor], Tensor]
_NAME = re.compile(r"(?!pi$)[A-Za-z_]\w+")
"""What is no generator: one name that is neither t nor a constant."""
_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
PARTS = ("value", "weight", "logit_gradient")
EXACT = ("rkl", "fkl", "js", "hellinger", "jeffreys", "triangular", "lin_k", "gan")
"""Divergences of this library whose weights and forces hold at any log-ratio; alpha does with alpha in [-1, 2]."""


def plain(value: object) -> Any:
    """A value in types that JSON has; anything else becomes its text."""
    if isinstance(value, Tensor):
        return value.detach().double().tolist() if value.is_floating_point() else value.detach().tolist()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(entry) for entry in value]
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def force_of_weights(log_p: Tensor, weights: Tensor) -> Tensor:
    """The force w - p sum(w), shape (..., classes)."""
    return weights - log_p.exp() * weights.sum(-1, keepdim=True)


@dataclass(frozen=True)
class Subject:
    """A divergence under test.

    Attributes:
        name: what reports call it.
        parts: its functions of tensors by name, some of `PARTS`: value(log_p, log_q), shapes (..., classes) to (...),
            and weight(log_p, log_q) and logit_gradient(logits, log_q), of the same shape as their arguments.
        generator: f(t) in `fguidance.testing.exact.t`, where it is known.
        declaration: what is stated about it.
        array: ``"torch"`` or ``"numpy"``: what the functions take underneath.
        differentiable: whether autograd runs through the value.
        derived: whether this library derived it from a generator.
        registered: whether it is one of the library's own, with a closed form.
        exact: whether it is one of those of which this library promises most.
    """

    name: str
    parts: Mapping[str, Function]
    generator: sp.Expr | None
    declaration: Declaration
    array: str
    differentiable: bool
    derived: bool = False
    registered: bool = False
    exact: bool = False

    @property
    def value(self) -> Function:
        """The divergence; raises KeyError where there is none."""
        return self.parts["value"]

    @property
    def weight(self) -> Function:
        """The weights."""
        return self.parts["weight"]

    def force(self, logits: Tensor, log_q: Tensor) -> Tensor:
        """Its own logit gradient, or else the force of its weights."""
        if "logit_gradient" in self.parts:
            return self.parts["logit_gradient"](logits, log_q.clone())
        log_p = torch.log_softmax(logits, -1)
        return force_of_weights(log_p, self.weight(log_p.clone(), log_q.clone()))

    @property
    def f(self) -> sp.Expr:
        """The generator, for checks that need one."""
        assert self.generator is not None
        return self.generator

    @property
    def faithful(self) -> bool:
        """Whether the leading digits of the force are promised however one-hot p is."""
        stated = self.declaration.precision
        return self.exact if stated is None else stated == "faithful"

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """The dtypes that are promised to work."""
        return tuple(getattr(torch, name) for name in self.declaration.dtypes)

    @property
    def widest(self) -> torch.dtype:
        """The widest dtype that is promised."""
        return max(self.dtypes, key=lambda dtype: -torch.finfo(dtype).eps)

    @functools.cached_property
    def scale(self) -> float:
        """The size of its numbers: 1, but for a divergence that is a very small or a very large multiple of others."""
        dtype = torch.float64 if torch.float64 in self.dtypes else self.dtypes[0]
        return tolerance.scale(self.parts.get("value"), dtype)

    def as_dict(self) -> dict[str, Any]:
        """All that is known of it, in plain types for JSON."""
        return {
            "generator": None if self.generator is None else str(self.generator),
            "parts": list(self.parts),
            "array": self.array,
            "differentiable": self.differentiable,
            "derived": self.derived,
            "declaration": plain(self.declaration),
        }


def as_subject(source: Any, declaration: Declaration | None = None, name: str | None = None) -> Subject:
    """Bring what `check_divergence` takes to the shape that the checks take; raises as it does."""
    if isinstance(source, type):
        try:
            source = source()
        except (Exception, SystemExit) as error:  # whatever the user's class raises
            message = f"{source.__name__} cannot be made without arguments, give an instance"
            raise TypeError(f"{message}: {type(error).__name__}: {error}") from error
    stated = declaration or attribute_of(source, "declaration") or Declaration()
    if not isinstance(stated, Declaration):
        raise TypeError(f"declaration must be a Declaration, not {type(stated).__name__}")
    if isinstance(source, str) and source in divergence_names():
        source = divergence(source)
    elif isinstance(source, str) and _NAME.fullmatch(source):
        known = ", ".join(divergence_names())
        raise ValueError(f"{source!r} is no generator and no registered divergence, which are {known}")
    if isinstance(source, str | sp.Expr):
        source = Divergence.from_generator(source, name=str(source))
    if isinstance(source, Divergence):
        return _from_divergence(source, stated, name)
    given = _parts(source)
    array, differentiable = _kind(given, stated)
    parts = {part: _in_tensors(part, function, array) for part, function in given.items()}
    return Subject(name or _name_of(source), parts, _generator_of(source, stated), stated, array, differentiable)


def _from_divergence(source: Divergence, stated: Declaration, name: str | None) -> Subject:
    if source.needs_full_support:
        stated = stated.with_changes(full_support=True)
    if not source.is_smooth:
        stated = stated.with_changes(smooth=False)
    parts = {part: getattr(source, part) for part in (PARTS if source.is_divergence else PARTS[1:])}
    registered = source.name in divergence_names()
    promised = source.name in EXACT or -1 <= source.parameters.get("alpha", math.inf) <= 2
    return Subject(
        name or source.label, parts, source.generator, stated, "torch", differentiable=True,
        derived=True, registered=registered, exact=promised,
    )  # fmt: skip


def _parts(source: Any) -> dict[str, Callable[..., Any]]:
    if isinstance(source, tuple | list):
        if len(source) not in (2, 3) or not all(callable(part) for part in source):
            raise TypeError(f"functions must be (value, weight) or (value, weight, logit_gradient), not {source!r}")
        return dict(zip(PARTS, source, strict=False))
    found = {part: function for part in PARTS if callable(function := attribute_of(source, part))}
    missing = [part for part in ("value", "weight") if part not in found]
    if missing:
        raise TypeError(f"{_name_of(source)} has no method {' and no method '.join(missing)}(log_p, log_q)")
    return found


def attribute_of(source: Any, name: str) -> Any:
    """An attribute, None where there is none; whatever reading it raises becomes a TypeError that says so."""
    try:
        return getattr(source, name, None)
    except (Exception, SystemExit) as error:
        place = f"the attribute {name} of {type(source).__name__}"
        raise TypeError(f"{place} cannot be read: {type(error).__name__}: {error}") from error


def _name_of(source: Any) -> str:
    if isinstance(source, tuple | list):
        return ", ".join(getattr(part, "__name__", type(part).__name__) for part in source)
    if inspect.ismodule(source):
        return source.__name__
    named = attribute_of(source, "name")
    return named if isinstance(named, str) and named else type(source).__name__


def _generator_of(source: Any, stated: Declaration) -> sp.Expr | None:
    generator = stated.generator if stated.generator is not None else attribute_of(source, "generator")
    try:
        return None if generator is None else exact.as_generator(generator, kinks=not stated.smooth)
    except ValueError as error:
        if "twice differentiable" in str(error):
            raise ValueError(f"{error}; of a program with kinks, declare smooth=False and where they are") from None
        if "is not convex" not in str(error) or not stated.smooth:
            raise
        # The check generator_is_convex reports it, with the point that shows it.
        if isinstance(generator, str):
            return exact.parse_generator(generator)
        return generator.xreplace(dict.fromkeys(generator.free_symbols, exact.t))


def _kind(parts: dict[str, Callable[..., Any]], stated: Declaration) -> tuple[str, bool]:
    """Which arrays the functions take, and whether autograd runs through the value: found by one call of each."""
    if stated.array == "numpy":
        return "numpy", False
    found = [_tried(function, lambda tensor, grad: tensor.clone().requires_grad_(grad)) for function in parts.values()]
    in_torch = [isinstance(result, Tensor) for result in found]
    if stated.array is None and not all(in_torch):  # some of NumPy's functions take tensors and return one
        arrays = [_tried(function, lambda tensor, _: tensor.numpy().copy()) for function in parts.values()]
        if sum(isinstance(result, np.ndarray | np.floating | float) for result in arrays) > sum(in_torch):
            return "numpy", False
    return "torch", isinstance(found[0], Tensor) and found[0].requires_grad


def _tried(function: Callable[..., Any], like: Callable[[Tensor, bool], Any]) -> Any:
    """What it returns for two distributions, the first of which wants a gradient; None where it raises."""
    log_p, log_q = torch.tensor([[0.3, -0.2, 0.1], [0.1, 0.2, -0.4]], dtype=torch.float64).log_softmax(-1)
    try:
        with settings_kept(), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(like(log_p, True), like(log_q, False))
    except (Exception, SystemExit):
        return None


def _in_tensors(part: str, function: Callable[..., Any], array: str) -> Function:
    def in_torch(first: Tensor, log_q: Tensor) -> Tensor:
        found = function(first, log_q)
        if not isinstance(found, Tensor):
            raise TypeError(f"{part} must return a tensor, not {type(found).__name__}")
        return found

    def in_numpy(first: Tensor, log_q: Tensor) -> Tensor:
        found = function(first.detach().numpy(), log_q.detach().numpy())
        if not isinstance(found, np.ndarray | np.floating | float):
            raise TypeError(f"{part} must return a NumPy array, not {type(found).__name__}")
        return torch.from_numpy(np.asarray(found))

    return in_numpy if array == "numpy" else in_torch


def resolve(text: str) -> Any:
    """What a text names: an object as ``"package.module:name"`` (the current folder is importable), else itself.

    A ValueError says that the module cannot be imported, has no such attribute, or raises when it is asked for it.
    """
    if not _OBJECT.fullmatch(text):
        return text
    module_name, _, path = text.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises
        raise ValueError(f"{text}: cannot import {module_name}: {type(error).__name__}: {error}") from error
    try:
        return functools.reduce(getattr, path.split("."), module)
    except AttributeError:
        raise ValueError(f"{text}: the module {module_name} has no {path}") from None
    except (Exception, SystemExit) as error:  # a property, or the module's own __getattr__
        raise ValueError(f"{text} cannot be read: {type(error).__name__}: {error}") from error


def named_subject(text: str, source: Any) -> Subject:
    """The subject that a text names, of which `source` is what `resolve` gave, or what was made of that.

    What its own code raises when it is looked at becomes a TypeError.
    """
    try:
        if inspect.isroutine(source):
            raise TypeError(
                f"{text} is one function: name a class or an object with value(log_p, log_q) and "
                "weight(log_p, log_q), or a pair (value, weight) of such functions"
            )
        return as_subject(source)
    except (TypeError, ValueError):
        raise
    except (Exception, SystemExit) as error:
        if type(source) is str:
            raise  # no code but this library's has run
        raise TypeError(f"{text} cannot be read: {type(error).__name__}: {error}") from error
