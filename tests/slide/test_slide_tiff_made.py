"""TIFF files of every layout, written here, against tifffile reading the same file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from napari_histosam.errors import InputError
from napari_histosam.slide import Slide, open_slide
from napari_histosam.slide.tiff_plane import TiffPlane

if TYPE_CHECKING:
    from pathlib import Path

LAYOUTS: dict[str, dict[str, Any]] = {
    "striped": {"rowsperstrip": 37},
    "one strip": {},
    "one strip lzw": {"compression": "lzw", "rowsperstrip": 700},
    "tiled": {"tile": (128, 64)},
    "lzw": {"compression": "lzw", "tile": (128, 128), "predictor": True},
    "deflate": {"compression": "zlib", "rowsperstrip": 16, "predictor": True},
    "jpeg": {"compression": "jpeg", "tile": (128, 128)},
    "jpeg striped": {"compression": "jpeg", "rowsperstrip": 64},
    "jpeg 2000": {"compression": "jpeg2000", "tile": (128, 128)},
    "zstd": {"compression": "zstd", "tile": (128, 128)},
    "packbits": {"compression": "packbits", "rowsperstrip": 50},
    "bigtiff": {"bigtiff": True, "tile": (256, 256), "compression": "zlib"},
    "big endian": {"byteorder": ">", "rowsperstrip": 20},
    "planar": {"planarconfig": "separate", "tile": (128, 128), "compression": "zlib"},
    "planar striped": {"planarconfig": "separate", "rowsperstrip": 33},
}


def whole(slide: Slide) -> np.ndarray:
    return slide.read_region(0, 0, 0, slide.width, slide.height)


def check_parts(slide: Slide) -> None:
    full = whole(slide)
    rng = np.random.default_rng(5)
    for _ in range(8):
        x, y = int(rng.integers(-20, slide.width)), int(rng.integers(-20, slide.height))
        w, h = (int(v) for v in rng.integers(30, 260, 2))
        got = slide.read_region(x, y, 0, w, h)
        want = np.full((h, w, 3), 255, np.uint8)
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, slide.width), min(y + h, slide.height)
        want[y0 - y : y1 - y, x0 - x : x1 - x] = full[y0:y1, x0:x1]
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rgb_layouts(tmp_path: Path, tissue: np.ndarray, layout: str) -> None:
    options = dict(LAYOUTS[layout])
    data = tissue.transpose(2, 0, 1) if options.get("planarconfig") == "separate" else tissue
    path = tmp_path / "a.tif"
    writer = {k: options.pop(k) for k in ("bigtiff", "byteorder") if k in options}
    tifffile.imwrite(path, data, photometric="rgb", **writer, **options)
    want = tifffile.imread(path)
    want = want.transpose(1, 2, 0) if want.shape[0] == 3 else want
    with open_slide(path) as slide:
        np.testing.assert_array_equal(whole(slide), want)
        check_parts(slide)
        np.testing.assert_array_equal(slide.as_dask().compute(), want)


@pytest.mark.parametrize("shape", ["tiled", "striped"])
def test_16_bit_is_the_high_byte(tmp_path: Path, tissue: np.ndarray, shape: str) -> None:
    rng = np.random.default_rng(0)
    deep = tissue.astype(np.uint16) * 256 + rng.integers(0, 256, tissue.shape).astype(np.uint16)
    options: dict[str, Any] = {"tile": (128, 128)} if shape == "tiled" else {"rowsperstrip": 40}
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb", **options)
    with open_slide(tmp_path / "deep.tif") as slide:
        np.testing.assert_array_equal(whole(slide), tissue)
        check_parts(slide)


@pytest.mark.parametrize("packed", [None, "lzw"])
def test_16_bit_big_endian(tmp_path: Path, tissue: np.ndarray, packed: str | None) -> None:
    deep = tissue.astype(np.uint16) * 256 + 3
    path = tmp_path / "big.tif"
    options: dict[str, Any] = {"compression": packed, "rowsperstrip": 64}
    tifffile.imwrite(path, deep, photometric="rgb", byteorder=">", **options)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(whole(slide), tissue)
        check_parts(slide)


def test_an_aperio_file_where_openslide_does_not_help(sample: Path) -> None:
    from napari_histosam.slide.tiff_source import TiffSource

    with open_slide(sample) as slide, Slide(TiffSource(sample), sample) as other:
        assert (other.format, other.backend) == ("aperio", "tifffile")
        assert (other.mpp, other.objective) == (slide.mpp, slide.objective)
        assert other.associated == slide.associated
        np.testing.assert_array_equal(whole(other), whole(slide))
        for name in slide.associated:
            ours, theirs = other.associated_image(name), slide.associated_image(name)
            assert ours.shape == theirs.shape
            # Strips with halved chroma: the codecs smooth across strip borders differently.
            assert np.abs(ours.astype(int) - theirs).mean() < 1


def test_an_ome_file_in_several_parts_is_refused(tmp_path: Path, tissue: np.ndarray) -> None:
    gray = tissue[:64, :64, 0]
    for i in range(3):
        data = "".join(
            f'<TiffData FirstC="{c}" IFD="0"><UUID FileName="part{c}.ome.tif">urn:uuid:{c}</UUID>'
            "</TiffData>"
            for c in range(3)
        )
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{i}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYCZT" Type="uint8" SizeX="64" SizeY="64" SizeC="3" SizeZ="1" '
            f'SizeT="1">{data}</Pixels></Image></OME>'
        )
        path = tmp_path / f"part{i}.ome.tif"
        tifffile.imwrite(path, gray, photometric="minisblack", description=xml, metadata=None)
    with pytest.raises(InputError, match="several files"):
        open_slide(tmp_path / "part0.ome.tif")


def test_16_bit_with_stated_significant_bits(tmp_path: Path, tissue: np.ndarray) -> None:
    twelve = tissue.astype(np.uint16) << 4 | 7
    tifffile.imwrite(
        tmp_path / "twelve.ome.tif",
        twelve,
        photometric="rgb",
        metadata={"axes": "YXS", "SignificantBits": 12},
    )
    with open_slide(tmp_path / "twelve.ome.tif") as slide:
        np.testing.assert_array_equal(whole(slide), tissue)
    top = (281, "H", 3, (4095, 4095, 4095), True)
    tifffile.imwrite(tmp_path / "top.tif", twelve, photometric="rgb", extratags=[top])
    with open_slide(tmp_path / "top.tif") as slide:
        np.testing.assert_array_equal(whole(slide), tissue)


def test_rgba_is_laid_on_white(tmp_path: Path, tissue: np.ndarray) -> None:
    alpha = np.full(tissue.shape[:2], 255, np.uint8)
    alpha[100:200] = 0
    alpha[200:300] = 128
    rgba = np.dstack([tissue, alpha])
    path = tmp_path / "rgba.tif"
    tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["unassalpha"], tile=(128, 128))
    with open_slide(path) as slide:
        got = whole(slide)
    np.testing.assert_array_equal(got[:100], tissue[:100])
    assert (got[100:200] == 255).all()
    want = (tissue[200:300] * 128.0 + 255 * 127.0) / 255
    assert np.abs(got[200:300] - want).max() <= 0.5
    tifffile.imwrite(path, rgba, photometric="rgb", extrasamples=["unspecified"])
    with open_slide(path) as slide:
        np.testing.assert_array_equal(whole(slide), tissue)


def test_gray_palette_and_bilevel(tmp_path: Path, tissue: np.ndarray) -> None:
    gray = tissue[..., 1]
    tifffile.imwrite(tmp_path / "g.tif", gray, photometric="minisblack", tile=(64, 64))
    tifffile.imwrite(tmp_path / "w.tif", 255 - gray, photometric="miniswhite")
    for name in ("g.tif", "w.tif"):
        with open_slide(tmp_path / name) as slide:
            np.testing.assert_array_equal(whole(slide), np.repeat(gray[..., None], 3, 2))
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", gray, photometric="palette", colormap=colours)
    with open_slide(tmp_path / "p.tif") as slide:
        np.testing.assert_array_equal(whole(slide), (colours >> 8).T[gray])
    tifffile.imwrite(tmp_path / "b.tif", gray > 128, photometric="minisblack")
    with open_slide(tmp_path / "b.tif") as slide:
        np.testing.assert_array_equal(whole(slide)[..., 0], (gray > 128) * 255)


def test_ome_with_rgb_as_three_channels(tmp_path: Path, tissue: np.ndarray) -> None:
    path = tmp_path / "cyx.ome.tif"
    data = tissue.transpose(2, 0, 1)
    meta = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, data, photometric="minisblack", metadata=meta, tile=(128, 128))
    with open_slide(path) as slide:
        np.testing.assert_array_equal(whole(slide), tissue)
        assert slide.mpp == (0.5, 0.5)
    stack = np.stack([data // 2, data, data // 3])[None]
    path = tmp_path / "tzcyx.ome.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "TZCYX"})
    with open_slide(path) as slide:
        np.testing.assert_array_equal(whole(slide), tissue)
    path = tmp_path / "four.ome.tif"
    four = np.concatenate([data, data[:1]])
    tifffile.imwrite(path, four, photometric="minisblack", metadata={"axes": "CYX"})
    with pytest.raises(InputError, match="4 separate channels"):
        open_slide(path)


def test_ome_pyramid_in_subifds(ome_pyramid: Path, halves: list[np.ndarray]) -> None:
    with open_slide(ome_pyramid) as slide:
        assert (slide.format, slide.backend) == ("ome-tiff", "tifffile")
        assert slide.mpp == pytest.approx((0.25, 0.5))
        assert [lv.shape for lv in slide.levels] == [h.shape[:2] for h in halves]
        for i, want in enumerate(halves):
            h, w = want.shape[:2]
            np.testing.assert_array_equal(slide.read_region(0, 0, i, w, h), want)
        x, y = round(40 * slide.levels[1].scale[0]), round(31 * slide.levels[1].scale[1])
        np.testing.assert_array_equal(slide.read_region(x, y, 1, 50, 60), halves[1][31:91, 40:90])


@pytest.mark.parametrize(
    ("density", "unit", "mpp"),
    [
        ((40000, 20000), "CENTIMETER", (0.25, 0.5)),
        ((50800, 50800), "INCH", (0.5, 0.5)),
        ((20000, 0), "CENTIMETER", (0.5, 0.5)),
        ((72, 72), "INCH", None),
        ((300, 300), "INCH", None),
        ((1, 1), "NONE", None),
        ((0, 0), "CENTIMETER", None),
    ],
)
@pytest.mark.parametrize("tiled", [True, False])
def test_mpp_from_resolution_tags(
    tmp_path: Path,
    tissue: np.ndarray,
    density: tuple[int, int],
    unit: str,
    mpp: tuple[float, float] | None,
    tiled: bool,
) -> None:
    options: dict[str, Any] = {"tile": (128, 128), "compression": "jpeg"} if tiled else {}
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, tissue, photometric="rgb", resolution=density, resolutionunit=unit, **options
    )
    with open_slide(path) as slide:
        assert slide.backend == ("openslide" if tiled else "tifffile")
        assert slide.mpp == (mpp and pytest.approx(mpp))


def test_only_what_is_under_the_box_is_decoded(
    tmp_path: Path, tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    plain = TiffPlane._segment

    def counted(self: TiffPlane, index: int) -> np.ndarray:
        decoded.append(index)
        return plain(self, index)

    monkeypatch.setattr(TiffPlane, "_segment", counted)
    planar = {"planarconfig": "separate", "tile": (64, 64), "compression": "zlib"}
    tifffile.imwrite(tmp_path / "t.tif", tissue.transpose(2, 0, 1), photometric="rgb", **planar)
    with open_slide(tmp_path / "t.tif") as slide:
        slide.read_region(70, 70, 0, 100, 20)
        assert len(decoded) == 3 * 2
    decoded.clear()
    strips: dict[str, Any] = {"rowsperstrip": 10, "compression": "lzw"}
    tifffile.imwrite(tmp_path / "s.tif", tissue, photometric="rgb", **strips)
    with open_slide(tmp_path / "s.tif") as slide:
        slide.read_region(0, 35, 0, 50, 10)
        assert decoded == [3, 4]


def test_uncompressed_strips_are_read_in_part(
    tmp_path: Path, tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_histosam.slide.files import SharedFile

    tifffile.imwrite(tmp_path / "raw.tif", tissue, photometric="rgb")
    with open_slide(tmp_path / "raw.tif") as slide:
        taken: list[int] = []
        plain = SharedFile.read
        monkeypatch.setattr(SharedFile, "read", lambda s, o, n: taken.append(n) or plain(s, o, n))
        got = slide.read_region(100, 200, 0, 40, 30)
    np.testing.assert_array_equal(got, tissue[200:230, 100:140])
    assert sum(taken) == 40 * 30 * 3


def test_one_huge_compressed_strip_is_refused(
    tmp_path: Path, tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_histosam.slide.tiff_plane as module

    monkeypatch.setattr(module, "MAX_SEGMENT", tissue.nbytes - 1)
    tifffile.imwrite(
        tmp_path / "s.tif", tissue, photometric="rgb", compression="lzw", rowsperstrip=700
    )
    with pytest.raises(InputError, match="one compressed block"):
        open_slide(tmp_path / "s.tif")


def test_label_and_macro_of_an_ome_file(tmp_path: Path, tissue: np.ndarray) -> None:
    path = tmp_path / "many.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(
            tissue[:90, :60], photometric="rgb", metadata={"axes": "YXS", "Name": "label image"}
        )
        tif.write(
            tissue,
            photometric="rgb",
            metadata={"axes": "YXS", "Name": "slide", "PhysicalSizeX": 0.5},
        )
    with open_slide(path) as slide:
        assert (slide.width, slide.height) == (611, 700)
        assert slide.mpp == (0.5, 0.5)
        assert slide.associated == ("label",)
        np.testing.assert_array_equal(slide.associated_image("label"), tissue[:90, :60])


def test_identity_is_of_the_content(tmp_path: Path, tissue: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", tissue, photometric="rgb")
    first = open_slide(tmp_path / "a.tif").identity
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.tif").rename(tmp_path / "elsewhere" / "b.tiff")
    assert open_slide(tmp_path / "elsewhere" / "b.tiff").identity == first
    tifffile.imwrite(tmp_path / "a.tif", tissue[::-1], photometric="rgb")
    assert open_slide(tmp_path / "a.tif").identity != first
