"""Cuts the windows of one slide: pictures, labels and unknown areas to files, the rest to rows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from napari_histosam.slide import open_slide
from napari_histosam.train.dataset import coco
from napari_histosam.train.dataset.drawing import Drawer
from napari_histosam.train.dataset.earlier import labels_of, refuse_damage
from napari_histosam.train.dataset.folder import PARTS
from napari_histosam.train.dataset.instances import first_iou, record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_histosam.geometry.window import Window
    from napari_histosam.slide import Slide
    from napari_histosam.train.dataset.drawing import Drawn
    from napari_histosam.train.dataset.earlier import Earlier
    from napari_histosam.train.dataset.folder import Folder
    from napari_histosam.train.dataset.kinds import Marked
    from napari_histosam.train.dataset.scale import Scale
    from napari_histosam.train.dataset.sources import SlideSource
    from napari_histosam.train.dataset.splits import Split
    from napari_histosam.train.dataset.windows import Planned

BUILDER = 1
"""Part of every name: windows are made anew when what is drawn into them changes its meaning."""


@dataclass
class Rows:
    """What the documents say of the windows, image by image.

    Parameters
    ----------
    items : list of dict
        Of ``index.json``.
    lines : dict of str to list of dict
        Image id → lines of ``objects.jsonl``.
    marks : dict of str to list of dict
        Image id → COCO annotations.
    """

    items: list[dict[str, Any]] = field(default_factory=list)
    lines: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    marks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def cut(
    source: SlideSource,
    marked: Marked,
    planned: Sequence[Planned],
    scale: Scale,
    split: Split,
    classes: Mapping[str, int],
    folder: Folder,
    rows: Rows,
    step: Callable[[], None],
) -> None:
    """Cut the planned windows of one slide.

    Parameters
    ----------
    source, marked, planned, scale
        The slide, its objects, its windows, and the scale that they were planned at.
    split : {"train", "val", "test"}
    classes : mapping of str to int
    folder : Folder
        Gets the files.
    rows : Rows
        Gets the rest.
    step : callable
        Called before each window; may raise.

    Raises
    ------
    InputError
        If the slide cannot be read or a file cannot be written.
    """
    octaves = [scale.octave(shape, source.mpp) for shape in marked.shapes]
    corrected = [
        first_iou(one, shape) for one, shape in zip(marked.objects, marked.shapes, strict=True)
    ]
    drawer = Drawer(marked, octaves, source.size)
    with open_slide(source.path) as slide:
        for one in planned:
            step()
            drawn = drawer.draw(one.window, one.octave, one.homes)
            name = _name(source.identity, one.window, drawn)
            _put(folder, name, slide, one.window, drawn)
            homes = set(one.homes)
            lines = [
                record(
                    name,
                    seen,
                    marked.objects[seen.index],
                    one.window,
                    home=seen.index in homes,
                    corrected=corrected[seen.index],
                )
                for seen in drawn.instances
            ]
            rows.items.append(_item(name, source, one, lines, scale, split))
            rows.lines[name] = lines
            rows.marks[name] = coco.marks_of(drawn.labels, lines, classes)


def keep_frozen(
    earlier: Earlier, identity: str, classes: Mapping[str, int], folder: Folder, rows: Rows
) -> None:
    """Take the windows of a slide of the test set over as they are.

    Raises
    ------
    InputError
        If a file of theirs is missing or was changed.
    """
    for item in earlier.items_of(identity):
        name = item["id"]
        for part in PARTS:
            if not folder.keep(f"{part}/{name}.png"):
                raise refuse_damage(folder.out, f"{part}/{name}.png")
        lines = list(earlier.lines.get(name, ()))
        rows.items.append(item)
        rows.lines[name] = lines
        rows.marks[name] = coco.marks_of(labels_of(folder.out, item), lines, classes)


def _put(folder: Folder, name: str, slide: Slide, window: Window, drawn: Drawn) -> None:
    folder.put(f"masks/{name}.png", lambda: _png(drawn.labels))
    folder.put(f"ignore/{name}.png", lambda: _png(drawn.ignore))
    # Last and only if need be: reading the slide is what takes time.
    folder.put(f"images/{name}.png", lambda: _png(slide.read(window)[..., ::-1]))


def _png(pixels: NDArray[Any]) -> bytes:
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    assert done  # any array of this kind can be written
    return data.tobytes()


def _name(identity: str, window: Window, drawn: Drawn) -> str:
    """Return the window's id: the slide, where it lies, and a hash of all that was drawn."""
    digest = hashlib.sha256(f"{BUILDER}:{identity}:".encode())
    digest.update(json.dumps(window.to_dict(), sort_keys=True).encode())
    digest.update(drawn.labels.astype("<u2").tobytes())
    digest.update(drawn.ignore.tobytes())
    left, top, _, _ = window.bounds
    place = f"{max(round(left), 0):06d}_{max(round(top), 0):06d}"
    return f"{identity[:10]}_{place}_{digest.hexdigest()[:8]}"


def _item(
    name: str,
    source: SlideSource,
    one: Planned,
    lines: Sequence[Mapping[str, Any]],
    scale: Scale,
    split: Split,
) -> dict[str, Any]:
    mpp = None if source.mpp is None or scale.mpp is None else scale.mpp * 2.0**one.octave
    return {
        "id": name,
        "image": f"images/{name}.png",
        "mask": f"masks/{name}.png",
        "mask_kind": "instance",
        "ignore": f"ignore/{name}.png",
        "mpp": mpp,
        "width": one.window.size[0],
        "height": one.window.size[1],
        "n_instances": len(lines),
        "classes": {str(line["number"]): line["class"] for line in lines},
        "slide": source.identity,
        "slide_name": source.name,
        "split": split,
        "background": not lines,
        "window": one.window.to_dict(),
    }
