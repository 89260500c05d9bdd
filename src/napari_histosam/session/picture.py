"""A picture of a piece of slide with prompts and objects drawn on it, without a window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely

from napari_histosam.geometry.window import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_histosam.records import Colour, Prompt, SlideObject
    from napari_histosam.slide import Slide

PLAIN: Colour = (250, 204, 21)
POSITIVE, NEGATIVE, BOX = (34, 197, 94), (239, 68, 68), (56, 189, 248)


def draw_picture(
    slide: Slide,
    objects: Sequence[SlideObject],
    prompts: Sequence[Prompt],
    colours: Mapping[str, Colour],
    path: Path,
    *,
    max_px: int = 1400,
    margin: float = 60.0,
) -> Path:
    """Write a PNG of the region around objects and prompts.

    Parameters
    ----------
    slide : Slide
    objects : sequence of SlideObject
        Level-0 px.
    prompts : sequence of Prompt
    colours : mapping of str to RGB
        By class name.
    path : Path
    max_px : int
        The longer side's limit.
    margin : float
        Level-0 px around them.

    Returns
    -------
    Path
        As given.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    from napari_histosam.exchange.files import new_file

    shapes = [o.geometry for o in objects] + [p.geometry for p in prompts]
    if not shapes:
        shapes = [shapely.box(0, 0, slide.width, slide.height)]
    left, top, right, bottom = shapely.total_bounds(np.array(shapes, dtype=object))
    left, top = max(0.0, left - margin), max(0.0, top - margin)
    right = min(float(slide.width), right + margin)
    bottom = min(float(slide.height), bottom + margin)
    scale = max(right - left, bottom - top) / max_px
    size = (max(1, round((right - left) / scale)), max(1, round((bottom - top) / scale)))
    window = Window((left + right) / 2, (top + bottom) / 2, (scale, scale), size)
    image = Image.fromarray(slide.read(window)).convert("RGBA")
    faint = Image.new("RGBA", image.size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(faint)
    for item in objects:
        colour = colours.get(item.class_name or "", PLAIN)
        for part in shapely.get_parts(item.geometry):
            draw.polygon(_flat(window, part.exterior), fill=(*colour, 70))
            for hole in part.interiors:
                draw.polygon(_flat(window, hole), fill=(0, 0, 0, 0))
    image = Image.alpha_composite(image, faint).convert("RGB")
    draw = ImageDraw.Draw(image)
    for item in objects:
        colour = colours.get(item.class_name or "", PLAIN)
        for part in shapely.get_parts(item.geometry):
            for ring in (part.exterior, *part.interiors):
                draw.line(_flat(window, ring), fill=colour, width=3, joint="curve")
    for prompt in prompts:
        if prompt.role == "box":
            corners = window.from_level0(np.reshape(prompt.geometry.bounds, (2, 2)))
            draw.rectangle([tuple(c) for c in corners.tolist()], outline=BOX, width=2)
        elif prompt.geometry.geom_type == "Point":
            x, y = window.from_level0(shapely.get_coordinates(prompt.geometry))[0]
            colour = NEGATIVE if prompt.role == "negative" else POSITIVE
            draw.ellipse([x - 7, y - 7, x + 7, y + 7], fill=colour, outline="white", width=2)
    names = sorted({o.class_name or "unclassified" for o in objects})
    font = ImageFont.load_default(18)
    for line, name in enumerate(names):
        y = 10 + 26 * line
        draw.rectangle([10, y, 26, y + 16], fill=colours.get(name, PLAIN), outline="white")
        draw.text((34, y - 3), name, fill="black", font=font, stroke_width=3, stroke_fill="white")
    with new_file(path) as temporary:
        image.save(temporary, format="PNG")
    return path


def _flat(window: Window, ring: shapely.LinearRing) -> list[tuple[float, float]]:
    at = window.from_level0(shapely.get_coordinates(ring))
    return [(float(x), float(y)) for x, y in at]
