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
# What a model without an own mpp gets from a script, where there is no zoom: 0.5 µm/px (20x), or
# twice as fine where the model itself looks at coarser scales, too.
DEFAULT_MPP, DEFAULT_FINE_MPP = 0.5, 0.25
# Screen px that a picture fills when it is looked at as a whole.
SCREEN = 1024
# Enlarging shows the model nothing new beyond this many level-0 px per window px.
FINEST = 0.5
# A single object never needs more than this many level-0 px per window px.
COARSEST = 256.0


def base_scale(slide: Slide, card: ModelCard, view_scale: float | None) -> tuple[float, float]:
    """Return level-0 px per window px along x and y before any prompt is looked at.

    Parameters
    ----------
    slide : Slide
    card : ModelCard
        Its ``mpp`` decides if both the model and the slide have one.
    view_scale : float, optional
        Level-0 px per screen px; decides for models that follow the zoom. It is rounded to a
        power of two, so that small zoom steps share one encoding (down for models that look at
        coarser scales, too), and never finer than a twofold enlargement.
    """
    scales_itself = card.object_px is not None
    if card.mpp is not None and slide.mpp is not None:
        return card.mpp / slide.mpp[0], card.mpp / slide.mpp[1]
    # µm per px may differ along x and y; the model shall still see round nuclei as round.
    aspect = slide.mpp[1] / slide.mpp[0] if slide.mpp else 1.0
    if view_scale is not None and math.isfinite(view_scale) and view_scale > 0:
        step = math.log2(view_scale)
        step = math.floor(step + 1e-6) if scales_itself else round(step)
        scale = min(max(2.0**step, FINEST), COARSEST)
    elif slide.mpp is not None:
        mpp = DEFAULT_FINE_MPP if scales_itself else DEFAULT_MPP
        scale = max(mpp / slide.mpp[0], FINEST)
    elif scales_itself:
        # A small picture is looked at as if it were enlarged to fill a screen.
        whole = max(slide.width, slide.height) / SCREEN
        scale = min(max(2.0 ** math.floor(math.log2(whole)), FINEST), 1.0)
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
    side: float | None = None,
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
        The window of the last answer; it is kept while the prompts lie inside, so that one
        encoding serves all corrections.
    side : float, optional
        The longer side, in level-0 px, that the object has by its box or is expected to have.

    Returns
    -------
    Window
        On a half-overlapping grid: its centre is a multiple of half its side, so that nearby
        prompts share one encoding. Prompts that span more than `FILL` of it get a window that is
        coarser by a power of two.
    """
    left, top, right, bottom = prompts
    size = (card.window_px, card.window_px)
    corners = [[left, top], [right, bottom]]
    if previous is not None and previous.size == size and previous.contains(corners, TOUCH):
        return previous
    sx, sy = base_scale(slide, card, view_scale)
    if card.object_px is not None and side is not None and side > 0:
        factor = _towards(side / sx, *card.object_px)
        factor = max(factor, FINEST / max(sx, sy))
        sx, sy = sx * factor, sy * factor
    need = max((right - left) / (size[0] * sx), (bottom - top) / (size[1] * sy)) / FILL
    if need > 1:
        factor = 2.0 ** math.ceil(math.log2(need))
        sx, sy = sx * factor, sy * factor
    return snapped(Window((left + right) / 2, (top + bottom) / 2, (sx, sy), size), prompts)


def _towards(side: float, least: float, most: float) -> float:
    """Return the power of two by which to coarsen so that ``side`` px come between two limits."""
    if side > most:
        return float(2.0 ** math.ceil(math.log2(side / most)))
    if side < least:
        return float(2.0 ** -math.ceil(math.log2(least / side)))
    return 1.0


def snapped(window: Window, must_hold: Bounds) -> Window:
    """Move a window to the half-overlapping grid, unless that would cut ``must_hold``.

    Finer grids (a quarter, an eighth of the side) are tried before the exact centre is kept.
    """
    left, top, right, bottom = must_hold
    margin = min(window.size) * (1 - FILL) / 2
    for part in (2, 4, 8):
        step_x = window.size[0] * window.scale[0] / part
        step_y = window.size[1] * window.scale[1] / part
        moved = replace(
            window,
            cx=round(window.cx / step_x) * step_x,
            cy=round(window.cy / step_y) * step_y,
        )
        if moved.contains([[left, top], [right, bottom]], margin):
            return moved
    return window


def is_cut(slide: Slide, window: Window, mask_bounds: Bounds) -> bool:
    """Tell whether a window's edge cuts a mask; the slide's own edge does not count.

    Parameters
    ----------
    slide : Slide
    window : Window
        What was seen.
    mask_bounds : tuple of float
        The mask's left, top, right, bottom in level-0 px.
    """
    left, top, right, bottom = mask_bounds
    wl, wt, wr, wb = window.bounds
    mx, my = TOUCH * window.scale[0], TOUCH * window.scale[1]
    return (
        (left <= wl + mx and wl > 0)
        or (top <= wt + my and wt > 0)
        or (right >= wr - mx and wr < slide.width)
        or (bottom >= wb - my and wb < slide.height)
    )


def next_window(
    window: Window, mask_bounds: Bounds, prompts: Bounds, *, recentred: bool
) -> Window | None:
    """Return the window to try again with when a mask is cut by its window.

    Parameters
    ----------
    window : Window
        What was seen.
    mask_bounds, prompts : tuple of float
        Left, top, right, bottom of the mask and of the prompts in level-0 px; both lie inside.
    recentred : bool
        Whether the window was already moved for this object.

    Returns
    -------
    Window or None
        The window moved so that the mask's centre comes to its own, or, if that was done before
        or the mask fills the window, a window twice as coarse; None if it cannot get coarser.
    """
    hold = (
        min(mask_bounds[0], prompts[0]),
        min(mask_bounds[1], prompts[1]),
        max(mask_bounds[2], prompts[2]),
        max(mask_bounds[3], prompts[3]),
    )
    wl, wt, wr, wb = window.bounds
    moved = replace(window, cx=(hold[0] + hold[2]) / 2, cy=(hold[1] + hold[3]) / 2)
    fits = hold[2] - hold[0] <= FILL * (wr - wl) and hold[3] - hold[1] <= FILL * (wb - wt)
    if fits and not recentred:
        return snapped(moved, hold)
    if max(window.scale) * 2 > COARSEST:
        return None
    coarser = (window.scale[0] * 2, window.scale[1] * 2)
    return snapped(replace(moved, scale=coarser), hold)


def neighbours(slide: Slide, window: Window) -> list[Window]:
    """Return those of the four windows beside one on the half-overlapping grid that clicks can get.

    These are the ones whose cell of the grid lies on the slide, if only in part.
    """
    dx = window.size[0] * window.scale[0] / 2
    dy = window.size[1] * window.scale[1] / 2
    around = [(dx, 0.0), (-dx, 0.0), (0.0, dy), (0.0, -dy)]
    moved = [replace(window, cx=window.cx + x, cy=window.cy + y) for x, y in around]
    return [
        w
        for w in moved
        if -dx / 2 < w.cx < slide.width + dx / 2 and -dy / 2 < w.cy < slide.height + dy / 2
    ]
