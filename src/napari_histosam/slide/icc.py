"""Colour profiles: from a scanner's RGB to sRGB, for display only (models see raw RGB)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_histosam.slide.source import RGB


def srgb_transform(profile: bytes | None) -> Callable[[RGB], RGB] | None:
    """Build a function from (h, w, 3) uint8 in the profile's colours to sRGB.

    None where there is no profile, or one that is not for RGB or cannot be read.
    """
    if not profile:
        return None
    from PIL import Image, ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None

    def apply(image: RGB) -> RGB:
        out = ImageCms.applyTransform(Image.fromarray(image), transform)
        return np.array(out)

    return apply
