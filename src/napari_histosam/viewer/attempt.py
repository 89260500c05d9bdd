"""Does what a user asked for, or says in a sentence why not: no traceback ever reaches them."""

from __future__ import annotations

import logging
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

from psygnal import EmitLoopError

from napari_histosam.errors import Cancelled, HistosamError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)


class Speaker(Protocol):
    """Something that can tell the user a sentence."""

    def say(self, text: str, /) -> None:
        """Tell the user something."""
        ...


S = TypeVar("S", bound=Speaker)
P = ParamSpec("P")


def attempt(do: Callable[[], object], say: Callable[[str], None]) -> bool:
    """Call ``do``; on an error ``say`` a sentence.

    Returns
    -------
    bool
        Whether it went well. An error that nobody foresaw is logged with its trace.
    """
    try:
        do()
    except Exception as error:  # noqa: BLE001 - this is where errors end: logged and told
        say(sentence(error))
        return False
    return True


def told(method: Callable[Concatenate[S, P], object]) -> Callable[Concatenate[S, P], None]:
    """Make a method answer a user's action: what goes wrong is said by its object, not raised."""

    @wraps(method)
    def safe(speaker: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        attempt(lambda: method(speaker, *args, **kwargs), speaker.say)

    return safe


def sentence(error: BaseException) -> str:
    """Return what to tell the user about an error; one that nobody foresaw is logged."""
    while isinstance(error, EmitLoopError) and error.__cause__ is not None:
        # What went wrong in a listener is what the user should hear, not that it was one.
        error = error.__cause__
    if isinstance(error, (HistosamError, Cancelled)):
        return str(error)
    _log.error("unforeseen", exc_info=error)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"That did not work ({what}). What was accepted before is safe; please report this."
