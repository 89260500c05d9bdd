"""Checks the prompts of objects before a decoder sees them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_histosam.models.protocols import ObjectPrompts


def check_prompts(objects: Sequence[ObjectPrompts], size: tuple[int, int]) -> list[ObjectPrompts]:
    """Return the prompts with plain shapes and types.

    Empty point lists become None, boxes get their corners in order.

    Parameters
    ----------
    objects : sequence of ObjectPrompts
        Window px, corner based.
    size : tuple of int
        Width and height of the window in px.

    Raises
    ------
    InputError
        If an object has no prompt, coordinates are not finite, points and labels do not match, or
        a mask is not of the window's size.
    """
    return [_check(prompts, size, number) for number, prompts in enumerate(objects, 1)]


def check_image(image: np.ndarray) -> None:
    """Raise InputError unless the image is (height, width, 3) uint8 with at least one pixel."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise InputError(
            f"A window must be RGB uint8 of shape (height, width, 3), not {image.dtype} "
            f"{image.shape}: convert the image first."
        )


def _check(prompts: ObjectPrompts, size: tuple[int, int], number: int) -> ObjectPrompts:
    name = f"Object {number} of the prompts"
    points, labels = _check_points(prompts, name)
    box = prompts.box
    if box is not None:
        box = np.asarray(box, np.float64).reshape(-1)
        if box.shape != (4,) or not np.isfinite(box).all():
            raise InputError(f"{name} has a box that is not four finite numbers.")
        box = np.concatenate([np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])])
    mask = prompts.mask
    if mask is not None:
        mask = np.asarray(mask, bool)
        if mask.shape != (size[1], size[0]):
            raise InputError(
                f"{name} has a mask of {mask.shape[::-1]} px in a window of {size} px: "
                "cut it to the window."
            )
    if points is None and box is None and mask is None and prompts.logits is None:
        raise InputError(f"{name} has none: give a point, a box or a mask.")
    return replace(prompts, points=points, labels=labels, box=box, mask=mask)


def _check_points(
    prompts: ObjectPrompts, name: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]] | tuple[None, None]:
    if prompts.points is None or not len(prompts.points):
        return None, None
    points = np.asarray(prompts.points, np.float64).reshape(-1, 2)
    given = np.ones(len(points)) if prompts.labels is None else np.asarray(prompts.labels)
    if given.shape != (len(points),) or not np.isin(given, (0, 1)).all():
        raise InputError(f"{name} needs one label, 0 or 1, for each of its points.")
    if not np.isfinite(points).all():
        raise InputError(f"{name} has a point whose coordinates are not finite numbers.")
    return points, given.astype(np.int64)
