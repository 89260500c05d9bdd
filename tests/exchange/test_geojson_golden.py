"""What QuPath writes, word for word in shape, and what it accepts, must be read."""

import json
import math

import pytest
import shapely
from shapely import box

from napari_histosam.errors import InputError
from napari_histosam.exchange.geojson import read_geojson, write_geojson

ID_1 = "1e17dd62-20d5-4d09-8bd1-6ba4d1f1a6e5"
ID_2 = "8a4c7a6a-6ec1-4b1c-9f61-7b1d1a0a9f42"
SQUARE = "[[[10, 10], [30, 10], [30, 30], [10, 30], [10, 10]]]"


@pytest.fixture
def read(tmp_path):
    def reader(text, name="in.geojson", **options):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_geojson(path, **options)

    return reader


def feature(properties="{}", geometry=None, rest=""):
    geometry = geometry or f'{{"type": "Polygon", "coordinates": {SQUARE}}}'
    return f'{{"type": "Feature", {rest} "geometry": {geometry}, "properties": {properties}}}'


ANNOTATION = f"""{{
  "type": "FeatureCollection",
  "features": [
    {{
      "type": "Feature",
      "id": "{ID_1}",
      "geometry": {{"type": "Polygon", "coordinates": {SQUARE}}},
      "properties": {{
        "objectType": "annotation",
        "name": "first",
        "color": [255, 0, 255],
        "classification": {{"name": "Tumor", "color": [200, 0, 0]}},
        "isLocked": true,
        "measurements": {{"Area µm^2": 12.5, "odd": "NaN", "large": "Infinity"}},
        "metadata": {{"ANNOTATION_DESCRIPTION": "one"}},
        "metadata": {{"ANNOTATION_DESCRIPTION": "one"}}
      }}
    }}
  ]
}}"""


def test_annotation_as_qupath_writes_it(read):
    result = read(ANNOTATION)
    (one,) = result.objects
    assert one.id == ID_1
    assert one.geometry.equals(box(10, 10, 30, 30))
    assert (one.name, one.class_name, one.locked) == ("first", "Tumor", True)
    assert one.object_type == "annotation"
    assert one.measurements["Area µm^2"] == 12.5
    assert math.isnan(one.measurements["odd"])
    assert one.measurements["large"] == math.inf
    assert dict(one.metadata) == {"ANNOTATION_DESCRIPTION": "one"}
    assert one.extra["properties"] == {"color": [255, 0, 255]}
    assert one.provenance.source == "imported"
    assert [(c.name, c.colour) for c in result.classes] == [("Tumor", (200, 0, 0))]
    assert result.warnings == []


def test_duplicate_metadata_is_joined(read):
    text = feature('{"metadata": {"a": "1", "b": "2"}, "metadata": {"b": "3"}}')
    assert dict(read(text).objects[0].metadata) == {"a": "1", "b": "3"}


CELL = f"""[{{
  "type": "Feature", "id": "{ID_2}",
  "geometry": {{"type": "Polygon", "coordinates": {SQUARE}, "plane": {{"c": -1, "z": 2, "t": 0}}}},
  "nucleusGeometry": {{"type": "Polygon",
    "coordinates": [[[15, 15], [20, 15], [20, 20], [15, 15]]]}},
  "properties": {{"objectType": "cell",
    "classification": {{"names": ["Tumor", "Positive"], "color": [200, 50, 50]}},
    "measurements": [{{"name": "Nucleus: Area", "value": 3.5}}]}}
}}]"""


def test_cell_in_an_array_with_old_measurements(read, tmp_path):
    result = read(CELL, origin="qupath-bounds", bounds=(100, 200, 50, 50))
    (one,) = result.objects
    assert one.object_type == "cell"
    assert one.class_name == "Tumor: Positive"
    assert dict(one.measurements) == {"Nucleus: Area": 3.5}
    assert one.extra["plane"] == {"c": -1, "z": 2, "t": 0}
    assert one.geometry.bounds == (110, 210, 130, 230)
    assert one.extra["nucleusGeometry"]["coordinates"][0][0] == [115, 215]
    # All of it goes back to where QuPath looks for it.
    from napari_histosam.exchange.options import ExportContext

    write_geojson(result.objects, tmp_path / "out.geojson", ExportContext(bounds=(100, 200, 1, 1)))
    back = json.loads((tmp_path / "out.geojson").read_text())["features"][0]
    assert back["id"] == ID_2
    assert back["geometry"]["plane"] == {"c": -1, "z": 2, "t": 0}
    assert back["nucleusGeometry"]["coordinates"][0][0] == [15, 15]
    assert back["properties"]["objectType"] == "cell"
    assert back["properties"]["classification"]["names"] == ["Tumor", "Positive"]
    assert "plane" not in back
    assert "plane" not in back["properties"]


def test_ellipse_goes_back_as_one_only_while_it_is_one(read, tmp_path):
    disc = shapely.Point(50, 50).buffer(20, quad_segs=16)
    shape = json.loads(shapely.to_geojson(disc))
    (one,) = read(feature(geometry=json.dumps({**shape, "isEllipse": True}))).objects
    from dataclasses import replace

    edited = replace(one, geometry=one.geometry.difference(box(50, 0, 100, 50)))
    for objects, kept in (([one], True), ([edited], False)):
        write_geojson(objects, tmp_path / "e.geojson")
        back = json.loads((tmp_path / "e.geojson").read_text())["features"][0]
        assert ("isEllipse" in back["geometry"]) is kept


@pytest.mark.parametrize(
    "text",
    [
        f'{{"type": "FeatureCollection", "features": [{feature()}]}}',
        f'{{"features": [{feature()}], "type": "FeatureCollection"}}',
        f'{{"features": [{feature()}]}}',
        f"[{feature()}]",
        feature(),
        f'{{"type": "Polygon", "coordinates": {SQUARE}}}',
        f'[{{"type": "Polygon", "coordinates": {SQUARE}}}]',
        f'\ufeff{{"type": "Polygon", "coordinates": {SQUARE}}}\n',
    ],
)
def test_every_top_level_shape(read, text):
    assert read(text).objects[0].geometry.equals(box(10, 10, 30, 30))


@pytest.mark.parametrize(
    ("properties", "kind"),
    [
        ("{}", "annotation"),
        ("null", "annotation"),
        ('{"objectType": "detection"}', "detection"),
        ('{"object_type": "tile"}', "tile"),
        ('{"type": "tma_core"}', "tmaCore"),
        ('{"type": "whatever"}', "annotation"),
        ('{"objectType": "galaxy"}', "annotation"),
    ],
)
def test_kinds_and_their_aliases(read, properties, kind):
    assert read(feature(properties)).objects[0].object_type == kind


def test_kind_stored_as_the_id_by_old_qupath(read):
    (one,) = read(feature(rest='"id": "PathDetectionObject",')).objects
    assert one.object_type == "detection"
    assert one.id != "PathDetectionObject"


@pytest.mark.parametrize(
    ("told", "name", "colour"),
    [
        ('{"name": "Stroma", "color": [1, 2, 3]}', "Stroma", (1, 2, 3)),
        ('{"name": "Stroma", "colorRGB": -6895466}', "Stroma", (150, 200, 150)),
        ('{"names": ["A", "B", "C"], "color": [9, 9, 9]}', "A: B: C", (9, 9, 9)),
        ('"Tumor"', "Tumor", (200, 0, 0)),
        ('{"name": "Tumor"}', "Tumor", (200, 0, 0)),
        ('["A", "B"]', "A: B", None),
        ("null", None, None),
        ("{}", None, None),
        ('""', None, None),
        ("7", None, None),
    ],
)
def test_classifications_in_all_forms(read, told, name, colour):
    result = read(feature(f'{{"classification": {told}}}'))
    assert result.objects[0].class_name == name
    if colour:
        assert result.classes[0].colour == colour


def test_children_are_flattened_and_keep_their_parent(read, tmp_path):
    child = feature('{"objectType": "detection"}', rest=f'"id": "{ID_2}",')
    text = feature(f'{{"childObjects": [{child}, {feature()}]}}', rest=f'"id": "{ID_1}",')
    result = read(text)
    assert len(result.objects) == 3
    assert [o.extra.get("parentId") for o in result.objects] == [None, ID_1, ID_1]
    assert result.objects[1].id == ID_2
    assert any("inside another" in w for w in result.warnings)
    path = tmp_path / "again.geojson"
    write_geojson(result.objects, path)
    assert read_geojson(path).objects[1].extra["parentId"] == ID_1


def test_root_is_skipped_but_not_its_children(read):
    text = (
        '{"type": "Feature", "geometry": null, "properties": {"objectType": "root", '
        f'"childObjects": [{feature()}]}}}}'
    )
    (one,) = read(text).objects
    assert "parentId" not in one.extra


def test_bad_and_repeated_ids_are_replaced(read):
    ids = [f'"id": "{ID_1}",', f'"id": "{ID_1}",', '"id": 5,']
    text = "[" + ",".join(feature(rest=one) for one in ids) + "]"
    result = read(text)
    assert result.objects[0].id == ID_1
    assert len({o.id for o in result.objects}) == 3
    assert len(result.warnings) == 2


def test_other_kinds_of_geometry(read):
    texts = [
        '{"type": "Point", "coordinates": [1, 2]}',
        '{"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}',
        '{"type": "LineString", "coordinates": [[1, 2], [3, 4, 0]]}',
        '{"type": "MultiLineString", "coordinates": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]}',
        '{"type": "MultiPolygon", "coordinates": [' + SQUARE + "]}",
    ]
    result = read("[" + ",".join(feature(geometry=text) for text in texts) + "]")
    assert [o.geometry.geom_type for o in result.objects] == [
        "Point", "MultiPoint", "LineString", "MultiLineString", "Polygon",
    ]  # fmt: skip


def test_open_ring_bow_tie_and_short_rings_are_mended_and_counted(read):
    open_ring = '{"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9]]]}'
    tie = '{"type": "Polygon", "coordinates": [[[0, 0], [9, 9], [9, 0], [0, 9], [0, 0]]]}'
    short = (
        '{"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]], [[1, 1], [2, 2]]]}'
    )
    nothing = '{"type": "Polygon", "coordinates": [[[0, 0], [9, 0]]]}'
    result = read(
        "[" + ",".join(feature(geometry=g) for g in (open_ring, tie, short, nothing)) + "]"
    )
    assert len(result.objects) == 3
    assert all(o.geometry.is_valid for o in result.objects)
    assert result.warnings[0].startswith("4 outlines")
    assert result.warnings[1].startswith("1 features have no shape")


def test_collection_of_polygons_is_joined_and_a_mixed_one_refused_by_number(read):
    square = f'{{"type": "Polygon", "coordinates": {SQUARE}}}'
    far = '{"type": "Polygon", "coordinates": [[[50, 0], [60, 0], [60, 9], [50, 0]]]}'
    joined = f'{{"type": "GeometryCollection", "geometries": [{square}, {far}]}}'
    assert read(feature(geometry=joined)).objects[0].geometry.geom_type == "MultiPolygon"
    mixed = (
        f'{{"type": "GeometryCollection", "geometries": [{square}, '
        '{"type": "Point", "coordinates": [0, 0]}]}'
    )
    with pytest.raises(InputError, match="Feature 2 mixes Point and Polygon"):
        read(f"[{feature()}, {feature(geometry=mixed)}]")


@pytest.mark.parametrize(
    "bad", ["NaN", "Infinity", "-Infinity", "1e400", "null", '"10"', "true", "1e12", "[1]"]
)
def test_coordinates_that_are_no_numbers_are_refused_by_number(read, bad):
    wrong = f'{{"type": "Polygon", "coordinates": [[[0, 0], [{bad}, 0], [9, 9], [0, 0]]]}}'
    with pytest.raises(InputError, match="Feature 3 has a coordinate") as caught:
        read(f"[{feature()}, {feature()}, {feature(geometry=wrong)}]")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        '{"type": "Polygon", "coordinates": [[0, 0], [1, 1]]}',
        '{"type": "Polygon", "coordinates": [7]}',
        '{"type": "Polygon", "coordinates": {"x": 1}}',
        '{"type": "Polygon"}',
        '{"type": "Blob", "coordinates": []}',
        '{"type": "Point", "coordinates": [1]}',
        '{"type": "GeometryCollection", "geometries": 5}',
        "[1, 2]",
        '"POINT (1 1)"',
    ],
)
def test_broken_geometry_is_refused_by_number(read, wrong):
    with pytest.raises(InputError, match="Feature 2 "):
        read(f"[{feature()}, {feature(geometry=wrong)}]")


@pytest.mark.parametrize("wrong", ["5", "null", '"x"', "[]", '{"type": "Topology"}'])
def test_what_is_no_feature_is_refused_by_number(read, wrong):
    with pytest.raises(InputError, match="Feature 2 "):
        read(f"[{feature()}, {wrong}]")


def test_object_without_shape_is_left_out_with_a_word(read):
    result = read('{"type": "Feature", "geometry": null, "properties": {}}')
    assert result.objects == []
    assert "1 features have no shape" in result.warnings[0]


def test_hostile_members_do_no_harm(read):
    text = feature(
        '{"name": 5, "isLocked": "yes", "measurements": {"a": [1], "b": true, "c": 1},'
        ' "metadata": {"n": 5, "o": {"p": 1}, "q": null}, "classification": {"name": 5}}'
    )
    (one,) = read(text).objects
    assert (one.name, one.locked, one.class_name) == (None, False, None)
    assert dict(one.measurements) == {"c": 1.0}
    assert dict(one.metadata) == {"n": "5", "o": '{"p": 1}'}
