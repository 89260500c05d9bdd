"""The prompts of the objects in hand, with their own undo, and their form in window px."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.errors import InputError
from napari_histosam.geometry.masks import polygons_to_mask
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.records import Prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_histosam.geometry.window import Window

# A scribble becomes this many clicks at most; more tire the decoder without telling it more.
SCRIBBLE_POINTS = 12


class PromptSet:
    """The prompts given since the last acceptance, grouped by object.

    Clicks go to the current object; `next_object` opens another, so that several objects are
    answered in one decoder call.
    """

    def __init__(self) -> None:
        self._prompts: list[Prompt] = []
        self._undone: list[Prompt] = []
        self._current = 1

    def __len__(self) -> int:
        return len(self._prompts)

    @property
    def current(self) -> str:
        """Id of the object that takes the next prompt."""
        return str(self._current)

    def add(self, prompt: Prompt) -> None:
        """Append a prompt; what was undone can then no longer be redone."""
        self._prompts.append(prompt)
        self._undone.clear()

    def undo(self) -> Prompt | None:
        """Take the last prompt back; None if there is none."""
        if not self._prompts:
            return None
        last = self._prompts.pop()
        self._undone.append(last)
        return last

    def redo(self) -> Prompt | None:
        """Give again the prompt taken back last; None if there is none."""
        if not self._undone:
            return None
        again = self._undone.pop()
        self._prompts.append(again)
        return again

    @property
    def can_redo(self) -> bool:
        """Whether a prompt was taken back and nothing was added since."""
        return bool(self._undone)

    def next_object(self) -> str:
        """Send the prompts from here on to a new object; return its id."""
        if any(p.object == self.current for p in self._prompts):
            self._current += 1
        return self.current

    def clear(self) -> None:
        """Forget all prompts."""
        self._prompts.clear()
        self._undone.clear()
        self._current = 1

    def all(self) -> tuple[Prompt, ...]:
        """Return all prompts in the order given."""
        return tuple(self._prompts)

    def by_object(self) -> dict[str, tuple[Prompt, ...]]:
        """Return the prompts of each object, objects in the order of their first prompt."""
        return group(self._prompts)


def group(prompts: Sequence[Prompt]) -> dict[str, tuple[Prompt, ...]]:
    """Group prompts by object, in the order of each object's first prompt."""
    groups: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.object, []).append(prompt)
    return {key: tuple(values) for key, values in groups.items()}


def bounds_of(prompts: Sequence[Prompt]) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom of all prompts in level-0 px."""
    left, top, right, bottom = shapely.total_bounds(
        np.array([p.geometry for p in prompts], dtype=object)
    )
    return float(left), float(top), float(right), float(bottom)


def to_window(prompts: Sequence[Prompt], window: Window) -> ObjectPrompts:
    """Turn the prompts of one object into a decoder's form.

    Parameters
    ----------
    prompts : sequence of Prompt
        Of one object, level-0 px.
    window : Window

    Returns
    -------
    ObjectPrompts
        In window px; of several boxes the last counts, several masks are united.

    Raises
    ------
    InputError
        If there is nothing positive among them: a negative click alone names no object.
    """
    points: list[tuple[float, float]] = []
    labels: list[int] = []
    box = None
    mask_parts = []
    for prompt in prompts:
        if prompt.role == "box":
            left, top, right, bottom = prompt.geometry.bounds
            box = window.from_level0([[left, top], [right, bottom]]).ravel()
        elif prompt.role == "mask":
            mask_parts.append(prompt.geometry)
        else:
            at = window.from_level0(_clicks(prompt))
            points.extend((float(x), float(y)) for x, y in at)
            labels.extend([int(prompt.role == "positive")] * len(at))
    if box is None and not mask_parts and 1 not in labels:
        raise InputError(
            "The object has only negative clicks; add a positive click or a box inside it first."
        )
    mask = polygons_to_mask(shapely.union_all(mask_parts), window) if mask_parts else None
    return ObjectPrompts(
        points=np.array(points, np.float64) if points else None,
        labels=np.array(labels, np.int64) if points else None,
        box=box,
        mask=mask,
    )


def _clicks(prompt: Prompt) -> np.ndarray:
    """Return the points (n, 2) that stand for a click or a scribble, level-0 px."""
    geometry = prompt.geometry
    if geometry.geom_type == "LineString" and geometry.length > 0:
        count = min(SCRIBBLE_POINTS, max(2, len(geometry.coords)))
        steps = np.linspace(0, 1, count)
        return shapely.get_coordinates(
            shapely.line_interpolate_point(geometry, steps, normalized=True)
        )
    return shapely.get_coordinates(geometry)
