"""Where a slide's store lies: beside it, else in the home folder; found again by identity."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from napari_histosam.errors import HistosamError
from napari_histosam.home import home as home_folder
from napari_histosam.store.faults import told_plainly
from napari_histosam.store.lock import WriterLock
from napari_histosam.store.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIX: Final = ".histosam.sqlite"


def can_keep_store(folder: Path) -> bool:
    """Tell, by doing it, whether files can be made, locked and removed in a folder."""
    try:
        fd, name = tempfile.mkstemp(prefix=".histosam-", dir=folder)
        os.close(fd)
        probe = Path(name)
        lock = WriterLock(probe)
        try:
            return lock.acquire()
        finally:
            lock.release()
            probe.unlink(missing_ok=True)
    except OSError:
        return False


def beside(slide_path: Path) -> Path:
    """Return the store's usual place: ``<slide name>.histosam.sqlite`` in the slide's folder."""
    return slide_path.with_name(slide_path.name + SUFFIX)


def store_path(
    slide_path: Path | None,
    slide_identity: str,
    home: Path,
    *,
    writable: Callable[[Path], bool] = can_keep_store,
) -> Path:
    """Return where the store of a slide is, or, if it has none yet, shall be.

    In this order: beside the slide, if that folder may be written and a store is there; where the
    store of this identity was last (the slide has moved, or its folder is read-only); beside the
    slide, if that may be written; else ``home/stores``.

    Parameters
    ----------
    slide_path : Path, optional
        None for a picture without a file.
    slide_identity : str
        Names the slide's content, wherever it lies; empty if unknown.
    home : Path
        The app's folder (`napari_histosam.home`).
    writable : callable
        Tells whether a store can be kept in a folder.
    """
    usable = slide_path is not None and writable(slide_path.parent)
    if slide_path is not None and usable and beside(slide_path).exists():
        return beside(slide_path)
    known = _recall(slide_identity, home)
    if known is not None and known.is_file():
        return known
    if slide_path is not None and usable:
        return beside(slide_path)
    name = slide_path.name if slide_path else "picture"
    seed = slide_identity or str(slide_path)
    return home / "stores" / f"{_plain(name)}-{_digest(seed)[:12]}{SUFFIX}"


def open_store_for(
    slide_path: Path | None,
    identity: str,
    name: str,
    author: str = "",
    *,
    home: Path | None = None,
    writable: Callable[[Path], bool] = can_keep_store,
) -> ObjectStore:
    """Open the store of a slide, made if there is none; its ``note`` says if it lies elsewhere.

    If the slide's folder is read-only and holds a store, work goes on in a copy in the home folder.

    Parameters
    ----------
    slide_path : Path, optional
        None for a picture without a file: its store is in ``home`` if it has an identity, else in
        memory.
    identity, name : str
        The slide's identity and the name shown to the user.
    author : str
        Who edits.
    home : Path, optional
        The app's folder; `napari_histosam.home.home` by default.
    writable : callable
        As for `store_path`.

    Raises
    ------
    InputError
        The file at that place is not this slide's store, or is damaged.
    HistosamError
        No store can be kept, not even in the home folder.
    """
    if slide_path is None and not identity:
        return ObjectStore.open(None, slide_name=name, author=author)
    home = home_folder() if home is None else home
    slide_path = slide_path.absolute() if slide_path else None
    path = store_path(slide_path, identity, home, writable=writable)
    known = _recall(identity, home)
    _make_stores_folder(home)
    note = None
    if not path.exists() and slide_path and beside(slide_path).is_file():
        _copy(beside(slide_path), path)
        note = (
            f"{slide_path.parent} is read-only: the objects found there were copied to {path}, "
            "and your work goes there."
        )
    elif not path.exists() and known is not None:
        note = (
            f"The objects of {name} were last kept in {known}, which is not there now; a new "
            f"store was begun in {path}."
        )
    elif slide_path and path != beside(slide_path):
        note = f"The objects of {name} are kept in {path}, not beside the slide."
    store = ObjectStore.open(
        path, slide_identity=identity, slide_name=name, author=author, note=note
    )
    _remember(identity, path, home)
    return store


def _make_stores_folder(home: Path) -> None:
    try:
        (home / "stores" / "index").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistosamError(
            f"No folder for objects can be made in {home} ({error.strerror}); "
            "set HISTOSAM_HOME to a folder that may be written."
        ) from error


def _entry(identity: str, home: Path) -> Path:
    # One small file per slide: two windows never write the same file for different slides.
    return home / "stores" / "index" / f"{_digest(identity)[:32]}.json"


def _recall(identity: str, home: Path) -> Path | None:
    """Return where the store of an identity was last; it may be gone."""
    if not identity:
        return None
    try:
        data: Any = json.loads(_entry(identity, home).read_text("utf-8"))
        place = Path(data["store"])
        return place if data["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(identity: str, path: Path, home: Path) -> None:
    """Keep the place of a store; a home that cannot be written only costs the finding again."""
    if not identity or _recall(identity, home) == path:
        return
    entry = _entry(identity, home)
    text = json.dumps({"identity": identity, "store": str(path)})
    temporary = ""
    try:
        fd, temporary = tempfile.mkstemp(prefix=entry.stem, suffix=".tmp", dir=entry.parent)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, entry)
    except OSError:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a store with SQLite's own backup (right also with a WAL beside it), all or nothing."""
    with ObjectStore.open(source) as old:
        fd, name = tempfile.mkstemp(prefix=target.stem, suffix=".tmp", dir=target.parent)
        os.close(fd)
        temporary = Path(name)
        try:
            with told_plainly(str(target)), closing(sqlite3.connect(temporary)) as copy:
                old.backup_to(copy)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def _plain(name: str) -> str:
    """Return a file name that every system takes."""
    return re.sub(r"[^\w.-]+", "_", name)[:80].strip(".") or "slide"
