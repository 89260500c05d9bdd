"""Writes the documents of a data set: index, splits, objects, COCO and the manifest."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from napari_histosam import __version__
from napari_histosam.train.dataset import coco
from napari_histosam.train.dataset.cut import BUILDER
from napari_histosam.train.dataset.earlier import FORMAT, VERSION
from napari_histosam.train.dataset.folder import (
    COCO,
    INDEX,
    MANIFEST,
    OBJECTS,
    REJECTED,
    SPLITS,
    sha256,
)
from napari_histosam.train.dataset.splits import SPLITS as SPLIT_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_histosam.train.dataset.cut import Rows
    from napari_histosam.train.dataset.request import Settings
    from napari_histosam.train.dataset.splits import Placed, Split


def class_ids(names: Iterable[str | None], earlier: Mapping[str, int]) -> dict[str, int]:
    """Return class name → id, from 1; a class that had an id keeps it."""
    used = {name for name in names if name is not None}
    ids = {name: number for name, number in earlier.items() if name in used}
    free = max(earlier.values(), default=0) + 1
    for number, name in enumerate(sorted(used - ids.keys()), free):
        ids[name] = number
    return dict(sorted(ids.items(), key=lambda entry: entry[1]))


def counts(rows: Rows, slides: Sequence[Mapping[str, Any]]) -> dict[Split, dict[str, Any]]:
    """Return per split the slides, windows, and objects by class, each object counted once."""
    found: dict[Split, dict[str, Any]] = {}
    for split in SPLIT_NAMES:
        items = [item for item in rows.items if item["split"] == split]
        by_class: Counter[str | None] = Counter(
            line["class"] for item in items for line in rows.lines[item["id"]] if line["home"]
        )
        found[split] = {
            "slides": sum(one["split"] == split for one in slides),
            "windows": len(items),
            "objects": by_class.total(),
            "by_class": by_class_rows(by_class),
        }
    return found


def by_class_rows(by_class: Mapping[str | None, int]) -> list[dict[str, Any]]:
    """Return numbers by class as JSON can hold them, objects without a class last."""
    names = sorted(by_class, key=lambda name: (name is None, name or ""))
    return [{"class": name, "objects": by_class[name]} for name in names]


def render(
    set_name: str,
    rows: Rows,
    slides: Sequence[Mapping[str, Any]],
    classes: Mapping[str, int],
    scale: Mapping[str, Any],
    settings: Settings,
    files: Mapping[str, str],
    placed: Mapping[str, Placed],
    rejected: Sequence[Mapping[str, Any]] = (),
) -> dict[str, bytes]:
    """Return all documents by file name; the same input gives the same bytes.

    Parameters
    ----------
    set_name : str
        The folder's name, by which ``splits.json`` is looked up.
    rows : Rows
        Of all windows, in order.
    slides : sequence of mapping
        What the manifest says of each slide.
    classes : mapping of str to int
    scale : mapping
        ``mpp``, ``px``, ``why``.
    settings : Settings
    files : mapping of str to str
        The windows' files → SHA-256.
    placed : mapping of str to Placed
        Where every slide is that ever was in the folder.
    rejected : sequence of mapping
        Lines of ``rejected.jsonl``.
    """
    listed = {
        split: [item["id"] for item in rows.items if item["split"] == split]
        for split in SPLIT_NAMES
    }
    made = {
        INDEX: _pretty(
            {
                "n": len(rows.items),
                "mask_encoding": {
                    "instance": "16-bit PNG, 0 = background, 1..n = instance id",
                    "ignore": "8-bit PNG, 255 = not known whether there is an object",
                },
                "classes": classes,
                "items": rows.items,
            }
        ),
        SPLITS: _pretty(
            {"note": "splits are by slide or patient, never by window", "sets": {set_name: listed}}
        ),
        OBJECTS: b"".join(
            _text(line) + b"\n" for item in rows.items for line in rows.lines[item["id"]]
        ),
        REJECTED: b"".join(_text(line) + b"\n" for line in rejected),
        COCO: _text(coco.document(rows.items, rows.marks, classes, settings.licence)),
    }
    test_lines = [line for name in listed["test"] for line in rows.lines[name]]
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "builder": BUILDER,
        "software": f"napari-histosam {__version__}",
        "licence": settings.licence,
        "settings": {
            "size": settings.size,
            "mpp": settings.mpp,
            "object_px": list(settings.object_px),
            "model": settings.model,
            "background": settings.background,
            "val": settings.val,
            "test": settings.test,
            "seed": settings.seed,
            "region_classes": list(settings.region_classes),
            "automatic": settings.automatic,
            "reviewed_only": settings.reviewed_only,
        },
        "scale": scale,
        "classes": classes,
        "counts": counts(rows, slides),
        "test_set": sha256(_text([listed["test"], test_lines])) if listed["test"] else None,
        "slides": slides,
        "placed": {
            key: {"split": one.split, "why": one.why} for key, one in sorted(placed.items())
        },
        "files": dict(sorted({**files, **{n: sha256(data) for n, data in made.items()}}.items())),
    }
    return {**made, MANIFEST: _pretty(manifest)}


def _pretty(data: Any) -> bytes:
    return (json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()


def _text(data: Any) -> bytes:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
