"""Training that goes on where it was interrupted."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from fguidance.run.folder import write_whole

EVERY = 100
"""How many steps may be lost."""


class Stateful(Protocol):
    """A network, an optimizer or a schedule of the learning rate."""

    def state_dict(self) -> dict[str, Any]:
        """All that it needs to go on."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Go on from there."""


@dataclass(frozen=True)
class Progress:
    """A file that holds how far a training has come.

    Attributes:
        path: of the file; None keeps nothing.
        settings: all that decides the result; a file of others is refused.
        parts: what changes while it is trained.
        generator: of the random numbers.
    """

    path: Path | None
    settings: str
    parts: Mapping[str, Stateful]
    generator: torch.Generator

    def restore(self) -> int:
        """Bring everything to where it was, and return how many steps were made.

        Raises:
            ValueError: the file is of other settings.
        """
        if self.path is None or not self.path.is_file():
            return 0
        kept = torch.load(self.path, weights_only=True)
        if kept["settings"] != self.settings:
            raise ValueError(f"{self.path} is of {kept['settings']}, not {self.settings}; remove it to begin anew")
        for name, part in self.parts.items():
            part.load_state_dict(kept[name])
        self.generator.set_state(kept["generator"])
        return int(kept["done"])

    def keep(self, done: int, last: int) -> None:
        """Write it down, now and then and at the last step."""
        if self.path is None or (done % EVERY and done != last):
            return
        states = {name: part.state_dict() for name, part in self.parts.items()}
        content = io.BytesIO()
        torch.save(
            {"settings": self.settings, "done": done, "generator": self.generator.get_state(), **states}, content
        )  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, content.getvalue())
