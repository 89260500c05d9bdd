"""From prompts to previews: choose windows, read, encode through the cache, decode, re-centre."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.geometry.masks import mask_to_outline
from napari_histosam.models.embedding_cache import EmbeddingCache
from napari_histosam.session.prompts import bounds_of, to_window
from napari_histosam.session.tidy import tidy
from napari_histosam.session.windows import first_window, next_window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shapely import MultiPolygon, Polygon

    from napari_histosam.geometry.window import Window
    from napari_histosam.models.protocols import Candidates, Embedding, ObjectPrompts, PromptModel
    from napari_histosam.records import Prompt
    from napari_histosam.slide import Slide

# One move to the object's centre and two steps coarser are tried before a cut mask is shown.
RETRIES = 3


@dataclass(frozen=True)
class ObjectPreview:
    """The model's answer for one object, not yet accepted.

    Parameters
    ----------
    prompts : tuple of Prompt
    window : Window
        What the model saw.
    candidates : Candidates
        Masks in window px, best first.
    chosen : int
        Which candidate is shown.
    geometry : Polygon or MultiPolygon, optional
        The shown outline in level-0 px; None where the mask is empty.
    edited : bool
        Whether the outline was corrected by hand since the model's answer.
    first : Polygon or MultiPolygon, optional
        The model's first answer for this object.
    cut : bool
        Whether the mask still touches its window's edge.
    """

    prompts: tuple[Prompt, ...]
    window: Window
    candidates: Candidates
    chosen: int = 0
    geometry: Polygon | MultiPolygon | None = None
    edited: bool = False
    first: Polygon | MultiPolygon | None = None
    cut: bool = False

    @property
    def score(self) -> float:
        """The model's estimate for the chosen mask, 0 to 1."""
        return float(self.candidates.scores[self.chosen])


@dataclass(frozen=True)
class Preview:
    """The answer to one set of prompts.

    Parameters
    ----------
    generation : int
        The number of the prompt set it answers; older answers are dropped.
    objects : mapping of str to ObjectPreview
    encode_ms, decode_ms : float
        Time spent encoding (0 when all windows came from the cache) and decoding.
    """

    generation: int
    objects: Mapping[str, ObjectPreview]
    encode_ms: float = 0.0
    decode_ms: float = 0.0


@dataclass
class _Times:
    encode: float = 0.0
    decode: float = 0.0


@dataclass(frozen=True)
class Request:
    """What to answer.

    Parameters
    ----------
    generation : int
    groups : mapping of str to tuple of Prompt
        Prompts by object.
    view_scale : float, optional
        Level-0 px per screen px.
    previous : mapping of str to ObjectPreview
        The last answers, whose windows and logits are used again.
    """

    generation: int
    groups: Mapping[str, tuple[Prompt, ...]]
    view_scale: float | None = None
    previous: Mapping[str, ObjectPreview] = field(default_factory=dict)


class Answerer:
    """Answers requests with one model on one slide.

    Parameters
    ----------
    slide : Slide
        Read exactly, never through the display.
    model : PromptModel
    cache : EmbeddingCache
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
        embedding = self.model.encode(images)
        self.cache.put(key, embedding)
        self.last_encode_ms = (time.perf_counter() - start) * 1e3
        return embedding, self.last_encode_ms

    def answer(self, request: Request, stale: Callable[[], bool] = lambda: False) -> Preview | None:
        """Answer a request; None if ``stale()`` became true on the way."""
        times = _Times()
        answers: dict[str, ObjectPreview] = {}
        waiting: dict[str, Window] = {}
        for name, prompts in request.groups.items():
            before = request.previous.get(name)
            waiting[name] = first_window(
                self.slide,
                self.model.card,
                bounds_of(prompts),
                view_scale=request.view_scale,
                previous=before.window if before else None,
            )
        for attempt in range(RETRIES + 1):
            again: dict[str, Window] = {}
            for window, names in _by_window(waiting).items():
                if stale():
                    return None
                for name, found in self._decode(window, names, request, times).items():
                    retry = self._retry(found, attempt)
                    if retry is None or attempt == RETRIES:
                        answers[name] = replace(found, cut=retry is not None)
                    else:
                        again[name] = retry
            if not again:
                break
            waiting = again
        ordered = {name: answers[name] for name in request.groups}
        return Preview(request.generation, ordered, times.encode, times.decode)

    def _decode(
        self, window: Window, names: list[str], request: Request, times: _Times
    ) -> dict[str, ObjectPreview]:
        embedding, encode_ms = self.embedding(window)
        times.encode += encode_ms
        start = time.perf_counter()
        asked = {name: self._asked(name, window, request) for name in names}
        found: dict[str, ObjectPreview] = {}
        for multimask in (True, False):
            some = [n for n in names if _ambiguous(request.groups[n]) is multimask]
            if not some:
                continue
            answers = self.model.decode(
                embedding, [asked[n] for n in some], multimask=multimask
            )
            for name, candidates in zip(some, answers, strict=True):
                found[name] = self._preview(name, window, asked[name], candidates, request)
        times.decode += (time.perf_counter() - start) * 1e3
        return found

    def _asked(self, name: str, window: Window, request: Request) -> ObjectPrompts:
        prompts = to_window(request.groups[name], window)
        before = request.previous.get(name)
        if before is not None and before.window == window and before.candidates.logits.size:
            return replace(prompts, logits=before.candidates.logits[before.chosen])
        return prompts

    def _preview(
        self,
        name: str,
        window: Window,
        asked: ObjectPrompts,
        candidates: Candidates,
        request: Request,
    ) -> ObjectPreview:
        masks = np.stack([tidy(mask, asked) for mask in candidates.masks])
        candidates = replace(candidates, masks=masks)
        geometry = mask_to_outline(masks[0], window)
        before = request.previous.get(name)
        return ObjectPreview(
            prompts=request.groups[name],
            window=window,
            candidates=candidates,
            geometry=geometry,
            first=before.first if before is not None else geometry,
        )

    def _retry(self, found: ObjectPreview, attempt: int) -> Window | None:
        if found.geometry is None:
            return None
        return next_window(
            self.slide, found.window, found.geometry.bounds, recentred=attempt > 0
        )


def choose(preview: ObjectPreview, index: int) -> ObjectPreview:
    """Return the preview with another of its candidates shown."""
    geometry = mask_to_outline(preview.candidates.masks[index], preview.window)
    return replace(preview, chosen=index, geometry=geometry, edited=False)


def _ambiguous(prompts: tuple[Prompt, ...]) -> bool:
    """Whether one click is all there is: then several masks are worth asking for (SAM, §3)."""
    return len(prompts) == 1 and prompts[0].geometry.geom_type == "Point"


def _by_window(waiting: Mapping[str, Window]) -> dict[Window, list[str]]:
    grouped: dict[Window, list[str]] = {}
    for name, window in waiting.items():
        grouped.setdefault(window, []).append(name)
    return grouped
