"""Clicks for models that take boxes only: another model's mask of the prompts gives the box."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import shapely

from napari_histosam.models.registry import ModelRegistry
from napari_histosam.records import Prompt
from napari_histosam.session.answer import Answerer
from napari_histosam.session.previews import ObjectPreview, Preview, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari_histosam.models import EmbeddingCache
    from napari_histosam.models.protocols import PromptModel
    from napari_histosam.slide import Slide


def answerer_for(
    slide: Slide,
    model: PromptModel,
    cache: EmbeddingCache,
    registry: ModelRegistry | None = None,
) -> Answerer:
    """Return what answers requests with a model; ``registry`` brings the one that draws boxes."""
    if model.card.boxes_by is None:
        return Answerer(slide, model, cache)
    helper = (registry or ModelRegistry()).load(model.card.boxes_by, device=model.device)
    return BoxingAnswerer(slide, model, cache, helper)


class BoxingAnswerer(Answerer):
    """Answers requests with a model that takes boxes only.

    An object with one box and nothing else is asked for by it. Of any other prompts, the helper
    makes a mask first, and the box of that mask is what the model gets; the answer says so.

    Parameters
    ----------
    slide : Slide
    model : PromptModel
    cache : EmbeddingCache
    helper : PromptModel
    """

    def __init__(
        self, slide: Slide, model: PromptModel, cache: EmbeddingCache, helper: PromptModel
    ) -> None:
        super().__init__(slide, model, cache)
        self._helper = Answerer(slide, helper, cache)

    def answer(self, request: Request, stale: Callable[[], bool] = lambda: False) -> Preview | None:
        """Answer a request; see `Answerer.answer`."""
        stand, unclear = self._sorted(request)
        boxes: dict[str, Prompt] = {}
        masks: Mapping[str, ObjectPreview] = {}
        first: Preview | None = None
        if unclear:
            asked = Request(
                request.generation, unclear, request.view_scale, {}, request.expected_side
            )
            first = self._helper.answer(asked, stale)
            if first is None:
                return None
            masks = first.objects
            by = self._helper.model.card.name
            boxes = {
                name: Prompt(shapely.box(*shown.geometry.bounds), "box", name, by=by)
                for name, shown in masks.items()
                if shown.geometry is not None
            }
        groups = {
            name: (boxes[name],) if name in boxes else prompts
            for name, prompts in request.groups.items()
            if name not in stand and (name in boxes or name not in unclear)
        }
        inner = super().answer(replace(request, groups=groups, previous={}), stale)
        if inner is None:
            return None
        answers = dict(stand)
        by = self._helper.model.card.name
        for name, shown in inner.objects.items():
            box = boxes.get(name)
            answers[name] = replace(
                shown, prompts=request.groups[name], box=box, boxed_by=by if box else ""
            )
        for name in set(unclear) - set(boxes):
            answers[name] = self._empty(masks[name], by)
        extra = (first.encode_ms, first.decode_ms) if first is not None else (0.0, 0.0)
        return Preview(
            request.generation,
            {name: answers[name] for name in request.groups},
            inner.encode_ms + extra[0],
            inner.decode_ms + extra[1],
        )

    def _sorted(
        self, request: Request
    ) -> tuple[dict[str, ObjectPreview], dict[str, tuple[Prompt, ...]]]:
        """Return the answers that stand, and the prompts that no box can be told from."""
        stand, unclear = {}, {}
        for name, prompts in request.groups.items():
            before = self._before(name, request)
            if before is not None and before.prompts == prompts:
                stand[name] = before
            elif [prompt.role for prompt in prompts] != ["box"]:
                unclear[name] = prompts
        return stand, unclear

    def _empty(self, found: ObjectPreview, by: str) -> ObjectPreview:
        """Return the answer where the helper found nothing: its own empty mask, under our name."""
        return replace(
            found,
            model=self.model.card.name,
            weights_hash=self.model.weights_hash,
            boxed_by=by,
        )
