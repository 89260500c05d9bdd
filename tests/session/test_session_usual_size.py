"""What the objects of a class usually measure, and that a session's clicks go by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import shapely

from napari_histosam import Session
from napari_histosam.records import Provenance, SlideObject
from napari_histosam.session.usual_size import usual_side
from napari_histosam.store import ObjectStore


@pytest.fixture
def store():
    with ObjectStore.open(None, slide_identity="s", slide_name="s") as made:
        yield made


def add(store: ObjectStore, name: str | None, *sides: float) -> None:
    store.add(
        [
            SlideObject(shapely.box(0, 0, side, side), name, provenance=Provenance(source="manual"))
            for side in sides
        ]
    )


def test_a_class_has_a_usual_size_from_the_third_object_on(store):
    add(store, "Nucleus", 20, 24)
    assert usual_side(store, "Nucleus") is None
    add(store, "Nucleus", 30)
    assert usual_side(store, "Nucleus") == pytest.approx(24)
    assert usual_side(store, "Gland") is None
    assert usual_side(store, None) is None


def test_the_last_ones_count(store):
    add(store, "Nucleus", *[100.0] * 30)
    add(store, "Nucleus", *[20.0] * 12)
    assert usual_side(store, "Nucleus") == pytest.approx(20)


def test_sizes_that_differ_much_tell_nothing(store):
    add(store, "Any", 10, 100, 1000)
    assert usual_side(store, "Any") is None


def test_the_model_is_told(slide, shelf, seer, helpers):
    seer.card = replace(seer.card, object_px=(36, 300))
    x, y, _ = helpers.small

    def told() -> float | None:
        return seer.decoded[-1][0][0].side

    with Session(slide, model="seer", registry=shelf) as session:
        add(session.store, "Tumor", 40, 40, 40)
        session.add_point(x, y)
        assert told() is None
        session.reject()
        session.set_class("Tumor")
        session.add_point(x, y)
        window = session.preview.objects["1"].window
        assert told() == pytest.approx(40 / window.scale[0])
        session.add_point(x + 5, y)
        assert told() is None  # what is shown says more


def test_models_of_one_scale_are_not_told(slide, shelf, seer, helpers):
    with Session(slide, model="seer", registry=shelf) as session:
        add(session.store, "Tumor", 40, 40, 40)
        session.set_class("Tumor")
        session.add_point(*helpers.small[:2])
        assert seer.decoded[-1][0][0].side is None
