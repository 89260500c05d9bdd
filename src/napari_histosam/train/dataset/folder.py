"""The files of a data set's folder: written whole, kept where they are right, swept at the end."""

from __future__ import annotations

import contextlib
import hashlib
import re
from typing import TYPE_CHECKING

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.exchange.files import explained, new_file, new_files
from napari_histosam.store.lock import LockUnsupported, WriterLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PARTS = ("images", "masks", "ignore")
"""Folders with one PNG per window."""

INDEX, SPLITS, OBJECTS = "index.json", "splits.json", "objects.jsonl"
REJECTED, COCO, MANIFEST = "rejected.jsonl", "coco.json", "manifest.json"
DOCUMENTS = (INDEX, SPLITS, OBJECTS, REJECTED, COCO, MANIFEST)

_LOCK = ".building.lock"
# Only what a builder itself has named is ever removed.
_OURS = re.compile(r"[0-9a-f]{10}_\d+_\d+_[0-9a-f]{8}\.png")
_LEFT_BEHIND = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


def sha256(data: bytes) -> str:
    """Return the hex digest of some bytes."""
    return hashlib.sha256(data).hexdigest()


def check_out(out: Path) -> None:
    """Refuse a folder that cannot hold a data set, before any work is done.

    Raises
    ------
    InputError
        If it is a file, or a folder that holds something else.
    """
    with explained(out, "read"):
        if out.exists() and not out.is_dir():
            raise InputError(f"{out} is a file; name a folder for the data set with --out.")
        if not out.is_dir() or (out / MANIFEST).is_file():
            return
        # What an interrupted first build can have left.
        strange = [one.name for one in out.iterdir() if not _may_be_ours(one)]
    if strange:
        raise InputError(
            f"{out} holds other files ({min(strange)}) and no {MANIFEST}; name a new or an empty "
            "folder."
        )


@contextlib.contextmanager
def opened(out: Path) -> Iterator[None]:
    """Make the folder and keep other builds out of it; leave no empty folder behind.

    Raises
    ------
    InputError
        If it cannot be made, or another build is at work in it.
    """
    with explained(out / MANIFEST, "write"):
        made = [one for one in (out, *out.parents) if not one.exists()]
        out.mkdir(parents=True, exist_ok=True)
    lock = WriterLock(out / _LOCK, "a build")
    try:
        with explained(out / MANIFEST, "write"), contextlib.suppress(LockUnsupported):
            if not lock.acquire():
                raise InputError(
                    f"Another build is at work in {out} ({lock.holder()}); wait for its end."
                )
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            for folder in [out / part for part in PARTS] + made:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()


class Folder:
    """A data set's files while it is built.

    Files of windows are named after their content, so new ones never take the place of old ones,
    and the documents that name them are exchanged together at the end: whoever reads meanwhile,
    or after an interruption, finds the older data set whole.

    Parameters
    ----------
    out : Path
        A folder that is there.
    known : mapping of str to str
        File → SHA-256, as the older manifest says.
    """

    def __init__(self, out: Path, known: Mapping[str, str]) -> None:
        self.out = out
        self.hashes: dict[str, str] = {}
        self._known = known
        self._written: list[Path] = []

    def put(self, name: str, make: Callable[[], bytes]) -> None:
        """See to it that a window's file is there; ``make`` is only called if it is not.

        Raises
        ------
        InputError
            If it cannot be written, for example because the disk is full.
        """
        path = self.out / name
        if self.keep(name):
            return
        with explained(path, "write"):
            path.parent.mkdir(exist_ok=True)
        data, is_new = make(), not path.exists()
        with new_file(path) as temporary:
            temporary.write_bytes(data)
        if is_new:
            self._written.append(path)
        self.hashes[name] = sha256(data)

    def keep(self, name: str) -> bool:
        """Take a file over from the older data set; return whether it is there and as it was."""
        try:
            digest = sha256((self.out / name).read_bytes())
        except OSError:
            return False
        if self._known.get(name) != digest:
            return False
        self.hashes[name] = digest
        return True

    def exchange(self, documents: Mapping[str, bytes]) -> None:
        """Put all documents in place, none before all are whole; the same ones are left alone."""
        before = {name: _content(self.out / name) for name in documents}
        changed = {name: data for name, data in documents.items() if before[name] != data}
        try:
            if changed:
                with new_files(*(self.out / name for name in changed)) as temporary:
                    for place, data in zip(temporary, changed.values(), strict=True):
                        place.write_bytes(data)
        except BaseException:
            # One of them may be held by another program when others are in place already.
            for name in changed:
                self._put_back(name, before[name])
            raise
        self._written.clear()

    def _put_back(self, name: str, data: bytes | None) -> None:
        path = self.out / name
        if data is None:
            _remove(path)
        elif _content(path) != data:
            with contextlib.suppress(InputError), new_file(path) as temporary:
                temporary.write_bytes(data)

    def sweep(self) -> None:
        """Remove the windows that are in the data set no more, and what broken builds left."""
        for part in PARTS:
            for path in (self.out / part).glob("*.png"):
                if _OURS.fullmatch(path.name) and f"{part}/{path.name}" not in self.hashes:
                    _remove(path)
        for place in (self.out, *(self.out / part for part in PARTS)):
            for path in place.glob(".*.tmp"):
                if _LEFT_BEHIND.fullmatch(path.name):
                    _remove(path)

    def undo(self) -> None:
        """Remove what this build has written; the older data set stays as it was."""
        for path in self._written:
            _remove(path)


def _remove(path: Path) -> None:
    # A file that another program holds is no harm: nothing names it any more.
    with contextlib.suppress(OSError, HistosamError):
        path.unlink(missing_ok=True)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _may_be_ours(path: Path) -> bool:
    if path.name in PARTS and path.is_dir():
        return all(
            _OURS.fullmatch(p.name) or _LEFT_BEHIND.fullmatch(p.name) for p in path.iterdir()
        )
    return path.name in (*DOCUMENTS, _LOCK) or bool(_LEFT_BEHIND.fullmatch(path.name))
