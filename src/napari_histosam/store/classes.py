"""The classes of a store: the ones it starts with, their numbers, colours and counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from napari_histosam.errors import InputError
from napari_histosam.records import ObjectClass
from napari_histosam.store import edits

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from napari_histosam.records import Colour

UNCLASSIFIED: Final = 0
"""The number of "no class"."""

UNCLASSIFIED_COLOUR: Final[Colour] = (0, 140, 120)

DEFAULT_CLASSES: Final = (
    ObjectClass("Tumor", (200, 0, 0)),
    ObjectClass("Stroma", (150, 200, 150)),
    ObjectClass("Immune cells", (160, 90, 160)),
    ObjectClass("Necrosis", (50, 50, 50)),
    ObjectClass("Gland", (0, 114, 178)),
    ObjectClass("Vessel", (86, 180, 233)),
    ObjectClass("Other", (255, 200, 0)),
)
"""QuPath's names and colours where it has the class, else blues of Okabe and Ito's palette.

They differ in lightness as well as in hue, so that red-green blind users can tell them apart.
"""

# Okabe & Ito (2008), "Color Universal Design", then Tol's "muted" scheme for what comes after.
_PALETTE: Final[tuple[Colour, ...]] = (
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (51, 34, 136),
    (136, 204, 238),
    (153, 153, 51),
    (136, 34, 85),
    (68, 170, 153),
)


def pack(colour: Colour) -> int:
    """Return a colour as 0xRRGGBB.

    Raises
    ------
    InputError
        A part is not a whole number from 0 to 255.
    """
    parts = tuple(int(part) for part in colour)
    if len(parts) != 3 or not all(0 <= part <= 255 for part in parts):
        raise InputError(f"The colour {colour} is not red, green, blue from 0 to 255; correct it.")
    red, green, blue = parts
    return red << 16 | green << 8 | blue


def unpack(colour: int) -> Colour:
    """Return what `pack` packed."""
    return (colour >> 16 & 255, colour >> 8 & 255, colour & 255)


def fill(con: sqlite3.Connection) -> None:
    """Give a new store its first classes (not an undoable step)."""
    for item in DEFAULT_CLASSES:
        _insert(con, item.name, pack(item.colour))


def numbered(con: sqlite3.Connection) -> dict[int, ObjectClass]:
    """Return number → class in the order of the list, without "no class"."""
    rows = con.execute(
        "SELECT number, name, colour FROM classes WHERE number > 0 ORDER BY position"
    )
    return {row[0]: ObjectClass(row[1], unpack(row[2])) for row in rows}


def number_of(con: sqlite3.Connection, name: str | None) -> int | None:
    """Return a class's number; None if there is no such class."""
    row = con.execute("SELECT number FROM classes WHERE name = ?", (name or "",)).fetchone()
    return None if row is None else int(row[0])


def ensure(
    con: sqlite3.Connection, step: int, names: Iterable[str | None]
) -> dict[str | None, int]:
    """Return name → number, making the classes that are missing, in order, part of the step."""
    found: dict[str | None, int] = {None: UNCLASSIFIED}
    for name in names:
        if name is None or name in found:
            continue
        number = number_of(con, name)
        if number is None:
            number = _insert(con, name, pack(_next_colour(con)))
            edits.note_class(con, step, number, None)
        found[name] = number
    return found


def put(con: sqlite3.Connection, step: int, item: ObjectClass, old_name: str | None) -> None:
    """Add a class, or change the one called ``old_name`` (or ``item.name``) as part of a step."""
    number = number_of(con, old_name or item.name)
    if number is None:
        number = _insert(con, item.name, pack(item.colour))
        edits.note_class(con, step, number, None)
        return
    row = con.execute(
        "SELECT name, colour, position FROM classes WHERE number = ?", (number,)
    ).fetchone()
    edits.note_class(con, step, number, tuple(row))
    con.execute(
        "UPDATE classes SET name = ?, colour = ? WHERE number = ?",
        (item.name, pack(item.colour), number),
    )


def drop(con: sqlite3.Connection, step: int, number: int) -> None:
    """Remove a class as part of a step; its objects must have left it by the commit."""
    row = con.execute(
        "SELECT name, colour, position FROM classes WHERE number = ?", (number,)
    ).fetchone()
    edits.note_class(con, step, number, tuple(row))
    con.execute("DELETE FROM classes WHERE number = ?", (number,))


def counts(con: sqlite3.Connection) -> dict[str | None, int]:
    """Return class name → number of objects (None: unclassified), from the kept tally."""
    rows = con.execute(
        "SELECT c.name, (SELECT sum(count) FROM tally WHERE class = c.number) "
        "FROM classes c ORDER BY c.position"
    )
    return {row[0] or None: int(row[1] or 0) for row in rows}


def _insert(con: sqlite3.Connection, name: str, colour: int) -> int:
    # The lowest free number, so that the raster's small values last (see `raster`).
    number = con.execute(
        "SELECT min(c.number) + 1 FROM classes c "
        "WHERE NOT EXISTS(SELECT 1 FROM classes n WHERE n.number = c.number + 1)"
    ).fetchone()[0]
    con.execute(
        "INSERT INTO classes(number, name, colour, position) "
        "SELECT ?, ?, ?, max(position) + 1 FROM classes",
        (number, name, colour),
    )
    return int(number)


def _next_colour(con: sqlite3.Connection) -> Colour:
    used = {unpack(row[0]) for row in con.execute("SELECT colour FROM classes WHERE number > 0")}
    for colour in _PALETTE:
        if colour not in used:
            return colour
    return _PALETTE[len(used) % len(_PALETTE)]
