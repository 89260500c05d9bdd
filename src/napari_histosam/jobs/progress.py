"""How far a piece of work has come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A report of running work.

    Parameters
    ----------
    done : int
        Units finished.
    total : int, optional
        Units in all; None while unknown.
    text : str
        What is going on, for people.
    """

    done: int
    total: int | None = None
    text: str = ""

    @property
    def fraction(self) -> float | None:
        """Share done, 0 to 1, or None while the total is unknown."""
        if not self.total:
            return None
        return min(1.0, self.done / self.total)
