"""One door for all formats, chosen by suffix, with a preview."""

import subprocess
import sys
from dataclasses import replace

import pytest
from shapely import Point

from napari_histosam.errors import InputError
from napari_histosam.exchange import formats
from napari_histosam.exchange.options import ExportContext, ExportOptions
from napari_histosam.geometry.window import Window
from napari_histosam.records import SlideObject

CONTEXT = ExportContext(mpp=(0.5, 0.5), bounds=(100, 50, 800, 600), size=(1000, 700))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.geojson", "GeoJSON (QuPath)"),
        ("A.JSON", "GeoJSON (QuPath)"),
        ("a.geojson.gz", "GeoJSON (QuPath)"),
        ("a.b.png", "label PNG"),
        ("a.TIFF", "label TIFF"),
        ("a.csv", "CSV table"),
    ],
)
def test_suffix_chooses(name, kind):
    assert formats.format_of(name) == kind


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.svs", ".geojson", "png"])
def test_unknown_suffix_lists_what_there_is(tmp_path, plain, name):
    with pytest.raises(InputError, match=r"\.geojson.*\.png.*\.csv"):
        formats.write([plain], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["o.geojson", "o.json.gz", "o.png", "o.tif"])
def test_written_is_read_back_where_it_was(tmp_path, plain, name):
    path = tmp_path / name
    report = formats.write([plain], path, slide_info=CONTEXT)
    assert (report.path, report.n, report.bytes) == (path, 1, path.stat().st_size)
    assert report.seconds > 0
    (one,) = formats.read(path, CONTEXT).objects
    assert one.geometry.equals(plain.geometry)
    assert one.id == plain.id


def test_table_is_written_but_not_read(tmp_path, plain):
    path = tmp_path / "o.csv"
    formats.write([plain], path, slide_info=CONTEXT)
    with pytest.raises(InputError, match="without outlines"):
        formats.read(path)


def test_region_of_a_label_image(tmp_path, plain):
    path = tmp_path / "o.tif"
    options = ExportOptions(window=Window(25, 40, (0.5, 0.5), (80, 90)))
    formats.write([plain], path, slide_info=CONTEXT, options=options)
    assert formats.read(path).objects[0].geometry.equals(plain.geometry)
    with pytest.raises(InputError, match="region"):
        formats.write([plain], path)
    formats.write([plain], path, slide_info=CONTEXT, options=ExportOptions(downsample=10))
    assert formats.read(path, scale=(10, 10)).objects[0].geometry.equals(plain.geometry)


def test_preview_tells_what_will_be_written(tmp_path, plain):
    path = tmp_path / "o.geojson"
    objects = [plain, replace(plain, class_name="A"), replace(plain, class_name="A")]
    told = formats.preview(objects, path, slide_info=CONTEXT)
    assert (told.n, told.per_class) == (3, {"A": 2, "Unclassified": 1})
    assert told.shift == (-100.0, -50.0)
    assert told.overwrites is False
    assert told.warnings == ()
    path.write_text("x")
    full = formats.preview({None: 1, "A": 2}, path, ExportOptions(origin="full-slide"), CONTEXT)
    assert (full.n, full.per_class) == (3, told.per_class)
    assert full.shift == (0.0, 0.0)
    assert full.overwrites is True
    assert "QuPath crops" in full.warnings[0]


def test_preview_refuses_what_writing_would(tmp_path):
    with pytest.raises(InputError, match="choose TIFF"):
        formats.preview({"A": 70_000}, tmp_path / "o.png", slide_info=CONTEXT)
    with pytest.raises(InputError, match="not there"):
        formats.preview({"A": 1}, tmp_path / "no" / "o.png", slide_info=CONTEXT)
    with pytest.raises(InputError, match="region"):
        formats.preview({"A": 1}, tmp_path / "o.png")
    with pytest.raises(InputError, match="suffix"):
        formats.preview({"A": 1}, tmp_path / "o.doc")


def test_preview_of_images_and_tables(tmp_path):
    image = formats.preview({"A": 1}, tmp_path / "o.tif", ExportOptions(downsample=2), CONTEXT)
    assert "500 x 350" in image.warnings[0]
    table = formats.preview({}, tmp_path / "o.csv")
    assert any("no mpp" in w for w in table.warnings)
    assert any("no objects" in w for w in table.warnings)


def test_import_of_the_package_is_light():
    code = (
        "import sys, napari_histosam.exchange.formats as f;"
        "bad = {'cv2', 'tifffile', 'imagecodecs', 'PIL', 'scipy', 'skimage', 'torch', 'napari',"
        " 'qtpy'} & set(sys.modules);"
        "sys.exit(','.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_read_only_folder(tmp_path, plain, monkeypatch):
    """As root nothing is read-only, so the system's answer is played."""
    from pathlib import Path

    folder = tmp_path / "ro"
    folder.mkdir()
    real = Path.open

    def refuse(self, mode="r", *args, **kwargs):
        if "w" in mode and self.parent == folder:
            raise PermissionError(13, "Permission denied")
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    for name in ("o.geojson", "o.csv", "o.png"):
        with pytest.raises(InputError, match="no permission") as caught:
            formats.write([plain], folder / name, slide_info=CONTEXT)
        assert "\n" not in str(caught.value)
        assert list(folder.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX")
def test_a_disk_that_is_really_full(tmp_path):
    """A limit on file size makes the system itself refuse the bytes midway."""
    code = """
import resource, signal, sys
from pathlib import Path
from shapely import Point
from napari_histosam.errors import InputError
from napari_histosam.exchange import formats
from napari_histosam.exchange.options import ExportContext
from napari_histosam.records import SlideObject
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for name in ("o.geojson", "o.csv", "o.tif"):
    path = Path(sys.argv[1], name)
    objects = (SlideObject(geometry=Point(i % 900, i % 700).buffer(9)) for i in range(5000))
    try:
        formats.write(objects, path, slide_info=ExportContext(size=(1000, 700)))
    except InputError as error:
        print(str(error).count("\\n"), path.read_text())
"""
    for name in ("o.geojson", "o.csv", "o.tif"):
        (tmp_path / name).write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[:2] == ["0 old", "0 old"], done.stderr
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".tmp") == []


def test_one_pixel_object_at_the_slide_edge(tmp_path):
    from shapely import box

    corner = SlideObject(geometry=box(999, 699, 1000, 700))
    for name in ("o.geojson", "o.png"):
        formats.write([corner], tmp_path / name, slide_info=CONTEXT)
        assert formats.read(tmp_path / name).objects[0].geometry.equals(corner.geometry)


def test_progress_is_told_for_every_format(tmp_path):
    objects = [SlideObject(geometry=Point(i % 900, 5).buffer(2)) for i in range(1500)]
    for name in ("o.geojson", "o.csv", "o.png"):
        told = []
        formats.write(objects, tmp_path / name, slide_info=CONTEXT, progress=told.append)
        assert told
        assert told == sorted(told)
