"""What an object is for, and which are of no use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely

from napari_histosam.records import Provenance, SlideObject
from napari_histosam.train.dataset.kinds import mark, role_of

SIZE = (100, 80)
BOX = shapely.box(10, 10, 30, 30)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("Region*", "region"),
        ("region", "region"),
        ("Region 2", "region"),
        ("Region*: Tumor", "region"),
        ("Fully labelled", "region"),
        ("fully-labeled", "region"),
        ("Ignore*", "ignore"),
        ("Regional lymph node", "object"),
        ("Tumor", "object"),
        ("ROI", "object"),
        (None, "object"),
    ],
)
def test_the_class_tells(name: str | None, use: str) -> None:
    assert role_of(name) == use


def test_own_names_for_regions() -> None:
    assert role_of("ROI", ["ROI"]) == "region"
    assert mark([SlideObject(BOX, "ROI")], SIZE, ["ROI"]).regions == (BOX,)


def test_uses_are_sorted() -> None:
    made = mark(
        [SlideObject(BOX, "A"), SlideObject(BOX, "Region*"), SlideObject(BOX, "Ignore*")], SIZE
    )
    assert [one.class_name for one in made.objects] == ["A"]
    assert len(made.shapes) == len(made.regions) == len(made.unknown) == 1
    assert len(made.digests) == 3
    assert not made.left_out


def test_what_is_of_no_use_is_counted() -> None:
    with np.errstate(invalid="ignore"):
        nan = shapely.Polygon([(0, 0), (1, float("nan")), (1, 1)])
    flat = shapely.Polygon([(0, 0), (5, 5), (0, 0)])
    useless = [shapely.Point(1, 1), shapely.LineString([(0, 0), (9, 9)]), shapely.Polygon(), flat]
    objects = [SlideObject(shape) for shape in [*useless, nan, shapely.box(200, 0, 210, 10)]]
    objects += [SlideObject(BOX, object_type="tile"), SlideObject(BOX, object_type="tmaCore")]
    made = mark(objects, SIZE)
    assert made.objects == ()
    assert made.left_out == {"no area": 5, "outside": 1, "container": 2}


def test_outlines_are_mended_and_cut_at_the_slide() -> None:
    bow = SlideObject(shapely.Polygon([(0, 0), (20, 20), (20, 0), (0, 20)]), locked=True)
    edge = SlideObject(shapely.box(90, -5, 120, 10), object_type="detection")
    made = mark([bow, edge], SIZE)
    assert all(shape.is_valid for shape in made.shapes)
    assert made.shapes[0].area == pytest.approx(200)
    assert made.shapes[1].bounds == (90, 0, 100, 10)


def test_automatic_objects_count_once_somebody_corrected_them() -> None:
    raw = SlideObject(BOX, provenance=Provenance("automatic", first_mask=BOX))
    bare = SlideObject(BOX, provenance=Provenance("automatic"))
    corrected = replace(raw, id="c", geometry=BOX.buffer(2))
    made = mark([raw, bare, corrected], SIZE)
    assert [one.id for one in made.objects] == ["c"]
    assert len(made.unknown) == made.left_out["automatic"] == 2
    assert len(mark([raw, bare, corrected], SIZE, automatic=True).objects) == 3


def test_one_id_counts_once_and_digests_tell_what_changes() -> None:
    one = SlideObject(BOX, "A")
    made = mark([one, replace(one, class_name="B")], SIZE)
    assert len(made.objects) == 1
    turned = shapely.Polygon(list(BOX.exterior.coords)[::-1])
    assert mark([replace(one, geometry=turned)], SIZE).digests == made.digests
    for other in (replace(one, class_name="B"), replace(one, geometry=BOX.buffer(1))):
        assert mark([other], SIZE).digests != made.digests
