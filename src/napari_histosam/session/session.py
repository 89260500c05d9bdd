"""One slide, one store, one model, one user: prompts in, previews out, objects kept."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import shapely
from psygnal import Signal

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.jobs import Priority, SerialWorker
from napari_histosam.models import EmbeddingCache, ModelRegistry
from napari_histosam.records import Prompt
from napari_histosam.session.answer import Answerer, Preview, Request, choose
from napari_histosam.session.objects import ObjectDesk
from napari_histosam.session.outcome import to_object
from napari_histosam.session.prompts import PromptSet
from napari_histosam.session.windows import neighbours
from napari_histosam.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_histosam.jobs import Dispatcher
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.records import Role
    from napari_histosam.session.answer import ObjectPreview
    from napari_histosam.session.editing import Edit
    from napari_histosam.slide import Slide

DEFAULT_MODEL = "classical"
# Encoding ahead must not make a click wait behind it: only models quicker than this do it.
PREFETCH_BELOW_MS = 400.0


class Session:
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
    (what is going on; empty when idle), ``model_changed(ModelCard)``, ``failed(str)`` and ``said(str)``
    (sentences for the user), ``class_changed(str or None)``. All coordinates are level-0 px, corner based.
    """

    preview_changed = Signal(object)
    prompts_changed = Signal()
    busy_changed = Signal(str)
    model_changed = Signal(object)
    failed = Signal(str)
    said = Signal(str)
    class_changed = Signal(object)

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
        self._owns_store = store is None
        if store is None:
            store = ObjectStore.open(
                None, slide_identity=slide.identity, slide_name=slide.name, author=author
            )
        self.store = store
        self.registry = registry if registry is not None else ModelRegistry()
        self.cache = cache if cache is not None else EmbeddingCache(None)
        self.author = author
        self.prompts = PromptSet()
        self.objects = ObjectDesk(self.store)
        self.preview: Preview | None = None
        self.view_scale: float | None = None
        self.current_class: str | None = None
        self._generation = 0
        self._started: float | None = None
        self._refines: str | None = None
        self._closed = False
        self._dispatcher = dispatcher
        self._worker = SerialWorker("histosam-model") if dispatcher else None
        self._answerer: Answerer | None = None
        self.card: ModelCard = self.registry.get(model)
        self.set_model(model)

    # -- the model ---------------------------------------------------------------------------

    def set_model(self, name: str) -> None:
        """Load a model by name and, once it is there, answer the present prompts with it.

        Raises
        ------
        InputError
            If there is no such model (at once) or, without a dispatcher, if it cannot be loaded.
            With a dispatcher the second comes through ``failed`` and the old model stays.
        """
        card = self.registry.get(name)

        told: list[str] = []

        def load() -> Answerer:
            model = self.registry.load(name, say=told.append)
            return Answerer(self.slide, model, self.cache)

        def loaded(answerer: Answerer) -> None:
            for sentence in told:
                self.said.emit(sentence)
            self._answerer = answerer
            self.card = card
            self.model_changed.emit(card)
            if len(self.prompts):
                self._ask(fresh=True)

        self._run(load, loaded, f"Loading {name}…", Priority.NORMAL, "model")

    @property
    def device(self) -> str:
        """Where the model runs: ``"cpu"``, ``"cuda"``, ``"mps"``; empty while it loads."""
        return self._answerer.model.device if self._answerer else ""

    # -- prompts -----------------------------------------------------------------------------

    def add_point(self, x: float, y: float, *, positive: bool = True) -> None:
        """Click at a level-0 point."""
        self._add(shapely.Point(x, y), "positive" if positive else "negative")

    def add_box(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Drag a box; its corners in any order."""
        box = shapely.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        if box.area == 0:
            raise InputError("The box has no area; drag from one corner to the opposite one.")
        self._add(box, "box")

    def add_scribble(self, path: Iterable[tuple[float, float]], *, positive: bool = True) -> None:
        """Draw a line over (or, negative, outside of) the object."""
        points = list(path)
        role: Role = "positive" if positive else "negative"
        if len(points) < 2:
            x, y = points[0]
            self.add_point(x, y, positive=positive)
        else:
            self._add(shapely.LineString(points), role)

    def refine(self, object_id: str) -> None:
        """Give an accepted object to the model as a mask prompt; accepting then replaces it."""
        target = self.store.get(object_id)
        if target.locked:
            raise InputError("Select an object that is not locked, then refine it.")
        if "mask" not in self.card.prompts:
            raise InputError(
                f"{self.card.name} takes no mask as a prompt; choose another model, or click."
            )
        self.reject()
        self._refines = object_id
        self._add(target.geometry, "mask")

    def add_prompts(self, prompts: Iterable[Prompt]) -> None:
        """Add many prompts, of one object or several, and answer them in one go."""
        for prompt in prompts:
            self._note(prompt)
        self._ask()

    def next_object(self) -> None:
        """Send further prompts to another object, answered together with the present ones."""
        self.prompts.next_object()
        self.prompts_changed.emit()

    def next_candidate(self) -> None:
        """Show the next of the model's masks for the current object, round and round."""
        found = self.active
        if found is None or len(found[1].candidates.scores) < 2:
            return
        name, shown = found
        index = (shown.chosen + 1) % len(shown.candidates.scores)
        self._show({name: choose(shown, index)})

    # -- preview -----------------------------------------------------------------------------

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
        """Correct the preview in hand or, without one, the selected objects."""
        found = self.active
        if found is None:
            self.objects.edit(edit, label)
            return
        name, shown = found
        if shown.geometry is None:
            raise InputError("The mask is empty; click inside the object first.")
        self._show({name: replace(shown, geometry=edit(shown.geometry), edited=True)})

    def accept(self, class_name: str | None = None) -> list[str]:
        """Keep the previewed objects, on disk when this returns; return their ids.

        Parameters
        ----------
        class_name : str, optional
            Class for prompts that name none; else the current class.
        """
        if self.preview is None:
            return []
        seconds = time.monotonic() - self._started if self._started else None
        model = self._answerer.model if self._answerer else None
        found = [
            to_object(
                shown,
                model,
                class_name=class_name or self.current_class,
                author=self.author,
                seconds=seconds,
            )
            for shown in self.preview.objects.values()
        ]
        made = [o for o in found if o is not None]
        if not made:
            raise InputError("There is no mask to accept; click inside the object or drag a box.")
        if self._refines is not None and self._refines in self.store:
            old = self.store.get(self._refines)
            kept = replace(made[0], id=old.id, class_name=old.class_name, created=old.created,
                           object_type=old.object_type, name=old.name, metadata=old.metadata,
                           extra=old.extra)
            self.store.update([kept], label="Refine")
            ids = [kept.id]
        else:
            label = "Accept" if len(made) == 1 else f"Accept {len(made)}"
            ids = self.store.add(made, label=label)
        self._drop()
        return ids

    def reject(self) -> None:
        """Forget the prompts and the preview."""
        if len(self.prompts) or self.preview is not None:
            self._drop()

    # -- undo --------------------------------------------------------------------------------

    def undo(self) -> str | None:
        """Take back the last prompt or, with none in hand, the last edit; say which."""
        if len(self.prompts):
            self.prompts.undo()
            if not len(self.prompts):
                self._refines = None
            self.prompts_changed.emit()
            self._ask(fresh=True)
            return "prompt"
        change = self.store.undo()
        return change.label if change else None

    def redo(self) -> str | None:
        """Give again what was taken back last; say what."""
        if self.prompts.can_redo and self.prompts.redo():
            self.prompts_changed.emit()
            self._ask(fresh=True)
            return "prompt"
        change = self.store.redo()
        return change.label if change else None

    def set_class(self, class_name: str | None) -> None:
        """Choose the class for what is accepted next; selected objects get it at once."""
        self.current_class = class_name
        if self.preview is None and self.objects.selection:
            self.objects.set_class(class_name)
        self.class_changed.emit(class_name)

    @property
    def settled(self) -> bool:
        """Whether the model is there and every prompt given has been answered."""
        if self._answerer is None:
            return False
        asked = any(p.role != "negative" for p in self.prompts.all())
        if not asked:
            return True
        return self.preview is not None and self.preview.generation == self._generation

    def close(self) -> None:
        """Stop the worker and close what the session opened itself; the slide stays open."""
        self._closed = True
        self._generation += 1
        if self._worker:
            self._worker.close()
        if self._owns_store:
            self.store.close()

    # -- inside ------------------------------------------------------------------------------

    def _add(self, geometry: shapely.Geometry, role: Role) -> None:
        self._note(Prompt(geometry, role, self.prompts.current))
        self._ask()

    def _note(self, prompt: Prompt) -> None:
        kinds = {"positive": "point", "negative": "negative", "box": "box", "mask": "mask"}
        kind = "scribble" if prompt.geometry.geom_type == "LineString" else kinds[prompt.role]
        if kind not in self.card.prompts:
            raise InputError(
                f"{self.card.name} takes no {kind} as a prompt; it takes "
                f"{', '.join(self.card.prompts)}."
            )
        if self._started is None:
            self._started = time.monotonic()
        self.objects.select([])
        self.prompts.add(prompt)
        self.prompts_changed.emit()

    def _ask(self, *, fresh: bool = False) -> None:
        """Have the present prompts answered; ``fresh`` forgets earlier windows and logits."""
        self._generation += 1
        generation = self._generation
        groups = {
            name: prompts
            for name, prompts in self.prompts.by_object().items()
            if any(p.role != "negative" for p in prompts)
        }
        if not groups:
            self.preview = None
            self.preview_changed.emit(None)
            return
        if self._answerer is None:
            return  # the model is on its way and will answer when it is there
        answerer = self._answerer
        previous = dict(self.preview.objects) if self.preview and not fresh else {}
        request = Request(generation, groups, self.view_scale, previous)

        def work() -> Preview | None:
            return answerer.answer(request, stale=lambda: generation != self._generation)

        def answered(preview: Preview | None) -> None:
            if preview is not None and preview.generation == self._generation:
                self.preview = preview
                self.preview_changed.emit(preview)
                self._encode_ahead(answerer, preview)

        self._run(work, answered, "Thinking…", Priority.URGENT, "prompt")

    def _run(
        self,
        work: Callable[[], object],
        done: Callable[..., None],
        text: str,
        priority: Priority,
        key: str,
    ) -> None:
        """Do ``work`` here or on the worker, then ``done(result)`` on the owner's thread."""
        if self._worker is None or self._dispatcher is None:
            done(work())
            return
        dispatcher = self._dispatcher
        self.busy_changed.emit(text)

        def finish(future: object) -> None:
            dispatcher.call(lambda: deliver(future))

        def deliver(future: object) -> None:
            if self._closed or future.cancelled():  # type: ignore[attr-defined]
                return
            error = future.exception()  # type: ignore[attr-defined]
            if self._worker and self._worker.idle:
                self.busy_changed.emit("")
            if error is None:
                done(future.result())  # type: ignore[attr-defined]
            elif isinstance(error, HistosamError):
                self.failed.emit(str(error))
            else:
                self.failed.emit(f"{text.rstrip('…')} failed: {error or type(error).__name__}.")

        self._worker.submit(work, priority=priority, replaces=key).add_done_callback(finish)

    def _encode_ahead(self, answerer: Answerer, preview: Preview) -> None:
        """Encode the neighbours while the user thinks, if that is quick enough."""
        cost = answerer.last_encode_ms
        if self._worker is None or cost is None or cost > PREFETCH_BELOW_MS:
            return
        for shown in preview.objects.values():
            for index, window in enumerate(neighbours(self.slide, shown.window)):
                self._worker.submit(
                    lambda window=window: answerer.embedding(window),
                    priority=Priority.IDLE,
                    replaces=f"ahead-{index}",
                )

    def _show(self, changed: dict[str, ObjectPreview]) -> None:
        if self.preview is not None:
            self.preview = replace(self.preview, objects={**self.preview.objects, **changed})
            self.preview_changed.emit(self.preview)

    def _drop(self) -> None:
        self._generation += 1
        self._started = None
        self._refines = None
        self.prompts.clear()
        self.preview = None
        self.prompts_changed.emit()
        self.preview_changed.emit(None)
