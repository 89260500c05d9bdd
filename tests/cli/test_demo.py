"""The demo: the main job on the shipped sample, without a window."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_histosam.cli import main
from napari_histosam.cli.demo import SCRIPT
from napari_histosam.exchange import read


def test_writes_geojson_and_picture_that_show_every_step(tmp_path, capsys):
    assert main(["demo", "--no-window", "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["objects"] == len(SCRIPT)
    found = read(tmp_path / "out" / "demo.geojson").objects
    assert sorted(o.class_name for o in found) == sorted(s.cls.name for s in SCRIPT)
    for step in SCRIPT:
        spot = step.positive[0] if step.positive else np.reshape(step.box, (2, 2)).mean(axis=0)
        assert any(o.geometry.buffer(1).contains(_point(spot)) for o in found), spot
    with Image.open(told["picture"]) as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for step in SCRIPT:
        assert (colours == step.cls.colour).all(axis=1).sum() > 20
    positive = (colours == (34, 197, 94)).all(axis=1).sum()
    assert positive > 50 * sum(len(s.positive) for s in SCRIPT)


def test_a_second_run_replaces_the_first(tmp_path, capsys):
    for _ in range(2):
        assert main(["demo", "--no-window", "--out", str(tmp_path), "--json"]) == 0
    assert len(read(tmp_path / "demo.geojson").objects) == len(SCRIPT)


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    assert main(["demo", "--no-window", "--out", str(tmp_path / "file" / "out")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "--out" in told


def test_staying_needs_a_window(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["demo", "--stay", "--out", str(tmp_path)]) == 2
    assert "display" in capsys.readouterr().err


def _point(at):
    import shapely

    return shapely.Point(*at)


@pytest.mark.parametrize("words", [["demo", "--no-window"], ["demo"]])
def test_the_window_is_chosen_by_the_display(words, tmp_path, monkeypatch):
    from napari_histosam.cli import demo

    asked = []
    monkeypatch.setattr(demo, "has_display", lambda: True)
    monkeypatch.setattr(demo, "_in_window", lambda out, stay: asked.append("window") or {})
    monkeypatch.setattr(demo, "_without_window", lambda out: asked.append("none") or {})
    main([*words, "--out", str(tmp_path)])
    assert asked == (["none"] if "--no-window" in words else ["window"])
