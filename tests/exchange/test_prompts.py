"""Prompt files: read, written, and refused by the feature's number."""

import json

import pytest
import shapely
from shapely import LineString, MultiPolygon, Point, box

from napari_histosam.errors import InputError
from napari_histosam.exchange.prompts import read_prompts, write_prompts
from napari_histosam.records import Prompt

PROMPTS = [
    Prompt(Point(10.25, 20.5), "positive", "a", "Tumour"),
    Prompt(Point(11, 21), "negative", "a"),
    Prompt(LineString([(0, 0), (5, 5.125)]), "negative", "a"),
    Prompt(box(5, 5, 50, 60), "box", "b"),
    Prompt(MultiPolygon([box(0, 0, 1, 1), box(3, 3, 4, 4)]), "mask", "c"),
]


@pytest.fixture
def write(tmp_path):
    def writer(*features):
        path = tmp_path / "prompts.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        return path

    return writer


def feature(geometry, **properties):
    return {
        "type": "Feature",
        "geometry": json.loads(shapely.to_geojson(geometry)),
        "properties": properties,
    }


GOOD = feature(Point(1, 2), object="a", role="positive")


def test_round_trip(tmp_path):
    path = tmp_path / "p.geojson"
    write_prompts(PROMPTS, path)
    assert read_prompts(path) == PROMPTS


def test_the_contract_of_the_command_line(write):
    path = write(GOOD, feature(box(0, 0, 9, 5), object=7, role="box", **{"class": "Stroma"}))
    one, two = read_prompts(path)
    assert (one.role, one.object, one.class_name) == ("positive", "a", None)
    assert (two.role, two.object, two.class_name) == ("box", "7", "Stroma")


def test_a_thousand_prompts_at_once(tmp_path):
    many = [Prompt(Point(i, i), "positive", str(i)) for i in range(1000)]
    path = tmp_path / "many.geojson"
    write_prompts(many, path)
    assert read_prompts(path) == many


def test_multipoint_gives_one_prompt_per_point(write):
    path = write(feature(shapely.MultiPoint([(1, 1), (2, 2)]), object="a", role="negative"))
    assert [p.geometry for p in read_prompts(path)] == [Point(1, 1), Point(2, 2)]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        (feature(Point(1, 1), object="a"), "role None"),
        (feature(Point(1, 1), object="a", role="maybe"), "role 'maybe'"),
        (feature(Point(1, 1), object="a", role=["box"]), "role"),
        (feature(Point(1, 1), role="positive"), "no object"),
        (feature(Point(1, 1), object="", role="positive"), "no object"),
        (feature(Point(1, 1), object=True, role="positive"), "no object"),
        (feature(Point(1, 1), object="a", role="box"), "Point with the role box"),
        (feature(box(0, 0, 1, 1), object="a", role="positive"), "Polygon with the role positive"),
        (feature(LineString([(0, 0), (1, 1)]), object="a", role="mask"), "LineString"),
        (feature(Point(0, 0).buffer(5), object="a", role="box"), "upright rectangle"),
        (feature(Point(1, 1), object="a", role="positive", **{"class": 5}), "class"),
        ({**GOOD, "geometry": None}, "no prompt"),
        ({**GOOD, "properties": None}, "no prompt"),
        ({**GOOD, "geometry": {"type": "Point", "coordinates": []}}, "no extent"),
        ({**GOOD, "geometry": {"type": "Point", "coordinates": [None, 1]}}, "no number"),
        (5, "no prompt"),
    ],
)
def test_errors_name_the_feature(write, wrong, word):
    with pytest.raises(InputError, match=r"^Feature 2 ") as caught:
        read_prompts(write(GOOD, wrong))
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_object_has_one_class(write):
    a = feature(Point(1, 1), object="a", role="positive", **{"class": "X"})
    b = feature(Point(2, 2), object="a", role="positive", **{"class": "Y"})
    with pytest.raises(InputError, match="Feature 2"):
        read_prompts(write(a, b))
    assert len(read_prompts(write(a, GOOD, a))) == 3


def test_no_prompts_at_all(write):
    with pytest.raises(InputError, match="no prompts"):
        read_prompts(write())


def test_write_is_whole_or_not_at_all(tmp_path, failing_disk):
    path = tmp_path / "p.geojson"
    path.write_text("old")
    failing_disk(28)
    with pytest.raises(InputError, match="full"):
        write_prompts(PROMPTS, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
