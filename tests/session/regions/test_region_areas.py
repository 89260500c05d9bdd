"""Areas: the polygons are the mask to the px, holes and seams of the bands included."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import shapely

from napari_histosam.errors import InputError
from napari_histosam.geometry.scan import fill
from napari_histosam.models.sam_lung.post import rounded, side_px
from napari_histosam.records import Prompt
from napari_histosam.session.regions import (
    AreaSettings,
    ClassMasks,
    RegionMap,
    RegionRequest,
    areas,
    map_regions,
    objects_of,
    picked,
    plan_regions,
    usual_settings,
)
from napari_histosam.slide import open_array
from region_tints import Tinter, landscape

SMOOTH = AreaSettings(smooth_um=15.0, least_um2=300.0)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The map of a landscape, of two classes, at 1 µm per px on a slide of 0.5."""
    folder = tmp_path_factory.mktemp("areas") / "m"
    with open_array([landscape(1500, 1250)], (0.5, 0.5), "land") as slide:
        model = Tinter()
        map_regions(slide, model, RegionRequest(plan_regions(slide, model.card), 0), folder)
    return RegionMap(folder)


def painted(made, name, shape) -> np.ndarray:
    """Fill a class's areas, level-0 px, into map px of 2 x 2."""
    shapes = [
        shapely.transform(one.geometry, lambda xy: xy / 2)
        for one in made.areas
        if one.class_name == name
    ]
    return fill(np.zeros(shape, bool), shapes, [True] * len(shapes))


def wanted(found, settings) -> list[np.ndarray]:
    """The masks of all classes, made of the whole map at once."""
    high, wide = found.shapes[0]
    likely = found.read(0, 0, high, 0, wide)
    best = likely.argmax(0)
    masks = [(best == k) & (likely[k] >= 255 * settings.threshold) for k in range(len(likely))]
    side = side_px(settings.smooth_um, 1.0)
    return [rounded(mask, side) for mask in masks]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_polygons_are_the_mask_with_its_holes(found, threshold):
    settings = AreaSettings(threshold)
    made = areas(found, settings)
    for name, mask in zip(found.classes, wanted(found, settings), strict=True):
        assert np.array_equal(painted(made, name, mask.shape), mask)
    assert all(one.geometry.is_valid for one in made.areas)
    assert sum(len(one.geometry.interiors) for one in made.areas) > 0


@pytest.mark.parametrize("settings", [AreaSettings(), SMOOTH])
def test_bands_leave_no_trace(found, settings, monkeypatch):
    whole = areas(found, settings)
    module = import_module("napari_histosam.session.regions.areas")
    monkeypatch.setattr(module, "BAND_PX", 1)
    shares: list[float] = []
    bands = areas(found, settings, step=shares.append)
    assert len(shares) >= 9
    assert shares[-1] == 1
    assert bands.shares == whole.shares

    def told(made):
        rows = [
            (one.class_name, one.pixels, one.mean, one.geometry.normalize().wkt) for one in made
        ]
        return sorted(rows)

    assert told(bands.areas) == told(whole.areas)


def test_smoothing_is_that_of_the_whole_mask(found):
    settings = AreaSettings(smooth_um=15.0)
    made = areas(found, settings)
    first, second = wanted(found, settings)
    assert (painted(made, "Tumour", first.shape) != first).sum() <= (first & second).sum()
    kept = painted(made, "Tumour", first.shape) | painted(made, "Stroma", first.shape)
    assert np.array_equal(kept, first | second)
    rough = areas(found, AreaSettings())
    assert len(made.areas) < len(rough.areas)


def test_mean_probability_and_shares(found):
    made = areas(found, AreaSettings(least_um2=500))
    high, wide = found.shapes[0]
    likely = found.read(0, 0, high, 0, wide)
    for one in made.areas[:5]:
        own = fill(
            np.zeros((high, wide), bool),
            [shapely.transform(one.geometry, lambda xy: xy / 2)],
            [True],
        )
        assert one.pixels == own.sum() >= 500
        kind = found.classes.index(one.class_name)
        assert one.mean == pytest.approx(likely[kind][own].mean() / 255)
    for name, share in made.shares.items():
        mine = [one for one in made.areas if one.class_name == name]
        assert share.um2 == sum(one.pixels for one in mine) > 0  # 1 µm² each
        assert share.um2 == pytest.approx(sum(one.geometry.area for one in mine) / 4, rel=0.02)
        assert 0 < share.fraction < 1
    assert made.tissue_um2 > sum(share.um2 for share in made.shares.values()) * 0.9


def test_objects_tell_where_they_come_from(found):
    made = areas(found, AreaSettings(least_um2=500))
    objects = objects_of(made, found, author="Ada")
    assert len(objects) == len(made.areas)
    one, area = objects[0], made.areas[0]
    assert (one.object_type, one.class_name) == ("annotation", area.class_name)
    assert one.provenance.source == "automatic"
    assert (one.provenance.model, one.provenance.weights_hash) == ("tinter", "hash of tinter")
    assert (one.provenance.author, one.provenance.score) == ("Ada", area.mean)
    assert {o.class_name for o in objects_of(made, found, class_name="Mine")} == {"Mine"}


def test_prompts_pick_areas(found):
    made = areas(found, AreaSettings(least_um2=500)).areas
    first, second, third = made[:3]
    inside = [one.geometry.representative_point() for one in made]
    point = Prompt(inside[0], "positive")
    assert picked(made, [point]) == [first]
    box = Prompt(shapely.box(*second.geometry.bounds), "box")
    both = picked(made, [point, box])
    assert first in both
    assert second in both
    assert third in picked(made, [])
    no = Prompt(inside[2], "negative")
    assert picked(made, [no]) == [one for one in made if one is not third]
    assert picked(made, [point, Prompt(inside[0], "negative")]) == []
    assert picked([], [point]) == []


def test_masks_at_coarser_levels_are_near(make_tinter, paint, tmp_path):
    with open_array([paint(1200, 1100)], (1.0, 1.0), "x") as slide:
        model = make_tinter()
        map_regions(slide, model, RegionRequest(plan_regions(slide, model.card), 0), tmp_path / "m")
    found = RegionMap(tmp_path / "m")
    fine, _ = ClassMasks(found, SMOOTH).read(0, 1100, 0, 1200)
    coarse, _ = ClassMasks(found, SMOOTH, level=1).read(0, 550, 0, 600)
    again = coarse.repeat(2, 1).repeat(2, 2)
    assert (again & fine).sum() / (again | fine).sum() > 0.85
    part, _ = ClassMasks(found, SMOOTH).read(300, 500, 200, 700)
    assert np.array_equal(part, fine[:, 300:500, 200:700])


def test_settings_out_of_range_are_refused():
    for given, words in (
        ({"threshold": 0}, "threshold"),
        ({"threshold": 1.2}, "threshold"),
        ({"smooth_um": -1}, "smoothed"),
        ({"least_um2": float("nan")}, "least size"),
    ):
        with pytest.raises(InputError, match=words):
            AreaSettings(**given)


def test_the_usual_settings_are_the_authors(make_tinter):
    from napari_histosam.models import ModelRegistry

    registry = ModelRegistry()
    assert usual_settings(registry.get("sam-lung")).smooth_um == 71
    assert usual_settings(registry.get("ep-sam")).smooth_um is None
    assert usual_settings(make_tinter().card).least_um2 > 0


def test_a_slide_without_a_scale_gives_areas_without_um(make_tinter, paint, tmp_path):
    with open_array([paint(500, 400)], None, "x") as slide:
        model = make_tinter()
        map_regions(slide, model, RegionRequest(plan_regions(slide, model.card)), tmp_path / "m")
    found = RegionMap(tmp_path / "m")
    made = areas(found, SMOOTH)
    assert found.px_um is None
    assert made.areas
    assert made.tissue_um2 is None
    assert {share.um2 for share in made.shares.values()} == {None}
    assert 0 < made.shares["Tumour"].fraction < 1
