"""The rows of patch labels as part of a step: noted, and swapped by undo and redo."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

Place = tuple[float, float, float, float]
"""Width, height, x and y of a patch, level-0 px."""

Version = tuple[str, str, str] | tuple[None, None, None]
"""Label, author and time; nothing where there is no label."""

NONE: Version = (None, None, None)

_PLACE = "width, height, x, y"
_THERE = "width = ? AND height = ? AND x = ? AND y = ?"


def note(con: sqlite3.Connection, step: int, rows: Iterable[tuple[Place, Version]]) -> None:
    """Write down versions that are not in force, by the patch's place."""
    con.executemany(
        f"INSERT INTO patch_deltas(edit, {_PLACE}, label, author, time) "
        "VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        ((step, *place, *version) for place, version in rows),
    )


def swap(con: sqlite3.Connection, step: int) -> None:
    """Exchange the versions that a step holds for those in force."""
    rows = con.execute(
        "SELECT d.width, d.height, d.x, d.y, d.label, d.author, d.time, "
        "p.label, p.author, p.time FROM patch_deltas d "
        "LEFT JOIN patches p USING(width, height, x, y) WHERE d.edit = ?",
        (step,),
    ).fetchall()
    found = [(tuple(row[:4]), tuple(row[4:7]), tuple(row[7:])) for row in map(tuple, rows)]
    con.executemany(f"DELETE FROM patches WHERE {_THERE}", (place for place, _, _ in found))
    con.executemany(
        f"INSERT INTO patches({_PLACE}, label, author, time) VALUES(?, ?, ?, ?, ?, ?, ?)",
        ((*place, *new) for place, new, _ in found if new != NONE),
    )
    con.executemany(
        f"UPDATE patch_deltas SET label = ?, author = ?, time = ? WHERE edit = ? AND {_THERE}",
        ((*old, step, *place) for place, _, old in found),
    )


def touched(con: sqlite3.Connection, step: int) -> bool:
    """Tell whether a step has to do with labels of patches."""
    row = con.execute("SELECT 1 FROM patch_deltas WHERE edit = ? LIMIT 1", (step,)).fetchone()
    return row is not None
