"""Prompts on one image without a store or a window, for finding out how good a model is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import shapely

from napari_histosam.geometry.masks import polygons_to_mask
from napari_histosam.geometry.window import Window
from napari_histosam.records import Prompt
from napari_histosam.session.boxing import answerer_for
from napari_histosam.session.fitting import fitted
from napari_histosam.session.previews import Request
from napari_histosam.session.windows import SCREEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_histosam.models import EmbeddingCache, ModelRegistry
    from napari_histosam.models.protocols import PromptModel
    from napari_histosam.session.previews import ObjectPreview
    from napari_histosam.slide import Slide

_OBJECT = "1"


@dataclass(frozen=True)
class TrialAnswer:
    """What a model offers for one object: masks on the image's grid, best first, and times.

    Parameters
    ----------
    masks : sequence of (h, w) bool arrays
    scores : sequence of float
    encode_ms, decode_ms : float
    """

    masks: Sequence[NDArray[np.bool_]]
    scores: Sequence[float]
    encode_ms: float
    decode_ms: float


class Trial:
    """A model looking at one image by the very path that a click in the window takes.

    Parameters
    ----------
    slide : Slide
        Small enough to be looked at as a whole: that is the zoom that the model gets.
    model : PromptModel
    cache : EmbeddingCache
    registry : ModelRegistry, optional
        Where a model that takes boxes only gets the one from that draws them.
    """

    def __init__(
        self,
        slide: Slide,
        model: PromptModel,
        cache: EmbeddingCache,
        registry: ModelRegistry | None = None,
    ) -> None:
        self._slide, self._model = slide, model
        self._answerer = answerer_for(slide, model, cache, registry)
        self._view_scale = max(slide.width, slide.height) / SCREEN
        self._previous: dict[str, ObjectPreview] = {}

    def ask(
        self, clicks: Sequence[tuple[float, float, bool]], box: NDArray[np.float64] | None
    ) -> TrialAnswer:
        """Answer all prompts of one object so far.

        Parameters
        ----------
        clicks : sequence of (x, y, positive)
            Level-0 px; the earlier ones as they were before.
        box : (4,) float array, optional
            Left, top, right, bottom.
        """
        prompts = [] if box is None else [Prompt(shapely.box(*box.tolist()), "box", _OBJECT)]
        prompts += [
            Prompt(shapely.Point(x, y), "positive" if positive else "negative", _OBJECT)
            for x, y, positive in clicks
        ]
        size = (self._slide.width, self._slide.height)
        groups = {_OBJECT: tuple(fitted(prompts, size, self._model.card))}
        preview = self._answerer.answer(Request(0, groups, self._view_scale, self._previous))
        assert preview is not None  # nothing makes this request stale
        self._previous = dict(preview.objects)
        shown = preview.objects[_OBJECT]
        offered = range(len(shown.candidates))
        return TrialAnswer(
            [self._mask(shown.choose(index, size)) for index in offered],
            [float(score) for score in shown.candidates.scores],
            preview.encode_ms,
            preview.decode_ms,
        )

    def forget(self) -> None:
        """Start on another object."""
        self._previous = {}

    def _mask(self, shown: ObjectPreview) -> NDArray[np.bool_]:
        width, height = self._slide.width, self._slide.height
        whole = Window(width / 2, height / 2, (1.0, 1.0), (width, height))
        return polygons_to_mask(shown.geometry, whole)
