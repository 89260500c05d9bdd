"""What a review needs of a store: light columns by the chunk, counts, and what was rejected."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from napari_histosam.store import edits
from napari_histosam.store.codec import decode
from napari_histosam.store.schema import HEAVY, LIGHT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from napari_histosam.records import SlideObject

CHUNK: Final = 2000
"""Objects per chunk: a few milliseconds of reading."""

_COLUMNS: Final = (
    "o.number, o.id, nullif(c.name, '') AS class_name, o.source, o.score, o.area, "
    "o.x0, o.y0, o.x1, o.y1, o.review, o.type"
)
_GONE: Final = (
    "FROM deltas d JOIN edits e ON e.number = d.edit "
    f"WHERE e.rejects = 1 AND e.number <= ? AND d.kind = {edits.REMOVE} "
    "AND d.id NOT IN (SELECT id FROM objects)"
)


@dataclass(frozen=True)
class Rejected:
    """An object that somebody rejected: as it was, by whom and when (ISO 8601, UTC)."""

    object: SlideObject
    author: str
    time: str


def columns(con: sqlite3.Connection, after: int, limit: int) -> list[tuple[object, ...]]:
    """Return objects with running numbers above ``after``, in order, as plain columns.

    Each is (number, id, class name or None, source, score or None, area, x0, y0, x1, y1, review
    or None, type); lengths in level-0 px.
    """
    plain = con.cursor()
    plain.row_factory = None
    return plain.execute(
        f"SELECT {_COLUMNS} FROM objects o JOIN classes c ON c.number = o.class "
        "WHERE o.number > ? ORDER BY o.number LIMIT ?",
        (after, limit),
    ).fetchall()


def outlines(
    con: sqlite3.Connection, numbers: Sequence[int]
) -> list[tuple[int, bytes, bytes | None]]:
    """Return (number, outline, the model's first mask or None) of objects, both as WKB."""
    plain = con.cursor()
    plain.row_factory = None
    rows = plain.execute(
        "SELECT number, geometry, json_extract(provenance, '$.first_mask') FROM bodies "
        "WHERE number IN (SELECT value FROM json_each(?)) ORDER BY number",
        (json.dumps([int(number) for number in numbers]),),
    ).fetchall()
    return [(key, shape, None if text is None else b64decode(text)) for key, shape, text in rows]


def states(con: sqlite3.Connection, ids_json: str) -> dict[str, str | None]:
    """Return id → review of those objects (a JSON list of ids) that are there."""
    rows = con.execute(
        "SELECT id, review FROM objects WHERE id IN (SELECT value FROM json_each(?))", (ids_json,)
    )
    return {row[0]: row[1] for row in rows}


def counts(con: sqlite3.Connection) -> dict[str | None, int]:
    """Return how many objects were "accepted", "corrected", "rejected", and not reviewed (None)."""
    found: dict[str | None, int] = {None: 0, "accepted": 0, "corrected": 0}
    found.update(con.execute("SELECT review, count(*) FROM objects GROUP BY review").fetchall())
    gone = con.execute(f"SELECT count(DISTINCT d.id) {_GONE}", (edits.cursor(con),)).fetchone()
    return {**found, "rejected": int(gone[0])}


def rejected(con: sqlite3.Connection) -> list[Rejected]:
    """Return what was rejected and has not come back, oldest first."""
    names = dict(con.execute("SELECT number, nullif(name, '') FROM classes").fetchall())
    wanted = ", ".join(f"d.{name}" for name in (*LIGHT, *HEAVY))
    rows = con.execute(
        f"SELECT {wanted}, e.author AS by_whom, e.time AS at, e.number AS step {_GONE} "
        "ORDER BY e.number, d.number",
        (edits.cursor(con),),
    ).fetchall()
    # One that came back by an import and was rejected again counts as it was at last.
    found = {row["id"]: row for row in rows}
    told = []
    for row in found.values():
        name = _class_name(con, row["class"], row["step"], names)
        told.append(Rejected(decode(row, name, row["geometry"]), row["by_whom"], row["at"]))
    return told


def _class_name(
    con: sqlite3.Connection, number: int, step: int, names: dict[int, str | None]
) -> str | None:
    """Return what the class of an object removed in a step is called, or was when it was deleted.

    The numbers of deleted classes are given again, so the present holder may be another class.
    """
    later = con.execute(
        "SELECT name FROM class_deltas WHERE number = ? AND edit > ? AND edit <= ? ORDER BY edit",
        (number, step, edits.cursor(con)),
    ).fetchall()
    # Each holds the version before its edit; a version of None follows a deletion.
    versions = [*(row[0] for row in later), names.get(number)]
    for name, after in pairwise(versions):
        if after is None:
            return str(name)
    return names.get(number)
