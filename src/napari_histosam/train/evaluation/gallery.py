"""Small pictures of objects whose masks changed most by a training: before and after."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from napari_histosam.exchange.files import new_file
from napari_histosam.train.evaluation.protocol import contours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_histosam.train.evaluation.protocol import Outcome

    Mask = NDArray[np.bool_]

MOST = 4
SIDE = 200
# RGB: told apart on pink and violet tissue, and by colour-blind eyes.
TRUTH, BEFORE, AFTER = (20, 215, 90), (255, 140, 0), (30, 100, 255)
# Changes of less are none.
_LEAST = 0.02


def most_changed(
    before: Sequence[Outcome], after: Sequence[Outcome]
) -> dict[str, list[dict[str, Any]]]:
    """Return which objects to show, by the prompt (1 click or box) that changed most.

    Returns
    -------
    dict
        ``best`` and ``worst``: rows with ``set``, ``image``, ``label``, ``prompt`` (``"1 click"``
        or ``"Box"``), ``before`` and ``after`` (IoU), and ``box`` as it was given.
    """
    first = {(o.entry.set_name, o.entry.name, o.number): o for o in before}
    rows: list[dict[str, Any]] = []
    for new in after:
        old = first.get((new.entry.set_name, new.entry.name, new.number))
        if old is None:
            continue
        pairs = {"1 click": (old.clicks[0], new.clicks[0]), "Box": (old.box, new.box)}
        for prompt, (was, now) in pairs.items():
            rows.append(
                {
                    "set": new.entry.set_name,
                    "image": new.entry.name,
                    "label": new.number,
                    "area": new.area,
                    "prompt": prompt,
                    "before": round(float(was), 4),
                    "after": round(float(now), 4),
                    "box": [round(float(v), 2) for v in new.prompted_box],
                }
            )
    rows.sort(key=lambda row: row["after"] - row["before"])
    return {"best": _distinct(rows[::-1], 1), "worst": _distinct(rows, -1)}


def write_gallery(
    folder: Path,
    chosen: Mapping[str, Sequence[Mapping[str, Any]]],
    seen: Mapping[tuple[str, str, int, str], tuple[NDArray[np.uint8], Mask, Mask, Mask]],
) -> None:
    """Write two pictures for each object, and ``gallery.json``.

    Parameters
    ----------
    folder : Path
        Made if it is absent.
    chosen : mapping
        From `most_changed`.
    seen : mapping
        (set, image, label, prompt) → image (h, w, 3), truth, mask before, mask after (h, w).
    """
    folder.mkdir(parents=True, exist_ok=True)
    told: dict[str, list[dict[str, Any]]] = {}
    for which, rows in chosen.items():
        told[which] = []
        for number, row in enumerate(rows, 1):
            key = (row["set"], row["image"], row["label"], row["prompt"])
            if key not in seen:
                continue
            image, truth, old, new = seen[key]
            view = _window(truth | old | new)
            names = {}
            for name, mask, colour in (("before", old, BEFORE), ("after", new, AFTER)):
                path = folder / f"{which}-{number}-{name}.png"
                _write(path, _tile(image, view, ((truth, TRUTH), (mask, colour))))
                names[f"{name}_picture"] = path.name
            told[which].append({**row, **names})
    with new_file(folder / "gallery.json") as temporary:
        temporary.write_text(json.dumps(told, indent=1), "utf-8")


def _distinct(rows: Sequence[dict[str, Any]], sign: int) -> list[dict[str, Any]]:
    """Return the first rows that changed in a direction, each object once."""
    out: list[dict[str, Any]] = []
    taken: set[object] = set()
    for row in rows:
        if sign * (row["after"] - row["before"]) < _LEAST or len(out) == MOST:
            break
        # Windows overlap: what has the same area is mostly the same object once more.
        key, twin = (row["set"], row["image"], row["label"]), row["area"]
        if key not in taken and twin not in taken:
            out.append(row)
            taken |= {key, twin}
    return out


def _window(shown: Mask) -> tuple[slice, slice]:
    ys, xs = np.nonzero(shown)
    side = int(max(np.ptp(xs), np.ptp(ys)) * 1.4) + 12
    height, width = shown.shape
    side = min(side, height, width)
    top = min(max((int(ys.min()) + int(ys.max()) - side) // 2, 0), height - side)
    left = min(max((int(xs.min()) + int(xs.max()) - side) // 2, 0), width - side)
    return slice(top, top + side), slice(left, left + side)


def _tile(
    image: NDArray[np.uint8],
    view: tuple[slice, slice],
    outlines: Sequence[tuple[Mask, tuple[int, int, int]]],
) -> NDArray[np.uint8]:
    size = (SIDE, SIDE)
    part = np.ascontiguousarray(cv2.resize(image[view], size, interpolation=cv2.INTER_CUBIC))
    for mask, colour in outlines:
        smooth = cv2.resize(mask[view].astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        cv2.drawContours(part, contours(smooth > 0.5), -1, colour, 2, cv2.LINE_AA)
    return np.asarray(part, np.uint8)


def _write(path: Path, picture: NDArray[np.uint8]) -> None:
    done, data = cv2.imencode(".png", picture[..., ::-1])
    assert done
    with new_file(path) as temporary:
        temporary.write_bytes(data.tobytes())
