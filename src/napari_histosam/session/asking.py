"""Keeps a model at work on the present prompts: loads it, asks it, drops late answers."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.jobs import Priority
from napari_histosam.session.boxing import answerer_for
from napari_histosam.session.fitting import check_taken
from napari_histosam.session.previews import Request
from napari_histosam.session.windows import neighbours

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from napari_histosam.models import EmbeddingCache, ModelRegistry
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.session.answer import Answerer
    from napari_histosam.session.previews import ObjectPreview, Preview
    from napari_histosam.session.prompt_set import PromptSet
    from napari_histosam.session.working import Workbench
    from napari_histosam.slide import Slide

_log = logging.getLogger(__name__)
# Encoding ahead must not make a click wait behind it: only models quicker than this do it.
PREFETCH_BELOW_MS = 400.0


@dataclass(frozen=True)
class Ears:
    """Who hears of what happens, on the owner's thread.

    Parameters
    ----------
    preview : callable of Preview or None
        Something else is to be shown.
    model : callable of ModelCard
        Another model is at work.
    failed, said : callable of str
        Sentences for the user.
    """

    preview: Callable[[Preview | None], None]
    model: Callable[[ModelCard], None]
    failed: Callable[[str], None]
    said: Callable[[str], None]


class Asking:
    """The way from the prompts in hand to the preview on the screen.

    Every change of the prompts raises a generation number; an answer to an older one is dropped,
    so that a late answer never overwrites a newer one.

    Parameters
    ----------
    slide : Slide
    prompts : PromptSet
    registry : ModelRegistry
    cache : EmbeddingCache
    card : ModelCard
        Of the model that will be loaded first.
    bench : Workbench
        Where models run.
    ears : Ears
    expected_side : callable
        Returns the side in level-0 px that the next object may be expected to have, or None.

    Attributes
    ----------
    card : ModelCard
        Of the model at work.
    preview : Preview or None
        What is shown; perhaps still the answer to the prompts before the last.
    view_scale : float or None
        Level-0 px per screen px, for models that follow the zoom.
    """

    def __init__(
        self,
        slide: Slide,
        prompts: PromptSet,
        registry: ModelRegistry,
        cache: EmbeddingCache,
        card: ModelCard,
        bench: Workbench,
        ears: Ears,
        expected_side: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.card = card
        self.preview: Preview | None = None
        self.view_scale: float | None = None
        self._slide, self._prompts = slide, prompts
        self._registry, self._cache = registry, cache
        self._bench, self._ears = bench, ears
        self._expected_side = expected_side
        self._answerer: Answerer | None = None
        self._wanted = card.name
        self._generation = 0
        self._unanswered: int | None = None  # the generation that the model failed to answer

    @property
    def device(self) -> str:
        """Where the model runs; empty while it loads."""
        return self._answerer.model.device if self._answerer else ""

    @property
    def settled(self) -> bool:
        """Whether the model is there and there is nothing to wait for."""
        if self._answerer is None:
            return False
        return self._unanswered == self._generation or self._is_answered()

    def load(self, name: str) -> None:
        """Load a model and, once it is there, have the present prompts answered by it.

        Raises
        ------
        InputError
            At once, if there is no such model or it does not take the prompts in hand.
        """
        card = self._registry.get(name)
        check_taken(self._prompts.all(), card)
        self._wanted = card.name

        def work() -> Answerer:
            model = self._registry.load(name, say=self.say)
            return answerer_for(self._slide, model, self._cache, self._registry)

        def loaded(answerer: Answerer) -> None:
            if self._wanted != card.name:
                return  # the user has chosen another one since
            try:
                check_taken(self._prompts.all(), card)
            except InputError as error:
                self._ears.failed(str(error))
                return
            self._answerer, self.card = answerer, card
            self._ears.model(card)
            if len(self._prompts):
                self.ask()

        def not_loaded(sentence: str) -> None:
            if self._wanted == card.name:
                self._ears.failed(sentence)

        self._bench.do(work, loaded, not_loaded, text=f"Loading {card.name}", replaces="model")

    def ask(self, *, fresh: bool = False) -> None:
        """Have the present prompts answered; ``fresh`` forgets earlier windows and logits."""
        self._generation += 1
        generation = self._generation
        groups = self._prompts.answerable()
        if not groups:
            self._show(None)
            return
        answerer = self._answerer
        if answerer is None:
            return  # the model is on its way and will answer when it is there
        previous = dict(self.preview.objects) if self.preview and not fresh else {}
        side = self._expected_side() if self.card.object_px is not None else None
        request = Request(generation, groups, self.view_scale, previous, side)

        def work() -> Preview | None:
            return answerer.answer(request, stale=lambda: generation != self._generation)

        def answered(preview: Preview | None) -> None:
            if preview is not None and preview.generation == self._generation:
                self._show(preview)
                for remark in {shown.remark for shown in preview.objects.values()} - {""}:
                    self._ears.said(remark)
                self._encode_ahead(answerer, preview)

        def unanswered(sentence: str) -> None:
            if generation == self._generation:
                self._unanswered = generation
                self._ears.failed(sentence)

        self._bench.do(
            work,
            answered,
            unanswered,
            text="Thinking",
            priority=Priority.URGENT,
            replaces="prompt",
        )

    def aside(self, work: Callable[[Answerer], Any]) -> Future[Any]:
        """Let ``work`` use the model between the user's prompts; may be called from any thread.

        Raises
        ------
        InputError
            If the model is still loading.
        """
        answerer = self._answerer
        if answerer is None:
            raise InputError(f"The model {self._wanted} is still loading; try again when it is.")
        return self._bench.aside(lambda: work(answerer))

    def bring_back(self, shown: Preview | None) -> None:
        """Show an earlier preview again if it answers the present prompts, else ask anew."""
        groups = self._prompts.answerable()
        if shown is None or self._answerer is None or not groups:
            self.ask(fresh=True)
            return
        own = self._answerer.model.weights_hash
        fits = {name: one.prompts for name, one in shown.objects.items()} == groups
        if fits and all(one.weights_hash == own for one in shown.objects.values()):
            self._generation += 1
            self._show(replace(shown, generation=self._generation))
        else:
            self.ask(fresh=True)

    def change(self, name: str, shown: ObjectPreview) -> None:
        """Show one object otherwise: another candidate, or a correction by hand."""
        if self.preview is not None:
            objects = {**self.preview.objects, name: shown}
            self._show(replace(self.preview, objects=objects))

    def drop(self) -> None:
        """Show nothing; answers that are on their way come too late."""
        self._generation += 1
        self._show(None)

    def check_answered(self) -> None:
        """Refuse to go on while the preview does not answer the present prompts.

        Raises
        ------
        InputError
            With what the user can do.
        """
        if not self._prompts.answerable():
            raise InputError("There is no mask to accept; click inside the object or drag a box.")
        if self._answerer is None:
            raise InputError(f"The model {self._wanted} is still loading; wait for its mask.")
        if self._unanswered == self._generation:
            raise InputError(
                "The model gave no answer to the last prompt; undo it or choose another model."
            )
        if not self._is_answered():
            raise InputError("The answer to the last prompt is on its way; wait for its mask.")

    def _is_answered(self) -> bool:
        if not self._prompts.answerable():
            return True
        return self.preview is not None and self.preview.generation == self._generation

    def _show(self, preview: Preview | None) -> None:
        self.preview = preview
        self._ears.preview(preview)

    def say(self, sentence: str) -> None:
        """Pass on what a model has to say, from whatever thread."""
        _log.info("%s", sentence)
        self._bench.tell(lambda: self._ears.said(sentence))

    def _encode_ahead(self, answerer: Answerer, preview: Preview) -> None:
        """Encode the last object's neighbours while the user thinks, if that is quick enough."""
        cost = answerer.last_encode_ms
        if cost is None or cost > PREFETCH_BELOW_MS:
            return
        shown = list(preview.objects.values())[-1]
        for index, window in enumerate(neighbours(self._slide, shown.window)):
            work = partial(answerer.embedding, window)
            self._bench.when_idle(work, replaces=f"ahead-{index}")
