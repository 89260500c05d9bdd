"""The objects of one slide: every edit is one undoable step, on the drive when its call returns."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_histosam.errors import InputError
from napari_histosam.records import now
from napari_histosam.store import classes as _classes
from napari_histosam.store import edits
from napari_histosam.store.adding import put_in, refuse_known
from napari_histosam.store.codec import encode
from napari_histosam.store.database import Database
from napari_histosam.store.edits import Change
from napari_histosam.store.reading import WHOLE, StoreReader
from napari_histosam.store.schema import HEAVY, LIGHT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Self

    from napari_histosam.records import ObjectClass, SlideObject

_MODIFIED = LIGHT.index("modified")


class ObjectStore(StoreReader):
    """The objects, classes and settings of one slide; open one with `ObjectStore.open`.

    Attributes
    ----------
    changed : psygnal.SignalInstance
        Emits a `Change` after each commit, in the thread that made the edit.
    slide_identity : str
        The slide this store belongs to; empty where unknown.
    slide_name : str
        Its file name when the store was begun; empty where unknown.
    author : str
        Written to the history of every edit.
    note : str or None
        One sentence about where this store is kept, if the user should know.

    Notes
    -----
    One process writes at a time; a second one gets a read-only store (`read_only_reason` says
    why) and may ask for the right to write with `become_writer` once the first has gone.
    """

    changed = Signal(Change)

    def __init__(self, database: Database, *, author: str = "", note: str | None = None) -> None:
        super().__init__(database)
        self.author = author
        self.note = note
        self._version = database.data_version()
        with database.read() as con:
            meta = dict(con.execute("SELECT key, value FROM meta").fetchall())
        self.slide_identity: str = meta.get("slide_identity", "")
        self.slide_name: str = meta.get("slide_name", "")

    @classmethod
    def open(
        cls,
        path: Path | None,
        *,
        slide_identity: str = "",
        slide_name: str = "",
        author: str = "",
        note: str | None = None,
    ) -> Self:
        """Open a store, made if it is absent.

        Parameters
        ----------
        path : Path, optional
            The file; None keeps the objects in memory.
        slide_identity, slide_name : str
            Written to a new store, and checked against an existing one.
        author : str
            Who edits.
        note : str, optional
            See the class.

        Raises
        ------
        InputError
            The file is not a store, is damaged, is newer than this version, belongs to another
            slide, or cannot be made there.
        """
        database = Database(path, author)
        try:
            _introduce(database, slide_identity, slide_name)
            return cls(database, author=author, note=note)
        except BaseException:
            database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; other threads' reads in progress end by themselves."""
        self._db.close()

    # --- edits -----------------------------------------------------------------------------

    def add(self, objects: Iterable[SlideObject], label: str = "Add") -> list[str]:
        """Add objects as one step and return their ids; classes they name are made if missing.

        Raises
        ------
        InputError
            An id is already there, a geometry is empty, or the store is read-only.
        """
        return self._replace((), list(objects), label)

    def delete(self, ids: Iterable[str], label: str = "Delete") -> None:
        """Delete objects as one step.

        Raises
        ------
        InputError
            An id is not there, or the store is read-only.
        """
        self._replace(list(ids), (), label)

    def reject(self, ids: Iterable[str], label: str = "Reject") -> None:
        """Delete objects as one step and remember them as mistakes; `rejected` lists them.

        Raises
        ------
        InputError
            An id is not there, or the store is read-only.
        """
        self._replace(list(ids), (), label, rejects=True)

    def replace(
        self,
        remove_ids: Iterable[str],
        add_objects: Iterable[SlideObject],
        label: str = "Replace",
        *,
        classes: Iterable[ObjectClass] = (),
    ) -> list[str]:
        """Delete and add objects as one step (split, merge, import); return the new ones' ids.

        Parameters
        ----------
        remove_ids : iterable of str
        add_objects : iterable of SlideObject
        label : str
        classes : iterable of ObjectClass
            Classes that come along; those that are there already stay as they are.

        Raises
        ------
        InputError
            An id to remove is not there, one to add is, or the store is read-only.
        """
        return self._replace(list(remove_ids), list(add_objects), label, list(classes))

    def update(self, objects: Iterable[SlideObject], label: str = "Edit") -> None:
        """Put new versions of objects (same ids) in place as one step.

        ``modified`` becomes the present time unless the caller has changed it. Objects that are
        the same as before are left alone.

        Raises
        ------
        InputError
            An id is not there, or the store is read-only.
        """
        items = encode(list(objects))
        with self._stepping() as emit, self._db.write() as con:
            current = _current(con, [item.id for item in items])
            changed = []
            for item in items:
                number, class_name, light, heavy = current[item.id]
                if (class_name, light, heavy) == (item.class_name, item.light, item.heavy):
                    continue
                new = [item.id, item.class_name, *item.light]
                if new[_MODIFIED] == light[_MODIFIED - 2]:  # without id and class
                    new[_MODIFIED] = now()
                kept = [a if a != b else None for a, b in zip(item.heavy, heavy, strict=True)]
                changed.append((number, new, kept))
            if not changed:
                return
            step = edits.begin(con, label, self.author)
            classes = _classes.ensure(con, step, (new[1] for _, new, _ in changed))
            edits.note_changes(
                con,
                step,
                [
                    (number, new[0], classes[new[1]], *new[2:], *kept)
                    for number, new, kept in changed
                ],
            )
            emit(edits.finish(con, step, label, edits.seen(con, step)))

    def undo(self) -> Change | None:
        """Take the last step back; return what changed, or None if there was nothing to undo."""
        return self._walk(edits.undo)

    def redo(self) -> Change | None:
        """Do the step again that was last taken back; None if there is none."""
        return self._walk(edits.redo)

    # --- classes and settings --------------------------------------------------------------

    def put_class(self, item: ObjectClass, old_name: str | None = None) -> None:
        """Add a class, recolour it, or rename ``old_name`` to ``item.name``, as one step.

        A renamed class keeps its objects.

        Raises
        ------
        InputError
            The new name is empty or taken, the old one is not there, or the store is read-only.
        """
        if not item.name.strip():
            raise InputError("A class needs a name; type one.")
        _classes.pack(item.colour)
        with self._stepping() as emit, self._db.write() as con:
            known = {known.name: known for known in _classes.numbered(con).values()}
            if old_name is not None and old_name not in known:
                raise InputError(f"There is no class {old_name!r} to rename; choose another.")
            if old_name not in (None, item.name) and item.name in known:
                raise InputError(
                    f"There is a class {item.name!r} already; choose another name, or give the "
                    f"objects of {old_name!r} that class."
                )
            if known.get(old_name or item.name) == item:
                return
            label = "Add class" if (old_name or item.name) not in known else "Change class"
            step = edits.begin(con, label, self.author)
            _classes.put(con, step, item, old_name)
            emit(edits.finish(con, step, label, {}))

    def delete_class(self, name: str) -> None:
        """Delete a class as one step; its objects stay and become unclassified.

        Raises
        ------
        InputError
            There is no such class, or the store is read-only.
        """
        with self._stepping() as emit, self._db.write() as con:
            number = _classes.number_of(con, name) if name else None
            if number is None:
                raise InputError(f"There is no class {name!r} to delete; choose another.")
            step = edits.begin(con, "Delete class", self.author)
            columns = ", ".join(LIGHT)
            values = ", ".join("0" if column == "class" else column for column in LIGHT)
            con.execute(
                f"INSERT INTO deltas(edit, kind, number, {columns}) "
                f"SELECT ?, ?, number, {values} FROM objects WHERE class = ?",
                (step, edits.CHANGE, number),
            )
            _classes.drop(con, step, number)
            emit(edits.finish(con, step, "Delete class", edits.seen(con, step)))

    def set_setting(self, key: str, value: Any) -> None:
        """Keep a value with the slide (anything that JSON can hold); not an undoable step."""
        text = json.dumps(value)
        with self._db.write() as con:
            con.execute(
                "INSERT INTO settings(key, value) VALUES(?, ?) "
                "ON CONFLICT(key) DO UPDATE SET value = excluded.value",
                (key, text),
            )

    # --- other windows ---------------------------------------------------------------------

    def become_writer(self) -> bool:
        """Take over if the window that wrote has gone; return whether edits are allowed now."""
        was = self.read_only
        allowed = self._db.become_writer()
        if was and allowed:
            self._version = self._db.data_version()
            self.changed.emit(Change(classes_changed=True, label="Reload", reset=True))
        return allowed

    def refresh(self) -> bool:
        """Tell whether another window has edited the file since the last call, and announce it."""
        version = self._db.data_version()
        if version == self._version:
            return False
        self._version = version
        self.changed.emit(Change(classes_changed=True, label="Reload", reset=True))
        return True

    # --- inside ----------------------------------------------------------------------------

    @contextmanager
    def _stepping(self) -> Iterator[Callable[[Change], None]]:
        """Hold a change back until the transaction inside has ended, then emit it."""
        held: list[Change] = []
        yield held.append
        for change in held:
            self.changed.emit(change)

    def _walk(self, way: Callable[[sqlite3.Connection], Change | None]) -> Change | None:
        with self._stepping() as emit, self._db.write() as con:
            change = way(con)
            if change is not None:
                emit(change)
        return change

    def _replace(
        self,
        remove_ids: Sequence[str],
        objects: Sequence[SlideObject],
        label: str,
        new_classes: Sequence[ObjectClass] = (),
        *,
        rejects: bool = False,
    ) -> list[str]:
        items = encode(objects)
        if not items and not remove_ids:
            return []
        with self._stepping() as emit, self._db.write() as con:
            gone = _current(con, remove_ids)
            refuse_known(con, [item.id for item in items if item.id not in gone])
            step = edits.begin(con, label, self.author, rejects=rejects)
            before = edits.remove(con, step, (row[0] for row in gone.values()))
            for cls in new_classes:
                if _classes.number_of(con, cls.name) is None:
                    _classes.put(con, step, cls, None)
            if items:
                classes = _classes.ensure(con, step, (item.class_name for item in items))
                put_in(con, step, items, classes.__getitem__)
            emit(edits.finish(con, step, label, before))
        return [item.id for item in items]


def _introduce(database: Database, slide_identity: str, slide_name: str) -> None:
    """Give a new store its first content; check that an old one belongs to the slide."""
    with database.read() as con:
        meta = dict(con.execute("SELECT key, value FROM meta").fetchall())
    known = meta.get("slide_identity", "")
    if known and slide_identity and known != slide_identity:
        raise InputError(
            f"{database.where} holds the objects of another slide ({meta.get('slide_name')}); "
            "move it away to begin a new store here."
        )
    if database.read_only or ("created" in meta and (known or not slide_identity)):
        return
    with database.write() as con:
        if "created" not in meta:
            _classes.fill(con)
            con.execute("INSERT INTO meta(key, value) VALUES('created', ?)", (now(),))
        for key, value in (("slide_identity", slide_identity), ("slide_name", slide_name)):
            con.execute("INSERT OR REPLACE INTO meta(key, value) VALUES(?, ?)", (key, value))


def _current(
    con: sqlite3.Connection, ids: Sequence[str]
) -> dict[str, tuple[int, str | None, tuple[Any, ...], tuple[Any, ...]]]:
    """Return id → number, class name, light columns after the class, and heavy columns."""
    rows = con.execute(
        f"{WHOLE} WHERE objects.id IN (SELECT value FROM json_each(?))", (json.dumps(list(ids)),)
    )
    found = {
        row["id"]: (
            row["number"],
            row["class_name"] or None,
            tuple(row[name] for name in LIGHT[2:]),
            tuple(row[name] for name in HEAVY),
        )
        for row in rows
    }
    for key in ids:
        if key not in found:
            raise InputError(f"There is no object {key} in this slide; it may have been deleted.")
    return found
