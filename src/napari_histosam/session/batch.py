"""Prompts of many objects to objects, without a window: the same path as a click takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_histosam.errors import InputError
from napari_histosam.jobs import CancelToken, Progress
from napari_histosam.session.answer import Answerer, Request
from napari_histosam.session.outcome import to_object
from napari_histosam.session.prompts import bounds_of, group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from napari_histosam.models import EmbeddingCache
    from napari_histosam.models.protocols import PromptModel
    from napari_histosam.records import Prompt, SlideObject
    from napari_histosam.slide import Slide

# Objects answered together; bounds the memory that their candidate masks take.
TOGETHER = 32


def segment(
    slide: Slide,
    model: PromptModel,
    prompts: Sequence[Prompt],
    cache: EmbeddingCache,
    report: Callable[[Progress], None] = lambda _progress: None,
    cancel: CancelToken | None = None,
) -> Iterator[SlideObject]:
    """Answer prompts and yield the objects as they are found.

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

    Raises
    ------
    InputError
        If an object has negative prompts only, takes a prompt that the model does not, or lies
        outside the slide.
    """
    groups = group(prompts)
    for name, members in groups.items():
        _check(slide, model, name, members)
    answerer = Answerer(slide, model, cache)
    # Neighbours one after the other, so that each window is encoded once.
    order = sorted(groups, key=lambda n: _cell(groups[n], model.card.window_px))
    done = 0
    for start in range(0, len(order), TOGETHER):
        if cancel is not None:
            cancel.check()
        names = order[start : start + TOGETHER]
        preview = answerer.answer(Request(0, {n: groups[n] for n in names}))
        assert preview is not None  # nothing makes a batch's request stale
        for shown in preview.objects.values():
            made = to_object(shown, model)
            if made is not None:
                yield made
        done += len(names)
        report(Progress(done, len(order), "Segmenting"))


def _cell(prompts: Sequence[Prompt], size: int) -> tuple[int, int]:
    left, top, right, bottom = bounds_of(prompts)
    return int((top + bottom) / 2 // size), int((left + right) / 2 // size)


def _check(slide: Slide, model: PromptModel, name: str, prompts: Sequence[Prompt]) -> None:
    takes = model.card.prompts
    for prompt in prompts:
        if prompt.role in ("box", "mask"):
            kind: str = prompt.role
        elif prompt.geometry.geom_type == "LineString":
            kind = "scribble"
        else:
            kind = "point" if prompt.role == "positive" else "negative"
        if kind not in takes:
            raise InputError(
                f"{model.card.name} takes no {kind} as a prompt (object {name}); "
                f"it takes {', '.join(takes)}."
            )
    if all(p.role == "negative" for p in prompts):
        raise InputError(
            f"Object {name} has negative prompts only; add a positive one or a box."
        )
    left, top, right, bottom = bounds_of(prompts)
    if right < 0 or bottom < 0 or left > slide.width or top > slide.height:
        raise InputError(
            f"The prompts of object {name} lie outside the slide of {slide.width} x "
            f"{slide.height} px; prompts are in level-0 px."
        )
