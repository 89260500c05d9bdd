"""Plain images (PNG, JPEG, BMP, ...), read whole by Pillow."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.slide.identity import file_identity
from napari_histosam.slide.pixels import to_8bit
from napari_histosam.slide.source import (
    WHITE,
    LevelReader,
    SourceInfo,
    levels_from_sizes,
)
from napari_histosam.slide.units import mpp_from_density

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from napari_histosam.slide.source import RGB

_FORMATS = ("PNG", "JPEG", "BMP", "JPEG2000", "WEBP", "GIF")


class ImageSource(LevelReader):
    """A plain image, decoded once into memory (these formats cannot be read in parts).

    Parameters
    ----------
    path : Path

    Notes
    -----
    Pixels are taken as stored: no rotation by EXIF. Alpha is laid on white. 16-bit gray becomes
    ``value >> 8``. Images above Pillow's own limit (about 179 million px) are refused.
    """

    def __init__(self, path: Path) -> None:
        from PIL import Image, UnidentifiedImageError

        try:
            with warnings.catch_warnings():
                # Between one and two times its limit Pillow only warns; that is still welcome here.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(path, formats=_FORMATS) as image:
                    kind = (image.format or "image").lower()
                    dpi = image.info.get("dpi")
                    icc = image.info.get("icc_profile")
                    self._pixels = _rgb(image)
        except UnidentifiedImageError as error:
            raise InputError(
                f"{path.name} is not an image that can be read; open a slide, TIFF, PNG or JPEG."
            ) from error
        except Image.DecompressionBombError as error:
            raise InputError(
                f"{path.name} has more px than a {path.suffix or 'plain'} image can be opened with"
                " safely; convert it to a pyramidal TIFF or OME-Zarr."
            ) from error
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise InputError(
                f"{path.name} is damaged or incomplete ({error}); copy it again from its source."
            ) from error
        self._pixels.flags.writeable = False
        height, width = self._pixels.shape[:2]
        self.info = SourceInfo(
            name=path.name,
            format=kind,
            backend="pillow",
            identity=file_identity(path),
            levels=levels_from_sizes([(width, height)]),
            mpp=mpp_from_density(dpi[0], dpi[1], 25400.0) if dpi else None,
            icc_profile=icc if isinstance(icc, bytes) and icc else None,
        )

    def close(self) -> None:
        """Do nothing: the file was closed when it had been read."""

    def _read(self, level: int, left: int, top: int, right: int, bottom: int) -> RGB:
        return self._pixels[top:bottom, left:right].copy()


def _rgb(image: Image) -> RGB:
    from PIL import Image as PIL

    if image.mode.startswith("I;16") or image.mode == "I":
        gray = to_8bit(np.clip(np.asarray(image), 0, 65535).astype(np.uint16), 16)
        return np.repeat(gray[..., None], 3, axis=-1)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        over = image.convert("RGBA")
        under = PIL.new("RGB", image.size, WHITE)
        under.paste(over, mask=over.getchannel("A"))
        return np.array(under)
    return np.array(image.convert("RGB"))
