"""How long the rest of some work will take, from how long its parts took so far."""

from __future__ import annotations

import time


class Pace:
    """Measures the time per part, without pauses.

    Parameters
    ----------
    total : int
        Parts still to be done.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._start = time.monotonic()
        self._paused = 0.0

    def paused(self, seconds: float) -> None:
        """Leave a pause out of account."""
        self._paused += seconds

    @property
    def seconds(self) -> float:
        """Time at work so far."""
        return time.monotonic() - self._start - self._paused

    def left(self, done: int) -> float | None:
        """Return the seconds that are left after ``done`` parts; None before the first."""
        if done < 1:
            return None
        return self.seconds / done * max(self._total - done, 0)


def in_words(seconds: float) -> str:
    """Return a time that is left, as people say it."""
    if seconds < 10:
        return "a few seconds left"
    if seconds < 90:
        return f"about {round(seconds, -1):.0f} s left"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} min left"
    return f"about {seconds / 3600:.1f} h left"
