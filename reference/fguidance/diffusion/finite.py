"""Stopping a run at its first NaN, without making a GPU wait at each step."""

from torch import Tensor, stack

EVERY = 32
"""How many results on a GPU are looked at together."""


class FiniteWatch:
    """Counts what is not finite: on a CPU at once, elsewhere some steps later, since reading a number there waits."""

    def __init__(self) -> None:
        self._counts: list[tuple[str, Tensor]] = []

    def look(self, what: str, value: Tensor, step: int, timestep: int) -> None:
        """Note a result of one step.

        Raises:
            FloatingPointError: it, or an earlier one, contains NaN or infinity; the first is named.
        """
        place = f"of {value.numel()} values that are NaN or infinite at step {step} (timestep {timestep})"
        self._counts.append((f"{what} has {{}} {place}; sampling stops here", (~value.isfinite()).sum()))
        if value.device.type == "cpu" or len(self._counts) >= EVERY:
            self.settle()

    def settle(self) -> None:
        """Look at what was noted and not looked at yet.

        Raises:
            FloatingPointError: as `look`.
        """
        if not self._counts:
            return
        counts = stack([count for _, count in self._counts]).tolist()
        messages = [message for message, _ in self._counts]
        self._counts.clear()
        for message, count in zip(messages, counts, strict=True):
            if count:
                raise FloatingPointError(message.format(count))
