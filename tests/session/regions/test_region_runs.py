"""Runs over regions: no seams, no trace of the grid, resumable to the byte, bounded memory."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from napari_histosam.errors import InputError
from napari_histosam.jobs import CancelToken, PauseSwitch
from napari_histosam.session.regions import (
    RegionMap,
    RegionRequest,
    areas,
    map_regions,
    plan_regions,
)
from napari_histosam.session.regions.blending import ramp
from napari_histosam.slide import open_array, open_slide
from region_tints import landscape


def run(slide, model, folder, region=None, shift=(0, 0), least=0.05, **more):
    plan = plan_regions(slide, model.card, region, shift=shift)
    return map_regions(slide, model, RegionRequest(plan, least), folder, **more)


def whole(found: RegionMap) -> np.ndarray:
    high, wide = found.shapes[0]
    return found.read(0, 0, high, 0, wide)


def files(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_map_is_what_the_model_says_of_the_slide(land, tinter, likely, tmp_path):
    outcome = run(land, tinter, tmp_path / "m", least=0)
    assert outcome.finished
    assert outcome.tiles == tinter.seen
    found = RegionMap(tmp_path / "m")
    assert (found.classes, found.finished) == (("Tumour", "Stroma"), True)
    assert (found.scale, found.px_um) == ((2.0, 2.0), (1.0, 1.0))
    assert found.shapes[0] == (625, 750)
    truth = likely(land.read_window(750, 625, 1.0, (750, 625))) * 255
    assert np.abs(whole(found) - truth).max() < 0.6  # half a step, and what floats are off
    assert list((tmp_path / "m").glob(".run*")) == []


def test_steps_are_three_quarters_of_the_window(land, tinter):
    plan = plan_regions(land, tinter.card)
    assert plan.firsts(0) == [0, 160, 352, 494]  # all but the first and the last one by 192
    assert ramp(256, 32)[192:].tolist() == pytest.approx((1 - ramp(256, 32)[:64]).tolist())


def test_the_grid_leaves_no_trace_inside(land, dazzled, tmp_path):
    run(land, dazzled, tmp_path / "a", least=0)
    region = shapely.box(400, 380, 1100, 1000)
    run(land, dazzled, tmp_path / "b", region, shift=(96, 96), least=0)
    first, second = (whole(RegionMap(tmp_path / name)).astype(int) for name in "ab")
    inside = np.s_[:, 190 + 40 : 500 - 40, 200 + 40 : 550 - 40]
    apart = np.abs(first - second)[inside].max() / 255
    # The windows' borders are off by up to .2; the ramp leaves little of it, and no step.
    assert 0 < apart < 0.03


def test_a_drawn_region_only_is_looked_at(land, tinter, tmp_path):
    region = shapely.Point(700, 600).buffer(180)
    outcome = run(land, tinter, tmp_path / "m", region, least=0)
    assert 1 <= outcome.tiles <= 4
    found = RegionMap(tmp_path / "m")
    assert found.region.equals(region.intersection(shapely.box(0, 0, 1500, 1250))) or (
        found.region.symmetric_difference(region).area < 1
    )
    assert not whole(found)[:, :60].any()
    made = areas(found)
    assert made.areas
    assert all(region.buffer(2).contains(one.geometry) for one in made.areas)


def test_glass_is_left_out_and_gives_nothing(tinter, tmp_path):
    glass = np.full((600, 700, 3), 243, np.uint8)
    with open_array([glass], (1.0, 1.0), "glass") as slide:
        outcome = run(slide, tinter, tmp_path / "m")
    assert (outcome.finished, outcome.tiles, tinter.seen) == (True, 0, 0)
    assert "only glass" in outcome.text
    made = areas(RegionMap(tmp_path / "m"))
    assert made.areas == ()
    assert made.tissue_um2 == 0
    assert {name: share.fraction for name, share in made.shares.items()} == {
        "Tumour": 0.0,
        "Stroma": 0.0,
    }


def test_windows_with_little_tissue_are_left_out(tinter, tmp_path):
    image = np.full((1024, 1024, 3), 243, np.uint8)
    image[20:120, 20:120] = (190, 70, 90)
    image[800:810, 800:810] = (190, 70, 90)
    with open_array([image], (1.0, 1.0), "speck") as slide:
        assert run(slide, tinter, tmp_path / "m").tiles == 1
        assert run(slide, tinter, tmp_path / "all", least=0).tiles == 36


def test_stopped_and_gone_on_it_is_the_same_to_the_byte(land, make_tinter, tmp_path):
    run(land, make_tinter(), tmp_path / "whole")
    cut, cancel, pause = make_tinter(), CancelToken(), PauseSwitch()
    cut.hook = lambda number: cancel.cancel() if number == 6 else None
    outcome = run(land, cut, tmp_path / "cut", cancel=cancel, pause=pause)
    assert (outcome.finished, outcome.tiles_done) == (False, 7)
    assert "go on" in outcome.text
    assert not RegionMap(tmp_path / "cut").finished
    rest, seen = make_tinter(), []
    outcome = run(land, rest, tmp_path / "cut", announce=seen.append)
    assert (outcome.finished, outcome.resumed) == (True, True)
    assert rest.seen == outcome.tiles - 7 == len(seen)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")
    again = make_tinter()
    assert run(land, again, tmp_path / "cut").finished
    assert again.seen == 0


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(make_tinter, tmp_path):
    child = Path(__file__).with_name("region_child.py")

    def start():
        argv = [sys.executable, str(child), str(folder), "0.05"]
        return subprocess.Popen(
            argv, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE
        )

    with open_array([landscape(1500, 1250)], (1.0, 1.0), "land") as slide:
        run(slide, make_tinter(), tmp_path / "whole")
    folder, done = tmp_path / "cut", []
    for kills in range(40):
        process = start()
        end, before = time.monotonic() + 60, done[-1] if done else 0
        while process.poll() is None and _done(folder) < before + 18 + kills:
            assert time.monotonic() < end
            time.sleep(0.003)
        process.kill()
        process.communicate()
        if process.returncode == 0:
            break
        done.append(_done(folder))
    assert process.returncode == 0
    assert len(done) >= 2
    assert 0 < done[0] < done[-1]
    assert files(folder) == files(tmp_path / "whole")


def _done(folder) -> int:
    try:
        return int(json.loads((folder / ".run" / "done.json").read_text())["done"])
    except (OSError, ValueError):
        return 0


def test_memory_does_not_grow_with_the_slide(make_tinter, paint, tmp_path):
    peaks = []
    for tall in (1, 4):
        image = np.concatenate([paint(700, 600)] * tall)
        with open_array([image], (1.0, 1.0), f"tall {tall}") as slide:
            model = make_tinter()
            # From the first window on: the overview before has its own bound, 2048 px a side.
            model.hook = lambda number: tracemalloc.start() if number == 0 else None
            run(slide, model, tmp_path / str(tall))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert list((tmp_path / str(tall)).rglob("*.tile")) == []
    assert peaks[1] < 1.2 * peaks[0]


def test_what_is_kept_meanwhile_is_a_few_rows_of_windows(land, tinter, tmp_path):
    counts = []
    tinter.hook = lambda _: counts.append(len(list((tmp_path / "m" / ".run").glob("*.tile"))))
    outcome = run(land, tinter, tmp_path / "m", least=0)
    across = plan_regions(land, tinter.card).count[0]
    assert max(counts) <= 4 * across
    assert max(counts) < outcome.tiles


def test_it_opens_again_as_an_image(land, make_tinter, tmp_path):
    run(land, make_tinter(classes=("Tumour",)), tmp_path / "m.ome.zarr")
    with open_slide(tmp_path / "m.ome.zarr") as image:
        assert image.format == "ome-zarr"
        assert image.mpp == (1.0, 1.0)
        assert (image.width, image.height) == (750, 625)
        shown = image.read_level(0, 0, 0, 750, 625)
    found = RegionMap(tmp_path / "m.ome.zarr")
    assert np.array_equal(shown[..., 0], whole(found)[0])
    attributes = json.loads((tmp_path / "m.ome.zarr" / ".zattrs").read_text())
    assert attributes["omero"]["channels"][0]["label"] == "Tumour"
    first = attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    # The centre of the first map px (2 x 2 px of the slide) lies half a slide px off the slide's.
    assert first[0]["scale"] == [1.0, 1.0, 1.0]
    assert first[1]["translation"] == [0.0, 0.25, 0.25]


def test_coarser_levels_are_means(make_tinter, paint, tmp_path):
    with open_array([paint(1401, 400)], (1.0, 1.0), "wide") as slide:
        run(slide, make_tinter(), tmp_path / "m")
        live: list[tuple[int, ...]] = []
        run(slide, make_tinter(), tmp_path / "live", announce=live.append)
    found = RegionMap(tmp_path / "m")
    assert found.shapes == [(400, 1401), (200, 701)]
    fine = whole(found)
    coarse = found.read(1, 0, 200, 0, 700)
    means = fine[:, :, :1400].reshape(2, 200, 2, 700, 2).mean((2, 4))
    assert np.abs(coarse - means).max() <= 0.5
    assert found.thumbnail().shape == (2, 200, 701)
    assert found.thumbnail().max() <= 1
    assert files(tmp_path / "live") == files(tmp_path / "m")


def test_reads_of_a_window_of_the_slide(land, tinter, tmp_path):
    run(land, tinter, tmp_path / "m", least=0)
    found = RegionMap(tmp_path / "m")
    window = land.window(700, 600, 1.0, (100, 80))
    got = found.read_window(window)
    assert np.array_equal(got, whole(found)[:, 260:340, 300:400] / np.float32(255))
    assert found.read_window(land.window(0, 0, 1.0, 10))[:, :5, :5].max() == 0


def test_bad_folders_and_models_are_refused_in_a_sentence(land, tinter, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="holds something else"):
        run(land, tinter, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    run(land, tinter, tmp_path / "m", shapely.box(0, 0, 300, 300))
    with pytest.raises(InputError, match="holds another map"):
        run(land, tinter, tmp_path / "m")
    with pytest.raises(InputError, match="no map of regions"):
        RegionMap(tmp_path / "mine")
    tinter.card = replace(tinter.card, finds=None)
    with pytest.raises(InputError, match="maps no regions"):
        run(land, tinter, tmp_path / "n")
    assert not (tmp_path / "n").exists()


def test_a_model_that_gives_nonsense_is_told_of(land, tinter, tmp_path):
    tinter.probabilities = lambda image: np.full((2, *image.shape[:2]), np.nan, np.float32)
    with pytest.raises(InputError, match="no usable probabilities"):
        run(land, tinter, tmp_path / "m", least=0)


@pytest.mark.parametrize("kind", ["full", "read-only"])
def test_a_disk_that_cannot_be_written_gives_one_sentence(
    land, tinter, tmp_path, monkeypatch, kind
):

    real, code = os.fsync, errno.ENOSPC if kind == "full" else errno.EROFS
    calls = []

    def broken(handle):
        calls.append(handle)
        if len(calls) > 12:
            raise OSError(code, os.strerror(code))
        real(handle)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(InputError, match="disk is full" if kind == "full" else "no permission"):
        run(land, tinter, tmp_path / "m")
    monkeypatch.undo()
    assert run(land, tinter, tmp_path / "m").finished


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a common user")
def test_a_read_only_folder_gives_one_sentence(land, tinter, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="no permission"):
        run(land, tinter, tmp_path / "m")


def test_two_runs_into_one_folder_do_not_mix(land, make_tinter, tmp_path):
    first, told = make_tinter(), []

    def meanwhile(number):
        if number == 2:
            with pytest.raises(InputError, match="another run") as error:
                run(land, make_tinter(), tmp_path / "m")
            told.append(str(error.value))

    first.hook = meanwhile
    assert run(land, first, tmp_path / "m").finished
    assert len(told) == 1
