"""Objects go out to every format and come back the same; imports are one step."""

from __future__ import annotations

import csv
import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image

from napari_histosam import Session
from napari_histosam.errors import Cancelled, InputError
from napari_histosam.exchange import read, write
from napari_histosam.jobs import CancelToken, Progress
from napari_histosam.records import ObjectClass, SlideObject
from napari_histosam.session.handover import (
    FORMATS,
    ExportPlan,
    apply_import,
    context_of,
    plan_text,
    read_for_import,
    run_export,
)

BY_SUFFIX = {f.suffix: f for f in FORMATS}


def square(x, y, side=20.0, **more):
    return SlideObject(geometry=shapely.box(x, y, x + side, y + side), **more)


def plan(suffix, region="all", **more):
    return ExportPlan(BY_SUFFIX[suffix], region, **more)


def corners(path):
    """Every coordinate of a GeoJSON file as it is written, (n, 2) in px."""
    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    shapes = shapely.from_geojson([json.dumps(one["geometry"]) for one in features])
    return shapely.get_coordinates(shapes)


def export(session, path, asked, report=lambda _p: None):
    return run_export(session, asked, path, report, CancelToken())


def take_in(session, path):
    incoming = read_for_import(session, path, lambda _p: None, CancelToken())
    return incoming, apply_import(session, incoming)


def state(session):
    return {
        o.id: (o.geometry.normalize().wkt, o.class_name, o.name, o.locked)
        for o in session.store.iterate()
    }


@pytest.fixture
def filled(session):
    session.store.put_class(ObjectClass("Odd", (1, 2, 3)))
    ring = shapely.box(200, 200, 300, 300).difference(shapely.box(220, 220, 240, 240))
    parts = shapely.MultiPolygon([shapely.box(600, 600, 640, 640), shapely.box(700, 600, 720, 640)])
    session.store.add(
        [
            square(10, 10, class_name="Tumor"),
            SlideObject(geometry=ring, class_name="Odd", name="ring"),
            SlideObject(geometry=parts, locked=True),
            square(1300, 1100, class_name="Stroma"),
        ]
    )
    return session


@pytest.mark.parametrize("suffix", sorted(BY_SUFFIX))
@pytest.mark.parametrize(("region", "count"), [("all", 4), ("selected", 2), ("view", 3)])
def test_every_format_and_region(filled, tmp_path, suffix, region, count):
    filled.objects.select(filled.store.ids()[:2])
    path = tmp_path / f"out{suffix}"
    asked = plan(suffix, region, view=(0.0, 0.0, 800.0, 800.0), downsample=2.0)
    assert plan_text(filled, asked)[0] == count
    report = export(filled, path, asked)
    assert report.n == count
    if suffix in (".tif", ".png"):
        image = tifffile.imread(path) if suffix == ".tif" else np.asarray(Image.open(path))
        assert image.shape == ((400, 400) if region == "view" else (600, 700))
        assert set(np.unique(image)) == set(range(count + 1))
        assert (image[110:120, 110:120] == 0).all()  # the ring's hole
        assert (image[102:110, 102:110] == 2).all()
    elif suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            assert len(list(csv.DictReader(file))) == count
    else:
        assert len(read(path).objects) == count


def test_an_export_reads_back_equal(filled, tmp_path, slide, shelf):
    path = tmp_path / "out.geojson"
    export(filled, path, plan(".geojson"))
    with Session(slide, model="seer", registry=shelf) as other:
        incoming, count = take_in(other, path)
        assert count == 4
        assert incoming.replaces == ()
        assert state(other) == state(filled)
        assert ObjectClass("Odd", (1, 2, 3)) in other.store.classes()


def test_ids_that_are_there_already_are_replaced(filled, tmp_path):
    path = tmp_path / "out.geojson"
    export(filled, path, plan(".geojson"))
    first = filled.store.ids()[0]
    filled.store.update([replace(filled.store.get(first), geometry=shapely.box(0, 0, 5, 5))])
    filled.store.delete(filled.store.ids()[3:])
    incoming = read_for_import(filled, path, lambda _p: None, CancelToken())
    assert "1 new objects; 3 that replace objects of the same id" in incoming.text
    apply_import(filled, incoming)
    assert len(filled.store) == 4
    assert filled.store.get(first).geometry.area == 400


def test_edits_between_reading_and_taking_in_do_no_harm(filled, tmp_path):
    path = tmp_path / "out.geojson"
    export(filled, path, plan(".geojson"))
    ids = filled.store.ids()
    filled.store.delete([ids[0]])
    incoming = read_for_import(filled, path, lambda _p: None, CancelToken())
    filled.store.undo()
    filled.store.delete([ids[1]])
    assert apply_import(filled, incoming) == 4
    assert sorted(filled.store.ids()) == sorted(ids)


def test_an_import_is_taken_back_in_one_step(filled, tmp_path):
    path = tmp_path / "in.geojson"
    write(
        [square(500, 20), square(540, 20), replace(filled.store.get(filled.store.ids()[0]))], path
    )
    before = state(filled)
    take_in(filled, path)
    assert len(filled.store) == 6
    assert filled.undo() == "Import 3"
    assert state(filled) == before
    filled.redo()
    assert len(filled.store) == 6


def test_what_an_import_will_do_is_said(session, tmp_path):
    path = tmp_path / "in.geojson"
    objects = [square(5, 5, class_name="Never seen"), square(9000, 9000)]
    write(objects, path)
    incoming = read_for_import(session, path, lambda _p: None, CancelToken())
    assert incoming.text.startswith(
        "in.geojson: 2 new objects; new classes Never seen; 1 lie outsi"
    )
    assert len(session.store) == 0


def test_label_images_come_back_as_objects(filled, tmp_path):
    path = tmp_path / "labels.tif"
    export(filled, path, plan(".tif", downsample=1.0))
    back = read(path, context_of(filled.slide, ())).objects
    assert sorted(o.geometry.area for o in back) == pytest.approx([400, 400, 2400, 9600])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type": "FeatureCollection", "features": []}', "holds no objects"),
        ("not json", "not valid JSON"),
    ],
)
def test_files_without_objects_are_refused(session, tmp_path, text, message):
    path = tmp_path / "in.geojson"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        take_in(session, path)
    with pytest.raises(InputError, match="no such file"):
        take_in(session, tmp_path / "none.geojson")
    with pytest.raises(InputError, match="suffix"):
        take_in(session, tmp_path / "none.xyz")


def test_a_cancelled_import_or_export_changes_nothing(filled, tmp_path):
    path = tmp_path / "out.geojson"
    export(filled, path, plan(".geojson"))
    before = path.read_bytes()
    stopped = CancelToken()
    stopped.cancel()
    with pytest.raises(Cancelled):
        read_for_import(filled, path, lambda _p: None, stopped)
    with pytest.raises(Cancelled):
        run_export(filled, plan(".geojson"), path, lambda _p: None, stopped)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["out.geojson"]


def test_plans_say_what_they_would_write(filled):
    text = plan_text(filled, plan(".geojson"))[1]
    for part in ("Will write", "1 Tumor", "1 Stroma", "1 Odd", "1 unclassified"):
        assert part in text
    assert "Select objects" in plan_text(filled, plan(".geojson", "selected"))[1]
    assert (
        "no objects in the view"
        in plan_text(filled, plan(".geojson", "view", view=(900.0, 10.0, 950.0, 20.0)))[1]
    )
    assert "350 x 300 px" in plan_text(filled, plan(".tif", downsample=4.0))[1]
    assert "no scale" in plan_text(filled, plan(".csv"))[1]


def test_an_empty_session_says_what_to_do(session):
    count, text = plan_text(session, plan(".geojson"))
    assert count == 0
    assert "accept a mask" in text


def test_the_origin_follows_qupath_on_slides_with_bounds(filled, tmp_path, monkeypatch):
    monkeypatch.setattr(type(filled.slide), "bounds", (100, 50, 1000, 1000))
    path = tmp_path / "out.geojson"
    _, text = plan_text(filled, plan(".geojson"))
    assert "shifted by -100, -50 px" in text
    export(filled, path, plan(".geojson"))
    shifted = {o.id: o.geometry for o in read(path, context_of(filled.slide, ())).objects}
    as_written = corners(path)
    first = filled.store.get(filled.store.ids()[0])
    assert shifted[first.id].equals(first.geometry)
    export(filled, path, plan(".geojson", origin="full-slide"))
    assert np.array_equal(corners(path) - (100, 50), as_written)


def test_an_export_is_of_one_moment_though_editing_goes_on(filled, tmp_path, session):
    session.store.add([square(i % 1000, 500, 4) for i in range(3000)])
    wanted = state(session)
    path = tmp_path / "out.geojson"
    started, edited = threading.Event(), threading.Event()

    def report(_progress: Progress) -> None:
        started.set()
        assert edited.wait(20)

    reports = []
    writer = threading.Thread(
        target=lambda: reports.append(export(session, path, plan(".geojson"), report))
    )
    writer.start()
    assert started.wait(20)
    ids = session.store.ids()
    session.store.delete(ids[:1000])
    session.store.update([replace(session.store.get(ids[-1]), class_name="Tumor")])
    session.store.add([square(1, 1)])
    session.undo()
    edited.set()
    writer.join(30)
    assert reports[0].n == 3004
    back = {o.id: o for o in read(path).objects}
    assert back.keys() == wanted.keys()
    assert back[ids[-1]].class_name is None


def test_a_large_import_is_quick_and_one_step(session, tmp_path):
    path = tmp_path / "many.geojson"
    write([square(i % 1300, (i // 130) % 1100, 3) for i in range(20_000)], path)
    start = time.perf_counter()
    _, count = take_in(session, path)
    assert count == len(session.store) == 20_000
    assert time.perf_counter() - start < 30  # a hang, not a speed, would fail this
    session.undo()
    assert len(session.store) == 0
