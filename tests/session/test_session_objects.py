"""Accepted objects: selected and changed, each change one undo step, locked ones left alone."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from napari_histosam.errors import InputError
from napari_histosam.records import Provenance, SlideObject
from napari_histosam.session import ObjectDesk, editing
from napari_histosam.store import ObjectStore


def square(x, y, side=10.0, **more):
    return SlideObject(geometry=shapely.box(x, y, x + side, y + side), **more)


@pytest.fixture
def store():
    with ObjectStore.open(None) as opened:
        yield opened


@pytest.fixture
def desk(store):
    return ObjectDesk(store)


@pytest.fixture
def three(store):
    return store.add([square(0, 0), square(20, 0, class_name="Tumor"), square(40, 0, locked=True)])


def state(store):
    return {o.id: (o.geometry.wkt, o.class_name) for o in store.iterate()}


def test_selecting_says_so_once(desk, three):
    heard = []
    desk.selection_changed.connect(heard.append)
    desk.select(three[:2])
    desk.select([*three[:2], three[0]])
    assert heard == [tuple(three[:2])]
    assert [o.id for o in desk.selected()] == three[:2]


def test_selecting_by_click(desk, three):
    assert desk.select_at(5, 5) == three[0]
    assert desk.select_at(25, 5, add=True) == three[1]
    assert desk.selection == (three[0], three[1])
    desk.select_at(5, 5, add=True)
    assert desk.selection == (three[1],)
    assert desk.select_at(500, 500, add=True) is None
    assert desk.selection == (three[1],)
    assert desk.select_at(500, 500) is None
    assert desk.selection == ()


def test_of_nested_objects_the_inner_is_selected(desk, store):
    outer, inner = store.add([square(0, 0, 50), square(10, 10, 5)])
    assert desk.select_at(12, 12) == inner
    assert desk.select_at(2, 2) == outer


@pytest.mark.parametrize(
    "act",
    [
        lambda d: d.set_class("Stroma"),
        lambda d: d.delete(),
        lambda d: d.edit(editing.brush(np.array([[5.0, 5.0], [45.0, 5.0]]), 2.0), "Brush"),
        lambda d: d.merge(),
        lambda d: d.split([(-5, 5), (60, 5)]),
    ],
    ids=["class", "delete", "edit", "merge", "split"],
)
def test_every_change_is_one_step_and_spares_the_locked(desk, store, three, act):
    before = state(store)
    desk.select(three)
    act(desk)
    after = state(store)
    assert after != before
    assert after[three[2]] == before[three[2]]
    store.undo()
    assert state(store) == before
    store.redo()
    assert state(store) == after


@pytest.mark.parametrize(
    "act",
    [
        lambda d: d.set_class("Stroma"),
        lambda d: d.delete(),
        lambda d: d.edit(editing.fill_holes(), "Fill"),
        lambda d: d.merge(),
        lambda d: d.split([(-5, 5), (60, 5)]),
    ],
    ids=["class", "delete", "edit", "merge", "split"],
)
def test_only_locked_objects_are_refused_in_a_sentence(desk, store, three, act):
    before = state(store)
    desk.select([three[2]])
    with pytest.raises(InputError, match="is locked"):
        act(desk)
    assert state(store) == before


def test_with_nothing_selected(desk, store, three):
    desk.set_class("Stroma")
    assert desk.delete() == 0
    with pytest.raises(InputError, match="Select an object with an area"):
        desk.edit(editing.fill_holes(), "Fill")
    with pytest.raises(InputError, match="at least two"):
        desk.merge()
    with pytest.raises(InputError, match="cuts no selected object"):
        desk.split([(0, 0), (9, 9)])
    assert store.undo_label == "Add"


def test_an_edit_that_changes_nothing_is_no_step(desk, store, three):
    desk.select(three[:1])
    desk.edit(editing.fill_holes(), "Fill")
    desk.set_class(None)
    assert store.undo_label == "Add"


def test_what_is_erased_whole_is_deleted_with_the_rest_in_one_step(desk, store, three):
    before = state(store)
    desk.select(three[:2])
    desk.edit(editing.brush(np.array([[5.0, 5.0], [22.0, 5.0]]), 8.0, erase=True), "Erase")
    assert three[0] not in store
    assert store.get(three[1]).geometry.area < 100
    assert desk.selection == (three[1],)
    store.undo()
    assert state(store) == before


def test_merging_keeps_the_first_and_both_parts(desk, store, three):
    desk.select([three[1], three[0]])
    assert desk.merge() == three[1]
    merged = store.get(three[1])
    assert merged.geometry.area == 200
    assert merged.class_name == "Tumor"
    assert three[0] not in store
    assert desk.selection == (three[1],)


def test_splitting_keeps_the_id_for_the_largest_piece(desk, store):
    came = Provenance(source="prompted", model="m")
    (key,) = store.add([square(0, 0, class_name="Gland", provenance=came)])
    desk.select([key])
    ids = desk.split([(3, -5), (3, 15)])
    assert ids[0] == key
    assert [store.get(i).geometry.area for i in ids] == pytest.approx([70, 30])
    assert {store.get(i).class_name for i in ids} == {"Gland"}
    assert store.get(ids[1]).provenance.model == "m"
    assert desk.selection == tuple(ids)


def test_holes_are_filled_and_edges_smoothed(desk, store):
    ring = shapely.box(0, 0, 40, 40).difference(shapely.box(10, 10, 20, 20))
    (key,) = store.add([SlideObject(geometry=ring)])
    desk.select([key])
    desk.edit(editing.fill_holes(), "Fill")
    assert store.get(key).geometry.area == 1600
    desk.edit(editing.smooth(4.0), "Smooth")
    assert 1500 < store.get(key).geometry.area < 1600


def test_points_and_lines_stay_out_of_edits(desk, store):
    ids = store.add([SlideObject(geometry=shapely.Point(1, 1)), square(0, 0)])
    desk.select(ids)
    desk.edit(editing.smooth(2.0), "Smooth")
    assert store.get(ids[0]).geometry.equals(shapely.Point(1, 1))
    desk.select(ids[:1])
    with pytest.raises(InputError, match="with an area"):
        desk.edit(editing.smooth(2.0), "Smooth")


def test_what_undo_takes_away_is_selected_no_more(desk, store):
    (key,) = store.add([square(0, 0)])
    desk.select([key])
    store.undo()
    assert desk.selection == ()


def test_what_another_window_deleted_is_selected_no_more(tmp_path):
    path = tmp_path / "s.histosam.sqlite"
    with ObjectStore.open(path) as writer, ObjectStore.open(path) as reader:
        ids = writer.add([square(0, 0), square(20, 0)])
        reader.refresh()
        desk = ObjectDesk(reader)
        desk.select(ids)
        writer.delete(ids[:1])
        assert reader.refresh()
        assert desk.selection == (ids[1],)
