"""The TIFF family (OME-TIFF, BigTIFF, tiled, striped, planar), read by tifffile and imagecodecs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_histosam.slide.identity import file_identity
from napari_histosam.slide.ome import OmeImage, parse_ome
from napari_histosam.slide.pixels import PixelFormat
from napari_histosam.slide.source import (
    WHITE,
    LevelReader,
    SourceInfo,
    levels_from_sizes,
)
from napari_histosam.slide.tiff_levels import TiffLevels
from napari_histosam.slide.units import as_number, mpp_from_density, plausible_mpp

if TYPE_CHECKING:
    from pathlib import Path

    from napari_histosam.slide.source import RGB


class TiffSource(LevelReader):
    """A TIFF file that tifffile reads.

    Parameters
    ----------
    path : Path

    Notes
    -----
    Samples of 16 bit become ``value >> 8``, or ``value >> (bits - 8)`` where the file states its
    significant bits (OME ``SignificantBits``, TIFF ``MaxSampleValue``), the same for every tile.
    """

    def __init__(self, path: Path) -> None:
        self._levels = TiffLevels(path, WHITE)
        self.info = self._describe(path)

    @property
    def plain_rgb8(self) -> bool:
        """Whether the px are 8-bit RGB side by side, without alpha: what OpenSlide reads too."""
        stack = self._levels.stacks[0]
        return len(stack.planes) == 1 and stack.fmt == PixelFormat("rgb", 8)

    def associated_image(self, name: str) -> RGB:
        """Read label, macro, thumbnail, ..."""
        return self._levels.read_extra(name)

    def close(self) -> None:
        """Close the file."""
        self._levels.close()

    def _read(self, level: int, left: int, top: int, right: int, bottom: int) -> RGB:
        return self._levels.read(level, left, top, right, bottom)

    def _describe(self, path: Path) -> SourceInfo:
        levels = self._levels
        images = parse_ome(levels.ome_xml) if levels.ome_xml else []
        ome = images[levels.index] if levels.index < len(images) else None
        aperio = _aperio(levels.tags) if "svs" in levels.flags else {}
        kind = "ome-tiff" if levels.ome_xml else "aperio" if aperio else "tiff"
        return SourceInfo(
            name=path.name,
            format=kind,
            vendor="aperio" if aperio else None,
            backend="tifffile",
            identity=file_identity(path),
            levels=levels_from_sizes(levels.sizes),
            tile=levels.tile,
            mpp=_mpp(ome, aperio, levels.tags),
            objective=ome.objective if ome else as_number(aperio.get("aperio.AppMag")),
            properties={**{f"tiff.{k}": str(v)[:4096] for k, v in _plain(levels.tags)}, **aperio},
            associated=tuple(sorted(levels.extra)),
            icc_profile=levels.icc_profile,
        )


def _mpp(
    ome: OmeImage | None, aperio: dict[str, str], tags: dict[str, Any]
) -> tuple[float, float] | None:
    if ome is not None and ome.mpp is not None:
        return ome.mpp
    if aperio:
        return plausible_mpp(aperio.get("aperio.MPP"), aperio.get("aperio.MPP"))
    # ResolutionUnit: 2 inch (the standard's default), 3 centimetre; 1 says "no unit".
    per_um = {2: 25400.0, 3: 1e4}.get(int(tags.get("ResolutionUnit", 2)))
    if per_um is None:
        return None
    x, y = _ratio(tags.get("XResolution")), _ratio(tags.get("YResolution"))
    return mpp_from_density(x, y, per_um)


def _ratio(value: Any) -> float | None:
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1])
    return None


def _aperio(tags: dict[str, Any]) -> dict[str, str]:
    """Split Aperio's ``key = value|key = value`` description."""
    parts = str(tags.get("ImageDescription", "")).split("|")[1:]
    pairs = (p.partition("=") for p in parts)
    return {f"aperio.{k.strip()}": v.strip() for k, eq, v in pairs if eq}


def _plain(tags: dict[str, Any]) -> list[tuple[str, Any]]:
    skip = ("Offsets", "ByteCounts", "JPEGTables", "ColorMap", "InterColorProfile")
    return [(k, v) for k, v in tags.items() if not k.endswith(skip)]
