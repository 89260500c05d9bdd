"""Turns the prompts of many objects into batches that SAM's prompt encoder takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.sam.frame import LOW

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from napari_histosam.models.protocols import ObjectPrompts
    from napari_histosam.models.sam.frame import Frame


@dataclass(frozen=True)
class PromptBatch:
    """Objects with the same number of points, and with or without box and mask alike.

    Padding tokens take part in SAM's attention, so objects of different layouts are not put in
    one batch: each gets what it would get alone.

    Parameters
    ----------
    numbers : tuple of int
        Places of the objects in the request.
    points : tuple of (b, n, 2) float32 and (b, n) int32 tensors, or None
    boxes : (b, 4) float32 tensor or None
    masks : (b, 1, 256, 256) float32 tensor or None
    """

    numbers: tuple[int, ...]
    points: tuple[Tensor, Tensor] | None
    boxes: Tensor | None
    masks: Tensor | None

    def to(self, device: str) -> PromptBatch:
        """Return the batch on a device."""
        points = None if self.points is None else tuple(t.to(device) for t in self.points)
        return PromptBatch(
            self.numbers,
            points,  # type: ignore[arg-type]
            None if self.boxes is None else self.boxes.to(device),
            None if self.masks is None else self.masks.to(device),
        )


def batches(objects: Sequence[ObjectPrompts], frame: Frame, size: int) -> Iterator[PromptBatch]:
    """Yield checked prompts as batches of at most ``size`` objects of one layout each."""
    layouts: dict[tuple[int, bool, bool], list[int]] = {}
    for number, prompts in enumerate(objects):
        layouts.setdefault(_layout(prompts), []).append(number)
    for numbers in layouts.values():
        for start in range(0, len(numbers), size):
            chosen = numbers[start : start + size]
            yield _batch([objects[n] for n in chosen], tuple(chosen), frame)


def is_ambiguous(prompts: ObjectPrompts) -> bool:
    """Tell whether several answers make sense: one click and nothing else, as SAM advises."""
    return _layout(prompts) == (1, False, False)


def _layout(prompts: ObjectPrompts) -> tuple[int, bool, bool]:
    count = 0 if prompts.points is None else len(prompts.points)
    has_mask = prompts.mask is not None or prompts.logits is not None
    return count, prompts.box is not None, has_mask


def _batch(objects: list[ObjectPrompts], numbers: tuple[int, ...], frame: Frame) -> PromptBatch:
    count, has_box, has_mask = _layout(objects[0])
    points = boxes = masks = None
    if count:
        places = np.stack([frame.points(o.points) for o in objects if o.points is not None])
        labels = np.stack([o.labels for o in objects if o.labels is not None])
        points = (torch.from_numpy(places), torch.from_numpy(labels.astype(np.int32)))
    if has_box:
        corners = [frame.points(o.box.reshape(2, 2)) for o in objects if o.box is not None]
        boxes = torch.from_numpy(np.stack(corners).reshape(-1, 4))
    if has_mask:
        masks = torch.from_numpy(np.stack([_mask_input(o, frame) for o in objects])[:, None])
    return PromptBatch(numbers, points, boxes, masks)


def _mask_input(prompts: ObjectPrompts, frame: Frame) -> np.ndarray:
    if prompts.logits is not None:
        logits = np.asarray(prompts.logits, np.float32)
        if logits.shape != (LOW, LOW) or not np.isfinite(logits).all():
            raise InputError(
                f"Logits of a previous answer must be {LOW} x {LOW} finite numbers, not "
                f"{logits.shape}: hand in an answer of this model."
            )
        return logits
    assert prompts.mask is not None
    return frame.mask_logits(prompts.mask)
