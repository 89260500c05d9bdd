"""Writes labelled patches of slides as a folder to train on: pictures, labels, groups, splits."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from napari_histosam import __version__
from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.jobs import CancelToken, Progress
from napari_histosam.records import PATCH_KINDS
from napari_histosam.slide import open_slide
from napari_histosam.train.dataset.folder import (
    INDEX,
    MANIFEST,
    SPLITS,
    Folder,
    check_out,
    opened,
)
from napari_histosam.train.dataset.patch_request import PatchReport, PatchRequest
from napari_histosam.train.dataset.patch_sources import PatchSource, read_patch_sources
from napari_histosam.train.dataset.patch_splits import divided
from napari_histosam.train.dataset.patients import patient_of
from napari_histosam.train.dataset.splits import SPLITS as SPLIT_NAMES
from napari_histosam.train.dataset.splits import Placed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_histosam.records import PatchLabel
    from napari_histosam.slide import Slide

FORMAT, VERSION = "histosam-patches", 1


def build_patches(
    request: PatchRequest,
    report: Callable[[Progress], None] | None = None,
    cancel: CancelToken | None = None,
) -> PatchReport:
    """Write the data set, or bring the one in the folder up to date.

    Each picture is read exactly at the wanted scale, centred on its patch. Slides stay in the split
    that they have had in the folder.

    Raises
    ------
    InputError
        If a slide has no labels of this size, a label is lacking altogether, or the folder cannot
        be written.
    Cancelled
        If it was stopped; the older data set is then as it was.
    """
    begin = time.perf_counter()
    cancel = cancel or CancelToken()
    tell = report or (lambda progress: None)
    out = Path(request.out).expanduser().absolute()
    check_out(out)

    def reading(name: str) -> None:
        cancel.check()
        tell(Progress(0, None, f"Reading {name}"))

    sources = read_patch_sources(request.slides, reading)
    chosen, warnings = _chosen(request, sources)
    with opened(out):
        earlier = _earlier(out)
        folder = Folder(out, earlier.get("files", {}))
        try:
            groups = _groups(request, sources)
            made = divided(
                {one.identity: chosen[one.identity] for one in sources},
                groups,
                request,
                _kept(earlier),
            )
            items = _items(request, sources, chosen, made.groups, made.split_of)
            _write(folder, request, sources, items, tell, cancel)
            folder.exchange(_documents(folder, request, sources, groups, items, made.placed))
        except BaseException:
            folder.undo()
            raise
        folder.sweep()
    before, now = set(earlier.get("files", {})), set(folder.hashes)
    counts: dict[str, dict[str, int]] = {
        split: dict.fromkeys(PATCH_KINDS, 0) for split in SPLIT_NAMES
    }
    for item in items:
        counts[item["split"]][item["label"]] += 1
    return PatchReport(
        out,
        len(sources),
        counts,
        len(now - before),
        len(now & before),
        len(before - now),
        (*warnings, *made.notes),
        time.perf_counter() - begin,
    )


def _chosen(
    request: PatchRequest, sources: Sequence[PatchSource]
) -> tuple[dict[str, list[PatchLabel]], list[str]]:
    """Return the labels of the wanted size by slide, and what was left out."""
    found, left = {}, 0
    unit = "µm" if request.mpp else "px"
    for one in sources:
        if (one.mpp is None) != (request.mpp is None):
            what = "does not say" if one.mpp is None else "says"
            todo = "leave --mpp away" if one.mpp is None else "give --mpp"
            raise InputError(f"{one.name} {what} how many µm its pixels are; {todo}.")
        here = one.sized(request.side)
        left += len(one.labels) - len(here)
        if not here:
            raise InputError(
                f"{one.name} has no labels of patches of {request.side:g} {unit}; choose --mpp and "
                "--size as the patches were labelled."
            )
        found[one.identity] = here
    counts = Counter(one.label for labels in found.values() for one in labels)
    lacking = [kind for kind in PATCH_KINDS if not counts[kind]]
    if lacking:
        raise InputError(
            f"No patch is labelled {lacking[0]}: to tell tumour from normal, both are needed."
        )
    return found, [f"{left} patches of another size were left out."] if left else []


def _groups(request: PatchRequest, sources: Sequence[PatchSource]) -> dict[str, str]:
    """Return identity → group; a patient stands in it under a hash, not by name."""
    found = {}
    for one in sources:
        patient = patient_of(request.patients, one.name, one.identity) or one.patient
        digest = hashlib.sha256(f"patient:{patient}".encode()).hexdigest()
        found[one.identity] = f"patient-{digest[:16]}" if patient else one.identity
    return found


def _items(
    request: PatchRequest,
    sources: Sequence[PatchSource],
    chosen: Mapping[str, Sequence[PatchLabel]],
    groups: Mapping[tuple[str, PatchLabel], str],
    split_of: Callable[[str, PatchLabel], str],
) -> list[dict[str, Any]]:
    items = []
    for source in sources:
        for one in chosen[source.identity]:
            window = window_of(one, source.mpp, request.mpp, request.size)
            name = _name(source.identity, window)
            items.append(
                {
                    "id": name,
                    "image": f"images/{name}.png",
                    "label": one.label,
                    "mpp": request.mpp,
                    "width": request.size,
                    "height": request.size,
                    "group": groups[source.identity, one],
                    "slide": source.identity,
                    "slide_name": source.name,
                    "split": split_of(source.identity, one),
                    "window": window.to_dict(),
                }
            )
    return items


def window_of(
    patch: PatchLabel, mpp: tuple[float, float] | None, wanted: float | None, size: int
) -> Window:
    """Return the window of a patch's picture.

    Parameters
    ----------
    patch : PatchLabel
    mpp : tuple of float, optional
        The slide's µm per level-0 px.
    wanted : float, optional
        µm per px of the picture; None takes level-0 px as they are.
    size : int
        Side of the picture in px.
    """
    scale = (1.0, 1.0) if mpp is None or wanted is None else (wanted / mpp[0], wanted / mpp[1])
    return Window(*patch.middle, scale, (size, size))


def _write(
    folder: Folder,
    request: PatchRequest,
    sources: Sequence[PatchSource],
    items: Sequence[Mapping[str, Any]],
    tell: Callable[[Progress], None],
    cancel: CancelToken,
) -> None:
    done = 0
    for source in sources:
        with open_slide(source.path) as slide:
            for item in items:
                if item["slide"] != source.identity:
                    continue
                cancel.check()
                tell(Progress(done, len(items), "Cutting patches"))
                window = Window.from_dict(item["window"])
                folder.put(item["image"], partial(_png, slide, window))
                done += 1


def _png(slide: Slide, window: Window) -> bytes:
    pixels = np.ascontiguousarray(slide.read(window)[..., ::-1])
    done, data = cv2.imencode(".png", pixels)
    assert done  # any picture can be written
    return bytes(data.tobytes())


def _name(identity: str, window: Window) -> str:
    """Return a picture's id: the slide, where it lies, and a hash of what it shows."""
    told = json.dumps(window.to_dict(), sort_keys=True)
    digest = hashlib.sha256(f"patch:{identity}:{told}".encode()).hexdigest()
    left, top, _, _ = window.bounds
    place = f"{max(round(left), 0):06d}_{max(round(top), 0):06d}"
    return f"{identity[:10]}_{place}_{digest[:8]}"


def _earlier(out: Path) -> dict[str, Any]:
    path = out / MANIFEST
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); name a new folder.") from error
    if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (
        FORMAT,
        VERSION,
    ):
        raise InputError(f"{out} holds another kind of data set; name a new folder.")
    return found


def _kept(earlier: Mapping[str, Any]) -> dict[str, Placed]:
    return {key: Placed(one["split"], one["why"]) for key, one in earlier.get("placed", {}).items()}


def _documents(
    folder: Folder,
    request: PatchRequest,
    sources: Sequence[PatchSource],
    groups: Mapping[str, str],
    items: Sequence[Mapping[str, Any]],
    placed: Mapping[str, Placed],
) -> dict[str, bytes]:
    listed = {
        split: [item["id"] for item in items if item["split"] == split] for split in SPLIT_NAMES
    }
    made = {
        INDEX: _pretty({"n": len(items), "labels": list(PATCH_KINDS), "items": list(items)}),
        SPLITS: _pretty({"sets": {folder.out.name: listed}}),
    }
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "software": f"napari-histosam {__version__}",
        "licence": request.licence,
        "settings": {
            "size": request.size,
            "mpp": request.mpp,
            "val": request.val,
            "test": request.test,
            "seed": request.seed,
        },
        "slides": [
            {
                "identity": one.identity,
                "name": one.name,
                "size": list(one.size),
                "mpp": None if one.mpp is None else list(one.mpp),
                "group": groups[one.identity],
            }
            for one in sources
        ],
        "placed": {
            key: {"split": one.split, "why": one.why} for key, one in sorted(placed.items())
        },
        "files": dict(sorted(folder.hashes.items())),
    }
    return {**made, MANIFEST: _pretty(manifest)}


def _pretty(data: Any) -> bytes:
    return (json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode()
