"""OME-Zarr images (OME-NGFF 0.4 in zarr v2, 0.5 in zarr v3), read by zarr."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_histosam.errors import InputError
from napari_histosam.slide.identity import pixel_identity
from napari_histosam.slide.pixels import PixelFormat, to_rgb8
from napari_histosam.slide.source import (
    WHITE,
    LevelReader,
    SourceInfo,
    levels_from_sizes,
)
from napari_histosam.slide.units import micrometres, plausible_mpp

if TYPE_CHECKING:
    from pathlib import Path

    from napari_histosam.slide.source import RGB

_ROOT_FILES = (".zattrs", ".zgroup", ".zarray", "zarr.json")


def zarr_root(path: Path) -> Path | None:
    """Return the folder of a zarr group that a path names or lies directly in, or None."""
    folder = path.parent if path.name in _ROOT_FILES else path
    return folder if any((folder / name).is_file() for name in _ROOT_FILES) else None


class ZarrSource(LevelReader):
    """An OME-Zarr image on disk.

    Parameters
    ----------
    root : Path
        The folder of the image group, or of a bioformats2raw container (its first image is taken).

    Notes
    -----
    Axes may be any of t, c, z, y, x: the first time point and the middle focal plane are read.
    16-bit samples become ``value >> 8``, or ``value >> (bits - 8)`` where ``omero`` states the
    channels' range, the same for every chunk.
    """

    def __init__(self, root: Path) -> None:
        self._name = root.name
        try:
            self._open(root)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{root.name} cannot be read as OME-Zarr ({type(error).__name__}: {error});"
                " it may be incomplete: copy it again with all its files."
            ) from error

    def close(self) -> None:
        """Let go of the arrays; zarr keeps no file open."""
        self._arrays: list[Any] = []

    def _open(self, root: Path) -> None:
        import zarr

        group: Any = zarr.open(store=str(root), mode="r")
        if not isinstance(group, zarr.Group):
            raise InputError(f"{root.name} is a bare zarr array, not an OME-Zarr image.")
        meta = _ome(group)
        if not meta.get("multiscales") and "0" in group:
            group = group["0"]
            meta = _ome(group) if isinstance(group, zarr.Group) else {}
        multiscales = meta.get("multiscales") or []
        if not multiscales:
            raise InputError(
                f"{root.name} is a zarr folder without an OME-Zarr image (no multiscales);"
                " choose the folder of the image itself."
            )
        image = multiscales[0]
        datasets = image["datasets"]
        self._arrays = [group[d["path"]] for d in datasets]
        axes = [a["name"] if isinstance(a, dict) else str(a) for a in image.get("axes", "tczyx")]
        self._index, self._order = self._layout(axes, self._arrays[0])
        self._fmt = self._format(axes, meta)
        self._x, self._y = axes.index("x"), axes.index("y")
        sizes = [(int(a.shape[self._x]), int(a.shape[self._y])) for a in self._arrays]
        last = sizes[-1]
        w, h = min(last[0], 1024), min(last[1], 1024)
        chunks = self._arrays[0].chunks
        version = str(meta.get("version") or image.get("version") or "")
        self.info = SourceInfo(
            name=root.name,
            format="ome-zarr",
            backend="zarr",
            identity=pixel_identity(
                "ome-zarr",
                [(a.shape, str(a.dtype)) for a in self._arrays],
                self._read(len(sizes) - 1, 0, 0, w, h),
            ),
            levels=levels_from_sizes(sizes),
            tile=(int(chunks[self._x]), int(chunks[self._y])),
            mpp=_mpp(image, datasets[0], axes),
            properties={"ome-zarr.version": version, "ome-zarr.axes": "".join(axes)},
        )

    def _layout(self, axes: list[str], array: Any) -> tuple[list[Any], list[int]]:
        """Return an index that leaves c, y, x, and the order that makes them y, x, c."""
        if "y" not in axes or "x" not in axes or len(axes) != array.ndim:
            raise InputError(f"{self._name} has axes {axes} that cannot be shown as a slide.")
        index: list[Any] = []
        for name, size in zip(axes, array.shape, strict=True):
            if name in ("c", "y", "x"):
                index.append(slice(None))
            else:
                index.append(size // 2 if name == "z" else 0)
        kept = [a for a in axes if a in ("c", "y", "x")]
        order = [kept.index(a) for a in ("y", "x", "c") if a in kept]
        return index, order

    def _format(self, axes: list[str], meta: dict[str, Any]) -> PixelFormat:
        array = self._arrays[0]
        channels = int(array.shape[axes.index("c")]) if "c" in axes else 1
        dtype = array.dtype
        if dtype.kind not in "ub" or dtype.itemsize > 2 or channels not in (1, 3):
            raise InputError(
                f"{self._name} holds {channels} channels of {dtype}; only 8- and 16-bit RGB or"
                " gray images can be shown: convert it first."
            )
        bits = 1 if dtype.kind == "b" else 8 * dtype.itemsize
        if bits == 16:
            windows = [c.get("window") or {} for c in (meta.get("omero") or {}).get("channels", [])]
            tops = [w["max"] for w in windows if isinstance(w.get("max"), (int, float))]
            if tops and 255 <= max(tops) < 65535:
                bits = int(max(tops)).bit_length()
        return PixelFormat("rgb" if channels == 3 else "gray", bits)

    def _read(self, level: int, left: int, top: int, right: int, bottom: int) -> RGB:
        index = list(self._index)
        index[self._y], index[self._x] = slice(top, bottom), slice(left, right)
        try:
            got = np.asarray(self._arrays[level][tuple(index)])
        except IndexError as error:
            raise InputError(f"{self._name} is closed; open it again.") from error
        except Exception as error:
            raise InputError(
                f"A chunk of {self._name} cannot be read ({type(error).__name__}: {error});"
                " check the drive, or copy it again from its source."
            ) from error
        raw = got.transpose(self._order)
        return to_rgb8(raw if raw.ndim == 3 else raw[..., None], self._fmt, WHITE)


def _ome(group: Any) -> dict[str, Any]:
    attrs = dict(group.attrs)
    inner = attrs.get("ome")
    return inner if isinstance(inner, dict) else attrs


def _mpp(
    image: dict[str, Any], dataset: dict[str, Any], axes: list[str]
) -> tuple[float, float] | None:
    """Multiply the scales of level 0 and of the whole image; the unit is the axis' own."""
    total = [1.0] * len(axes)
    for holder in (dataset, image):
        for change in holder.get("coordinateTransformations") or []:
            if change.get("type") == "scale" and len(change.get("scale", [])) == len(axes):
                total = [t * float(s) for t, s in zip(total, change["scale"], strict=True)]
    units = [a.get("unit") if isinstance(a, dict) else None for a in image.get("axes", [])]
    if len(units) != len(axes):
        return None
    x, y = axes.index("x"), axes.index("y")
    return plausible_mpp(micrometres(total[x], units[x]), micrometres(total[y], units[y]))
