"""Builds a data set in a folder, or brings the one that stands there up to date."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.jobs import CancelToken, Progress
from napari_histosam.train.dataset import documents
from napari_histosam.train.dataset.cut import Rows, cut, keep_frozen
from napari_histosam.train.dataset.earlier import read_earlier
from napari_histosam.train.dataset.folder import Folder, check_out, opened
from napari_histosam.train.dataset.kinds import Marked, mark
from napari_histosam.train.dataset.notes import refuse_empty, warnings
from napari_histosam.train.dataset.patients import patient_of, patients_of
from napari_histosam.train.dataset.rejected import rejections
from napari_histosam.train.dataset.report import BuildReport, lacking
from napari_histosam.train.dataset.scale import choose_scale
from napari_histosam.train.dataset.sources import SlideSource, read_sources
from napari_histosam.train.dataset.splits import Placed, place
from napari_histosam.train.dataset.windows import Planned, plan, plan_background

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari_histosam.train.dataset.earlier import Earlier
    from napari_histosam.train.dataset.request import Request, Settings
    from napari_histosam.train.dataset.scale import Scale


@dataclass(frozen=True)
class _Work:
    """One slide that is to be cut."""

    source: SlideSource
    marked: Marked
    planned: list[Planned]


def build(
    request: Request,
    report: Callable[[Progress], None] | None = None,
    cancel: CancelToken | None = None,
) -> BuildReport:
    """Build a data set.

    Parameters
    ----------
    request : Request
    report : callable, optional
        Told how far the work has come.
    cancel : CancelToken, optional
        Stops it at the next window.

    Returns
    -------
    BuildReport

    Raises
    ------
    InputError
        If a source cannot be used, or the folder cannot be written.
    Cancelled
        If it was stopped. After this and any other error, and also if the process is killed, the
        older data set in the folder is as it was.

    Notes
    -----
    The same sources, settings and older data set give the same bytes. Slides stay in the split
    that they have had in the folder, and the windows of its test set stay as they are.
    """
    begin = time.perf_counter()
    cancel = cancel or CancelToken()
    tell = report or _silent
    out = Path(request.out).expanduser().absolute()
    check_out(out)

    def reading(name: str) -> None:
        cancel.check()
        tell(Progress(0, None, f"Reading {name}"))

    sources = read_sources(request.stores, request.annotated, request.look_in, reading)
    settings = request.settings
    marked = [
        mark(
            one.objects,
            one.size,
            settings.region_classes,
            automatic=settings.automatic,
            reviewed_only=settings.reviewed_only,
        )
        for one in sources
    ]
    refuse_empty(sources, marked)
    with opened(out):
        earlier = read_earlier(out)
        if earlier is not None and earlier.seed != settings.seed:
            raise InputError(
                f"{out} was split with seed {earlier.seed}, and its slides must stay where they "
                "are: give that --seed or a new folder."
            )
        folder = Folder(out, earlier.files if earlier else {})
        try:
            made = _build(request, sources, marked, earlier, folder, tell, cancel)
        except BaseException:
            folder.undo()
            raise
        folder.sweep()
    return replace(made, seconds=time.perf_counter() - begin)


def _build(
    request: Request,
    sources: Sequence[SlideSource],
    marked: Sequence[Marked],
    earlier: Earlier | None,
    folder: Folder,
    tell: Callable[[Progress], None],
    cancel: CancelToken,
) -> BuildReport:
    settings = request.settings
    if earlier is not None and not settings.licence:
        settings = replace(settings, licence=str(earlier.manifest.get("licence", "")))
    frozen = earlier.frozen() if earlier and not settings.refreeze else {}
    scale = choose_scale(
        settings,
        [(one.mpp, found.shapes) for one, found in zip(sources, marked, strict=True)],
        _kept_scale(earlier, settings),
    )
    request = replace(request, patients=patients_of(request.patients, sources))
    groups = _groups(request.patients, sources, frozen)
    placed = place(
        groups,
        settings.seed,
        settings.val,
        settings.test,
        earlier.placed(refreeze=settings.refreeze) if earlier else None,
        frozen=bool(frozen),
    )
    todo = {
        one.identity: _Work(one, found, _planned(one, found, scale, settings))
        for one, found in zip(sources, marked, strict=True)
        if one.identity not in frozen
    }
    rows = Rows()
    total = sum(len(work.planned) for work in todo.values())
    names = [one.class_name for work in todo.values() for one in work.marked.objects]
    for key in frozen:
        names += earlier.class_names(key) if earlier else []
    classes = documents.class_ids(names, earlier.classes if earlier else {})

    def step() -> None:
        cancel.check()
        tell(Progress(len(rows.items), total, "Cutting windows"))

    for identity in sorted({*todo, *frozen}):
        if identity in frozen:
            assert earlier is not None
            keep_frozen(earlier, identity, classes, folder, rows)
            total += len(earlier.items_of(identity))
            continue
        work = todo[identity]
        split = placed[identity].split
        cut(work.source, work.marked, work.planned, scale, split, classes, folder, rows, step)
    slides = _slides(todo, frozen, placed, groups, rows, settings, scale)
    bare = any(work.source.mpp is None for work in todo.values())
    told = {"mpp": scale.mpp, "px": scale.px if bare else None, "why": scale.why}
    # Also of slides that are not given now: one that was trained on must not come back as a test.
    seen = {**(earlier.placed(refreeze=False) if earlier else {}), **placed}
    wrong = [
        line
        for identity in sorted(todo)
        for line in rejections(todo[identity].source, placed[identity].split)
    ]
    made = documents.render(
        folder.out.name, rows, slides, classes, told, settings, folder.hashes, seen, wrong
    )
    cancel.check()
    folder.exchange(made)
    tell(Progress(total, total, "Cutting windows"))
    found = documents.counts(rows, slides)
    before = {item["id"] for item in earlier.items} if earlier else set()
    now = {item["id"] for item in rows.items}
    return BuildReport(
        out=folder.out,
        slides=len(slides),
        windows=len(rows.items),
        objects=sum(part["objects"] for part in found.values()),
        counts=found,
        classes=classes,
        mpp=scale.mpp,
        scale=scale.why,
        added=len(now - before),
        kept=len(now & before),
        removed=len(before - now),
        lacking=tuple(lacking(found, [one["group"] for one in slides])),
        warnings=tuple(warnings(request, sources, marked, frozen, placed, rows)),
        seconds=0.0,
    )


def _planned(
    source: SlideSource, marked: Marked, scale: Scale, settings: Settings
) -> list[Planned]:
    found = plan(marked, source.size, source.mpp, scale, settings.size)
    most = math.ceil(settings.background * max(len(found), 1))
    seed = f"background:{settings.seed}:{source.identity}"
    return found + plan_background(
        marked, source.size, source.mpp, scale, settings.size, most, seed
    )


def _kept_scale(
    earlier: Earlier | None, settings: Settings
) -> tuple[float | None, float | None, str] | None:
    """Return the scale of the older data set if it was chosen for windows and objects alike."""
    if earlier is None:
        return None
    before = earlier.manifest["settings"]
    wish = (settings.mpp, settings.size, list(settings.object_px))
    same = wish == (before.get("mpp"), before.get("size"), before.get("object_px"))
    return earlier.scale if same else None


def _groups(
    patients: Mapping[str, str],
    sources: Sequence[SlideSource],
    frozen: Mapping[str, Mapping[str, Any]],
) -> dict[str, str]:
    """Return identity → group; a patient stands in it under a hash, not by name."""
    groups = {key: str(one["group"]) for key, one in frozen.items()}
    names = {key: str(one["name"]) for key, one in frozen.items()}
    names.update({one.identity: one.name for one in sources})
    for identity, name in names.items():
        patient = patient_of(patients, name, identity)
        if patient is not None:
            digest = hashlib.sha256(f"patient:{patient}".encode()).hexdigest()
            groups[identity] = f"patient-{digest[:16]}"
        else:
            groups.setdefault(identity, identity)
    return groups


def _slides(
    todo: Mapping[str, _Work],
    frozen: Mapping[str, Mapping[str, Any]],
    placed: Mapping[str, Placed],
    groups: Mapping[str, str],
    rows: Rows,
    settings: Settings,
    scale: Scale,
) -> list[dict[str, Any]]:
    """Return what the manifest says of each slide, by identity."""
    slides: list[dict[str, Any]] = []
    windows = Counter(item["slide"] for item in rows.items)
    objects: dict[str, Counter[str | None]] = {key: Counter() for key in todo}
    for item in rows.items:
        if item["slide"] in objects:
            objects[item["slide"]].update(
                line["class"] for line in rows.lines[item["id"]] if line["home"]
            )
    for identity in sorted({*todo, *frozen}):
        if identity in frozen:
            slides.append({**frozen[identity], "group": groups[identity]})
            continue
        source, at = todo[identity].source, placed[identity]
        one: dict[str, Any] = {
            "identity": identity,
            "name": source.name,
            "size": list(source.size),
            "mpp": None if source.mpp is None else list(source.mpp),
            "group": groups[identity],
            "split": at.split,
            "why": at.why,
            "windows": windows[identity],
            "objects": objects[identity].total(),
            "by_class": documents.by_class_rows(objects[identity]),
            "cut": {"size": settings.size, "scale": list(scale.of(source.mpp))},
        }
        if at.split == "test":
            # To tell later on what was corrected since.
            one["digests"] = dict(sorted(todo[identity].marked.digests.items()))
        slides.append(one)
    return slides


def _silent(progress: Progress) -> None:
    """Tell nobody."""
