"""Puts new objects into the tables as part of a step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.store import edits
from napari_histosam.store.schema import HEAVY, LIGHT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from napari_histosam.store.codec import Encoded


def refuse_known(con: sqlite3.Connection, ids: Sequence[str]) -> None:
    """Raise `InputError` if one of the ids is in the tables."""
    row = con.execute(
        "SELECT id FROM objects WHERE id IN (SELECT value FROM json_each(?)) LIMIT 1",
        (json.dumps(list(ids)),),
    ).fetchone()
    if row is not None:
        raise InputError(
            f"The object {row[0]} is in this slide already; give the new one another id."
        )


def put_in(
    con: sqlite3.Connection,
    step: int,
    items: Sequence[Encoded],
    class_number: Callable[[str | None], int],
) -> None:
    """Insert encoded objects and note them as added by the step."""
    first = _next_number(con)
    rows = [
        (first + i, item.id, class_number(item.class_name), *item.light)
        for i, item in enumerate(items)
    ]
    _insert(con, "objects", LIGHT, rows)
    _insert(con, "bodies", HEAVY, [(first + i, *item.heavy) for i, item in enumerate(items)])
    con.execute(
        "INSERT INTO boxes(number, x0, x1, y0, y1) "
        "SELECT number, x0, x1, y0, y1 FROM objects WHERE number >= ?",
        (first,),
    )
    edits.note_added(con, step, range(first, first + len(items)))


def _next_number(con: sqlite3.Connection) -> int:
    row = con.execute("SELECT seq FROM sqlite_sequence WHERE name = 'objects'").fetchone()
    return (int(row[0]) if row else 0) + 1


def _insert(
    con: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    marks = ", ".join("?" * (1 + len(columns)))
    con.executemany(f"INSERT INTO {table}(number, {', '.join(columns)}) VALUES({marks})", rows)
