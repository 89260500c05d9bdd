"""Opens any slide file: looks at what is in it, not at its suffix, and picks the best back end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_histosam.errors import InputError
from napari_histosam.slide.slide import Slide

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from napari_histosam.slide.openslide_source import OpenSlideSource
    from napari_histosam.slide.source import TileSource

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"GIF8", b"\0\0\0\x0cjP  ", b"RIFF")


def open_slide(path: str | os.PathLike[str]) -> Slide:
    """Open a slide.

    Parameters
    ----------
    path : path
        A file of a scanner vendor (svs, ndpi, mrxs, scn, vms, vmu, bif, svslide, Philips, DICOM,
        ...), a TIFF or OME-TIFF, an OME-Zarr folder, a folder of DICOM files, or a plain image.
        What is inside decides, whatever the suffix says.

    Returns
    -------
    Slide

    Raises
    ------
    InputError
        One sentence that says why the file cannot be read.
    """
    where = Path(path).expanduser()
    try:
        source = _probe(where)
    except OSError as error:
        raise InputError(f"{where} cannot be read ({error.strerror or error}).") from error
    return Slide(source, where)


def open_array(
    levels: Sequence[Any], mpp: tuple[float, float] | None = None, name: str = "image"
) -> Slide:
    """Make a slide of an image that is already open, for example an RGB layer in napari.

    Parameters
    ----------
    levels : sequence of array-like
        Finest first; each (h, w, 3 or 4) of uint8, uint16 or float 0 to 1: numpy, dask or zarr.
    mpp : tuple of float, optional
        µm per level-0 px (x, y).
    name : str
    """
    from napari_histosam.slide.array_source import ArraySource

    return Slide(ArraySource(levels, mpp, name), None)


def _probe(path: Path) -> TileSource:
    if not path.exists():
        raise InputError(f"There is no file {path}; check the name and the drive.")
    from napari_histosam.slide.zarr_source import ZarrSource, zarr_root

    root = zarr_root(path)
    if root is not None:
        return ZarrSource(root)
    if path.is_dir():
        return _probe_folder(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file.")
    from napari_histosam.slide.openslide_source import OpenSlideSource, vendor_of

    vendor = vendor_of(path)
    with path.open("rb") as file:
        head = file.read(132)
    if head[:4] in _TIFF:
        return _probe_tiff(path, vendor)
    if vendor is not None:
        return OpenSlideSource(path)
    if not head:
        raise InputError(f"{path.name} is empty (0 bytes); copy it again from its source.")
    if head.startswith(_IMAGES):
        from napari_histosam.slide.image_source import ImageSource

        return ImageSource(path)
    if head[128:132] == b"DICM":
        raise InputError(
            f"{path.name} is a DICOM file but not a readable whole-slide image; open a file of a"
            " VL Whole Slide Microscopy series."
        )
    raise InputError(
        f"{path.name} is not a slide or image that can be read, or it is cut short; open a slide,"
        " TIFF, OME-Zarr, DICOM, PNG or JPEG."
    )


def _probe_tiff(path: Path, vendor: str | None) -> TileSource:
    from napari_histosam.slide.openslide_source import OpenSlideSource
    from napari_histosam.slide.tiff_source import TiffSource

    if vendor is None:
        return TiffSource(path)
    if vendor != "generic-tiff":
        return _vendor_tiff(path, vendor)
    # OpenSlide does not look into SubIFDs and knows no OME units; tifffile does.
    tiff = TiffSource(path)
    if tiff.info.format == "ome-tiff" or not tiff.plain_rgb8:
        return tiff
    try:
        slide = OpenSlideSource(path)
    except InputError:
        return tiff
    if len(slide.info.levels) < len(tiff.info.levels):
        slide.close()
        return tiff
    tiff.close()
    return slide


def _vendor_tiff(path: Path, vendor: str) -> TileSource:
    from napari_histosam.slide.openslide_source import OpenSlideSource
    from napari_histosam.slide.tiff_source import TiffSource

    try:
        slide = OpenSlideSource(path)
    except InputError as error:
        # Say what OpenSlide said unless tifffile can do better.
        try:
            return TiffSource(path)
        except InputError:
            raise error from None
    if vendor == "hamamatsu":
        # Its directory lies at the end, so a short file does not open at all; and finding its last
        # tile can mean a walk through the whole file.
        return slide
    last = slide.info.levels[0]
    try:
        # A file that was cut short opens, but its last tile cannot be read.
        slide.read_level(0, last.width - 1, last.height - 1, 1, 1)
    except InputError as error:
        slide.close()
        raise InputError(
            f"{path.name} is cut short or damaged: its last part cannot be read; copy it again"
            " from its source."
        ) from error
    return slide


def _probe_folder(path: Path) -> TileSource:
    from napari_histosam.slide.openslide_source import OpenSlideSource, vendor_of

    beside = path.with_name(path.name + ".mrxs")
    if (path / "Slidedat.ini").is_file() and beside.is_file():
        return OpenSlideSource(beside)
    best: OpenSlideSource | None = None
    seen: set[bytes] = set()
    for file in sorted(p for p in path.iterdir() if p.is_file()):
        # One file opens its whole series: skip the other files of a series that is known already.
        head = _dicom_head(file)
        if not head or any(uid in head for uid in seen) or vendor_of(file) is None:
            continue
        try:
            found = OpenSlideSource(file)
        except InputError:
            continue
        seen.add(found.info.properties.get("dicom.SeriesInstanceUID", file.name).encode())
        if best is None:
            best = found
        elif _area(found) > _area(best):
            best.close()
            best = found
        else:
            found.close()
    if best is None:
        raise InputError(
            f"{path.name} is a folder without an OME-Zarr image or DICOM slide; choose a slide"
            " file in it."
        )
    return best


def _dicom_head(path: Path) -> bytes:
    """Return a DICOM file's first 64 KiB, which hold its series' UID; nothing for other files."""
    try:
        with path.open("rb") as file:
            head = file.read(2**16)
    except OSError:
        return b""
    return head if head[128:132] == b"DICM" else b""


def _area(source: OpenSlideSource) -> int:
    return source.info.levels[0].width * source.info.levels[0].height
