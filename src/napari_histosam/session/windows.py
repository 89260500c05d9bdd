"""Which window a model gets to see: by the card's mpp or the zoom, on a grid, re-centred."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_histosam.geometry.window import Window

if TYPE_CHECKING:
    from napari_histosam.models.cards import ModelCard
    from napari_histosam.slide import Slide

Bounds = tuple[float, float, float, float]

# Share of the window that the prompts, and later the object, may span.
FILL = 0.8
# Window px between a mask and the window's edge below which the mask counts as cut.
TOUCH = 2
# What a model without an own mpp gets from a script, where there is no zoom: 0.5 µm/px (20x).
DEFAULT_MPP = 0.5
# A single object never needs more than this many level-0 px per window px.
COARSEST = 256.0


def base_scale(
    slide: Slide, card: ModelCard, view_scale: float | None
) -> tuple[float, float]:
    """Return level-0 px per window px along x and y before any prompt is looked at.

    Parameters
    ----------
    slide : Slide
    card : ModelCard
        Its ``mpp`` decides if both the model and the slide have one.
    view_scale : float, optional
        Level-0 px per screen px; decides for models that follow the zoom. It is rounded to a
        power of two, so that small zoom steps share one encoding, and never finer than a
        twofold enlargement.
    """
    if card.mpp is not None and slide.mpp is not None:
        return card.mpp / slide.mpp[0], card.mpp / slide.mpp[1]
    # µm per px may differ along x and y; the model shall still see round nuclei as round.
    aspect = slide.mpp[1] / slide.mpp[0] if slide.mpp else 1.0
    if view_scale is not None:
        step = 2.0 ** round(math.log2(max(view_scale, 1e-6)))
        scale = min(max(step, 0.5), COARSEST)
    elif slide.mpp is not None:
        scale = max(DEFAULT_MPP / slide.mpp[0], 0.5)
    else:
        scale = 1.0
    return scale, scale / aspect


def first_window(
    slide: Slide,
    card: ModelCard,
    prompts: Bounds,
    *,
    view_scale: float | None = None,
    previous: Window | None = None,
) -> Window:
    """Choose the window for prompts with the given bounds.

    Parameters
    ----------
    slide : Slide
    card : ModelCard
    prompts : tuple of float
        Left, top, right, bottom of the prompts in level-0 px.
    view_scale : float, optional
        See `base_scale`.
    previous : Window, optional
        The window of the last answer; it is kept while the prompts lie well inside, so that one
        encoding serves all corrections.

    Returns
    -------
    Window
        On a half-overlapping grid: its centre is a multiple of half its side, so that nearby
        prompts share one encoding.
    """
    left, top, right, bottom = prompts
    if previous is not None and previous.contains(
        [[left, top], [right, bottom]], margin=TOUCH
    ):
        return previous
    size = (card.window_px, card.window_px)
    sx, sy = base_scale(slide, card, view_scale)
    need = max((right - left) / (size[0] * sx), (bottom - top) / (size[1] * sy)) / FILL
    if need > 1:
        factor = 2.0 ** math.ceil(math.log2(need))
        sx, sy = sx * factor, sy * factor
    return snapped(Window((left + right) / 2, (top + bottom) / 2, (sx, sy), size), prompts)


def snapped(window: Window, must_hold: Bounds) -> Window:
    """Move a window to the half-overlapping grid, unless that would cut ``must_hold``.

    Finer grids (a quarter, an eighth of the side) are tried before the exact centre is kept.
    """
    left, top, right, bottom = must_hold
    for part in (2, 4, 8):
        step_x = window.size[0] * window.scale[0] / part
        step_y = window.size[1] * window.scale[1] / part
        moved = replace(
            window,
            cx=round(window.cx / step_x) * step_x,
            cy=round(window.cy / step_y) * step_y,
        )
        if moved.contains([[left, top], [right, bottom]], margin=window.size[0] * (1 - FILL) / 2):
            return moved
    return window


def next_window(
    slide: Slide, window: Window, mask_bounds: Bounds, *, recentred: bool
) -> Window | None:
    """Return the window to try again with when a mask is cut by its window, else None.

    Parameters
    ----------
    slide : Slide
    window : Window
        What was seen.
    mask_bounds : tuple of float
        The mask's left, top, right, bottom in level-0 px.
    recentred : bool
        Whether the window was already moved for this object.

    Returns
    -------
    Window or None
        None if the mask lies inside, or is cut by the slide's own edge only, or the window
        already covers the slide. Otherwise the window moved to the mask's centre, or, if that
        was done before or the mask fills the window, a window twice as coarse.
    """
    left, top, right, bottom = mask_bounds
    wl, wt, wr, wb = window.bounds
    mx, my = TOUCH * window.scale[0], TOUCH * window.scale[1]
    cut = (
        (left <= wl + mx and wl > 0)
        or (top <= wt + my and wt > 0)
        or (right >= wr - mx and wr < slide.width)
        or (bottom >= wb - my and wb < slide.height)
    )
    if not cut:
        return None
    cx, cy = (left + right) / 2, (top + bottom) / 2
    fits = (right - left) <= FILL * (wr - wl) and (bottom - top) <= FILL * (wb - wt)
    if fits and not recentred:
        return snapped(replace(window, cx=cx, cy=cy), mask_bounds)
    if window.scale[0] * 2 > COARSEST:
        return None
    coarser = (window.scale[0] * 2, window.scale[1] * 2)
    return replace(window, cx=cx, cy=cy, scale=coarser)


def neighbours(slide: Slide, window: Window) -> list[Window]:
    """Return the four windows beside one on the half-overlapping grid, inside the slide only."""
    dx = window.size[0] * window.scale[0] / 2
    dy = window.size[1] * window.scale[1] / 2
    around = [(dx, 0.0), (-dx, 0.0), (0.0, dy), (0.0, -dy)]
    moved = [replace(window, cx=window.cx + x, cy=window.cy + y) for x, y in around]
    return [w for w in moved if 0 <= w.cx <= slide.width and 0 <= w.cy <= slide.height]
