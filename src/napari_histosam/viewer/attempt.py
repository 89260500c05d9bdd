"""Does what a user asked for, or says in a sentence why not: no traceback ever reaches them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from napari_histosam.errors import HistosamError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger(__name__)


def attempt(do: Callable[[], object], say: Callable[[str], None]) -> bool:
    """Call ``do``; on an error ``say`` a sentence.

    Returns
    -------
    bool
        Whether it went well. An error that nobody foresaw is logged with its trace.
    """
    try:
        do()
    except HistosamError as error:
        say(str(error))
    except Exception as error:
        _log.exception("unforeseen")
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        say(f"That did not work ({what}). What was accepted before is safe; please report this.")
    else:
        return True
    return False
