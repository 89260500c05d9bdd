"""The line of undoable steps: forward, undo and redo are one swap of versions in the file.

A step's rows in ``deltas``, ``class_deltas`` and ``patch_deltas`` hold the versions that are not in
force (see `schema`). All functions run inside the caller's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from napari_histosam.records import now
from napari_histosam.store import patch_rows
from napari_histosam.store.schema import HEAVY, LIGHT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

Bounds = tuple[float, float, float, float]
Before = dict[str, Bounds]

ADD: Final = 1
CHANGE: Final = 0
REMOVE: Final = -1
_MOST_BOUNDS: Final = 512

_LIGHT = ", ".join(LIGHT)
_HEAVY = ", ".join(HEAVY)
_ALL = ", ".join((*LIGHT, *HEAVY))


@dataclass(frozen=True)
class Change:
    """What an edit, undo or redo did.

    Parameters
    ----------
    added, removed, updated : tuple of str
        Object ids.
    bounds : tuple of (x0, y0, x1, y1)
        Level-0 px that need redrawing; many are merged into one.
    classes_changed : bool
        Names, colours or the list of classes changed.
    label : str
        The step's name.
    patches_changed : bool
        Labels of patches were set, changed or cleared.
    reset : bool
        Anything may have changed (another window wrote the file): load everything again.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    bounds: tuple[Bounds, ...] = ()
    classes_changed: bool = False
    label: str = ""
    patches_changed: bool = False
    reset: bool = False


class Step(NamedTuple):
    """One undoable step of the line."""

    number: int
    label: str


def cursor(con: sqlite3.Connection) -> int:
    """Return the number of the last step in force; 0 if there is none."""
    return int(con.execute("SELECT value FROM meta WHERE key = 'cursor'").fetchone()[0])


def last_done(con: sqlite3.Connection) -> Step | None:
    """Return the step that undo would take back."""
    row = con.execute(
        "SELECT number, label FROM edits WHERE number <= ? ORDER BY number DESC LIMIT 1",
        (cursor(con),),
    ).fetchone()
    return None if row is None else Step(*row)


def next_undone(con: sqlite3.Connection) -> Step | None:
    """Return the step that redo would do again."""
    row = con.execute(
        "SELECT number, label FROM edits WHERE number > ? ORDER BY number LIMIT 1",
        (cursor(con),),
    ).fetchone()
    return None if row is None else Step(*row)


def begin(con: sqlite3.Connection, label: str, author: str, *, rejects: bool = False) -> int:
    """Start a step: what could be redone is dropped; return the step's number.

    ``rejects`` marks what the step removes as rejected (see `reviews`).
    """
    at = cursor(con)
    for table in ("deltas", "class_deltas", "patch_deltas"):
        con.execute(
            f"DELETE FROM {table} WHERE edit IN (SELECT number FROM edits WHERE number > ?)", (at,)
        )
    con.execute("DELETE FROM edits WHERE number > ?", (at,))
    step = con.execute(
        "INSERT INTO edits(label, author, time, rejects) VALUES(?, ?, ?, ?)",
        (label, author, now(), int(rejects)),
    ).lastrowid
    assert step is not None
    con.execute("UPDATE meta SET value = ? WHERE key = 'cursor'", (step,))
    return step


def note_added(con: sqlite3.Connection, step: int, numbers: Iterable[int]) -> None:
    """Write down which objects a step has added."""
    _note(con, step, ADD, numbers)


def remove(con: sqlite3.Connection, step: int, numbers: Iterable[int]) -> Before:
    """Remove objects as part of a step; return id → bounds of what was there."""
    _note(con, step, REMOVE, numbers)
    before = seen(con, step)
    _take_out(con, step, REMOVE)
    return before


def _note(con: sqlite3.Connection, step: int, kind: int, numbers: Iterable[int]) -> None:
    con.executemany(
        "INSERT INTO deltas(edit, kind, number) VALUES(?, ?, ?)",
        ((step, kind, number) for number in numbers),
    )


def note_changes(con: sqlite3.Connection, step: int, rows: Sequence[tuple[object, ...]]) -> None:
    """Write down new versions, each (number, light columns, heavy columns or None if unchanged)."""
    marks = ", ".join("?" * (1 + len(LIGHT) + len(HEAVY)))
    con.executemany(
        f"INSERT INTO deltas(edit, kind, number, {_ALL}) VALUES({step}, {CHANGE}, {marks})", rows
    )


def note_class(
    con: sqlite3.Connection, step: int, number: int, version: tuple[str, int, int] | None
) -> None:
    """Write down a class's version that is not in force: (name, colour, position) or None."""
    con.execute(
        "INSERT INTO class_deltas(edit, number, name, colour, position) VALUES(?, ?, ?, ?, ?)",
        (step, number, *(version or (None, None, None))),
    )


def undo(con: sqlite3.Connection) -> Change | None:
    """Take the last step back; None if there is none."""
    step = last_done(con)
    if step is None:
        return None
    change = _around(con, step, (ADD,), (REMOVE,))
    before = last_done_before(con, step.number)
    con.execute("UPDATE meta SET value = ? WHERE key = 'cursor'", (before,))
    return change


def redo(con: sqlite3.Connection) -> Change | None:
    """Do the next undone step again; None if there is none."""
    step = next_undone(con)
    if step is None:
        return None
    change = _around(con, step, (REMOVE,), (ADD,))
    con.execute("UPDATE meta SET value = ? WHERE key = 'cursor'", (step.number,))
    return change


def finish(con: sqlite3.Connection, step: int, label: str, before: Before) -> Change:
    """Carry out the noted changes of a new step and return all that it did.

    What the step adds or removes is done already; ``before`` is `seen` from ahead of that.
    """
    _swap_changed(con, step)
    return _change(con, step, label, before)


def last_done_before(con: sqlite3.Connection, step: int) -> int:
    """Return the number of the step ahead of ``step``; 0 if it is the first."""
    row = con.execute("SELECT max(number) FROM edits WHERE number < ?", (step,)).fetchone()
    return int(row[0] or 0)


def seen(con: sqlite3.Connection, step: int) -> Before:
    """Return id → bounds of the step's objects that are in the tables now."""
    rows = con.execute(
        "SELECT id, x0, y0, x1, y1 FROM objects "
        "WHERE number IN (SELECT number FROM deltas WHERE edit = ?)",
        (step,),
    )
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}


def _around(
    con: sqlite3.Connection, step: Step, out: tuple[int, ...], back: tuple[int, ...]
) -> Change:
    before = seen(con, step.number)
    _swap_classes(con, step.number)
    patch_rows.swap(con, step.number)
    for kind in out:
        _take_out(con, step.number, kind)
    for kind in back:
        _put_in(con, step.number, kind)
    _swap_changed(con, step.number)
    return _change(con, step.number, step.label, before)


def _change(con: sqlite3.Connection, step: int, label: str, before: Before) -> Change:
    after = seen(con, step)
    areas = {*before.values(), *after.values()}
    classes = con.execute("SELECT 1 FROM class_deltas WHERE edit = ? LIMIT 1", (step,)).fetchone()
    return Change(
        added=tuple(key for key in after if key not in before),
        removed=tuple(key for key in before if key not in after),
        updated=tuple(key for key in after if key in before),
        bounds=merged(areas),
        classes_changed=classes is not None,
        label=label,
        patches_changed=patch_rows.touched(con, step),
    )


def merged(areas: set[Bounds]) -> tuple[Bounds, ...]:
    """Return the rectangles as they are, or one around them if there are many."""
    if len(areas) <= _MOST_BOUNDS:
        return tuple(areas)
    x0, y0, x1, y1 = zip(*areas, strict=True)
    return ((min(x0), min(y0), max(x1), max(y1)),)


def _take_out(con: sqlite3.Connection, step: int, kind: int) -> None:
    """Move the step's objects of one kind from the tables into the deltas."""
    if not _has(con, step, kind):
        return
    con.execute(
        f"UPDATE deltas SET ({_ALL}) = (SELECT {_ALL} FROM objects JOIN bodies USING(number) "
        "WHERE objects.number = deltas.number) WHERE edit = ? AND kind = ?",
        (step, kind),
    )
    for table in ("boxes", "bodies", "objects"):
        con.execute(
            f"DELETE FROM {table} WHERE number IN "
            "(SELECT number FROM deltas WHERE edit = ? AND kind = ?)",
            (step, kind),
        )


def _put_in(con: sqlite3.Connection, step: int, kind: int) -> None:
    """Move the step's objects of one kind from the deltas into the tables."""
    if not _has(con, step, kind):
        return
    for table, columns in (
        ("objects", _LIGHT),
        ("bodies", _HEAVY),
        ("boxes", "x0, x1, y0, y1"),
    ):
        con.execute(
            f"INSERT INTO {table}(number, {columns}) SELECT number, {columns} FROM deltas "
            "WHERE edit = ? AND kind = ?",
            (step, kind),
        )
    empty = ", ".join(f"{name} = NULL" for name in (*LIGHT, *HEAVY))
    con.execute(f"UPDATE deltas SET {empty} WHERE edit = ? AND kind = ?", (step, kind))


def _swap_changed(con: sqlite3.Connection, step: int) -> None:
    """Swap the changed objects' versions between tables and deltas."""
    if not _has(con, step, CHANGE):
        return
    con.execute(f"CREATE TEMP TABLE IF NOT EXISTS swap(row INTEGER PRIMARY KEY, {_ALL})")
    kept = ", ".join(f"iif(d.{n} IS NULL, NULL, b.{n})" for n in HEAVY)
    old = ", ".join(f"o.{n}" for n in LIGHT)
    con.execute(
        f"INSERT INTO temp.swap SELECT d.row, {old}, {kept} FROM deltas d "
        "JOIN objects o ON o.number = d.number JOIN bodies b ON b.number = d.number "
        "WHERE d.edit = ? AND d.kind = ?",
        (step, CHANGE),
    )
    light = ", ".join(f"{n} = d.{n}" for n in LIGHT)
    heavy = ", ".join(f"{n} = ifnull(d.{n}, bodies.{n})" for n in HEAVY)
    for table, new in (("objects", light), ("bodies", heavy)):
        con.execute(
            f"UPDATE {table} SET {new} FROM deltas d "
            f"WHERE d.number = {table}.number AND d.edit = ? AND d.kind = ?",
            (step, CHANGE),
        )
    moved = "FROM deltas WHERE edit = ? AND kind = ? AND geometry IS NOT NULL"
    con.execute(f"DELETE FROM boxes WHERE number IN (SELECT number {moved})", (step, CHANGE))
    con.execute(
        f"INSERT INTO boxes(number, x0, x1, y0, y1) SELECT number, x0, x1, y0, y1 {moved}",
        (step, CHANGE),
    )
    con.execute(
        f"UPDATE deltas SET ({_ALL}) = (SELECT {_ALL} FROM temp.swap "
        "WHERE swap.row = deltas.row) WHERE edit = ? AND kind = ?",
        (step, CHANGE),
    )
    con.execute("DELETE FROM temp.swap")


def _swap_classes(con: sqlite3.Connection, step: int) -> None:
    rows = con.execute(
        "SELECT row, number, name, colour, position FROM class_deltas WHERE edit = ?", (step,)
    ).fetchall()
    for row, number, *version in rows:
        current = con.execute(
            "SELECT name, colour, position FROM classes WHERE number = ?", (number,)
        ).fetchone()
        if version[0] is None:
            con.execute("DELETE FROM classes WHERE number = ?", (number,))
        else:
            con.execute(
                "INSERT INTO classes(number, name, colour, position) VALUES(?, ?, ?, ?) "
                "ON CONFLICT(number) DO UPDATE SET "
                "name = excluded.name, colour = excluded.colour, position = excluded.position",
                (number, *version),
            )
        con.execute(
            "UPDATE class_deltas SET name = ?, colour = ?, position = ? WHERE row = ?",
            (*(current or (None, None, None)), row),
        )


def _has(con: sqlite3.Connection, step: int, kind: int) -> bool:
    found = con.execute(
        "SELECT 1 FROM deltas WHERE edit = ? AND kind = ? LIMIT 1", (step, kind)
    ).fetchone()
    return found is not None
