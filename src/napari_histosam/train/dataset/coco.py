"""Writes a data set's instances as COCO does, so that other programs can train on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_histosam.train.dataset import rle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

UNCLASSIFIED = 0
"""The category of objects without a class."""


def marks_of(
    labels: NDArray[np.integer], lines: Sequence[Mapping[str, Any]], classes: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return the COCO annotations of one image, without ids.

    Parameters
    ----------
    labels : (h, w) int array
    lines : sequence of mapping
        Of ``objects.jsonl``, those of this image.
    classes : mapping of str to int
        Class name → id.

    Notes
    -----
    Masks are uncompressed run lengths of the whole object in the window, also where another one
    covers part of it; boxes are x, y, width, height.
    """
    made = []
    for line in lines:
        left, top, right, bottom = line["box"]
        code = line.get("mask") or rle.encode(labels == line["number"])
        name = line["class"]
        made.append(
            {
                "category_id": UNCLASSIFIED if name is None else classes[name],
                "segmentation": code,
                "area": line["area"],
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
                "object": line["object"],
            }
        )
    return made


def document(
    items: Sequence[Mapping[str, Any]],
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    classes: Mapping[str, int],
    licence: str,
) -> dict[str, Any]:
    """Return the whole COCO document.

    Parameters
    ----------
    items : sequence of mapping
        Of ``index.json``.
    found : mapping of str to sequence of mapping
        Image id → what `marks_of` returned.
    classes : mapping of str to int
    licence : str
        A note, or nothing.
    """
    images, marks = [], []
    for number, item in enumerate(items, 1):
        images.append(
            {
                "id": number,
                "file_name": item["image"],
                "width": item["width"],
                "height": item["height"],
                "name": item["id"],
                "split": item["split"],
            }
        )
        marks += [{"image_id": number, **one} for one in found[item["id"]]]
    categories = [{"id": number, "name": name} for name, number in classes.items()]
    if any(one["category_id"] == UNCLASSIFIED for one in marks):
        categories.insert(0, {"id": UNCLASSIFIED, "name": "unclassified"})
    return {
        "info": {"description": "Objects of whole-slide images, from napari-histosam"},
        "licenses": [{"id": 1, "name": licence}] if licence else [],
        "categories": categories,
        "images": images,
        "annotations": [{"id": number, **one} for number, one in enumerate(marks, 1)],
    }
