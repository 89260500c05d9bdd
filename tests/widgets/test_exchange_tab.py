"""The Exchange tab: every format, import with its preview, refusals in a sentence."""

from __future__ import annotations

import json
import shutil
import threading

import numpy as np
import pytest
import shapely
import tifffile
from qtpy.QtCore import Qt

from napari_histosam.exchange import read
from napari_histosam.records import SlideObject
from napari_histosam.session.handover import FORMATS
from napari_histosam.widgets import exchange_tab

FIRST, SECOND = (1134.0, 2027.5), (1154.5, 2031.5)
FIELD = (1100.0, 1950.0, 1200.0, 2050.0)


@pytest.fixture
def hand(open_dock, slide_copy):
    made = open_dock(slide_copy)
    made.look(*FIELD)
    for spot in (FIRST, SECOND):
        made.click(*spot)
        made.key(Qt.Key_N)
    made.show_tab("Exchange")
    made.ready()
    return made


def settle(hand):
    hand.until(lambda: not hand.dock.status.running.isVisible())
    hand.qtbot.wait(50)


def choose(hand, suffix):
    form = hand.dock.exchange
    form.format.value = next(f.title for f in FORMATS if f.suffix == suffix)
    return form


@pytest.mark.parametrize("suffix", [f.suffix for f in FORMATS])
def test_every_format_is_written(hand, tmp_path, suffix):
    form = choose(hand, suffix)
    assert "Will write 2 unclassified" in form.preview.text()
    assert form.export_button.isEnabled()
    target = tmp_path / f"out{suffix}"
    form.export_to(target)
    settle(hand)
    assert "2 objects written" in hand.said
    assert str(target) in form.result.text()
    if suffix == ".csv":
        assert (
            "area_um2" in target.read_text("utf-8").replace("µm²", "um2") or target.stat().st_size
        )
        assert len(target.read_text("utf-8").strip().splitlines()) >= 3
        return
    back = read(target).objects
    assert len(back) == 2
    kept = list(hand.session.store.iterate())
    for item in kept:
        best = max(
            item.geometry.intersection(o.geometry).area / item.geometry.union(o.geometry).area
            for o in back
        )
        assert best > (0.8 if suffix in (".png", ".tif") else 0.999)


def test_the_step_of_a_label_image(hand, tmp_path):
    form = choose(hand, ".geojson")
    assert not form.downsample.visible
    assert form.origin.visible
    choose(hand, ".tif")
    assert form.downsample.visible
    assert not form.origin.visible
    assert not form.detections.visible
    assert form.downsample.value == 1
    form.downsample.value = 4
    assert "555 x 742 px" in form.preview.text()
    form.export_to(tmp_path / "coarse.tif")
    settle(hand)
    image = tifffile.imread(tmp_path / "coarse.tif")
    assert image.shape == (742, 555)
    assert image[int(FIRST[1] / 4), int(FIRST[0] / 4)] == 1


def test_the_step_proposed_fits_the_slide(open_dock, tmp_path):
    path = tmp_path / "wide.tif"
    tifffile.imwrite(
        path, np.full((600, 33_000, 3), 220, np.uint8), photometric="rgb", tile=(512, 512)
    )
    hand = open_dock(path)
    hand.session.store.add([SlideObject(geometry=shapely.box(10, 10, 300, 300))])
    hand.show_tab("Exchange")
    form = choose(hand, ".tif")
    assert form.downsample.value == 8
    hand.look(0, 0, 300, 300)
    form.region.value = "Objects in the view"
    assert form.downsample.value == 1
    hand.qtbot.wait(400)
    assert "1 objects in the view" in form.preview.text()


def test_too_large_a_png_is_refused_in_a_sentence(hand, monkeypatch):
    monkeypatch.setattr(exchange_tab, "PNG_PIXELS", 10**6)
    form = choose(hand, ".png")
    assert "too many for one PNG" in form.preview.text()
    assert "2 220 x 2 967" in form.preview.text()
    assert not form.export_button.isEnabled()
    form.downsample.value = 4
    assert form.export_button.isEnabled()
    form.downsample.value = 1
    choose(hand, ".tif")
    assert form.export_button.isEnabled()


def test_only_what_is_selected_or_seen(hand, tmp_path):
    form = choose(hand, ".geojson")
    form.region.value = "Selected objects"
    assert not form.export_button.isEnabled()
    assert "Select objects" in form.preview.text()
    hand.session.objects.select([next(o.id for o in hand.session.store.iterate())])
    assert form.export_button.isEnabled()
    form.export_to(tmp_path / "one.geojson")
    settle(hand)
    assert len(read(tmp_path / "one.geojson").objects) == 1
    form.region.value = "Objects in the view"
    assert form.export_button.isEnabled()
    hand.look(10, 10, 60, 60)
    hand.qtbot.wait(500)
    assert not form.export_button.isEnabled()
    hand.look(*FIELD)
    hand.qtbot.wait(500)
    assert form.export_button.isEnabled()


def test_as_detections(hand, tmp_path):
    form = choose(hand, ".geojson")
    form.detections.value = True
    form.export_to(tmp_path / "cells.geojson")
    settle(hand)
    kinds = {
        f["properties"]["objectType"]
        for f in json.loads((tmp_path / "cells.geojson").read_text("utf-8"))["features"]
    }
    assert kinds == {"detection"}


def test_import_shows_what_it_would_do_and_is_one_step(hand, tmp_path):
    form = choose(hand, ".geojson")
    form.export_to(tmp_path / "out.geojson")
    settle(hand)
    text = (tmp_path / "out.geojson").read_text("utf-8")
    data = json.loads(text)
    first, second = data["features"]
    # One that is known, one that is new, one of a new class.
    new = json.loads(json.dumps(first))
    new["id"] = "7b0b6a38-9f57-4ed5-8bb5-9b4f6b5f0a11"
    new["properties"]["classification"] = {"name": "Tubule", "color": [10, 20, 30]}
    (tmp_path / "in.geojson").write_text(json.dumps({**data, "features": [second, new]}), "utf-8")

    form.read_from(tmp_path / "in.geojson")
    settle(hand)
    assert "1 new objects" in form.import_text.text()
    assert "1 that replace" in form.import_text.text()
    assert "Tubule" in form.import_text.text()
    assert form.confirm.isVisible()
    assert not form.import_button.isVisible()
    hand.press(form.discard)
    assert len(hand.session.store) == 2
    assert form.import_button.isVisible()

    form.read_from(tmp_path / "in.geojson")
    settle(hand)
    hand.press(form.confirm)
    assert len(hand.session.store) == 3
    assert "2 objects added" in hand.said
    assert "Tubule" in hand.dock.annotate.classes.buttons()
    hand.dock.tabs.setCurrentIndex(0)
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    assert len(hand.session.store) == 2


def test_what_was_read_for_one_slide_does_not_land_on_another(hand, tmp_path, monkeypatch):
    form = choose(hand, ".geojson")
    form.export_to(tmp_path / "out.geojson")
    settle(hand)
    at_work, go = threading.Event(), threading.Event()
    quick = exchange_tab.read_for_import

    def slow(*args):
        at_work.set()
        go.wait(20)
        return quick(*args)

    monkeypatch.setattr(exchange_tab, "read_for_import", slow)
    form.read_from(tmp_path / "out.geojson")
    assert at_work.wait(10)
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, np.full((300, 300, 3), 210, np.uint8), photometric="rgb")
    hand.viewer.open(str(other), plugin="napari-histosam")
    go.set()
    hand.ready()
    settle(hand)
    assert not form.confirm.isVisible()
    assert len(hand.session.store) == 0


def test_an_export_can_be_stopped(hand, tmp_path):
    objects = [
        SlideObject(geometry=shapely.Point(30 + i % 2000, 30 + i // 20).buffer(6))
        for i in range(40_000)
    ]
    hand.session.store.add(objects)
    form = choose(hand, ".geojson")
    target = tmp_path / "all.geojson"
    target.write_text("what was there before", "utf-8")
    form.export_to(target)
    hand.until(hand.dock.status.running.isVisible)
    hand.press(hand.dock.status.stop)
    settle(hand)
    assert "Stopped" in hand.said
    assert target.read_text("utf-8") == "what was there before"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("all")] == ["all.geojson"]


def test_failures_are_one_sentence(hand, tmp_path):
    form = choose(hand, ".geojson")
    gone = tmp_path / "gone"
    gone.mkdir()
    shutil.rmtree(gone)
    form.export_to(gone / "out.geojson")
    settle(hand)
    assert "gone" in hand.said
    for name, content in (("a.geojson", "{"), ("b.geojson", '{"type":"FeatureCollection"}')):
        (tmp_path / name).write_text(content, "utf-8")
        form.read_from(tmp_path / name)
        settle(hand)
        assert name in hand.said
        assert "please report" not in hand.said
        assert not form.confirm.isVisible()
    form.read_from(tmp_path / "absent.geojson")
    settle(hand)
    assert "absent.geojson" in hand.said
    assert "\n" not in hand.said
    assert len(hand.session.store) == 2


def test_the_file_dialogs(hand, tmp_path, monkeypatch):
    asked = []

    def save(parent, title, start, kinds):
        asked.append((start, kinds))
        return str(tmp_path / "chosen"), kinds

    monkeypatch.setattr(exchange_tab.QFileDialog, "getSaveFileName", save)
    form = choose(hand, ".geojson.gz")
    hand.press(form.export_button)
    settle(hand)
    assert asked == [
        ("CMU-1-Small-Region.geojson.gz", "GeoJSON for QuPath, compressed (*.geojson.gz)")
    ]
    made = tmp_path / "chosen.geojson.gz"
    assert len(read(made).objects) == 2
    monkeypatch.setattr(exchange_tab.QFileDialog, "getOpenFileName", lambda *a: (str(made), ""))
    hand.press(form.import_button)
    settle(hand)
    assert "2 that replace" in form.import_text.text()
