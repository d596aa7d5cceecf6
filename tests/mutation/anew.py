"""For the copy that is mutated: rows made anew at each use, since those of the table were made before the change."""

from collections.abc import Callable
from typing import Any

Made = Callable[..., Any]


class Anew:
    """Stands for the row that `make` returns, and asks it again for every attribute."""

    def __init__(self, make: Made, *arguments: float) -> None:
        self.__dict__["make"] = lambda: make(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["make"](), name)


def tables(module: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Made]]:
    """DIVERGENCES and FAMILIES of `closed_forms`, whose names are given, of rows that are made anew."""

    def family(name: str) -> Made:
        make = module[f"{name}_family"]
        return lambda *value: Anew(make, *value)

    return {name: Anew(module[name]) for name in module["DIVERGENCES"]}, {n: family(n) for n in module["FAMILIES"]}
