"""Writes an evaluation as Markdown tables, and a picture of its median and worst cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from napari_histosam.exchange.files import new_file
from napari_histosam.train.evaluation.protocol import contours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_histosam.train.evaluation.protocol import Outcome

    Mask = NDArray[np.bool_]

_COLUMNS: dict[str, str | tuple[str, ...]] = {
    "objects": "n_objects",
    "1 click": "iou_click1",
    "3 clicks": "iou_click3",
    "random click": "iou_click_random",
    "best of those offered": "iou_click1_best_offered",
    "box": "iou_box",
    "ellipse in the box": "iou_ellipse",
    "box at least .8": "share_box_good",
    "box, uncut": "iou_box_uncut",
    "box, cut": "iou_box_cut",
    "score error (click, box)": ("score_error_click1", "score_error_box"),
    "first is best": "first_offered_is_best",
    "negative obeyed": "negative_clicks_followed",
    "positive obeyed": "positive_clicks_followed",
    "encode ms": "encode_ms",
    "decode ms": "decode_ms",
}
_ALONE: dict[str, str | tuple[str, ...]] = {
    "objects": "n_true",
    "found": "n_found",
    "AP50": "ap50",
    "AJI": "aji",
    "PQ": "pq",
    "DQ": "dq",
    "SQ": "sq",
    "Dice": "dice",
    "object Dice": "object_dice",
    "ms per image": "find_ms",
}
_AREAS: dict[str, str | tuple[str, ...]] = {
    "images": "n_images",
    "Dice": "area_dice",
    "IoU": "area_iou",
    "pixel AUC": "pixel_auc",
    "images without": "n_without",
    "false area": "false_area_share",
    "s per image": "seconds",
}
_PART_COLUMNS = ("n_objects", "iou_click1", "iou_click3", "iou_box", "iou_ellipse")
_BY_CLASS = ("iou_by_class", "dice_by_class")
_PART_TITLES = ("objects", "1 click", "3 clicks", "box", "ellipse in the box")
_TILE = 192
_TRUTH, _FOUND = (40, 200, 60), (230, 40, 40)


def markdown(rows: Sequence[Mapping[str, Any]], about: str) -> str:
    """Return the rows of an evaluation as Markdown: all figures, then by source and by size.

    Parameters
    ----------
    rows : sequence of mapping
        As `napari_histosam.train.evaluation.figures.row`, ``automatic`` and ``areal`` make them.
    about : str
        One sentence on how they came to be.
    """
    lines = [about]
    prompted = [row for row in rows if "by_source" in row]
    if prompted:
        cells = [_cells(row, _COLUMNS.values()) for row in prompted]
        lines += ["", *_table(["set", "model", *_COLUMNS], cells)]
    alone = [row for row in rows if "ap50" in row]
    if alone:
        lines += ["", "### Without prompts", ""]
        cells = [_cells(row, _ALONE.values()) for row in alone]
        lines += _table(["set", "model", *_ALONE], cells)
    areal = [row for row in rows if "area_dice" in row]
    if areal:
        lines += ["", "### Areas", ""]
        lines += _table(["set", "model", *_AREAS], [_cells(row, _AREAS.values()) for row in areal])
        cells = [
            [row["set"], row["model"], name, *(_text(row[key][name]) for key in _BY_CLASS)]
            for row in areal
            for name in row["iou_by_class"]
        ]
        lines += ["", *_table(["set", "model", "class", "IoU", "Dice"], cells)]
    for title, key in (("By data set", "by_source"), ("By area of the object", "by_size")):
        cells = [
            [row["set"], row["model"], name, *(_text(part[c]) for c in _PART_COLUMNS)]
            for row in prompted
            for name, part in row[key].items()
        ]
        if not cells:
            continue
        lines += ["", f"### {title}", ""]
        lines += _table(["set", "model", "", *_PART_TITLES], cells)
    return "\n".join(lines) + "\n"


def write_picture(
    path: Path,
    found: Sequence[Outcome],
    look: Callable[[Outcome], tuple[NDArray[np.uint8], Mask, Mask]],
    count: int = 8,
) -> None:
    """Write a PNG: the objects whose box answer is the median (upper rows) and the worst.

    Parameters
    ----------
    path : Path
    found : sequence of Outcome
    look : callable
        Returns image (h, w, 3), truth and the model's mask (h, w) of an outcome.
    count : int
        Objects of each kind.
    """
    ranked = sorted(found, key=lambda o: o.box)
    middle = max(len(ranked) // 2 - count // 2, 0)
    blank = np.full((_TILE, _TILE, 3), 255, np.uint8)
    rows = []
    for chosen in (ranked[middle : middle + count], ranked[:count]):
        tiles = [_tile(*look(one), f"{one.box:.2f}") for one in chosen]
        tiles += [blank] * (-len(tiles) % 8)  # the worst start on a row of their own
        rows += [np.hstack(tiles[i : i + 8]) for i in range(0, len(tiles), 8)]
    done, data = cv2.imencode(".png", np.vstack(rows)[..., ::-1])
    assert done
    with new_file(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _tile(image: NDArray[np.uint8], truth: Mask, mask: Mask, text: str) -> NDArray[np.uint8]:
    ys, xs = np.nonzero(truth | mask)
    side = int(max(np.ptp(xs), np.ptp(ys)) * 1.5) + 12
    cy, cx = (int(ys.min()) + int(ys.max())) // 2, (int(xs.min()) + int(xs.max())) // 2
    top, left = max(cy - side // 2, 0), max(cx - side // 2, 0)
    window = np.s_[top : top + side, left : left + side]
    height, width = truth[window].shape
    factor = _TILE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    part = cv2.resize(image[window], size, interpolation=cv2.INTER_AREA if factor < 1 else 2)
    for layer, colour in ((truth, _TRUTH), (mask, _FOUND)):
        large = cv2.resize(layer[window].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        cv2.drawContours(part, contours(large > 0), -1, colour, 1)
    tile = np.full((_TILE, _TILE, 3), 255, np.uint8)
    tile[: size[1], : size[0]] = part
    cv2.putText(tile, text, (4, _TILE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 2)
    cv2.putText(tile, text, (4, _TILE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    return tile


def _cells(row: Mapping[str, Any], columns: Iterable[str | tuple[str, ...]]) -> list[str]:
    cells = [str(row["set"]), str(row["model"])]
    for key in columns:
        keys = (key,) if isinstance(key, str) else key
        cells.append(", ".join(_text(row[k]) for k in keys))
    return cells


def _text(value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1f}" if value > 1 else f"{value:.3f}".lstrip("0") or "0"


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---"] * len(head)
    return ["| " + " | ".join(line) + " |" for line in (head, rule, *cells)]
