"""The journal of runs over many tiles: what is done, kept together with the objects it gave.

All objects of a run are one undoable step, however many batches they come in. A run that was
stopped, or whose process was killed, is found again by its key and goes on with the tiles that
have no mark.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.records import now
from napari_histosam.store import classes as _classes
from napari_histosam.store import edits
from napari_histosam.store.adding import put_in, refuse_known
from napari_histosam.store.codec import encode
from napari_histosam.store.edits import Change
from napari_histosam.store.schema import LIGHT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from napari_histosam.records import SlideObject
    from napari_histosam.store.store import ObjectStore

_COLUMNS = "number, key, label, about, step, started, ended"


@dataclass(frozen=True)
class Run:
    """One run, as the journal has it.

    Parameters
    ----------
    number : int
    key : str
        Stands for everything that decides its result.
    label : str
        The name of its undoable step.
    about : mapping
        What it was asked for, as JSON values.
    started : str
        ISO 8601, UTC.
    ended : str, optional
        When its last tile was done; None while tiles are missing.
    """

    number: int
    key: str
    label: str
    about: Mapping[str, Any]
    started: str
    ended: str | None


class RunTakenBack(InputError):
    """The user has undone the run that objects were to be added to."""


class RunJournal:
    """The runs of one store.

    Parameters
    ----------
    store : ObjectStore
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._db = store._db

    def begin(self, key: str, label: str, about: Mapping[str, Any]) -> Run:
        """Begin a run; its step begins with its first object.

        Raises
        ------
        InputError
            The store is read-only.
        """
        with self._db.write() as con:
            con.execute(
                "INSERT INTO runs(key, label, about, started) VALUES(?, ?, ?, ?)",
                (key, label, json.dumps(dict(about)), now()),
            )
            row = con.execute(
                f"SELECT {_COLUMNS} FROM runs WHERE number = last_insert_rowid()"
            ).fetchone()
        return _run(row)

    def resumable(self, key: str, *, ended: bool = False) -> Run | None:
        """Return the last run with a key if nobody has undone it and tiles are missing.

        With ``ended``, also if all tiles are done.
        """
        with self._db.read() as con:
            row = con.execute(
                f"SELECT {_COLUMNS} FROM runs WHERE key = ? ORDER BY number DESC LIMIT 1", (key,)
            ).fetchone()
            if row is None or (row["ended"] is not None and not ended):
                return None
            if not _in_force(con, row["step"]):
                return None
        return _run(row)

    def last(self) -> Run | None:
        """Return the run that was begun last."""
        with self._db.read() as con:
            row = con.execute(
                f"SELECT {_COLUMNS} FROM runs ORDER BY number DESC LIMIT 1"
            ).fetchone()
        return None if row is None else _run(row)

    def done(self, run: Run) -> dict[int, dict[str, int]]:
        """Return the tiles that are done, with what was counted in each."""
        with self._db.read() as con:
            rows = con.execute(
                "SELECT tile, counts FROM run_tiles WHERE run = ?", (run.number,)
            ).fetchall()
        return {row[0]: json.loads(row[1]) for row in rows}

    def ids(self, run: Run) -> list[str]:
        """Return the ids of a run's objects that are there, oldest first."""
        with self._db.read() as con:
            rows = con.execute(
                "SELECT id FROM objects WHERE number IN (SELECT number FROM deltas "
                "WHERE kind = ? AND edit = (SELECT step FROM runs WHERE number = ?)) "
                "ORDER BY number",
                (edits.ADD, run.number),
            ).fetchall()
        return [row[0] for row in rows]

    def own(self, run: Run, numbers: Sequence[int]) -> set[int]:
        """Return which of some objects, by running number, the run has added."""
        with self._db.read() as con:
            rows = con.execute(
                # Looked up one by one in the index: a join would go through all of the run's.
                "SELECT number FROM deltas WHERE edit = (SELECT step FROM runs WHERE number = ?) "
                "AND kind = ? AND number IN (SELECT value FROM json_each(?))",
                (run.number, edits.ADD, json.dumps([int(number) for number in numbers])),
            ).fetchall()
        return {row[0] for row in rows}

    def add(
        self,
        run: Run,
        tiles: Mapping[int, Mapping[str, int]],
        objects: Sequence[SlideObject] = (),
        classes: Sequence[str] = (),
    ) -> Change | None:
        """Mark tiles as done and add what they gave, in one transaction.

        May be called from any thread: nothing is announced. Whoever runs the window emits the
        returned change through ``store.changed`` on its thread.

        Parameters
        ----------
        run : Run
        tiles : mapping of int to mapping
            By the tile's number, what was counted in it.
        objects : sequence of SlideObject
        classes : sequence of str
            All classes that objects of this run may have; they are made with the first object. A
            class that the user deletes while the run goes on leaves later objects unclassified.

        Returns
        -------
        Change or None
            None if there were no objects.

        Raises
        ------
        RunTakenBack
            The user has undone the run; nothing was added.
        InputError
            An id is there already, a geometry is empty, or the store is read-only.
        """
        items = encode(list(objects))
        fresh = False
        with self._db.write() as con:
            con.executemany(
                "INSERT OR REPLACE INTO run_tiles(run, tile, counts) VALUES(?, ?, ?)",
                [(run.number, tile, json.dumps(dict(found))) for tile, found in tiles.items()],
            )
            step, known = _step(con, run)
            if not items:
                return None
            refuse_known(con, [item.id for item in items])
            if step is None:
                step = edits.begin(con, run.label, self._store.author)
                made = _classes.ensure(con, step, classes)
                known = {name: number for name, number in made.items() if name is not None}
                con.execute(
                    "UPDATE runs SET step = ?, classes = ? WHERE number = ?",
                    (step, json.dumps(known), run.number),
                )
                fresh = True
            usable = {name: n for name, n in known.items() if _usable(con, step, n)}
            put_in(con, step, items, lambda name: usable.get(name or "", _classes.UNCLASSIFIED))
        areas = {item.light[_X0 : _X0 + 4] for item in items}
        return Change(
            added=tuple(item.id for item in items),
            bounds=edits.merged(areas),
            classes_changed=fresh,
            label=run.label,
        )

    def end(self, run: Run) -> None:
        """Note that all tiles of a run are done."""
        with self._db.write() as con:
            con.execute("UPDATE runs SET ended = ? WHERE number = ?", (now(), run.number))


# Where the bounds begin in the light columns of `codec.encode`, which lack id and class.
_X0 = LIGHT.index("x0") - 2


def _run(row: sqlite3.Row) -> Run:
    about = json.loads(row["about"])
    return Run(row["number"], row["key"], row["label"], about, row["started"], row["ended"])


def _step(con: sqlite3.Connection, run: Run) -> tuple[int | None, dict[str, int]]:
    row = con.execute("SELECT step, classes FROM runs WHERE number = ?", (run.number,)).fetchone()
    if row is None or not _in_force(con, row["step"]):
        raise RunTakenBack("The run was taken back by Undo, so it has ended; start it anew.")
    return row["step"], json.loads(row["classes"])


def _in_force(con: sqlite3.Connection, step: int | None) -> bool:
    """Tell whether a run's step is neither undone nor gone; one that has not begun is in force."""
    if step is None:
        return True
    there = con.execute("SELECT 1 FROM edits WHERE number = ?", (step,)).fetchone()
    return there is not None and step <= edits.cursor(con)


def _usable(con: sqlite3.Connection, step: int, number: int) -> bool:
    """Tell whether a class is there and no later step made it, so that undo cannot leave holes."""
    row = con.execute(
        "SELECT 1 FROM classes WHERE number = ? AND NOT EXISTS(SELECT 1 FROM class_deltas "
        "WHERE edit > ? AND number = ? AND name IS NULL)",
        (number, step, number),
    ).fetchone()
    return row is not None
