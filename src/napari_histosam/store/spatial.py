"""Which objects lie where: R-tree look-ups, and light arrays for drawing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_histosam.store.edits import Bounds

# The R-tree keeps 32-bit numbers, rounded outwards; the exact bounds decide.
_INSIDE = (
    "objects.number IN (SELECT number FROM boxes WHERE x1 >= :x0 AND x0 <= :x1 "
    "AND y1 >= :y0 AND y0 <= :y1) "
    "AND objects.x1 >= :x0 AND objects.x0 <= :x1 AND objects.y1 >= :y0 AND objects.y0 <= :y1"
)


@dataclass(frozen=True)
class Boxes:
    """Objects as light arrays, one entry per object.

    Parameters
    ----------
    ids : list of str
    numbers : (n,) int64 array
        Running numbers.
    classes : (n,) int64 array
        Class numbers; 0 is "no class".
    bounds : (n, 4) float64 array
        x0, y0, x1, y1 in level-0 px.
    """

    ids: list[str]
    numbers: NDArray[np.int64]
    classes: NDArray[np.int64]
    bounds: NDArray[np.float64]


@dataclass(frozen=True)
class Shapes:
    """Objects for drawing: their `Boxes` and, in the same order, an object array of geometries."""

    boxes: Boxes
    geometries: NDArray[np.object_]


def place(bounds: Bounds) -> dict[str, float]:
    """Return the SQL values of a rectangle (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = (float(value) for value in bounds)
    return {"x0": x0, "y0": y0, "x1": x1, "y1": y1}


def numbers_in(con: sqlite3.Connection, bounds: Bounds) -> list[int]:
    """Return the numbers of the objects whose bounds meet a rectangle."""
    rows = con.execute(f"SELECT number FROM objects WHERE {_INSIDE}", place(bounds))
    return [row[0] for row in rows]


def boxes(
    con: sqlite3.Connection, bounds: Bounds | None = None, ids: Iterable[str] | None = None
) -> Boxes:
    """Return the boxes of all objects, of those that meet a rectangle, or of those with given ids.

    Ids that are not in the store are left out.
    """
    sql = "SELECT id, number, class, x0, y0, x1, y1 FROM objects"
    values: Any = ()
    if ids is not None:
        sql += " WHERE id IN (SELECT value FROM json_each(?))"
        values = (json.dumps(list(ids)),)
    elif bounds is not None:
        sql += f" WHERE {_INSIDE}"
        values = place(bounds)
    plain = con.cursor()
    plain.row_factory = None
    rows = plain.execute(sql, values).fetchall()
    if not rows:
        none = np.empty(0, np.int64)
        return Boxes([], none, none.copy(), np.empty((0, 4)))
    keys, numbers, classes, *sides = zip(*rows, strict=True)
    return Boxes(
        list(keys),
        np.array(numbers, np.int64),
        np.array(classes, np.int64),
        np.array(sides, np.float64).T,
    )


def geometries(con: sqlite3.Connection, numbers: Sequence[int]) -> NDArray[np.object_]:
    """Return the geometries of objects by number; None where an object is gone."""
    blobs = np.full(len(numbers), None, object)
    at = {number: i for i, number in enumerate(numbers)}
    plain = con.cursor()
    plain.row_factory = None
    for number, blob in plain.execute(
        "SELECT number, geometry FROM bodies WHERE number IN (SELECT value FROM json_each(?))",
        (json.dumps([int(number) for number in numbers]),),
    ):
        blobs[at[number]] = blob
    found: NDArray[np.object_] = np.asarray(shapely.from_wkb(blobs), object)
    return found


def topmost(con: sqlite3.Connection, x: float, y: float, tolerance: float) -> str | None:
    """Return the id of the smallest object that lies within ``tolerance`` of a point."""
    around = (x - tolerance, y - tolerance, x + tolerance, y + tolerance)
    point = shapely.Point(x, y)
    rows = con.execute(
        "SELECT id, geometry FROM objects JOIN bodies USING(number) "
        f"WHERE {_INSIDE} ORDER BY area, number DESC",
        place(around),
    )
    for key, blob in rows:
        if shapely.dwithin(shapely.from_wkb(blob), point, tolerance):
            return str(key)
    return None
