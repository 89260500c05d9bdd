"""Broken, huge and hostile files are refused in one sentence that says where."""

import gzip
import json

import pytest

from napari_histosam.errors import InputError
from napari_histosam.exchange import json_stream
from napari_histosam.exchange.geojson import read_geojson

GOOD = {
    "type": "Feature",
    "properties": {},
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]},
}


def refused(path, **options):
    with pytest.raises(InputError) as caught:
        read_geojson(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"type": "FeatureCollection",\n "features": [\n  {"type": x}]}', "line 3, column 12"),
        ('{"type": "FeatureCollection"\n "features": []}', "line 2, column 2"),
        ('{"features": [\n{}\n{}]}', "line 3, column 1"),
        ('{"features": [], ', "line 1, column 18"),
        ("[1, 2", "line 1, column 6"),
        ("{\n\n5: 1}", "line 3, column 1"),
        ('{"a" 1}', "line 1, column 6"),
        ("slide", "line 1, column 1"),
        ('{"type": "Point", "coordinates": [1, 2]}\nx', "line 2, column 1"),
    ],
)
def test_bad_json_names_line_and_column(tmp_path, monkeypatch, chunk, text, place):
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    path = tmp_path / "bad.geojson"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        for _ in json_stream.FeatureStream(path):
            pass
    assert place in str(caught.value)


def test_cut_file_is_refused_at_its_end(tmp_path):
    path = tmp_path / "cut.geojson"
    text = json.dumps({"type": "FeatureCollection", "features": [GOOD] * 3})
    for length in range(1, len(text), 7):
        path.write_text(text[:length])
        refused(path)


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_result_does_not_depend_on_where_reading_stops(tmp_path, monkeypatch, chunk):
    path = tmp_path / "a.geojson"
    text = json.dumps(
        {"n": 123456, "s": 'é"\\"', "type": "FeatureCollection", "features": [GOOD] * 4}
    )
    path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    stream = json_stream.FeatureStream(path)
    assert list(stream) == [GOOD] * 4
    assert stream.members["n"] == 123456
    assert stream.members["s"] == 'é"\\"'


def test_empty_binary_and_wrong_encodings(tmp_path):
    path = tmp_path / "x.geojson"
    path.write_bytes(b"")
    assert "empty" in refused(path)
    path.write_bytes(b"  \n ")
    assert "empty" in refused(path)
    path.write_bytes(b'{"a": "\xff\xfe"}')
    assert "UTF-8" in refused(path)
    path.write_bytes('{"type": "Point"}'.encode("utf-16"))
    refused(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    refused(path)


def test_json_without_features(tmp_path):
    path = tmp_path / "x.json"
    for text in ('{"a": 1}', "{}", '{"type": "FeatureCollection"}', '{"features": null}'):
        path.write_text(text)
        assert "holds no features" in refused(path)
    path.write_text('{"type": "FeatureCollection", "features": []}')
    assert read_geojson(path).objects == []


def test_missing_file_and_folder(tmp_path):
    assert "no such file" in refused(tmp_path / "gone.geojson")
    assert "is a folder" in refused(tmp_path)


def test_size_limit_counts_unpacked_bytes(tmp_path):
    path = tmp_path / "bomb.geojson.gz"
    with gzip.open(path, "wb") as file:
        file.write(
            b'{"type": "FeatureCollection", "pad": "' + b"0" * 3_000_000 + b'", "features": []}'
        )
    assert path.stat().st_size < 10_000
    assert "GB" in refused(path, limit=1_000_000)
    assert read_geojson(path).objects == []


def test_damaged_gzip(tmp_path):
    path = tmp_path / "cut.geojson.gz"
    whole = gzip.compress(json.dumps([GOOD] * 200).encode(), compresslevel=1)
    path.write_bytes(whole[: len(whole) // 2])
    assert "gzip" in refused(path)
    broken = bytearray(whole)
    broken[20:40] = bytes(20)
    path.write_bytes(bytes(broken))
    assert "gzip" in refused(path)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"type": ' * 100_000, '[{"a":' * 100_000])
def test_very_deep_nesting(tmp_path, text):
    path = tmp_path / "deep.json"
    path.write_text(text)
    assert "deep" in refused(path)


def test_deep_collections_and_children(tmp_path):
    path = tmp_path / "deep.json"
    shape = GOOD["geometry"]
    for _ in range(60):
        shape = {"type": "GeometryCollection", "geometries": [shape]}
    path.write_text(json.dumps({**GOOD, "geometry": shape}))
    assert "Feature 1" in refused(path)
    child = GOOD
    for _ in range(200):
        child = {**GOOD, "properties": {"childObjects": [child]}}
    path.write_text(json.dumps(child))
    assert len(read_geojson(path).objects) == 201


def test_cancelling_leaves_nothing(tmp_path):
    from napari_histosam.errors import Cancelled

    path = tmp_path / "a.json"
    path.write_text(json.dumps([GOOD] * 3000))

    def stop(_):
        raise Cancelled

    with pytest.raises(Cancelled):
        read_geojson(path, progress=stop)
