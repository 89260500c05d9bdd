"""Label images: pixels by the centre rule, tiled like whole, and back into objects."""

import csv
import struct
from dataclasses import replace

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image
from shapely import Point, box

from napari_histosam.errors import InputError
from napari_histosam.exchange import label_image, labels
from napari_histosam.exchange.geojson import read_geojson
from napari_histosam.exchange.labels import mapping_path, read_labels, slide_window, write_labels
from napari_histosam.geometry.masks import polygons_to_mask
from napari_histosam.geometry.window import Window
from napari_histosam.records import SlideObject


def pixels(path):
    return tifffile.imread(path) if path.suffix.startswith(".tif") else np.array(Image.open(path))


@pytest.fixture
def blobs():
    rng = np.random.default_rng(5)
    return [
        SlideObject(geometry=Point(*rng.uniform(0, 700, 2)).buffer(rng.uniform(3, 40)))
        for _ in range(40)
    ]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (2.5, 1.5)])
def test_pixels_follow_the_centre_rule_over_all_tiles(tmp_path, monkeypatch, blobs, suffix, scale):
    monkeypatch.setattr(label_image, "TILE", 64)
    monkeypatch.setattr(label_image, "_STRIP_BYTES", 50_000)
    window = Window(310.0, 280.5, scale, (211, 157))
    path = tmp_path / f"a{suffix}"
    report = write_labels(blobs, path, window, (0.5, 0.5))
    expected = np.zeros((157, 211), int)
    for label, one in enumerate(blobs, start=1):
        expected[polygons_to_mask(one.geometry, window)] = label
    image = pixels(path)
    assert image.dtype == np.uint16
    assert np.array_equal(image, expected)
    assert report.n == 40
    hidden = 40 - (np.unique(expected).size - 1)
    assert bool(hidden) == any(w.startswith(f"{hidden} objects") for w in report.warnings)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_round_trip_through_the_file_alone(tmp_path, suffix, prompted):
    window = Window(150.0, 130.0, (0.5, 0.25), (300, 300))
    path = tmp_path / f"a{suffix}"
    write_labels([prompted], path, window)
    result = read_labels(path)
    (one,) = result.objects
    assert one.id == prompted.id
    assert (one.class_name, one.name) == (prompted.class_name, prompted.name)
    assert one.provenance.source == "imported"
    assert result.warnings == []
    assert result.classes[0].name == "Tumour: Positive"
    assert np.array_equal(
        polygons_to_mask(one.geometry, window), polygons_to_mask(prompted.geometry, window)
    )
    assert len(one.geometry.geoms[0].interiors) == 1


def test_resolution_tags(tmp_path, plain):
    window = Window(20, 20, (2.0, 2.0), (20, 20))
    write_labels([plain], tmp_path / "a.tif", window, (0.25, 0.5))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        page = tiff.pages.first
        assert page.is_tiled
        assert page.compression.name == "ADOBE_DEFLATE"
        x = page.tags["XResolution"].value
        assert x[0] / x[1] == pytest.approx(1e4 / 0.5)
        y = page.tags["YResolution"].value
        assert y[0] / y[1] == pytest.approx(1e4 / 1.0)
    write_labels([plain], tmp_path / "a.png", window, (0.25, 0.5))
    assert Image.open(tmp_path / "a.png").info["dpi"][0] == pytest.approx(25400 / 0.5, rel=1e-3)


def test_more_than_65535_objects(tmp_path):
    xs, ys = np.meshgrid(np.arange(260), np.arange(260))
    objects = [SlideObject(geometry=g) for g in shapely.box(xs, ys, xs + 1, ys + 1).ravel()]
    window = slide_window((260, 260))
    with pytest.raises(InputError, match="choose TIFF"):
        write_labels(objects, tmp_path / "a.png", window)
    assert list(tmp_path.iterdir()) == []
    write_labels(objects, tmp_path / "a.tif", window)
    image = pixels(tmp_path / "a.tif")
    assert image.dtype == np.uint32
    assert np.array_equal(image.ravel(), np.arange(1, 260 * 260 + 1))


def test_mapping_is_safe_in_a_spreadsheet_and_read_back(tmp_path, plain):
    evil = replace(plain, name="=HYPERLINK(1)", class_name="+A")
    path = tmp_path / "a.png"
    write_labels([evil], path, slide_window((50, 70)))
    with mapping_path(path).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["label", "id", "class", "name"]
    assert rows[1] == ["1", evil.id, "'+A", "'=HYPERLINK(1)"]
    (one,) = read_labels(path).objects
    assert (one.name, one.class_name) == ("=HYPERLINK(1)", "+A")


def test_broken_mapping_is_not_trusted(tmp_path, plain):
    path = tmp_path / "a.png"
    write_labels([plain, replace(plain, geometry=box(0, 0, 5, 5))], path, slide_window((50, 70)))
    for text in (b"\xff\xfe\x00", b"nonsense", b"label,id\nx,y\n", b"label,id\n1,../etc\n"):
        mapping_path(path).write_bytes(text)
        objects = read_labels(path).objects
        assert len({one.id for one in objects}) == 2
        assert all("/" not in one.id for one in objects)


def test_points_are_left_out_and_later_objects_win(tmp_path, plain):
    path = tmp_path / "a.tif"
    objects = [plain, SlideObject(geometry=Point(3, 3)), replace(plain, geometry=box(0, 0, 60, 90))]
    report = write_labels(objects, path, slide_window((50, 70)))
    assert report.n == 2
    assert len(report.warnings) == 2
    assert (pixels(path) == 2).all()


def test_coarse_level_of_a_slide():
    window = slide_window((1001, 500), 4.0)
    assert window.size == (251, 125)
    assert window.bounds[:2] == (0.0, 0.0)
    with pytest.raises(InputError, match="above 0"):
        slide_window((10, 10), 0)


def test_scale_and_offset_by_hand(tmp_path):
    image = np.zeros((10, 12), np.uint8)
    image[2:4, 3:6] = 200
    Image.fromarray(image).save(tmp_path / "a.png")
    result = read_labels(tmp_path / "a.png", scale=(4.0, 2.0), offset=(100.0, 50.0))
    assert result.objects[0].geometry.equals(box(112, 54, 124, 58))
    plain = read_labels(tmp_path / "a.png")
    assert plain.objects[0].geometry.equals(box(3, 2, 6, 4))
    assert "laid on level 0" in plain.warnings[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, bool])
def test_kinds_of_label_tiffs(tmp_path, dtype):
    image = np.zeros((9, 9), dtype)
    image[1:3, 1:3] = 1
    image[6, 6] = 1 if dtype is bool else 120
    tifffile.imwrite(tmp_path / "a.tif", image)
    areas = sorted(o.geometry.area for o in read_labels(tmp_path / "a.tif").objects)
    assert areas == ([5] if dtype is bool else [1, 4])


def test_labels_with_huge_numbers(tmp_path):
    image = np.full((5, 5), 7, np.uint32)
    image[0, 0] = 4_000_000_000
    tifffile.imwrite(tmp_path / "a.tif", image)
    assert sorted(o.geometry.area for o in read_labels(tmp_path / "a.tif").objects) == [1, 24]
    image[1, 1] = 0
    tifffile.imwrite(tmp_path / "a.tif", image)
    assert len(read_labels(tmp_path / "a.tif").objects) == 2


def test_palette_indices_are_the_labels(tmp_path):
    image = Image.new("P", (6, 6))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.putpixel((1, 1), 2)
    image.save(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png").objects[0].geometry.equals(box(1, 1, 2, 2))


def test_what_is_no_label_image(tmp_path):
    path = tmp_path / "a.png"

    def refused(word):
        with pytest.raises(InputError, match=word) as caught:
            read_labels(path)
        assert "\n" not in str(caught.value)

    Image.new("RGB", (9, 9)).save(path)
    refused("one channel")
    tifffile.imwrite(path, np.zeros((9, 9), np.float32))
    refused("whole numbers")
    tifffile.imwrite(path, np.full((9, 9), -1, np.int16))
    refused("below 0")
    path.write_bytes(b"")
    refused("neither PNG nor TIFF")
    path.write_bytes(b"II*\0garbage")
    refused("damaged")
    path.unlink()
    refused("no such file")
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(
        ">I4sIIBBBBB", 13, b"IHDR", 10**6, 10**6, 16, 0, 0, 0, 0
    )
    path.write_bytes(head + bytes(40))
    refused("pixels")


def test_cut_png_is_refused(tmp_path, blobs):
    path = tmp_path / "a.png"
    write_labels(blobs, path, slide_window((700, 700)))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match="damaged"):
        read_labels(path)


def test_image_and_table_come_together_or_not_at_all(tmp_path, failing_disk, plain):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    mapping_path(path).write_text("old table")
    failing_disk(28)
    with pytest.raises(InputError, match="full"):
        write_labels([plain], path, slide_window((50, 70)))
    assert path.read_bytes() == b"old"
    assert mapping_path(path).read_text() == "old table"
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_to_write_is_an_empty_image(tmp_path):
    write_labels([], tmp_path / "a.tif", slide_window((30, 20)))
    assert pixels(tmp_path / "a.tif").shape == (20, 30)
    assert read_labels(tmp_path / "a.tif").objects == []


def test_shared_ground_truth_agrees_with_its_label_image(tmp_path, slides):
    truth = np.array(Image.open(slides / "derived" / "rings_mosaic_shared_gt_labels.png"))
    objects = read_geojson(slides / "derived" / "rings_mosaic_shared_gt.geojson").objects
    # Its outlines run through the centres of the border pixels (the usual contour trap), and
    # were simplified: moved and grown by half a pixel they cover the labels.
    grown = [
        replace(one, geometry=shapely.transform(one.geometry, lambda xy: xy + 0.5).buffer(0.5))
        for one in objects
    ]
    numbers = [int(one.name.split()[-1]) for one in objects]
    for shapes, mean, least in ((objects, 0.97, 0.84), (grown, 0.99, 0.95)):
        path = tmp_path / "gt.png"
        write_labels(shapes, path, slide_window((4500, 3000)))
        ours = pixels(path)
        ious = []
        for label, number in enumerate(numbers, start=1):
            a, b = ours == label, truth == number
            ious.append((a & b).sum() / (a | b).sum())
        assert np.mean(ious) > mean
        assert min(ious) > least


def test_reading_the_shared_label_image_gives_its_pixels(slides):
    path = slides / "derived" / "rings_mosaic_shared_gt_labels.png"
    truth = np.array(Image.open(path))
    objects = read_labels(path).objects
    assert len(objects) == 81
    areas = sorted(round(o.geometry.area) for o in objects)
    assert areas == sorted(np.bincount(truth.ravel())[1:].tolist())
    assert all(o.geometry.is_valid for o in objects)


def test_memory_is_bounded_by_tiles(tmp_path, monkeypatch, plain):
    """No array of the whole image is made: rectangles stay small on a 30,000 px square."""
    seen = []
    real = labels._Renderer.__call__

    def spy(self, x, y, w, h):
        seen.append(w * h)
        return real(self, x, y, w, h)

    monkeypatch.setattr(labels._Renderer, "__call__", spy)
    write_labels([plain], tmp_path / "a.tif", slide_window((12000, 3000)))
    assert max(seen) <= 512 * 512
    seen.clear()
    write_labels([plain], tmp_path / "a.png", slide_window((30000, 3000)))
    assert max(seen) <= 8 * 1024**2
