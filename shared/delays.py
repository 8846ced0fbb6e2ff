"""Waits between the tries of something: one for each, and the last one repeats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delays:
    """Waits in the order in which they come, such as `Delays((2, 5, 10, 30))`.

    Attributes:
        seconds: One or more; the last one stands for all that follow.
    """

    seconds: tuple[float, ...]

    def __getitem__(self, number: int) -> float:
        """Wait `number` in seconds, counted from 0."""
        return self.seconds[min(number, len(self.seconds) - 1)]
