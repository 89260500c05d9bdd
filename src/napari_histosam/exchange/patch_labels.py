"""Reads and writes labels of patches: a CSV of patches, or outlines of tumour and normal tissue.

A table has the columns ``slide``, ``x``, ``y``, ``size``, ``label`` (level-0 px of the upper left
corner and of the side), and ``height`` where patches are not square in them; or ``column``,
``row``, ``label`` of a grid's cells. ``slide``, ``author`` and ``time`` may lack.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.exchange.files import SIZE_LIMIT, explained, new_file
from napari_histosam.exchange.formats import format_of, read
from napari_histosam.exchange.table import plain_text, safe_text
from napari_histosam.records import PatchKind, PatchLabel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from shapely.geometry.base import BaseGeometry

    from napari_histosam.exchange.options import ExportContext
    from napari_histosam.geometry.grid import PatchGrid

# What other programs and people call the two.
_TUMOUR = frozenset(
    "tumour tumor tumoral cancer malignant metastasis metastases carcinoma positive".split()
)
_NORMAL = frozenset(
    "normal benign healthy negative non-tumour non-tumor nontumor no-tumour".split()
)
_NUMBERS = {"1": "tumour", "0": "normal"}


@dataclass(frozen=True)
class PatchImport:
    """What a file says of one slide's patches.

    Parameters
    ----------
    labels : tuple of PatchLabel
    notes : tuple of str
        What was left out, one sentence each.
    """

    labels: tuple[PatchLabel, ...]
    notes: tuple[str, ...] = ()


class UnclearClasses(InputError):
    """Outlines have classes that say neither tumour nor normal; ``names`` are these."""

    def __init__(self, text: str, names: tuple[str, ...]) -> None:
        super().__init__(text)
        self.names = names


def kind_of(name: str | None) -> PatchKind | None:
    """Return what the name of a class or label means; None where that is not plain."""
    plain = "-".join((name or "").casefold().replace("_", " ").split())
    if plain in _TUMOUR:
        return "tumour"
    return "normal" if plain in _NORMAL else None


def read_patch_labels(
    path: Path,
    grid: PatchGrid,
    context: ExportContext,
    *,
    identity: str = "",
    classes: Mapping[str, PatchKind] | None = None,
) -> PatchImport:
    """Read the labels of a slide's patches from a table, or from outlines.

    Parameters
    ----------
    path : Path
        ``.csv``; or GeoJSON (or a label image) with classes: each cell of the grid whose middle
        lies inside an outline gets its label, and ``tumour`` where both lie there.
    grid : PatchGrid
        Of the slide, for outlines and for tables of columns and rows.
    context : ExportContext
        The slide: rows of a table that name another one are left out.
    identity : str
        Of the slide, by which a table may name it, too.
    classes : mapping of str to {"tumour", "normal"}, optional
        What classes mean whose names do not say so.

    Raises
    ------
    InputError
        One sentence: no such file, a row at fault (its line), or nothing in it for this slide.
    """
    path = Path(path)
    with explained(path, "read"):
        if not path.is_file():
            raise InputError(f"There is no file {path}; check its name.")
        if path.stat().st_size > SIZE_LIMIT:
            raise InputError(f"{path.name} is larger than any table of patches; check it.")
    if path.suffix.casefold() == ".csv":
        return _of_table(path, grid, context.slide_name or "", identity)
    return _of_outlines(path, grid, context, classes or {})


def cells_of_regions(
    grid: PatchGrid, regions: Iterable[tuple[BaseGeometry, PatchKind]]
) -> list[PatchLabel]:
    """Return the labels of a grid's cells whose middle lies in a region, row by row.

    Parameters
    ----------
    grid : PatchGrid
    regions : iterable of (shapely geometry, {"tumour", "normal"})
        Level-0 px. Where both lie, there is tumour in the patch.
    """
    found: dict[tuple[int, int], PatchKind] = {}
    for shape, kind in regions:
        for column, row in grid.inside(shape).tolist():
            if found.get((column, row)) != "tumour":
                found[column, row] = kind
    return [
        PatchLabel(*grid.box(*cell), found[cell])
        for cell in sorted(found, key=lambda cell: cell[::-1])
    ]


def write_patch_labels(labels: Iterable[PatchLabel], path: Path, slide_name: str) -> int:
    """Write labels as a table, whole or not at all; return how many.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    path, found = Path(path), list(labels)
    oblong = any(one.width != one.height for one in found)
    titles = ["slide", "x", "y", "size", *(["height"] if oblong else []), "label", "author", "time"]
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(titles)
    for one in found:
        sides = [one.width, one.height] if oblong else [one.width]
        places = [_number(value) for value in (one.x, one.y, *sides)]
        table.writerow(
            [safe_text(slide_name), *places, one.label, safe_text(one.author), safe_text(one.time)]
        )
    with explained(path, "write"), new_file(path) as temporary:
        temporary.write_text(text.getvalue(), "utf-8", newline="")
    return len(found)


def _number(value: float) -> str:
    """Return a number that is read as exactly the same one."""
    return repr(float(value)).removesuffix(".0")


def _of_outlines(
    path: Path, grid: PatchGrid, context: ExportContext, classes: Mapping[str, PatchKind]
) -> PatchImport:
    if format_of(path) == "CSV table":
        raise InputError(f"{path.name} is packed; unpack it.")
    result = read(path, context)
    regions, strange = [], set()
    for one in result.objects:
        kind = classes.get(one.class_name or "") or kind_of(one.class_name)
        if kind is None:
            strange.add(one.class_name or "without a class")
        elif one.geometry.area > 0:
            regions.append((one.geometry, kind))
    named = ", ".join(sorted(strange)[:5])
    if not regions and strange:
        raise UnclearClasses(
            f"{path.name} has no outlines of a class tumour or normal, but {named}; say which of "
            "them means what.",
            tuple(sorted(strange)),
        )
    if not regions:
        raise InputError(f"{path.name} has no outlines; check it.")
    labels = cells_of_regions(grid, regions)
    if not labels:
        raise InputError(
            f"No patch has its middle in an outline of {path.name}; choose smaller patches."
        )
    notes = tuple(result.warnings)
    if strange:
        notes += (f"Outlines that are neither tumour nor normal were left out ({named}).",)
    return PatchImport(tuple(labels), notes)


def _of_table(path: Path, grid: PatchGrid, name: str, identity: str) -> PatchImport:
    with explained(path, "read"):
        data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is no table in UTF-8; save it as CSV with UTF-8.") from error
    names = {one.casefold() for one in (name, Path(name).stem, name.partition(".")[0], identity)}
    found: dict[tuple[float, ...], PatchLabel] = {}
    others = outside = 0
    for where, row in _rows(path, text):
        if row.get("slide") and plain_text(row["slide"]).casefold() not in names - {""}:
            others += 1
            continue
        one = _label(where, row, grid)
        x, y = one.middle
        if not (0 <= x <= grid.size[0] and 0 <= y <= grid.size[1]):
            outside += 1
            continue
        place = (one.x, one.y, one.width, one.height)
        if found.setdefault(place, one).label != one.label:
            raise InputError(f"{where} gives a patch a second label; a patch has one.")
    if not found:
        why = f"{others} rows are of other slides" if others else "it has no rows"
        if outside:
            why = f"{outside} patches lie outside of it"
        raise InputError(f"{path.name} has no label for {name or 'this slide'}: {why}.")
    notes = []
    if others:
        notes.append(f"{others} rows of other slides were left out.")
    if outside:
        notes.append(f"{outside} patches outside of the slide were left out.")
    return PatchImport(tuple(found.values()), tuple(notes))


def _rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    first = text.partition("\n")[0]
    table = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count), strict=True)
    try:
        head = [title.strip().casefold() for title in next(table, [])]
        if not _knows(head):
            raise InputError(
                f"The first line of {path.name} has to name the columns slide, x, y, size and "
                "label, or column, row and label; add that line."
            )
        for row in table:
            if any(cell.strip() for cell in row):
                where = f"Line {table.line_num} of {path.name}"
                if len(row) < len(head):
                    raise InputError(f"{where} has too few columns; fill them in.")
                cells = (cell.strip() for cell in row)
                yield where, dict(zip(head, cells, strict=False))
    except csv.Error as error:
        raise InputError(
            f"{path.name} is a broken table ({error}); save it as CSV again."
        ) from error


def _knows(head: Collection[str]) -> bool:
    return {"x", "y", "size", "label"} <= set(head) or {"column", "row", "label"} <= set(head)


def _label(where: str, row: Mapping[str, str], grid: PatchGrid) -> PatchLabel:
    said = plain_text(row["label"])
    kind = kind_of(said) or _NUMBERS.get(said)
    if kind is None:
        raise InputError(f"{where} has the label {said!r}; write tumour or normal.")
    by_place = "size" in row and "x" in row
    wanted = ("x", "y", "size") if by_place else ("column", "row")
    try:
        values = [float(row[title]) for title in wanted]
        height = float(row.get("height") or values[-1])
        if not all(abs(value) < 1e9 for value in (*values, height)):
            raise ValueError("no place")
    except ValueError as error:
        raise InputError(f"{where} needs numbers for {', '.join(wanted)}; mend it.") from error
    if by_place:
        x, y, width = values
        if min(width, height) <= 0:
            raise InputError(f"{where} has a patch without a size; mend it.")
        box = (x, y, width, height)
    else:
        column, at = round(values[0]), round(values[1])
        if [column, at] != values or not grid.holds(column, at):
            raise InputError(
                f"{where} names column {row['column']}, row {row['row']}, which the grid of "
                f"{grid.columns} x {grid.rows} patches does not have; check the size of patches."
            )
        box = grid.box(column, at)
    told = (plain_text(row.get("author", "")), row.get("time", ""))
    return PatchLabel(*box, kind, *told)  # type: ignore[arg-type]
