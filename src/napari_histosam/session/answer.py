"""From prompts to previews: choose windows, read, encode through the cache, decode, re-centre."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_histosam.geometry.masks import polygons_to_mask
from napari_histosam.models.embedding_cache import EmbeddingCache
from napari_histosam.models.protocols import DrawsFiner
from napari_histosam.session.offered import Offered
from napari_histosam.session.previews import ObjectPreview, Preview
from napari_histosam.session.prompts import bounds_of, is_single_click, side_of, to_window
from napari_histosam.session.windows import first_window, is_cut, next_window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari_histosam.geometry.window import Window
    from napari_histosam.models.protocols import Candidates, Embedding, ObjectPrompts, PromptModel
    from napari_histosam.session.previews import Request
    from napari_histosam.slide import Slide

# One move to the object's centre and two steps coarser are tried before a cut mask is shown.
RETRIES = 3
# Px of a mask per window px along a side, where the model can and a GPU does it.
MOST_FINER = 4
# Objects decoded in one call; bounds the memory that their masks take.
TOGETHER = 32


@dataclass
class _Times:
    encode: float = 0.0
    decode: float = 0.0


class Answerer:
    """Answers requests with one model on one slide.

    Parameters
    ----------
    slide : Slide
        Read exactly, never through the display.
    model : PromptModel
    cache : EmbeddingCache

    Attributes
    ----------
    last_encode_ms : float or None
        What the last encoding cost that did not come from the cache.
    """

    def __init__(self, slide: Slide, model: PromptModel, cache: EmbeddingCache) -> None:
        self.slide = slide
        self.model = model
        self.cache = cache
        self.last_encode_ms: float | None = None

    def embedding(self, window: Window) -> tuple[Embedding, float]:
        """Return a window's embedding and the milliseconds it cost (0 from the cache)."""
        key = EmbeddingCache.key(self.slide.identity, self.model.weights_hash, window.to_dict())
        found = self.cache.get(key)
        if found is not None:
            return found, 0.0
        start = time.perf_counter()
        images = [
            self.slide.read(replace(window, scale=(window.scale[0] * s, window.scale[1] * s)))
            for s in self.model.card.window_scales
        ]
        # As the cache keeps it, so that the first answer and later ones are the same.
        embedding = self.cache.put(key, self.model.encode(images))
        self.last_encode_ms = (time.perf_counter() - start) * 1e3
        return embedding, self.last_encode_ms

    def answer(self, request: Request, stale: Callable[[], bool] = lambda: False) -> Preview | None:
        """Answer a request.

        Parameters
        ----------
        request : Request
        stale : callable
            Asked between the steps; work for an answer that nobody waits for any more ends.

        Returns
        -------
        Preview or None
            None if ``stale()`` became true on the way.
        """
        times = _Times()
        answers: dict[str, ObjectPreview] = {}
        waiting: dict[str, Window] = {}
        for name, prompts in request.groups.items():
            before = self._before(name, request)
            if before is not None and before.prompts == prompts:
                answers[name] = before  # so one object's click never changes another one's mask
                continue
            waiting[name] = first_window(
                self.slide,
                self.model.card,
                bounds_of(prompts),
                view_scale=request.view_scale,
                previous=before.window if before else None,
                side=side_of(prompts) or request.expected_side,
            )
        for attempt in range(RETRIES + 1):
            again: dict[str, Window] = {}
            for window, names in _by_window(waiting):
                if stale():
                    return None
                embedding, cost = self.embedding(window)
                times.encode += cost
                if stale():
                    return None
                start = time.perf_counter()
                for name, found in self._decode(embedding, window, names, request):
                    retry = self._retry(found, attempt)
                    if retry is None:
                        answers[name] = found
                    else:
                        again[name] = retry
                times.decode += (time.perf_counter() - start) * 1e3
            waiting = again
        ordered = {name: answers[name] for name in request.groups}
        return Preview(request.generation, ordered, times.encode, times.decode)

    def _before(self, name: str, request: Request) -> ObjectPreview | None:
        """Return an object's last answer, if this model gave it."""
        found = request.previous.get(name)
        if found is None or found.model != self.model.card.name:
            return None
        return found if found.weights_hash == self.model.weights_hash else None

    def _decode(
        self, embedding: Embedding, window: Window, names: list[str], request: Request
    ) -> Iterator[tuple[str, ObjectPreview]]:
        """Answer objects that share a window, in one call."""
        asked = [self._asked(name, window, request) for name in names]
        several = [is_single_click(request.groups[name]) for name in names]
        finer = self._finer(window)
        if finer > 1 and isinstance(self.model, DrawsFiner):
            answers = self.model.decode_finer(embedding, asked, finer)
        else:
            answers = self.model.decode(embedding, asked, multimask=any(several))
        for name, alternatives, candidates in zip(names, several, answers, strict=True):
            # Several masks are offered where one click leaves doubt, else the best one counts,
            # whatever the other objects of the call are offered.
            count = None if alternatives else 1
            yield name, self._preview(name, window, candidates, count, request)

    def _finer(self, window: Window) -> int:
        """Return how many px per window px a mask should have: up to those of level 0.

        A processor is too slow for more points than the window has.
        """
        if self.model.device == "cpu":
            return 1
        return min(max(int(min(window.scale)), 1), MOST_FINER)

    def _asked(self, name: str, window: Window, request: Request) -> ObjectPrompts:
        prompts = to_window(request.groups[name], window)
        before = self._before(name, request)
        if before is None or is_single_click(request.groups[name]):
            if request.expected_side is None:
                return prompts
            return replace(prompts, side=request.expected_side / window.scale[0])
        logits = before.candidates.logits
        if before.window == window and logits.size and not before.edited:
            return replace(prompts, logits=logits[before.chosen])
        if before.drawn and before.geometry is not None and "mask" in self.model.card.prompts:
            return replace(prompts, mask=polygons_to_mask(before.geometry, window))
        return prompts

    def _preview(
        self,
        name: str,
        window: Window,
        candidates: Candidates,
        count: int | None,
        request: Request,
    ) -> ObjectPreview:
        prompts, before = request.groups[name], self._before(name, request)
        # Of very many objects the logits would fill the memory; clicks work without them.
        offered = Offered.of(candidates, count=count, logits=len(request.groups) <= TOGETHER)
        drawn = before is not None and before.drawn
        size = (self.slide.width, self.slide.height)
        geometry = offered.outline(0, window, prompts, size, whole=drawn)
        return ObjectPreview(
            prompts=prompts,
            window=window,
            candidates=offered,
            geometry=geometry,
            drawn=drawn,
            first=before.first if before is not None and before.first is not None else geometry,
            cut=geometry is not None and is_cut(self.slide, window, geometry.bounds),
            model=self.model.card.name,
            weights_hash=self.model.weights_hash,
        )

    def _retry(self, found: ObjectPreview, attempt: int) -> Window | None:
        if not found.cut or found.geometry is None or attempt == RETRIES:
            return None
        return next_window(
            found.window,
            found.geometry.bounds,
            bounds_of(found.prompts),
            recentred=attempt > 0,
        )


def _by_window(waiting: Mapping[str, Window]) -> Iterator[tuple[Window, list[str]]]:
    """Yield each window with its objects, so many at a time as are decoded together."""
    grouped: dict[Window, list[str]] = {}
    for name, window in waiting.items():
        grouped.setdefault(window, []).append(name)
    for window, names in grouped.items():
        for start in range(0, len(names), TOGETHER):
            yield window, names[start : start + TOGETHER]
