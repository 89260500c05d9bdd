"""One slide, one store, one model, one user: prompts in, previews out, objects kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import shapely
from psygnal import Signal

from napari_histosam.errors import InputError
from napari_histosam.models import EmbeddingCache, ModelRegistry
from napari_histosam.records import Prompt
from napari_histosam.session.asking import Asking, Ears
from napari_histosam.session.comparing import Comparing
from napari_histosam.session.fitting import fitted
from napari_histosam.session.objects import ObjectDesk
from napari_histosam.session.outcome import keep, to_objects
from napari_histosam.session.prompt_set import PromptSet
from napari_histosam.session.side_by_side import SideBySide
from napari_histosam.session.usual_size import usual_side
from napari_histosam.session.working import Workbench
from napari_histosam.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from napari_histosam.exchange import ExportReport
    from napari_histosam.jobs import Dispatcher
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.records import Role
    from napari_histosam.session.answer import Answerer
    from napari_histosam.session.editing import Edit
    from napari_histosam.session.previews import ObjectPreview, Preview
    from napari_histosam.session.prompt_set import Moment
    from napari_histosam.slide import Slide

DEFAULT_MODEL = "histosam-small"


class Session(SideBySide):
    """A user's work on one slide.

    Parameters
    ----------
    slide : Slide
    store : ObjectStore, optional
        Where objects are kept; in memory if not given.
    model : str
        Name of the model to begin with.
    registry : ModelRegistry, optional
    cache : EmbeddingCache, optional
        Shared between sessions where several are open.
    author : str
        Kept with each accepted object.
    dispatcher : Dispatcher, optional
        Given, models run on a worker thread and results come back through it. Without one, every
        call returns when its answer is there: the form for scripts.

    Notes
    -----
    Signals: ``preview_changed(Preview or None)``, ``prompts_changed()``, ``busy_changed(str)``
    (what is going on; empty when idle), ``model_changed(ModelCard)``, ``failed(str)`` and
    ``said(str)`` (sentences for the user), ``class_changed(str or None)``,
    ``comparison_changed(Comparison or None)``. All coordinates are level-0 px, corner based.

    What the user asks for and cannot be done raises an `InputError` at once. What goes wrong in a
    model comes through ``failed``; without a dispatcher it is raised as well.

    Examples
    --------
    >>> from napari_histosam import Session, open_slide
    >>> with open_slide("CMU-1-Small-Region.svs") as slide, Session(slide) as session:
    ...     session.add_point(1134, 2027)
    ...     first = session.accept("Nucleus")
    ...     session.add_box(1124, 1989, 1136, 2004)
    ...     session.add_point(1130, 1997)
    ...     second = session.accept("Nucleus")
    ...     report = session.export("nuclei.geojson")
    >>> report.n
    2
    """

    preview_changed = Signal(object)
    prompts_changed = Signal()
    busy_changed = Signal(str)
    model_changed = Signal(object)
    failed = Signal(str)
    said = Signal(str)
    class_changed = Signal(object)
    comparison_changed = Signal(object)

    def __init__(
        self,
        slide: Slide,
        *,
        store: ObjectStore | None = None,
        model: str = DEFAULT_MODEL,
        registry: ModelRegistry | None = None,
        cache: EmbeddingCache | None = None,
        author: str = "",
        dispatcher: Dispatcher | None = None,
    ) -> None:
        self.slide = slide
        self.registry = registry if registry is not None else ModelRegistry()
        card = self.registry.get(model)
        self._owns_store = store is None
        if store is None:
            store = ObjectStore.open(
                None, slide_identity=slide.identity, slide_name=slide.name, author=author
            )
        self.store = store
        self.cache = cache if cache is not None else EmbeddingCache(None)
        self.author = author
        self.prompts = PromptSet()
        self.objects = ObjectDesk(self.store)
        self.current_class: str | None = None
        self._undone_edits = 0  # store steps taken back after prompts were
        self._started: float | None = None
        self._bench = Workbench(dispatcher, self.busy_changed.emit)
        self._asking = Asking(
            slide,
            self.prompts,
            self.registry,
            self.cache,
            card,
            self._bench,
            Ears(
                preview=self._on_preview,
                model=self.model_changed.emit,
                failed=self.failed.emit,
                said=self.said.emit,
            ),
            lambda: usual_side(self.store, self.current_class),
        )
        self._comparing = Comparing(
            slide,
            self.registry,
            self.cache,
            self._bench,
            self.comparison_changed.emit,
            self._asking.say,
        )
        try:
            self.set_model(model)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- the model ---------------------------------------------------------------------------

    def set_model(self, name: str) -> None:
        """Load a model by name and, once it is there, answer the present prompts with it.

        Raises
        ------
        InputError
            At once, if there is no such model or it does not take the prompts in hand. If it
            cannot be loaded, that comes through ``failed``; the old model stays.
        """
        self._asking.load(name)

    @property
    def card(self) -> ModelCard:
        """The card of the model at work; while the first one loads, of that one."""
        return self._asking.card

    @property
    def device(self) -> str:
        """Where the model runs: ``"cpu"``, ``"cuda"``, ``"mps"``; empty while it loads."""
        return self._asking.device

    @property
    def settled(self) -> bool:
        """Whether the model is there and every prompt given has been answered."""
        return self._asking.settled

    @property
    def view_scale(self) -> float | None:
        """Level-0 px per screen px, for models that follow the zoom; None where there is none."""
        return self._asking.view_scale

    @view_scale.setter
    def view_scale(self, scale: float | None) -> None:
        self._asking.view_scale = scale

    def aside(self, work: Callable[[Answerer], Any]) -> Future[Any]:
        """Let a job use the model between the user's prompts, a short piece at a time.

        Raises
        ------
        InputError
            If the model is still loading.
        """
        return self._asking.aside(work)

    # -- prompts -----------------------------------------------------------------------------

    def add_point(self, x: float, y: float, *, positive: bool = True) -> None:
        """Click at a level-0 point; an `InputError` if the model cannot use it or it lies outside.

        That holds for boxes and scribbles, too; of theirs, what lies on the slide counts.
        """
        self._add(shapely.Point(x, y), "positive" if positive else "negative")

    def add_box(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Drag a box, its corners in any order."""
        self._add(shapely.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), "box")

    def add_scribble(self, path: Iterable[tuple[float, float]], *, positive: bool = True) -> None:
        """Draw a line over (or, negative, outside of) the object."""
        points = list(path)
        if not points:
            raise InputError("The scribble is empty; draw over the object.")
        line = shapely.LineString(points) if len(points) > 1 else shapely.Point(points[0])
        self._add(line, "positive" if positive else "negative")

    def add_prompts(self, prompts: Iterable[Prompt]) -> None:
        """Add many prompts, of one object or several, answered in one go; one undo step.

        Raises
        ------
        InputError
            If one of them cannot be used; then none is added.
        """
        self._give(list(prompts))

    def refine(self, object_id: str) -> None:
        """Give an accepted object to the model as a mask prompt; accepting then replaces it."""
        target = self.store.get(object_id)
        if target.locked:
            raise InputError("This object is locked; unlock it, then refine it.")
        if target.geometry.geom_type not in ("Polygon", "MultiPolygon"):
            raise InputError("Only objects with an area can be refined; select another one.")
        prompt = Prompt(target.geometry, "mask")
        fitted([prompt], self._size, self.card)  # refused before the prompts in hand go
        self.reject()
        self._give([prompt], refines=object_id)

    def next_object(self) -> None:
        """Send further prompts to another object, answered together with the present ones."""
        self.prompts.next_object()
        self.prompts_changed.emit()

    def next_candidate(self) -> None:
        """Show the next of the model's masks for the current object, round and round."""
        found = self.active
        if found is None or len(found[1].candidates) < 2:
            return
        name, shown = found
        index = (shown.chosen + 1) % len(shown.candidates)
        self._asking.change(name, shown.choose(index, self._size))

    # -- preview -----------------------------------------------------------------------------

    @property
    def preview(self) -> Preview | None:
        """What is shown; perhaps still the answer to the prompts before the last."""
        return self._asking.preview

    @property
    def active(self) -> tuple[str, ObjectPreview] | None:
        """Id and preview of the object that corrections go to: the current, else the last."""
        if self.preview is None or not self.preview.objects:
            return None
        name = self.prompts.current
        if name not in self.preview.objects:
            name = list(self.preview.objects)[-1]
        return name, self.preview.objects[name]

    def edit(self, edit: Edit, label: str) -> None:
        """Correct the preview in hand or, without one, the selected objects.

        Raises
        ------
        InputError
            If there is nothing to correct, or the model has yet to answer.
        """
        if not self.prompts.answerable():
            self.objects.edit(edit, label)
            return
        self._asking.check_answered()
        found = self.active
        if found is None or found[1].geometry is None:
            raise InputError("The mask is empty; click inside the object first.")
        name, shown = found
        corrected = shown.corrected(edit(found[1].geometry))
        self.prompts.note_correction(self.preview)
        self._undone_edits = 0
        self._asking.change(name, corrected)

    def accept(self, class_name: str | None = None) -> list[str]:
        """Keep the previewed objects, on disk when this returns; return their ids.

        Parameters
        ----------
        class_name : str, optional
            Class for prompts that name none; else the current class.

        Raises
        ------
        InputError
            If there is no mask, the model has yet to answer, or the store is read-only.
        """
        self._asking.check_answered()
        seconds = None if self._started is None else time.monotonic() - self._started
        shown = self.preview.objects if self.preview is not None else {}
        chosen = class_name or self.current_class
        made = to_objects(shown, class_name=chosen, author=self.author, seconds=seconds)
        made = self._with_record(made, shown)
        if not made:
            raise InputError("The mask is empty; click inside the object or drag a box round it.")
        ids = keep(self.store, made, self.prompts.refines, class_name)
        empty = len(shown) - len(made)
        self._drop()
        if empty:
            self.said.emit(f"{empty} of {len(shown)} masks were empty and have been left out.")
        return ids

    def reject(self) -> None:
        """Forget the prompts and the preview."""
        if len(self.prompts) or self.preview is not None:
            self._drop()

    # -- undo --------------------------------------------------------------------------------

    def undo(self) -> str | None:
        """Take back the last prompt or, with none in hand, the last edit; say which."""
        count = len(self.prompts)
        moment = self.prompts.undo(self.preview)
        if moment is not None:
            return self._return_to(moment, count)
        change = self.store.undo()
        if change is None:
            return None
        self._undone_edits += int(self.prompts.can_redo)
        return change.label

    def redo(self) -> str | None:
        """Do again what was taken back last; say what."""
        change = self.store.redo() if self._undone_edits or not self.prompts.can_redo else None
        if change is not None:
            self._undone_edits = max(0, self._undone_edits - 1)
            return change.label
        self._undone_edits = 0
        count = len(self.prompts)
        moment = self.prompts.redo(self.preview)
        return None if moment is None else self._return_to(moment, count)

    def set_class(self, class_name: str | None) -> None:
        """Choose the class for what is accepted next; selected objects get it at once."""
        self.current_class = class_name
        self.class_changed.emit(class_name)
        if self.preview is None and self.objects.selection:
            self.objects.set_class(class_name)

    # -- the end -----------------------------------------------------------------------------

    def export(self, path: Path | str) -> ExportReport:
        """Write all accepted objects in the format of the path's suffix, whole or not at all."""
        from pathlib import Path

        from napari_histosam.exchange import write
        from napari_histosam.session.handover import context_of

        context = context_of(self.slide, self.store.classes())
        return write(self.store.iterate(), Path(path), slide_info=context)

    def close(self) -> None:
        """Stop the worker and close what the session opened itself; the slide stays open."""
        self._bench.close()
        if self._owns_store:
            self.store.close()

    # -- inside ------------------------------------------------------------------------------

    @property
    def _size(self) -> tuple[int, int]:
        return self.slide.width, self.slide.height

    def _add(self, geometry: shapely.Geometry, role: Role) -> None:
        self._give([Prompt(geometry, role, self.prompts.current)])

    def _give(self, prompts: list[Prompt], refines: str | None = None) -> None:
        if self._bench.closed:
            raise InputError("This slide is closed; open it again to go on.")
        given = fitted(prompts, self._size, self.card, named=len(prompts) > 1)
        if not given:
            return
        if self._started is None:
            self._started = time.monotonic()
        self._undone_edits = 0
        self.objects.select([])
        link = (given[0].object, refines) if refines else None
        self.prompts.add(given, self.preview, refines=link)
        self.prompts_changed.emit()
        self._asking.ask()

    def _on_preview(self, preview: Preview | None) -> None:
        self.preview_changed.emit(preview)
        self._ask_others()

    def _return_to(self, moment: Moment, count: int) -> str:
        self.prompts_changed.emit()
        self._asking.bring_back(moment.shown)
        return "correction" if len(moment.prompts) == count else "prompt"

    def _drop(self) -> None:
        self._undone_edits = 0
        self._started = None
        self.prompts.clear()
        self.prompts_changed.emit()
        self._asking.drop()
