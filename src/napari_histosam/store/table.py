"""Pages of the object table: sorted, filtered and counted through indexes."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final, Literal

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    import sqlite3

    from napari_histosam.store.edits import Bounds

AnyValue = EllipsisType
"""``...`` stands for "any" where None means "unclassified"."""

OrderBy = Literal["number", "class", "area", "score", "source", "modified", "name"]

_KEYS: Final[dict[str, str]] = {
    "number": "o.number",
    "class": "c.name",
    "area": "o.area",
    "score": "ifnull(o.score, -1)",
    "source": "o.source",
    "modified": "o.modified",
    "name": "ifnull(o.name, '')",
}
# Every order but "class" walks one index of `objects`; by class, the sorted classes come first.
_FROM: Final = "objects o"
_FROM_BY_CLASS: Final = "classes c CROSS JOIN objects o ON o.class = c.number"


@dataclass(frozen=True)
class Row:
    """One object as the table shows it.

    Parameters
    ----------
    id : str
    number : int
        Running number in this store; never given twice.
    class_name : str, optional
    name : str, optional
    object_type : str
    area_px : float
        Level-0 px².
    score : float, optional
    source : str
    centroid : tuple of float
        x, y in level-0 px.
    bounds : tuple of float
        x0, y0, x1, y1 in level-0 px.
    modified : str
        ISO 8601, UTC.
    locked : bool
    """

    id: str
    number: int
    class_name: str | None
    name: str | None
    object_type: str
    area_px: float
    score: float | None
    source: str
    centroid: tuple[float, float]
    bounds: Bounds
    modified: str
    locked: bool


@dataclass(frozen=True)
class Listing:
    """Which objects a table lists, and in what order.

    Parameters
    ----------
    order_by : {"number", "class", "area", "score", "source", "modified", "name"}
    descending : bool
    text : str
        Keep objects whose id, name, class, source or type contains it; upper and lower case of
        A to Z are the same.
    class_name : str or None or ...
        Keep one class; None keeps the unclassified, ``...`` all.
    source : str or ...
        Keep one source.
    """

    order_by: OrderBy = "number"
    descending: bool = False
    text: str = ""
    class_name: str | AnyValue | None = ...
    source: str | AnyValue = ...

    def __post_init__(self) -> None:
        if self.order_by not in _KEYS:
            raise InputError(
                f"The table cannot be sorted by {self.order_by!r}; choose one of {list(_KEYS)}."
            )

    @property
    def key(self) -> str:
        """The SQL expression that is sorted by."""
        return _KEYS[self.order_by]

    def source_sql(self) -> str:
        """Return the FROM clause."""
        return _FROM_BY_CLASS if self.order_by == "class" else _FROM

    def where_sql(self) -> tuple[str, list[Any]]:
        """Return the condition and its values."""
        parts, values = ["1"], []
        if not isinstance(self.class_name, EllipsisType):
            parts.append("o.class = (SELECT number FROM classes WHERE name = ?)")
            values.append(self.class_name or "")
        if not isinstance(self.source, EllipsisType):
            parts.append("o.source = ?")
            values.append(self.source)
        if self.text:
            like = "LIKE ? ESCAPE '\\'"
            columns = ("o.id", "o.name", "o.source", "o.type")
            tests = [f"{column} {like}" for column in columns]
            tests.append(f"o.class IN (SELECT number FROM classes WHERE name {like})")
            parts.append(f"({' OR '.join(tests)})")
            text = self.text
            for sign in ("\\", "%", "_"):
                text = text.replace(sign, f"\\{sign}")
            values += [f"%{text}%"] * len(tests)
        return " AND ".join(parts), values


def page(con: sqlite3.Connection, listing: Listing, offset: int, limit: int) -> list[Row]:
    """Return ``limit`` rows from ``offset`` on."""
    where, values = listing.where_sql()
    way = "DESC" if listing.descending else "ASC"
    # The numbers are found in the index alone; only the page's rows are then read whole.
    found = con.execute(
        f"SELECT o.number FROM {listing.source_sql()} WHERE {where} "
        f"ORDER BY {listing.key} {way}, o.number {way} LIMIT ? OFFSET ?",
        (*values, limit, offset),
    ).fetchall()
    rows = {}
    for start in range(0, len(found), 500):
        part = [row[0] for row in found[start : start + 500]]
        marks = ", ".join("?" * len(part))
        for row in con.execute(
            "SELECT o.*, c.name AS class_name FROM objects o JOIN classes c ON c.number = o.class "
            f"WHERE o.number IN ({marks})",
            part,
        ):
            rows[row["number"]] = _row(row)
    return [rows[row[0]] for row in found]


def total(con: sqlite3.Connection, listing: Listing) -> int:
    """Return how many rows the listing has."""
    if not listing.text:
        return tallied(con, listing.class_name, listing.source)
    where, values = listing.where_sql()
    row = con.execute(f"SELECT count(*) FROM objects o WHERE {where}", values).fetchone()
    return int(row[0])


def tallied(
    con: sqlite3.Connection, class_name: str | AnyValue | None, source: str | AnyValue
) -> int:
    """Count objects by class and source without touching them."""
    parts, values = ["1"], []
    if not isinstance(class_name, EllipsisType):
        parts.append("class = (SELECT number FROM classes WHERE name = ?)")
        values.append(class_name or "")
    if not isinstance(source, EllipsisType):
        parts.append("source = ?")
        values.append(source)
    sql = f"SELECT ifnull(sum(count), 0) FROM tally WHERE {' AND '.join(parts)}"
    return int(con.execute(sql, values).fetchone()[0])


def position(con: sqlite3.Connection, listing: Listing, key: str) -> int | None:
    """Return the row of an object in the listing, from 0; None if it is not listed."""
    where, values = listing.where_sql()
    at = con.execute(
        f"SELECT {listing.key}, o.number FROM {listing.source_sql()} WHERE o.id = ? AND {where}",
        (key, *values),
    ).fetchone()
    if at is None:
        return None
    sign = ">" if listing.descending else "<"
    row = con.execute(
        f"SELECT count(*) FROM {listing.source_sql()} WHERE {where} "
        f"AND ({listing.key}, o.number) {sign} (?, ?)",
        (*values, *at),
    ).fetchone()
    return int(row[0])


def _row(row: sqlite3.Row) -> Row:
    return Row(
        id=row["id"],
        number=row["number"],
        class_name=row["class_name"] or None,
        name=row["name"],
        object_type=row["type"],
        area_px=row["area"],
        score=row["score"],
        source=row["source"],
        centroid=(row["cx"], row["cy"]),
        bounds=(row["x0"], row["y0"], row["x1"], row["y1"]),
        modified=row["modified"],
        locked=bool(row["locked"]),
    )
