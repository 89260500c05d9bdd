"""Runs a model over the tiles of a plan; what it finds goes into the store batch by batch."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.errors import InputError
from napari_histosam.jobs import CancelToken, PauseSwitch, Progress
from napari_histosam.records import Provenance, SlideObject, now
from napari_histosam.session.automate.keeping import Neighbours, sift
from napari_histosam.session.automate.looking import LookHere
from napari_histosam.session.automate.pace import Pace, in_words
from napari_histosam.session.automate.plan import key_of
from napari_histosam.session.automate.request import Outcome, check_automatic
from napari_histosam.slide import find_anything
from napari_histosam.store import RunJournal

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.models.automatic import AutomaticModel, Detections
    from napari_histosam.session.automate.keeping import Kept
    from napari_histosam.session.automate.looking import Looker
    from napari_histosam.session.automate.plan import Tile
    from napari_histosam.session.automate.request import AutomateRequest
    from napari_histosam.slide import Slide
    from napari_histosam.store import Change, ObjectStore, Run

# A batch is written when it has so many objects or tiles, or so many seconds after the last one:
# the window shows what was found, a killed run loses little, and a write stays short.
BATCH_OBJECTS, BATCH_TILES, BATCH_S = 200, 64, 2.0


def automate(
    slide: Slide,
    store: ObjectStore,
    model: AutomaticModel,
    request: AutomateRequest,
    *,
    report: Callable[[Progress], None] = lambda _progress: None,
    cancel: CancelToken | None = None,
    pause: PauseSwitch | None = None,
    announce: Callable[[Change], None] | None = None,
    look: Looker[Detections] | None = None,
    repeat: bool = True,
) -> Outcome:
    """Find all objects of a plan; a job, for a thread of its own.

    The objects are one undoable step of the store. A run that was stopped or killed goes on where
    its journal ends when it is asked for again; the tiles are worked through in a fixed order, and
    objects and the mark of their tile are written together, so that it ends with the same objects.
    What is in the store already is left as it is, and nothing is added in its place.

    Parameters
    ----------
    slide : Slide
    store : ObjectStore
    model : AutomaticModel
    request : AutomateRequest
    report : callable
        Gets a Progress in tiles, with the time left in its text.
    cancel, pause : CancelToken, PauseSwitch, optional
        Looked at between tiles. What was found until then stays.
    announce : callable of Change, optional
        Called on this thread after each batch; by default the store's ``changed`` is emitted here.
    look : Looker, optional
        Finds the objects of the tiles; by default ``model`` does, here.
    repeat : bool
        Whether a run that has ended is done once more; else what it gave is told again.

    Raises
    ------
    InputError
        If the model finds no objects by itself, the store is read-only, or the user has undone the
        run.
    """
    check_automatic(model.card)
    if store.read_only:
        raise InputError(store.read_only_reason or "The objects are open for reading only.")
    report(Progress(0, None, "Looking where there is tissue"))
    tissue = find_anything(slide) if request.skip_glass else None
    tiles = [tile.number for tile in request.plan.tiles(tissue)]
    writing = _Writing(slide, store, model, request, announce or store.changed.emit, repeat)
    todo = len(tiles) - len(writing.done)
    cancel, pause, pace = cancel or CancelToken(), pause or PauseSwitch(), Pace(todo)
    before = frozenset(writing.done)
    open_tiles = (tile for tile in request.plan.tiles(tissue) if tile.number not in before)
    found = (look or LookHere(slide, model.find))(open_tiles)
    try:
        report(_progress(len(before), len(tiles), writing.objects, None))
        while True:
            if pause.paused:
                writing.flush()
                report(Progress(len(writing.done), len(tiles), "Paused"))
                pace.paused(pause.wait(cancel))
            if cancel.cancelled:
                break
            one = next(found, None)
            if one is None:
                break
            writing.take(*one)
            done = len(writing.done)
            report(_progress(done, len(tiles), writing.objects, pace.left(done - len(before))))
    finally:
        close = getattr(found, "close", None)
        if close is not None:
            close()
        writing.flush()
    finished = len(writing.done) == len(tiles)
    if finished:
        writing.end()
    return Outcome(
        run=writing.run,
        finished=finished,
        objects=writing.objects,
        tiles=len(tiles),
        tiles_done=len(writing.done),
        known=writing.counts["known"],
        cut=writing.counts["cut"],
        resumed=bool(before),
        seconds=pace.seconds,
    )


def key_for(slide: Slide, model: AutomaticModel, request: AutomateRequest) -> str:
    """Return a hash of all that decides the objects of a run; its journal is found by it."""
    return key_of(slide, model.card.name, model.weights_hash, request.describe())


class _Writing:
    """The store's side of a run: what is known, what waits to be written."""

    def __init__(
        self,
        slide: Slide,
        store: ObjectStore,
        model: AutomaticModel,
        request: AutomateRequest,
        announce: Callable[[Change], None],
        repeat: bool,
    ) -> None:
        self._store, self._model, self._request = store, model, request
        self._announce = announce
        self._journal = RunJournal(store)
        about = {"model": model.card.name, **request.describe()}
        key = key_for(slide, model, request)
        self.run: Run = self._journal.resumable(key, ended=not repeat) or self._journal.begin(
            key, f"Find with {model.card.name}", about
        )
        past = self._journal.done(self.run)
        self.done = set(past)
        self.counts: Counter[str] = Counter()
        for counts in past.values():
            self.counts.update(counts)
        named = (request.class_name,) if request.class_name else model.card.classes
        self._classes = tuple(named)
        self._tiles: dict[int, dict[str, int]] = {}
        self._waiting: list[SlideObject] = []
        self._written = time.monotonic()

    @property
    def objects(self) -> int:
        """How many objects the run has found so far."""
        return self.counts["objects"]

    def take(self, tile: Tile, found: Detections) -> None:
        """Keep what belongs to a tile."""
        sifted = sift(self._request.plan, tile, found, self._request.least_score)
        new, known = self._around(sifted.kept).new(sifted.kept)
        counts = {"objects": len(new), "known": known, "cut": sifted.cut}
        self._waiting += [self._object(one, tile) for one in new]
        self._tiles[tile.number] = counts
        self.done.add(tile.number)
        self.counts.update(counts)
        if (
            len(self._waiting) >= BATCH_OBJECTS
            or len(self._tiles) >= BATCH_TILES
            or time.monotonic() - self._written >= BATCH_S
        ):
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._tiles:
            tiles, objects = self._tiles, self._waiting
            self._tiles, self._waiting = {}, []
            change = self._journal.add(self.run, tiles, objects, self._classes)
            if change is not None:
                self._announce(change)
        self._written = time.monotonic()

    def end(self) -> None:
        """Note that the run is complete."""
        self._journal.end(self.run)

    def _around(self, kept: tuple[Kept, ...]) -> Neighbours:
        """Return what is there around some objects, written or waiting."""
        if not kept:
            return Neighbours([], [])
        left, top, right, bottom = shapely.total_bounds(
            np.array([one.shape for one in kept], object)
        ).tolist()
        there = self._store.shapes_in((left, top, right, bottom))
        own = self._journal.own(self.run, there.boxes.numbers.tolist())
        shapes = [shape for shape in there.geometries if shape is not None]
        numbers = [
            number
            for number, shape in zip(there.boxes.numbers.tolist(), there.geometries, strict=True)
            if shape is not None
        ]
        waiting = [one.geometry for one in self._waiting]
        return Neighbours(
            [*shapes, *waiting], [*(n in own for n in numbers), *(True for _ in waiting)]
        )

    def _object(self, one: Kept, tile: Tile) -> SlideObject:
        card, made = self._model.card, now()
        named = card.classes[one.kind] if one.kind < len(card.classes) else None
        return SlideObject(
            geometry=one.shape,
            class_name=self._request.class_name or named,
            object_type="detection",
            created=made,
            modified=made,
            provenance=Provenance(
                source="automatic",
                author=self._request.author,
                model=card.name,
                weights_hash=self._model.weights_hash,
                window=tile.window,
                score=one.score,
            ),
        )


def _progress(done: int, total: int, objects: int, left: float | None) -> Progress:
    words = [f"Tile {done:,} of {total:,}", f"{objects:,} objects"]
    if left is not None and done < total:
        words.append(in_words(left))
    return Progress(done, total, " · ".join(words))
