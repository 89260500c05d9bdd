"""Hands a session's objects to files and takes files' objects into it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import shapely

from napari_histosam.errors import InputError
from napari_histosam.exchange import ExportContext, ExportOptions, read, write
from napari_histosam.geometry.window import Window
from napari_histosam.jobs import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from napari_histosam.exchange import ExportReport, ImportResult
    from napari_histosam.jobs import CancelToken
    from napari_histosam.records import ObjectClass, SlideObject
    from napari_histosam.session.session import Session
    from napari_histosam.slide import Slide

    Report = Callable[[Progress], None]

Region = Literal["all", "selected", "view"]
REGIONS: dict[str, Region] = {
    "All objects": "all",
    "Selected objects": "selected",
    "Objects in the view": "view",
}


@dataclass(frozen=True)
class Format:
    """A file format on offer: its title for people and its suffix."""

    title: str
    suffix: str
    raster: bool = False


FORMATS = (
    Format("GeoJSON for QuPath", ".geojson"),
    Format("GeoJSON for QuPath, compressed", ".geojson.gz"),
    Format("Label image, TIFF", ".tif", raster=True),
    Format("Label image, PNG", ".png", raster=True),
    Format("Table with µm units, CSV", ".csv"),
)


@dataclass(frozen=True)
class ExportPlan:
    """What a user wants written.

    Parameters
    ----------
    format : Format
    region : {"all", "selected", "view"}
    view : tuple of float
        Left, top, right, bottom of the screen in level-0 px.
    origin : {"full-slide", "qupath-bounds"}
        GeoJSON: where (0, 0) lies.
    as_detections : bool
        GeoJSON: write detections instead of annotations.
    downsample : float
        Label images: level-0 px per label px.
    """

    format: Format
    region: Region = "all"
    view: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    origin: Literal["full-slide", "qupath-bounds"] = "qupath-bounds"
    as_detections: bool = False
    downsample: float = 1.0


@dataclass(frozen=True)
class Incoming:
    """A file that was read and not yet taken in.

    Parameters
    ----------
    result : ImportResult
    replaces : tuple of str
        Ids that the store has already; taking the file in replaces those objects.
    text : str
        What will happen, for people.
    """

    result: ImportResult
    replaces: tuple[str, ...]
    text: str


def context_of(slide: Slide, classes: Iterable[ObjectClass]) -> ExportContext:
    """Return what the exchange formats need to know of a slide."""
    return ExportContext(
        mpp=slide.mpp,
        bounds=slide.bounds,
        size=(slide.width, slide.height),
        slide_name=slide.name,
        classes=tuple(classes),
    )


def plan_text(session: Session, plan: ExportPlan) -> tuple[int, str]:
    """Return how many objects a plan takes and a sentence about it."""
    store = session.store
    if plan.region == "selected":
        count = len(session.objects.selection)
        what = f"{count:,} selected objects"
        empty = "Select objects in the table or with the Pan tool first."
    elif plan.region == "view":
        there = store.shapes_in(plan.view).geometries
        count = int(np.count_nonzero(shapely.intersects(there, shapely.box(*plan.view))))
        what = f"{count:,} objects in the view"
        empty = "There are no objects in the view; move it or zoom out."
    else:
        counts = store.counts_by_class()
        count = sum(counts.values())
        what = ", ".join(f"{n:,} {name or 'unclassified'}" for name, n in counts.items() if n)
        empty = "There are no objects yet; accept a mask in Annotate first."
    if not count:
        return 0, empty
    more = ""
    if plan.format.raster:
        window = _label_window(session.slide, plan)
        more = f" as an image of {window.size[0]:,} x {window.size[1]:,} px"
        if session.slide.mpp:
            more += f" at {session.slide.mpp[0] * plan.downsample:.3g} µm/px"
    elif plan.format.suffix == ".csv":
        more = "" if session.slide.mpp else "; sizes in px, for the slide has no scale"
    elif plan.origin == "qupath-bounds" and session.slide.bounds:
        x, y, _, _ = session.slide.bounds
        more = f", shifted by {-x:,}, {-y:,} px to QuPath's cropped slide"
    return count, f"Will write {what}{more}."


def run_export(
    session: Session,
    plan: ExportPlan,
    path: Path,
    report: Report,
    cancel: CancelToken,
) -> ExportReport:
    """Write the planned objects; may run on any thread while editing goes on.

    Raises
    ------
    InputError
        One sentence; what stood at ``path`` before is unchanged.
    """
    # Taken first: what is edited from here on is not in the file.
    objects = _planned(session, plan)
    context = context_of(session.slide, session.store.classes())
    total = session.store.count()
    options = ExportOptions(
        origin=plan.origin,
        object_type="detection" if plan.as_detections else None,
        window=_label_window(session.slide, plan) if plan.format.raster else None,
        downsample=plan.downsample,
    )

    def tell(done: int) -> None:
        cancel.check()
        report(Progress(min(done, total), total, f"Writing {path.name}"))

    return write(objects, path, slide_info=context, options=options, progress=tell)


def read_for_import(session: Session, path: Path, report: Report, cancel: CancelToken) -> Incoming:
    """Read a file and say what taking it in would do.

    Raises
    ------
    InputError
        If the file cannot be read or holds no objects.
    """

    def tell(done: int) -> None:
        cancel.check()
        report(Progress(done, None, f"Reading {path.name}: {done:,} objects"))

    report(Progress(0, None, f"Reading {path.name}"))
    result = read(path, context_of(session.slide, ()), progress=tell)
    if not result.objects:
        raise InputError(f"{path.name} holds no objects; nothing was added.")
    replaces = _clashes(session, result.objects)
    new = len(result.objects) - len(replaces)
    known = {c.name for c in session.store.classes()}
    fresh = [c.name for c in result.classes if c.name not in known]
    parts = [f"{path.name}: {new:,} new objects"]
    if replaces:
        parts.append(f"{len(replaces):,} that replace objects of the same id")
    if fresh:
        parts.append(f"new classes {', '.join(fresh)}")
    outside = _outside(session.slide, result.objects)
    if outside:
        parts.append(f"{outside:,} lie outside this slide: is it the right one?")
    return Incoming(result, replaces, "; ".join(parts) + ".\n" + "\n".join(result.warnings))


def apply_import(session: Session, incoming: Incoming) -> int:
    """Take a read file in, as one undo step; return how many objects came."""
    objects = incoming.result.objects
    # Looked up anew: edits may have come between reading and taking in.
    session.store.replace(
        _clashes(session, objects),
        objects,
        label=f"Import {len(objects)}",
        classes=incoming.result.classes,
    )
    return len(objects)


def _planned(session: Session, plan: ExportPlan) -> Iterator[SlideObject]:
    if plan.region == "selected":
        return iter(session.objects.selected())
    if plan.region == "view":
        return iter(session.store.query(plan.view))
    return session.store.iterate()


def _clashes(session: Session, objects: Iterable[SlideObject]) -> tuple[str, ...]:
    """Return the ids of objects that the store has already."""
    known = set(session.store.ids())
    return tuple(o.id for o in objects if o.id in known)


def _label_window(slide: Slide, plan: ExportPlan) -> Window:
    """Return the region of a label image: the view, or the whole slide."""
    left, top, right, bottom = 0.0, 0.0, float(slide.width), float(slide.height)
    if plan.region == "view":
        left, top = (max(0.0, float(math.floor(at))) for at in plan.view[:2])
        right = max(min(right, float(math.ceil(plan.view[2]))), left + 1)
        bottom = max(min(bottom, float(math.ceil(plan.view[3]))), top + 1)
    step = plan.downsample
    size = (math.ceil((right - left) / step), math.ceil((bottom - top) / step))
    centre = (left + size[0] * step / 2, top + size[1] * step / 2)
    return Window(*centre, (step, step), size)


def _outside(slide: Slide, objects: Iterable[SlideObject]) -> int:
    shapes = np.array([o.geometry for o in objects], dtype=object)
    inside = shapely.intersects(shapes, shapely.box(0, 0, slide.width, slide.height))
    return int(np.count_nonzero(~inside))
