"""What is written: QuPath's flavour to the letter, whole or not at all, and equal when re-read."""

import errno
import gzip
import json
import math
import uuid
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shapely import GeometryCollection, LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from napari_histosam.errors import Cancelled, HistosamError, InputError
from napari_histosam.exchange import geojson_check, geojson_write
from napari_histosam.exchange.geojson import read_geojson, write_geojson
from napari_histosam.exchange.options import ExportContext, ExportOptions
from napari_histosam.exchange.origin import Origin
from napari_histosam.geometry.masks import mask_to_polygons
from napari_histosam.geometry.window import Window
from napari_histosam.records import ObjectClass, Provenance, SlideObject

MRXS_BOUNDS = (45872.0, 90331.0, 43000.0, 62000.0)


def written(path):
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return json.loads(data)


def iou(a, b):
    return a.intersection(b).area / a.union(b).area


def test_the_letter_of_qupath(tmp_path, prompted, plain):
    path = tmp_path / "out.geojson"
    classes = (ObjectClass("Tumour: Positive", (1, 2, 3)),)
    report = write_geojson([prompted, plain], path, ExportContext(mpp=(0.5, 0.5), classes=classes))
    assert (report.n, report.warnings, report.bytes) == (2, (), path.stat().st_size)
    data = written(path)
    assert data["type"] == "FeatureCollection"
    one, two = data["features"]
    assert list(one) == ["type", "id", "geometry", "properties"]
    assert (one["type"], one["id"]) == ("Feature", prompted.id)
    assert str(uuid.UUID(one["id"])) == one["id"]
    properties = one["properties"]
    assert properties["objectType"] == "annotation"
    assert properties["classification"] == {"names": ["Tumour", "Positive"], "color": [1, 2, 3]}
    assert properties["name"] == "gland Ω 1"
    assert properties["isLocked"] is True
    assert properties["measurements"]["Nucleus/Cell ratio"] == "NaN"
    assert properties["measurements"]["HistoSAM score"] == 0.93
    assert properties["measurements"]["HistoSAM area µm^2"] == pytest.approx(
        prompted.geometry.area / 4, abs=1e-3
    )
    assert properties["metadata"]["reader"] == "x"
    assert all(isinstance(v, str) for v in properties["metadata"].values())
    # Nothing that QuPath's reader stumbles over.
    assert "isLocked" not in two["properties"]
    assert "name" not in two["properties"]
    assert "classification" not in two["properties"]
    assert "null" not in path.read_text()


def test_rings_are_closed_oriented_and_keep_holes(tmp_path, prompted):
    path = tmp_path / "out.geojson"
    clockwise = replace(prompted, geometry=shapely.reverse(prompted.geometry))
    write_geojson([clockwise], path)
    shape = written(path)["features"][0]["geometry"]
    assert shape["type"] == "MultiPolygon"
    (shell, hole), (second,) = shape["coordinates"]
    for ring, sign in ((shell, 1), (hole, -1), (second, 1)):
        assert ring[0] == ring[-1]
        x, y = np.array(ring).T
        assert np.sign((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) == sign


def test_round_trip_keeps_every_field(tmp_path, prompted):
    path = tmp_path / "out.geojson"
    write_geojson([prompted], path, ExportContext(mpp=(0.25, 0.25), bounds=MRXS_BOUNDS))
    result = read_geojson(path)
    (one,) = result.objects
    assert result.warnings == []
    assert result.origin == Origin("qupath-bounds", 45872.0, 90331.0)
    assert iou(one.geometry, prompted.geometry) > 0.999
    assert math.isnan(one.measurements["Nucleus/Cell ratio"])
    for name in ("id", "class_name", "object_type", "name", "locked", "created", "modified"):
        assert getattr(one, name) == getattr(prompted, name)
    assert one.metadata == prompted.metadata
    a, b = one.provenance, prompted.provenance
    assert replace(a, prompts=(), first_mask=None) == replace(b, prompts=(), first_mask=None)
    assert a.first_mask.equals(b.first_mask)
    assert [(p.role, p.object, p.class_name) for p in a.prompts] == [
        (p.role, p.object, p.class_name) for p in b.prompts
    ]
    assert all(p.geometry.equals(q.geometry) for p, q in zip(a.prompts, b.prompts, strict=True))


coordinates = st.floats(-1e5, 1e5, allow_nan=False)
names = st.text(max_size=20)
kinds = st.sampled_from(["annotation", "detection", "cell", "tile", "tmaCore"])


@st.composite
def any_object(draw):
    mask = draw(hnp.arrays(bool, (6, 6)))
    mask[2, 2] = True
    scale = draw(st.floats(0.05, 40))
    window = Window(draw(coordinates), draw(coordinates), (scale, scale * 1.3), (6, 6))
    shape = draw(
        st.one_of(
            st.just(mask_to_polygons(mask, window)),
            st.builds(Point, coordinates, coordinates),
            st.just(LineString([(0, 0), (draw(coordinates), 5)])),
        )
    )
    return SlideObject(
        geometry=shape,
        class_name=draw(st.none() | names.filter(lambda n: n.strip() and n != "Unclassified")),
        name=draw(st.none() | names),
        object_type=draw(kinds),
        locked=draw(st.booleans()),
        measurements=draw(st.dictionaries(names, st.floats(allow_nan=False), max_size=3)),
        metadata=draw(st.dictionaries(names, names, max_size=3)),
        provenance=Provenance(
            source=draw(st.sampled_from(["manual", "prompted", "automatic", "imported"])),
            author=draw(names),
            score=draw(st.none() | st.floats(0, 1)),
        ),
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(any_object(), max_size=4), st.sampled_from(["qupath-bounds", "full-slide"]))
def test_any_objects_survive_the_round_trip(tmp_path_factory, objects, origin):
    path = tmp_path_factory.mktemp("trip") / "any.geojson"
    context = ExportContext(bounds=MRXS_BOUNDS, mpp=(0.25, 0.5))
    write_geojson(objects, path, context, ExportOptions(origin=origin))
    back = read_geojson(path).objects
    assert len(back) == len(objects)
    for a, b in zip(back, objects, strict=True):
        if b.geometry.area:
            assert a.geometry.is_valid
            assert iou(a.geometry, b.geometry) > 0.999
        else:
            assert a.geometry.distance(b.geometry) < 0.01
        for field in ("id", "class_name", "name", "object_type", "locked", "created"):
            assert getattr(a, field) == getattr(b, field)
        assert a.provenance == b.provenance
        assert dict(a.measurements) == dict(b.measurements)
        assert dict(a.metadata) == dict(b.metadata)


def test_tiny_objects_keep_their_shape_by_more_decimals(tmp_path):
    tiny = SlideObject(geometry=Point(1234.567891, 77.123456).buffer(0.4))
    large = SlideObject(geometry=Point(1234.567891, 77.123456).buffer(40))
    path = tmp_path / "tiny.geojson"
    write_geojson([tiny, large], path)
    a, b = written(path)["features"]
    assert iou(read_geojson(path).objects[0].geometry, tiny.geometry) > 0.999
    points = b["geometry"]["coordinates"][0]
    assert all(v == round(v, 2) for point in points for v in point)
    assert any(v != round(v, 2) for point in a["geometry"]["coordinates"][0] for v in point)


def test_rounding_never_breaks_an_outline(tmp_path):
    # A slit of a thousandth of a pixel closes when rounded.
    slit = Polygon([(0, 0), (50, 0), (50, 50), (25.0005, 50), (25.0003, 1), (25.0001, 50), (0, 50)])
    path = tmp_path / "slit.geojson"
    write_geojson([SlideObject(geometry=slit)], path)
    shape = shapely.from_geojson(json.dumps(written(path)["features"][0]["geometry"]))
    assert shape.is_valid
    assert iou(shape, slit) > 0.999


def test_bounds_origin_is_subtracted_recorded_and_added_back(tmp_path, plain):
    context = ExportContext(bounds=MRXS_BOUNDS, slide_name="C:\\secret\\patient\\case.mrxs")
    moved = replace(plain, geometry=box(46000.25, 90400, 46100, 90500))
    inside, whole = tmp_path / "in.geojson", tmp_path / "full.geojson"
    write_geojson([moved], inside, context)
    write_geojson([moved], whole, context, ExportOptions(origin="full-slide"))
    data = written(inside)
    assert data["histosam"]["origin"] == {"kind": "qupath-bounds", "x": 45872.0, "y": 90331.0}
    assert data["histosam"]["slide"] == "case.mrxs"
    one = data["features"][0]
    assert json.loads(one["properties"]["metadata"]["histosam:origin"])["x"] == 45872.0
    shape = shapely.from_geojson(json.dumps(one["geometry"]))
    assert shape.bounds == (128.25, 69, 228, 169)
    full = shapely.from_geojson(json.dumps(written(whole)["features"][0]["geometry"]))
    assert full.bounds == moved.geometry.bounds
    for path in (inside, whole):
        assert read_geojson(path, bounds=MRXS_BOUNDS).objects[0].geometry.equals(moved.geometry)
        assert read_geojson(path).objects[0].geometry.equals(moved.geometry)


def test_the_leica_like_slide_has_bounds_at_its_corner(tmp_path, slides, plain):
    openslide = pytest.importorskip("openslide")
    with openslide.OpenSlide(slides / "derived" / "cmu1_leica_like.scn") as slide:
        told = [
            float(slide.properties[f"openslide.bounds-{k}"]) for k in ("x", "y", "width", "height")
        ]
    assert told == [0, 0, 2220, 2967]
    path = tmp_path / "leica.geojson"
    write_geojson([plain], path, ExportContext(bounds=tuple(told), size=(2400, 3100)))
    shape = shapely.from_geojson(json.dumps(written(path)["features"][0]["geometry"]))
    assert shape.equals(plain.geometry)


def test_qupath_saved_our_file_again(tmp_path, plain):
    """QuPath keeps each object's metadata, drops the collection's member, adds its own objects."""
    path = tmp_path / "out.geojson"
    write_geojson([replace(plain, geometry=box(46000, 90400, 46100, 90500))], path,
                  ExportContext(bounds=MRXS_BOUNDS))  # fmt: skip
    ours = written(path)["features"]
    drawn = json.loads(json.dumps(ours[0]))
    drawn["properties"] = {"objectType": "annotation"}
    drawn["id"] = str(uuid.uuid4())
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [drawn, *ours]}))
    result = read_geojson(path, bounds=MRXS_BOUNDS)
    assert all(o.geometry.bounds == (46000, 90400, 46100, 90500) for o in result.objects)
    assert result.warnings == []


def test_foreign_files_on_a_slide_with_bounds(tmp_path):
    shape = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}
    path = tmp_path / "foreign.geojson"
    for properties, offset in (({"objectType": "annotation"}, 45872), ({}, 0)):
        path.write_text(
            json.dumps({"type": "Feature", "geometry": shape, "properties": properties})
        )
        result = read_geojson(path, bounds=MRXS_BOUNDS)
        assert result.objects[0].geometry.bounds[0] == offset
        assert "does not say where it counts from" in result.warnings[0]
    told = read_geojson(path, bounds=MRXS_BOUNDS, origin="qupath-bounds")
    assert told.objects[0].geometry.bounds[0] == 45872
    assert told.warnings == []
    assert read_geojson(path, bounds=(0, 0, 99, 99)).warnings == []


def test_bounds_of_another_slide_are_noticed(tmp_path, plain):
    path = tmp_path / "out.geojson"
    write_geojson([plain], path, ExportContext(bounds=MRXS_BOUNDS))
    assert "same slide" in read_geojson(path, bounds=(5, 5, 10, 10)).warnings[0]


def test_options(tmp_path, prompted):
    path = tmp_path / "out.json"
    options = ExportOptions(object_type="detection", provenance=False)
    write_geojson([prompted], path, None, options)
    properties = written(path)["features"][0]["properties"]
    assert properties["objectType"] == "detection"
    assert set(properties["metadata"]) == {"ANNOTATION_DESCRIPTION", "reader", "histosam:origin"}
    write_geojson([prompted], path, None, ExportOptions(first_masks=False))
    metadata = written(path)["features"][0]["properties"]["metadata"]
    assert "histosam:first_mask" not in metadata
    assert "histosam:prompts" in metadata


def test_unknown_classes_get_a_stable_colour(tmp_path, plain):
    path = tmp_path / "out.geojson"
    objects = [replace(plain, class_name=name, id=str(uuid.uuid4())) for name in ("Zeta", "Tumor")]
    write_geojson(objects, path)
    colours = [f["properties"]["classification"]["color"] for f in written(path)["features"]]
    assert colours[1] == [200, 0, 0]
    assert colours[0] == [66, 166, 57] or all(0 <= c <= 255 for c in colours[0])
    write_geojson(objects[::-1], path)
    again = [f["properties"]["classification"]["color"] for f in written(path)["features"]]
    assert again == colours[::-1]


def test_crossing_outlines_and_collections_are_untangled(tmp_path, plain):
    tie = Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    mixed = GeometryCollection([box(0, 0, 5, 5), Point(9, 9)])
    nothing = [replace(plain, geometry=g, id=str(uuid.uuid4())) for g in (Polygon(), tie, mixed)]
    path = tmp_path / "out.geojson"
    report = write_geojson(nothing, path)
    assert report.n == 2
    assert len(report.warnings) == 2
    assert "GeometryCollection" not in path.read_text()
    assert all(o.geometry.is_valid for o in read_geojson(path).objects)


def test_points_lines_and_foreign_ids(tmp_path):
    objects = [
        SlideObject(geometry=MultiPoint([(1, 2), (3, 4)])),
        SlideObject(geometry=LineString([(0, 0), (1.005, 2)]), id="row 17"),
    ]
    path = tmp_path / "out.geojson"
    report = write_geojson(objects, path)
    a, b = read_geojson(path).objects
    assert a.geometry.equals(objects[0].geometry)
    assert a.id == objects[0].id
    uuid.UUID(b.id)
    assert "1 object had an id" in report.warnings[0]
    write_geojson(objects, path)
    assert read_geojson(path).objects[1].id == b.id


def test_not_a_number_is_refused_and_the_old_file_stays(tmp_path, plain):
    path = tmp_path / "out.geojson"
    write_geojson([plain], path)
    before = path.read_bytes()
    broken = replace(plain, geometry=Polygon([(0, 0), (math.nan, 1), (1, 1)]))
    with pytest.raises(InputError, match="not a number"):
        write_geojson([plain, broken], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_gzip_and_an_empty_list(tmp_path, plain):
    path = tmp_path / "out.geojson.gz"
    write_geojson([plain], path)
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    assert read_geojson(path).objects[0].geometry.equals(plain.geometry)
    write_geojson([], path)
    assert written(path)["features"] == []
    assert read_geojson(path).objects == []


def damaged(monkeypatch, change):
    """Let the file be changed between writing and checking."""
    real = geojson_write.verify

    def verify(path, spool):
        path.write_text(change(path.read_text()))
        real(path, spool)

    monkeypatch.setattr(geojson_write, "verify", verify)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("[40.0,", "[40.3,"),
        lambda text: text.replace("objectType", "objectKind").replace('"id":"', '"id":"0'),
        lambda text: text[:-4] + "," + text.split("\n")[1] + "]}",
        lambda text: text.split("\n")[0] + "\n]}",
        lambda text: text.replace('"x": 0.0', '"x": 1.0'),
        lambda text: text.replace('"name":"Tumour"', '"name":"Tumor"'),
    ],
)
def test_self_check_stops_a_wrong_file(tmp_path, monkeypatch, plain, change):
    path = tmp_path / "out.geojson"
    path.write_text("the old one")
    damaged(monkeypatch, change)
    with pytest.raises(HistosamError, match="self-check failed"):
        write_geojson([replace(plain, class_name="Tumour")], path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_self_check_accepts_a_right_file(tmp_path, monkeypatch, plain):
    damaged(monkeypatch, lambda text: text)
    assert write_geojson([plain], tmp_path / "out.geojson").n == 1


def test_spool_goes_through_the_disk(monkeypatch, prompted):
    monkeypatch.setattr(geojson_check, "_IN_MEMORY", 10)
    with geojson_check.Spool() as spool:
        for batch in (["a", "b"], ["c"]):
            shapes = np.empty(len(batch), object)
            shapes[:] = [prompted.geometry] * len(batch)
            spool.add([[name, None] for name in batch], shapes)
        assert spool.n == 3
        assert [facts for facts, _ in spool] == [[["a", None], ["b", None]], [["c", None]]]
        assert all(isinstance(g, MultiPolygon) for _, shapes in spool for g in shapes)


@pytest.mark.parametrize(
    ("code", "word"),
    [(errno.ENOSPC, "full"), (errno.EROFS, "permission"), (errno.EIO, "try again"),
     (errno.EFBIG, "less"), (errno.ENOENT, "gone")],
)  # fmt: skip
def test_disk_errors_leave_the_old_file_whole(tmp_path, failing_disk, plain, code, word):
    path = tmp_path / "out.geojson"
    path.write_text("the old one")
    failing_disk(code)
    with pytest.raises(InputError, match=word) as caught:
        write_geojson([plain], path)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_vanishes_while_writing(tmp_path, plain):
    import shutil

    folder = tmp_path / "drive"
    folder.mkdir()

    def objects():
        yield plain
        shutil.rmtree(folder, ignore_errors=True)

    with pytest.raises(InputError):
        write_geojson(objects(), folder / "out.geojson")
    assert not (folder / "out.geojson").exists()


def test_missing_folder_and_folder_as_target(tmp_path, plain):
    with pytest.raises(InputError, match="not there"):
        write_geojson([plain], tmp_path / "no" / "out.geojson")
    with pytest.raises(InputError, match="is a folder"):
        write_geojson([plain], tmp_path)


def test_cancelling_leaves_the_old_file(tmp_path, plain):
    path = tmp_path / "out.geojson"
    path.write_text("the old one")

    def stop(_):
        raise Cancelled

    with pytest.raises(Cancelled):
        write_geojson([plain], path, progress=stop)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "the old one"


def test_thousands_stream_in_bounded_memory(tmp_path):
    """The writer holds one batch: objects made on the fly are let go."""
    import gc
    import weakref

    alive = weakref.WeakSet()
    most = 0

    class Counted(SlideObject):
        def __hash__(self):
            return id(self)

    def objects():
        nonlocal most
        for i in range(6000):
            one = Counted(geometry=Point(i, i).buffer(5))
            alive.add(one)
            most = max(most, len(alive))
            yield one

    assert write_geojson(objects(), tmp_path / "many.geojson").n == 6000
    assert most <= 2500
    assert gc.isenabled()


def test_shared_ground_truth_is_read_and_written(tmp_path, slides):
    result = read_geojson(slides / "derived" / "rings_mosaic_shared_gt.geojson")
    assert len(result.objects) == 81
    assert [c.name for c in result.classes] == ["Gland"]
    path = tmp_path / "again.geojson"
    write_geojson(result.objects, path, ExportContext(classes=tuple(result.classes)))
    again = read_geojson(path)
    assert again.classes == result.classes
    for a, b in zip(again.objects, result.objects, strict=True):
        assert iou(a.geometry, b.geometry) > 0.999
        assert (a.name, a.class_name) == (b.name, b.class_name)
