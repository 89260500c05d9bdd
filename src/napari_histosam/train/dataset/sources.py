"""Finds and reads what a data set is built from: stores with their slides, annotation files."""

from __future__ import annotations

import glob
import gzip
import re
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import shapely

from napari_histosam.errors import InputError
from napari_histosam.exchange import ExportContext, read
from napari_histosam.exchange.files import explained
from napari_histosam.slide import open_slide
from napari_histosam.train.dataset.patients import SETTING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from napari_histosam.records import SlideObject
    from napari_histosam.slide import Slide
    from napari_histosam.store import ObjectStore, Rejected
    from napari_histosam.train.dataset.request import Annotated

_SQLITE = b"SQLite format 3\0"
_UUID = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class SlideSource:
    """One slide with all objects that were found for it.

    Parameters
    ----------
    identity, name : str
        The slide's content hash and file name.
    path : Path
    size : (int, int)
        Width and height in level-0 px.
    mpp : (float, float), optional
        µm per level-0 px along x and y.
    objects : tuple of SlideObject
        Level-0 px, as they were accepted.
    notes : tuple of str
        What the reading of annotation files had to say.
    patient : str
        As the store has it; empty where it says none.
    rejected : tuple of Rejected
        Objects that somebody took away as mistakes.
    """

    identity: str
    name: str
    path: Path
    size: tuple[int, int]
    mpp: tuple[float, float] | None
    objects: tuple[SlideObject, ...]
    notes: tuple[str, ...] = ()
    patient: str = ""
    rejected: tuple[Rejected, ...] = ()


def read_sources(
    stores: Iterable[Path],
    annotated: Iterable[Annotated] = (),
    look_in: Sequence[Path] = (),
    step: Callable[[str], None] = lambda name: None,
) -> list[SlideSource]:
    """Read all sources; what belongs to the same slide is put together.

    Parameters
    ----------
    stores : iterable of Path
        Stores, slides whose store is known, or folders of stores.
    annotated : iterable of Annotated
    look_in : sequence of Path
        Slides or folders of slides, for stores that do not lie beside theirs.
    step : callable
        Called with a name before each source is read; may raise.

    Returns
    -------
    list of SlideSource
        In the order of their identities, so that it does not matter how they were named.

    Raises
    ------
    InputError
        If a source is not there or cannot be read, or a store's slide is not found.
    """
    found: list[SlideSource] = []
    for path in stores:
        for one in _spread(Path(path).expanduser()):
            step(one.name)
            found.append(_of_store(one, look_in) if _is_store(one) else _of_slide(one))
    for pair in annotated:
        step(pair.annotations.name)
        found.append(_of_annotations(pair))
    joined: dict[str, SlideSource] = {}
    for source in sorted(found, key=lambda one: one.identity):
        first = joined.get(source.identity)
        joined[source.identity] = (
            source
            if first is None
            else replace(
                first,
                objects=first.objects + source.objects,
                notes=first.notes + source.notes,
                patient=first.patient or source.patient,
                rejected=first.rejected + source.rejected,
            )
        )
    return list(joined.values())


def _spread(path: Path) -> list[Path]:
    """Return the stores in a folder of stores, or else the path itself."""
    from napari_histosam.store.places import SUFFIX

    with explained(path, "read"):
        if not path.exists():
            raise InputError(f"There is no {path}; name a store, a slide or a folder of stores.")
        if not path.is_dir():
            return [path]
        # A slide can be a folder, too; but no store lies inside it.
        return sorted(path.glob(f"*{SUFFIX}")) or [path]


def _is_store(path: Path) -> bool:
    if path.is_dir():
        return False
    with explained(path, "read"), path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _of_store(path: Path, look_in: Sequence[Path]) -> SlideSource:
    from napari_histosam.store import ObjectStore
    from napari_histosam.store.places import SUFFIX

    # Read whole and closed at once: who opens the slide meanwhile shall be able to edit.
    with ObjectStore.open(path) as store:
        identity, name = store.slide_identity, store.slide_name
        objects, wrong = tuple(store.iterate()), tuple(store.rejected())
        patient = _patient(store)
    beside = path.name.removesuffix(SUFFIX)
    # A name from a file must not lead anywhere else.
    name = Path(name).name or beside
    strangers = []
    for place in _places(path, [one for one in (beside, name) if one != path.name], look_in):
        with open_slide(place) as slide:
            if not identity or slide.identity == identity:
                return _source(slide, objects, patient=patient, rejected=wrong)
        strangers.append(place)
    if strangers:
        raise InputError(
            f"{strangers[0]} is not the slide {name} that the objects in {path} were drawn on; "
            "give that one with --slides."
        )
    raise InputError(
        f"The slide {name} of {path} is not there; put it beside its store or give its folder "
        "with --slides."
    )


def _places(store: Path, names: Sequence[str], look_in: Sequence[Path]) -> Iterable[Path]:
    """Yield where a store's slide may be, likely places first."""
    yield from (one for one in dict.fromkeys(map(store.with_name, names)) if one.exists())
    for path in look_in:
        if not path.exists():
            raise InputError(f"There is no {path} to look for slides in; check --slides.")
        if path.is_file() or path.name in names:
            yield path
        else:
            for name in dict.fromkeys(names):
                yield from sorted(path.rglob(glob.escape(name)))


def _of_slide(path: Path) -> SlideSource:
    from napari_histosam.home import home
    from napari_histosam.store import ObjectStore, store_path
    from napari_histosam.store.places import beside

    with open_slide(path) as slide:
        where = store_path(path.absolute(), slide.identity, home())
        if not where.is_file():
            where = beside(path)  # in a folder that may not be written
        if not where.is_file():
            raise InputError(
                f"No objects are kept for {path}: accept some first, or give an annotation file "
                "with --annotations."
            )
        with ObjectStore.open(where, slide_identity=slide.identity) as store:
            return _source(
                slide,
                tuple(store.iterate()),
                patient=_patient(store),
                rejected=tuple(store.rejected()),
            )


def _patient(store: ObjectStore) -> str:
    return str(store.setting(SETTING, "") or "").strip()


def _of_annotations(pair: Annotated) -> SlideSource:
    if not pair.annotations.is_file():
        raise InputError(f"There is no file {pair.annotations}; check --annotations.")
    with open_slide(pair.slide) as slide:
        context = ExportContext(
            mpp=slide.mpp,
            bounds=slide.bounds,
            size=(slide.width, slide.height),
            slide_name=slide.name,
        )
        result = read(pair.annotations, context)
        told = _ids_in(pair.annotations)
        objects = tuple(
            one if one.id.casefold() in told else replace(one, id=_made_id(slide.identity, one, n))
            for n, one in enumerate(result.objects)
        )
        notes = tuple(f"{pair.annotations.name}: {warning}" for warning in result.warnings)
        return _source(slide, objects, notes)


def _ids_in(path: Path) -> set[str]:
    """Return all UUIDs that a file, or the table beside a label image, names."""
    from napari_histosam.exchange.labels import mapping_path

    found: set[str] = set()
    for place in (path, mapping_path(path)):
        if place.is_file():
            with explained(place, "read"):
                data = place.read_bytes()
                if data[:2] == b"\x1f\x8b":
                    data = gzip.decompress(data)
            found |= {one.decode().casefold() for one in _UUID.findall(data)}
    return found


def _made_id(identity: str, one: SlideObject, number: int) -> str:
    """Return an id that is the same at each reading, where the file itself gives none."""
    shape = shapely.to_wkb(one.geometry, hex=True)
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{identity}:{number}:{one.class_name}:{shape}"))


def _source(
    slide: Slide,
    objects: tuple[SlideObject, ...],
    notes: tuple[str, ...] = (),
    patient: str = "",
    rejected: tuple[Rejected, ...] = (),
) -> SlideSource:
    assert slide.path is not None  # it was opened from a file
    return SlideSource(
        identity=slide.identity,
        name=slide.name,
        path=slide.path,
        size=(slide.width, slide.height),
        mpp=slide.mpp,
        objects=objects,
        notes=notes,
        patient=patient,
        rejected=rejected,
    )
