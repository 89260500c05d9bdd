"""Has the prompts in hand answered by several models, one after another, beside the one at work."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from napari_histosam.errors import HistosamError, InputError
from napari_histosam.session.boxing import answerer_for
from napari_histosam.session.comparison import Comparison, Entrant
from napari_histosam.session.fitting import check_taken
from napari_histosam.session.previews import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_histosam.models import EmbeddingCache, ModelRegistry
    from napari_histosam.records import Prompt
    from napari_histosam.session.answer import Answerer
    from napari_histosam.session.previews import Preview
    from napari_histosam.session.working import Workbench
    from napari_histosam.slide import Slide


class Comparing:
    """Asks further models what the model at work was asked.

    Parameters
    ----------
    slide : Slide
    registry : ModelRegistry
    cache : EmbeddingCache
    bench : Workbench
        Where models run; they wait behind what the user does.
    changed : callable of Comparison or None
        Hears, on the owner's thread, of every answer that comes in.
    say : callable of str
        Gets sentences of models about device and memory, from whatever thread.

    Attributes
    ----------
    models : tuple of str
        Who is asked; nobody where empty.
    current : Comparison or None
        What is in so far.
    """

    def __init__(
        self,
        slide: Slide,
        registry: ModelRegistry,
        cache: EmbeddingCache,
        bench: Workbench,
        changed: Callable[[Comparison | None], None],
        say: Callable[[str], None],
    ) -> None:
        self.models: tuple[str, ...] = ()
        self.current: Comparison | None = None
        self._slide, self._registry, self._cache = slide, registry, cache
        self._bench, self._changed, self._say = bench, changed, say
        self._answerers: dict[str, Answerer] = {}

    def choose(self, models: Sequence[str]) -> None:
        """Say who is asked from now on; who is not leaves the memory.

        Raises
        ------
        InputError
            If there is no such model.
        """
        self.models = tuple(dict.fromkeys(self._registry.get(name).name for name in models))
        for name in set(self._answerers) - set(self.models):
            del self._answerers[name]
        if not self.models:
            self.drop()

    def ask(
        self,
        preview: Preview,
        name: str,
        prompts: tuple[Prompt, ...],
        view_scale: float | None,
        side: float | None,
    ) -> None:
        """Have an object's prompts answered by all models that were chosen.

        Parameters
        ----------
        preview : Preview
            Of the model at work, whose answer stands beside the others.
        name : str
            The prompted object.
        prompts : tuple of Prompt
        view_scale, side : float, optional
            As in `napari_histosam.session.previews.Request`.
        """
        if not self.models:
            return
        before, shown = self.current, preview.objects[name]
        kept = [Entrant(shown.model, shown, preview.encode_ms, preview.decode_ms)]
        if before is not None and (before.name, before.generation) == (name, preview.generation):
            # The same prompts: what is shown was changed, or others are to be asked.
            first, *rest = before.entrants
            kept = [replace(first, shown=shown) if first.model == shown.model else first]
            kept += [one for one in rest if one.model in self.models]
        known = {one.model for one in kept}
        further = [model for model in self.models if model not in known]
        made = Comparison(name, preview.generation, (*kept, *map(Entrant, further)))
        self._show(made)
        for model in further:
            earlier = before.entrant(model) if before is not None and before.name == name else None
            previous = {name: earlier.shown} if earlier is not None and earlier.shown else {}
            request = Request(made.generation, {name: prompts}, view_scale, previous, side)
            self._ask(made, model, request)

    def drop(self) -> None:
        """Show no comparison; answers that are on their way come too late."""
        if self.current is not None:
            self._show(None)

    def _ask(self, made: Comparison, model: str, request: Request) -> None:
        def trouble(sentence: str) -> None:
            self._take(made, Entrant(model, trouble=sentence))

        def answered(preview: Preview | None) -> None:
            if preview is not None:
                shown = preview.objects[made.name]
                self._take(made, Entrant(model, shown, preview.encode_ms, preview.decode_ms))

        try:
            check_taken(request.groups[made.name], self._registry.get(model))
        except InputError as error:
            trouble(str(error))
            return
        # Without a worker the error is raised as well; it stands beside the other answers.
        with contextlib.suppress(HistosamError):
            self._bench.do(
                partial(self._answer, model, request),
                answered,
                trouble,
                text=f"Asking {model}",
                replaces=f"compare {model}",
            )

    def _answer(self, model: str, request: Request) -> Preview | None:
        def stale() -> bool:
            now = self.current
            return now is None or now.generation != request.generation or model not in self.models

        if stale():
            return None
        answerer = self._answerers.get(model)
        if answerer is None:
            loaded = self._registry.load(model, say=self._say)
            answerer = answerer_for(self._slide, loaded, self._cache, self._registry)
            self._answerers[model] = answerer
        return answerer.answer(request, stale)

    def _take(self, asked: Comparison, entrant: Entrant) -> None:
        now = self.current
        if now is not None and (now.name, now.generation) == (asked.name, asked.generation):
            self._show(now.with_entrant(entrant))

    def _show(self, comparison: Comparison | None) -> None:
        self.current = comparison
        self._changed(comparison)
