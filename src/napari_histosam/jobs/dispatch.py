"""How results get back to the thread that owns the window or the script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Dispatcher(Protocol):
    """Runs functions on the owner's thread, in the order in which they came."""

    def call(self, func: Callable[[], None]) -> None:
        """Run ``func`` soon on the owner's thread; may be called from any thread."""
        ...

    def later(self, seconds: float, func: Callable[[], None]) -> None:
        """Run ``func`` once on the owner's thread after about ``seconds``."""
        ...


class Inline:
    """Runs everything at once on the calling thread: for scripts and tests without a window."""

    def call(self, func: Callable[[], None]) -> None:
        """Run ``func`` now."""
        func()

    def later(self, seconds: float, func: Callable[[], None]) -> None:
        """Run ``func`` now; a script has no idle time to wait for."""
        func()
