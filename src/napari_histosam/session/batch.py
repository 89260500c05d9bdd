"""Prompts of many objects to objects, without a window: the same path as a click takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.jobs import Progress
from napari_histosam.session.answer import TOGETHER
from napari_histosam.session.boxing import answerer_for
from napari_histosam.session.fitting import fitted
from napari_histosam.session.outcome import to_object
from napari_histosam.session.previews import Request
from napari_histosam.session.prompts import bounds_of, group
from napari_histosam.session.windows import first_window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_histosam.jobs import CancelToken
    from napari_histosam.models import EmbeddingCache, ModelRegistry
    from napari_histosam.models.protocols import PromptModel
    from napari_histosam.records import Prompt, SlideObject
    from napari_histosam.slide import Slide


def segment(
    slide: Slide,
    model: PromptModel,
    prompts: Sequence[Prompt],
    cache: EmbeddingCache,
    report: Callable[[Progress], None] = lambda _progress: None,
    cancel: CancelToken | None = None,
    author: str = "",
    registry: ModelRegistry | None = None,
) -> Iterator[SlideObject]:
    """Answer prompts and return an iterator over the objects as they are found.

    Parameters
    ----------
    slide : Slide
    model : PromptModel
    prompts : sequence of Prompt
        Level-0 px, grouped by their ``object``.
    cache : EmbeddingCache
    report : callable
        Gets a Progress in objects.
    cancel : CancelToken, optional
    author : str
        Kept with each object.
    registry : ModelRegistry, optional
        Where a model that takes boxes only gets the one from that draws them.

    Returns
    -------
    iterator of SlideObject
        Neighbours one after the other; an object whose mask is empty is left out.

    Raises
    ------
    InputError
        At the call, before any work, if an object has negative prompts only, takes a prompt that
        the model does not, or lies outside the slide.
    """
    groups = group(fitted(prompts, (slide.width, slide.height), model.card, named=True))
    for name, members in groups.items():
        if all(p.role == "negative" for p in members):
            raise InputError(
                f"Object {name} has negative prompts only; add a positive one or a box."
            )
    return _answers(slide, model, groups, cache, report, cancel, author, registry)


def _answers(
    slide: Slide,
    model: PromptModel,
    groups: dict[str, tuple[Prompt, ...]],
    cache: EmbeddingCache,
    report: Callable[[Progress], None],
    cancel: CancelToken | None,
    author: str,
    registry: ModelRegistry | None,
) -> Iterator[SlideObject]:
    answerer = answerer_for(slide, model, cache, registry)

    def place(name: str) -> tuple[float, float, float]:
        window = first_window(slide, model.card, bounds_of(groups[name]))
        return window.scale[0], window.cy, window.cx

    # Window after window, so that each is encoded once, however small the cache is.
    order = sorted(groups, key=place)
    for start in range(0, len(order), TOGETHER):
        if cancel is not None:
            cancel.check()
        names = order[start : start + TOGETHER]
        preview = answerer.answer(Request(0, {n: groups[n] for n in names}))
        assert preview is not None  # nothing makes a batch's request stale
        for shown in preview.objects.values():
            made = to_object(shown, author=author)
            if made is not None:
                yield made
        report(Progress(start + len(names), len(order), "Segmenting"))
