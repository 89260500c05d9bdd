"""Labels the patches of the slide at work: the grid, what mouse and keys set, files in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from napari_histosam.errors import InputError
from napari_histosam.exchange.options import ExportContext
from napari_histosam.exchange.patch_labels import (
    cells_of_regions,
    read_patch_labels,
    write_patch_labels,
)
from napari_histosam.geometry.grid import PatchGrid
from napari_histosam.records import PatchLabel
from napari_histosam.store import PatchBook
from napari_histosam.viewer.attempt import told
from napari_histosam.viewer.patch_overlay import VALUES, PatchFill, PatchLines
from napari_histosam.viewer.tools import Tool

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_histosam.geometry.grid import Cell
    from napari_histosam.records import PatchKind
    from napari_histosam.store import Change
    from napari_histosam.store.patches import PatchCount
    from napari_histosam.viewer.controller import Controller

SETTING = "patch_side"
# The classifier's own: 512 px at 0.25 µm/px; px where µm are not known.
USUAL_UM, USUAL_PX = 128.0, 512.0
_LABELS: dict[PatchKind | None, str] = {
    "tumour": "Label tumour",
    "normal": "Label normal",
    None: "Clear patch labels",
}


class PatchWork:
    """The patch labels of one session.

    Parameters
    ----------
    controller : Controller

    Attributes
    ----------
    kind : {"tumour", "normal"} or None
        What the mouse paints; None clears.

    Notes
    -----
    ``changed()`` is emitted when labels or the size of patches have changed.
    """

    changed = Signal()

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.book = PatchBook(controller.session.store)
        self.kind: PatchKind | None = "tumour"
        self._fill = PatchFill(controller.viewer, controller.frame)
        self._lines = PatchLines(controller.viewer, controller.frame)
        self._shown = False
        self._under: Cell | None = None
        self._side = self._kept_side()
        self._bare = controller.session.slide.mpp is None
        controller.session.store.changed.connect(self._on_store)
        camera = controller.viewer.scene.camera
        camera.events.center.connect(self._on_camera)
        camera.events.zoom.connect(self._on_camera)
        controller.viewer.mouse_move_callbacks.append(self._on_move)

    # -- the grid ----------------------------------------------------------------------------

    @property
    def overlays(self) -> tuple[PatchFill, PatchLines]:
        """The two layers."""
        return self._fill, self._lines

    @property
    def unit(self) -> str:
        """What the side of a patch counts: ``"µm"`` or ``"px"``."""
        return "px" if self._controller.session.slide.mpp is None else "µm"

    @property
    def side(self) -> float:
        """Side of a patch: µm, or level-0 px where the slide does not know them."""
        return self._side

    @property
    def grid(self) -> PatchGrid:
        """The slide's patches."""
        slide = self._controller.session.slide
        return PatchGrid.of((slide.width, slide.height), slide.mpp, self._side)

    def set_side(self, side: float) -> None:
        """Choose the size of patches; labels of other sizes stay, but are not shown."""
        if not 0 < side < 1e6:
            raise InputError(f"A patch cannot have a side of {side:g}; choose a larger one.")
        if side == self._side:
            return
        self._side = side
        store = self._controller.session.store
        if not store.read_only:
            store.set_setting(SETTING, side)
        self._under = None
        self.redraw()
        self.changed.emit()

    @property
    def count(self) -> PatchCount:
        """How many patches of this size are labelled."""
        return self.book.count(*self.grid.side)

    @property
    def others(self) -> int:
        """How many labels there are of patches of other sizes."""
        own = self.grid.side
        return sum(c.tumour + c.normal for c in self.book.counts() if not c.fits(*own))

    # -- labelling ---------------------------------------------------------------------------

    @property
    def in_hand(self) -> bool:
        """Whether the left button paints labels."""
        return self._controller.tool is Tool.PATCH

    def begin(self, kind: PatchKind | None) -> None:
        """Have the left button paint a label from now on; None clears labels."""
        self.kind = kind
        self._controller.set_tool(Tool.PATCH)

    def end(self) -> None:
        """Give the left button back."""
        if self.in_hand:
            self._controller.set_tool(Tool.CLICK)

    def label(self, cells: Iterable[Cell], kind: PatchKind | None) -> int:
        """Label cells of the grid as one step, None clears; return how many changed.

        Raises
        ------
        InputError
            If the store is read-only.
        """
        grid, cells = self.grid, list(cells)
        if kind is None:
            return self.book.clear((grid.box(*cell) for cell in cells), _LABELS[None])
        return self.book.put((PatchLabel(*grid.box(*c), kind) for c in cells), _LABELS[kind])

    def paint(self, path: NDArray[np.float64], *, erase: bool) -> None:
        """Label the cells that a line (n, 2) in level-0 px passes."""
        cells = self.grid.along(path)
        if not cells:
            raise InputError("That is outside the slide; paint over the tissue.")
        self.label(cells, None if erase else self.kind)

    def pend(self, path: NDArray[np.float64], *, erase: bool) -> None:
        """Show what a line will label, while it is drawn."""
        self._fill.pend(self.grid.along(path), None if erase else self.kind)

    def stop_pending(self) -> None:
        """Show the labels as they are."""
        if self._shown:
            self._show_labels()

    @told
    def label_under(self, kind: PatchKind | None) -> None:
        """Label the patch under the pointer."""
        at = self._controller.viewport.to_level0(self._controller.viewer.cursor.position)
        cell = self.grid.at(*at)
        if cell is None:
            raise InputError("The pointer is not over a patch; move it onto the tissue.")
        self.label([cell], kind)

    @told
    def label_region(self, kind: PatchKind) -> None:
        """Label all patches whose middle lies in the drawn region."""
        region = self._controller.region
        if region is None:
            raise InputError("Draw a line around a region first: press Draw region.")
        labels = cells_of_regions(self.grid, [(region, kind)])
        if not labels:
            raise InputError("No patch has its middle in the region; draw a larger one.")
        self.book.put(labels, f"{_LABELS[kind]} in a region")
        self._controller.set_region(None)
        self.say(f"{len(labels)} patches of the region are {kind}; Ctrl+Z takes it back.")

    def read(self, path: Path, classes: dict[str, PatchKind] | None = None) -> str:
        """Take labels from a file, as one step; return a sentence.

        Raises
        ------
        InputError
            If it cannot be read, holds none for this slide, or the store is read-only.
        """
        slide = self._controller.session.slide
        context = ExportContext(slide.mpp, slide.bounds, (slide.width, slide.height), slide.name)
        found = read_patch_labels(
            path, self.grid, context, identity=slide.identity, classes=classes
        )
        changed = self.book.put(found.labels, "Import patch labels")
        own = self.grid.side
        counts = [one for one in self.book.counts() if one.fits(*own)]
        if not counts and found.labels:
            # The file has patches of another size: show those.
            width = found.labels[0].width
            mpp = slide.mpp
            self.set_side(round(width * (mpp[0] if mpp else 1.0), 4))
        what = f"{changed} patch labels are new or other than before, from {path.name}."
        return " ".join([what, *found.notes])

    def write(self, path: Path) -> str:
        """Write all labels as a table; return a sentence.

        Raises
        ------
        InputError
            If there are none, or it cannot be written.
        """
        labels = self.book.all()
        if not labels:
            raise InputError("No patch is labelled yet; label some, then export them.")
        count = write_patch_labels(labels, path, self._controller.session.slide.name)
        return f"{count} patch labels are in {path.name}."

    def say(self, text: str) -> None:
        """Tell the user something."""
        self._controller.say(text)

    # -- showing -----------------------------------------------------------------------------

    def show(self, on: bool) -> None:
        """Show grid and labels, or take both layers out."""
        if on == self._shown:
            return
        self._shown = on
        if on:
            self.redraw()
            return
        self.end()
        for overlay in self.overlays:
            overlay.remove()

    @property
    def shown(self) -> bool:
        """Whether grid and labels are shown."""
        return self._shown

    def follow(self) -> None:
        """Take the slide's scale anew; patches stay as large as they were."""
        mpp = self._controller.session.slide.mpp
        if self._bare and mpp is not None:
            self._bare = False
            self.set_side(self._side * mpp[0])
        self.redraw()

    def redraw(self) -> None:
        """Draw grid and labels as they are now."""
        if self._shown:
            self._show_labels()
            self._show_lines()

    def redraw_lines(self) -> None:
        """Draw the grid as it is now."""
        if self._shown:
            self._show_lines()

    def close(self) -> None:
        """Let go of viewer and store."""
        controller, self._shown = self._controller, False
        controller.session.store.changed.disconnect(self._on_store)
        camera = controller.viewer.scene.camera
        camera.events.center.disconnect(self._on_camera)
        camera.events.zoom.disconnect(self._on_camera)
        if self._on_move in controller.viewer.mouse_move_callbacks:
            controller.viewer.mouse_move_callbacks.remove(self._on_move)
        for overlay in self.overlays:
            overlay.remove()

    def _show_labels(self) -> None:
        grid = self.grid
        cells = np.zeros((grid.rows, grid.columns), np.uint8)
        middles, tumour = self.book.middles(*grid.side)
        at = np.floor(middles / grid.side).astype(np.int64)
        on = ((at >= 0) & (at < (grid.columns, grid.rows))).all(1)
        values = np.where(tumour, VALUES["tumour"], VALUES["normal"])
        cells[at[on, 1], at[on, 0]] = values[on]
        self._fill.show(grid, cells)
        self._controller.keys.bind(self._fill.layer())

    def _show_lines(self) -> None:
        controller = self._controller
        under = self._under if self.in_hand else None
        self._lines.show(self.grid, controller.view, controller.unit, under)
        controller.keys.bind(self._lines.layer())

    def _kept_side(self) -> float:
        usual = USUAL_PX if self._controller.session.slide.mpp is None else USUAL_UM
        kept = self._controller.session.store.setting(SETTING, usual)
        plain = isinstance(kept, (int, float)) and 0 < kept < 1e6
        return float(kept) if plain else usual

    def _on_store(self, change: Change) -> None:
        if change.patches_changed or change.reset:
            if self._shown:
                self._show_labels()
            self.changed.emit()

    def _on_camera(self, _event: Any) -> None:
        self.redraw_lines()

    def _on_move(self, _viewer: Any, event: Any) -> None:
        if not (self._shown and self.in_hand):
            return
        under = self.grid.at(*self._controller.viewport.to_level0(event.position))
        if under != self._under:
            self._under = under
            self._show_lines()
