"""``histosam predict --scheduler``: workers of a dask scheduler look at the tiles."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from distributed import LocalCluster
from PIL import Image

from napari_histosam.cli import main
from napari_histosam.errors import InputError
from napari_histosam.exchange import read
from napari_histosam.jobs.cluster import connected
from napari_histosam.models import ModelRegistry
from napari_histosam.session.automate import plan_tiles
from napari_histosam.session.automate.elsewhere import LookElsewhere, sight_of
from napari_histosam.slide import open_slide
from region_tints import Tinter, landscape, offer

ROI = "500,1300,1500,900"  # four tiles


@pytest.fixture
def histosam(capsys):
    def run(*argv):
        status = main([str(a) for a in argv])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture(scope="module")
def scheduler():
    # Threads of this process answer by TCP, as other machines would, and start at once.
    with LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        protocol="tcp",
        dashboard_address=None,
    ) as cluster:
        yield cluster.scheduler_address


def outlines(path) -> list[str]:
    return sorted(o.geometry.wkt for o in read(path).objects)


def test_workers_find_the_same_objects(histosam, sample_slide_path, tmp_path, scheduler):
    argv = ("predict", sample_slide_path, "--model", "classical", "--roi", ROI, "--json", "--out")
    status, _, err = histosam(*argv, tmp_path / "here.geojson")
    assert status == 0, err
    status, told, err = histosam(*argv, tmp_path / "there.geojson", "--scheduler", scheduler)
    assert status == 0, err
    assert json.loads(told)["slides"][0]["tiles"] == 4
    assert outlines(tmp_path / "here.geojson") == outlines(tmp_path / "there.geojson")


def test_results_come_in_order_and_few_items_are_taken_ahead(scheduler):
    taken = []

    def items():
        for number in range(30):
            taken.append(number)
            yield number

    with connected(scheduler) as cluster:
        found = cluster.in_order(lambda number: number**2, items())
        assert next(found) == (0, 0)
        assert len(taken) < 6
        assert list(found) == [(n, n**2) for n in range(1, 30)]


def test_an_error_on_a_worker_is_told_as_it_is(scheduler):
    with connected(scheduler) as cluster, pytest.raises(ZeroDivisionError):
        list(cluster.in_order(lambda number: 1 // number, iter([1, 0, 2])))


def test_a_worker_with_other_weights_is_found_out(scheduler, sample_slide_path):
    model = ModelRegistry().load("classical")
    with open_slide(sample_slide_path) as slide, connected(scheduler) as cluster:
        sight = replace(sight_of(slide, model), weights_hash="sha256:other")
        plan = plan_tiles(slide, model.card)
        with pytest.raises(InputError, match="other weights of classical"):
            next(LookElsewhere(cluster, sight)(plan.tiles(None)))


def test_a_scheduler_that_is_not_there_is_refused(
    histosam, sample_slide_path, tmp_path, monkeypatch
):
    monkeypatch.setattr("napari_histosam.jobs.cluster._CONNECT_S", 1)
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        status, _, err = histosam(
            *("predict", sample_slide_path, "--model", "classical", "--roi", ROI),
            *("--out", tmp_path / "x.geojson", "--scheduler", address),
        )
        assert status == 2
        assert f"No scheduler answers at {address}" in err
    assert not list(tmp_path.glob("x.geojson*"))


def test_workers_map_regions_as_well(histosam, tmp_path, scheduler, monkeypatch):
    offer(monkeypatch, Tinter(classes=("Tumour", "Stroma")))
    picture = tmp_path / "one.png"
    Image.fromarray(landscape(700, 500, 1)).save(picture)
    argv = ("predict", picture, "--model", "tinter", "--json", "--out")
    told = []
    for name, more in (("here", ()), ("there", ("--scheduler", scheduler))):
        status, out, err = histosam(*argv, tmp_path / f"{name}.geojson", *more)
        assert status == 0, err
        told.append(json.loads(out)["areas"])
    assert told[0] == told[1]
    assert outlines(tmp_path / "here.geojson") == outlines(tmp_path / "there.geojson")
