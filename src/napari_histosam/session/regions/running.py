"""Runs a region model over the windows of a plan, and writes the map of its probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.jobs import CancelToken, PauseSwitch, Progress
from napari_histosam.session.automate.looking import LookHere
from napari_histosam.session.automate.pace import Pace, in_words
from napari_histosam.session.regions.blending import Blender, as_fine
from napari_histosam.session.regions.canvas import Canvas
from napari_histosam.session.regions.region_map import about_folder
from napari_histosam.session.regions.request import RegionOutcome, check_regions, region_key
from napari_histosam.session.regions.scratch import Scratch, is_begun, sweep
from napari_histosam.slide import find_anything

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_histosam.models.automatic import RegionModel
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.session.automate.looking import Looker
    from napari_histosam.session.automate.plan import Tile
    from napari_histosam.session.regions.request import RegionRequest
    from napari_histosam.slide import Slide, TissueMask

    Box = tuple[int, int, int, int]


def map_regions(
    slide: Slide,
    model: RegionModel,
    request: RegionRequest,
    folder: Path,
    *,
    report: Callable[[Progress], None] = lambda _progress: None,
    cancel: CancelToken | None = None,
    pause: PauseSwitch | None = None,
    announce: Callable[[Box], None] | None = None,
    look: Looker[NDArray[np.float32]] | None = None,
) -> RegionOutcome:
    """Map the probabilities of a plan; a job, for a thread of its own.

    Tiles are worked through in a fixed order. Each is kept beside the map until all windows that
    overlap it are done, then its chunks are blended and written; only after that does it count as
    done. So a run that was stopped or killed goes on where it was when it is asked for again, and
    ends with the same bytes; memory holds a few windows, whatever the size of the slide.

    Parameters
    ----------
    slide : Slide
    model : RegionModel
    request : RegionRequest
    folder : Path
        Of the map; made if it is not there. A finished map of the same request is left as it is.
    report : callable
        Gets a Progress in tiles, with the time left in its text.
    cancel, pause : CancelToken, PauseSwitch, optional
        Looked at between tiles.
    announce : callable, optional
        Called on this thread with left, top, right, bottom in map px of what has got better: the
        map is then also written while windows are missing, and at every scale.
    look : Looker, optional
        Looks at the windows; by default ``model`` does, here.

    Raises
    ------
    InputError
        If the model maps no regions, the folder holds something else, or cannot be written.
    """
    check_regions(model.card)
    report(Progress(0, None, "Looking where there is tissue"))
    tissue = find_anything(slide)
    numbers = [tile.number for tile in request.plan.tiles() if _wanted(tile, tissue, request)]
    if _is_there(folder, region_key(slide, model, request)):
        return RegionOutcome(folder, True, len(numbers), len(numbers), True, 0.0)
    kinds, (wide, high) = len(model.card.classes), request.plan.size
    cancel, pause = cancel or CancelToken(), pause or PauseSwitch()
    with Scratch(folder, (kinds, high, wide)) as scratch:
        canvas = _opened(folder, slide, model, request, tissue, len(numbers))
        before = done = scratch.done
        pace = Pace(len(numbers) - before)
        work = _Writing(canvas, scratch, Blender(request.plan, numbers), numbers, announce)
        report(_progress(done, len(numbers), None))
        tiles = (request.plan.tile(number) for number in numbers[before:])
        seen = (look or LookHere(slide, model.probabilities))(tiles)
        try:
            while True:
                if pause.paused:
                    report(Progress(done, len(numbers), "Paused"))
                    pace.paused(pause.wait(cancel))
                if cancel.cancelled:
                    break
                one = next(seen, None)
                if one is None:
                    break
                work.take(done, _checked(model.card, *one))
                done += 1
                report(_progress(done, len(numbers), pace.left(done - before)))
        finally:
            close = getattr(seen, "close", None)
            if close is not None:
                close()
        finished = done == len(numbers)
        if finished:
            report(Progress(done, len(numbers), "Finishing the map"))
            canvas.finish()
            scratch.remove()
    return RegionOutcome(folder, finished, len(numbers), done, before > 0, pace.seconds)


class _Writing:
    """Takes tiles in order and writes what they complete."""

    def __init__(
        self,
        canvas: Canvas,
        scratch: Scratch,
        blender: Blender,
        numbers: list[int],
        announce: Callable[[Box], None] | None,
    ) -> None:
        self._canvas, self._scratch, self._blender = canvas, scratch, blender
        self._numbers = numbers
        self._announce = announce
        # Until which tile each one kept is needed.
        self._until = {number: self._last(number) for number in scratch.kept()}

    def take(self, at: int, likely: NDArray[np.uint16]) -> None:
        """Take the probabilities of the tile at a place in the order."""
        number = self._numbers[at]
        self._scratch.keep(number, likely)
        self._until[number] = self._last(number)
        box = self._blender.box(number)
        for chunk in self._canvas.chunks(box):
            covering = self._blender.covering(chunk)
            complete = covering[-1] == number
            if complete or self._announce is not None:
                there = [other for other in covering if other <= number]
                pixels = self._blender.blended(chunk, there, self._scratch.read, len(likely))
                self._canvas.write(chunk, pixels)
                if self._announce is not None:
                    self._canvas.lift(chunk)
        self._scratch.note(at + 1)
        for other in [other for other, until in self._until.items() if until <= number]:
            del self._until[other]
            self._scratch.drop(other)
        if self._announce is not None:
            self._announce(box)

    def _last(self, number: int) -> int:
        """Return the last tile that shares a chunk with this one."""
        chunks = self._canvas.chunks(self._blender.box(number))
        return max(self._blender.covering(chunk)[-1] for chunk in chunks)


def _is_there(folder: Path, key: str) -> bool:
    """Tell whether the very map is there and finished; refuse a folder with something else."""
    about = about_folder(folder)
    if about is None:
        if folder.exists() and not is_begun(folder) and any(folder.iterdir()):
            raise InputError(f"{folder} holds something else; name a new folder for the map.")
        return False
    if about.get("key") != key:
        raise InputError(
            f"{folder} holds another map (of {about.get('model')}, or of another part of the "
            "slide); name another folder, or remove it."
        )
    if about.get("finished"):
        sweep(folder)
    return bool(about.get("finished"))


def _opened(
    folder: Path,
    slide: Slide,
    model: RegionModel,
    request: RegionRequest,
    tissue: TissueMask,
    tiles: int,
) -> Canvas:
    """Open the map of a run under way, or begin one."""
    if about_folder(folder) is not None:
        return Canvas(folder)
    plan, mpp = request.plan, slide.mpp
    um = mpp or (1.0, 1.0)
    card = model.card
    step = tuple(scale * unit for scale, unit in zip(plan.scale, um, strict=True))
    return Canvas.create(
        folder,
        card.classes,
        plan.extent,
        {
            "kind": "regions",
            "version": 1,
            "key": region_key(slide, model, request),
            "model": card.name,
            "weights_hash": model.weights_hash,
            "classes": list(card.classes),
            "slide": slide.identity,
            "scale": list(plan.scale),
            "step": list(step),
            "origin": [(s - u) / 2 for s, u in zip(step, um, strict=True)],
            "unit": "micrometer" if mpp else None,
            "model_mpp": card.mpp,
            "tiles": tiles,
            "finished": False,
            **request.describe(),
        },
        tissue,
    )


def _wanted(tile: Tile, tissue: TissueMask, request: RegionRequest) -> bool:
    """Tell whether a tile's window, as far as it lies on the slide, shows enough tissue."""
    if not request.least_tissue:
        return True
    left, top, right, bottom = tile.window.bounds
    wide, high = request.plan.slide_size
    box = max(left, 0), max(top, 0), min(right, wide), min(bottom, high)
    return tissue.fraction(*box) >= request.least_tissue


def _checked(card: ModelCard, tile: Tile, seen: NDArray[np.float32]) -> NDArray[np.uint16]:
    likely = np.asarray(seen)
    wide, high = tile.window.size
    if likely.shape != (len(card.classes), high, wide) or not np.isfinite(likely).all():
        raise InputError(
            f"{card.name} gave no usable probabilities for a window; its weights may be "
            "damaged: import them again."
        )
    return as_fine(likely)


def _progress(done: int, total: int, left: float | None) -> Progress:
    words = [f"Tile {done:,} of {total:,}"]
    if left is not None and done < total:
        words.append(in_words(left))
    return Progress(done, total, " · ".join(words))
