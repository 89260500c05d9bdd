"""Adding, changing, deleting and classes, and what is told about it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.errors import InputError
from napari_histosam.geometry.window import Window
from napari_histosam.records import ObjectClass, Prompt, Provenance, SlideObject
from napari_histosam.store import DEFAULT_CLASSES, Change, ObjectStore

RING = shapely.Polygon([(0, 0), (20, 0), (20, 20), (0, 20)], [[(5, 5), (5, 15), (15, 15), (15, 5)]])


def full_object() -> SlideObject:
    return SlideObject(
        shapely.MultiPolygon([RING, shapely.box(30.25, 1 / 3, 40, 9)]),
        class_name="Tumör cells",
        object_type="detection",
        name="first",
        locked=True,
        created="2026-01-01T00:00:00.000+00:00",
        modified="2026-01-02T00:00:00.000+00:00",
        provenance=Provenance(
            source="prompted",
            author="Ada",
            model="sam",
            weights_hash="ab" * 32,
            window=Window(512.5, 300.0, (2.0, 2.5), (1024, 768)),
            prompts=(
                Prompt(shapely.Point(1.5, 2.5), "positive", "7", "Tumor"),
                Prompt(shapely.LineString([(0, 0), (3, 4)]), "negative", "7"),
                Prompt(RING, "mask", "7"),
            ),
            score=0.1 + 0.2,
            first_mask=RING,
            seconds=0.0,
        ),
        measurements={"Area µm^2": 1 / 3, "n": 4},
        metadata={"key": "väl\nue"},
        extra={"nucleusGeometry": {"type": "Point", "coordinates": [1, 2]}, "plane": None},
    )


def test_an_object_comes_back_whole(store: ObjectStore) -> None:
    item = full_object()
    plain = SlideObject(shapely.Point(3, 4))
    line = SlideObject(shapely.LineString([(0, 0, 1), (3, 4, 2)]))
    assert store.add([item, plain, line]) == [item.id, plain.id, line.id]
    assert store.get(item.id) == item
    assert shapely.to_wkb(store.get(line.id).geometry) == shapely.to_wkb(line.geometry)
    assert store.get_many([line.id, "gone", item.id])[1] == item
    assert list(store.iterate()) == [item, plain, line]
    assert store.ids() == [item.id, plain.id, line.id]


finite = st.floats(-1e6, 1e6, allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    at=st.tuples(finite, finite),
    name=st.none() | texts,
    measurements=st.dictionaries(texts, finite, max_size=3),
    extra=st.dictionaries(
        texts,
        st.recursive(st.none() | finite | texts, lambda s: st.lists(s, max_size=2)),
        max_size=2,
    ),
    score=st.none() | st.floats(0, 1),
)
def test_any_values_come_back(at, name, measurements, extra, score) -> None:
    item = SlideObject(
        shapely.Point(at),
        name=name,
        measurements=measurements,
        extra=extra,
        provenance=Provenance(score=score),
    )
    with ObjectStore.open(None) as store:
        store.add([item])
        assert store.get(item.id) == item


def test_numpy_values_are_kept_as_numbers(store: ObjectStore, make) -> None:
    item = make(0, 0, measurements={"a": np.float32(0.5)}, extra={"b": np.arange(2)})
    store.add([item])
    assert store.get(item.id).measurements == {"a": 0.5}
    assert store.get(item.id).extra == {"b": [0, 1]}


@pytest.mark.parametrize(
    ("item", "word"),
    [
        (SlideObject(shapely.Polygon()), "empty outline"),
        (SlideObject(shapely.Point(float("inf"), 0)), "empty outline"),
        (SlideObject(None), "empty outline"),  # type: ignore[arg-type]
        (SlideObject(shapely.Point(0, 0), id=""), "empty id"),
        (SlideObject(shapely.Point(0, 0), extra={"a": object()}), "JSON"),
        (SlideObject(shapely.Point(0, 0), name="\ud800"), "broken character"),
    ],
)
def test_what_cannot_be_kept_is_refused_and_nothing_of_it_stays(
    store: ObjectStore, make, item: SlideObject, word: str
) -> None:
    with pytest.raises(InputError, match=word):
        store.add([make(0, 0, class_name="New"), item])
    assert len(store) == 0
    assert not store.can_undo
    assert "New" not in store.counts_by_class()


def test_ids_are_unique(store: ObjectStore, make) -> None:
    item = make(0, 0)
    with pytest.raises(InputError, match="twice"):
        store.add([item, item])
    store.add([item])
    with pytest.raises(InputError, match="already"):
        store.add([make(1, 1), item])
    assert len(store) == 1
    for call in (lambda: store.delete(["x"]), lambda: store.update([make(0, 0)])):
        with pytest.raises(InputError, match="There is no object"):
            call()
    with pytest.raises(InputError, match="There is no object"):
        store.get("x")
    assert store.undo_label == "Add"


def test_a_replaced_id_can_be_used_again(store: ObjectStore, make) -> None:
    item = make(0, 0)
    store.add([item])
    moved = replace(item, geometry=shapely.box(5, 5, 9, 9))
    store.replace([item.id], [moved], "Redraw")
    assert store.get(item.id).geometry == moved.geometry
    store.undo()
    assert store.get(item.id) == item


def test_changes_are_told_after_the_commit(store: ObjectStore, make) -> None:
    told: list[Change] = []
    seen: list[int] = []
    store.changed.connect(lambda change: (told.append(change), seen.append(len(store))))
    a, b = store.add([make(0, 0), make(50, 0, class_name="Tumor")], "Accept")
    assert told[-1].added == (a, b)
    assert set(told[-1].bounds) == {(0, 0, 10, 10), (50, 0, 60, 10)}
    assert (told[-1].classes_changed, told[-1].label) == (False, "Accept")
    store.update([replace(store.get(a), geometry=shapely.box(20, 0, 30, 10))])
    assert told[-1].updated == (a,)
    assert set(told[-1].bounds) == {(0, 0, 10, 10), (20, 0, 30, 10)}
    (c,) = store.replace([a, b], [make(0, 90, class_name="Seen first")], "Merge")
    assert (set(told[-1].removed), told[-1].added) == ({a, b}, (c,))
    assert told[-1].classes_changed
    assert store.undo() == told[-1]
    assert (set(told[-1].added), told[-1].removed) == ({a, b}, (c,))
    assert seen == [2, 2, 1, 2]
    assert store.redo_label == "Merge"


def test_many_bounds_are_merged(store: ObjectStore, make) -> None:
    told: list[Change] = []
    store.changed.connect(told.append)
    store.add([make(20 * i, 0) for i in range(1000)])
    assert told[0].bounds == ((0, 0, 19990, 10),)


def test_nothing_done_is_no_step(store: ObjectStore, make) -> None:
    told: list[Change] = []
    (a,) = store.add([make(0, 0)])
    store.changed.connect(told.append)
    assert store.add([]) == []
    store.delete([])
    store.update([store.get(a)])
    store.put_class(DEFAULT_CLASSES[0])
    assert store.redo() is None
    assert told == []
    store.undo()
    assert store.undo() is None
    assert (store.undo_label, store.can_undo, store.can_redo) == (None, False, True)


def test_update_stamps_the_time_unless_given(store: ObjectStore, make) -> None:
    item = make(0, 0, modified="2020-01-01T00:00:00.000+00:00")
    store.add([item])
    store.update([replace(item, name="a")])
    assert store.get(item.id).modified > item.modified
    own = "2021-01-01T00:00:00.000+00:00"
    store.update([replace(item, modified=own)])
    assert store.get(item.id).modified == own


def test_history_tells_the_steps_in_force(store: ObjectStore, make) -> None:
    (a,) = store.add([make(0, 0)], "Accept")
    store.update([replace(store.get(a), class_name="Tumor")], "Set class")
    store.author = "Grace"
    store.delete_class("Tumor")
    assert [(e.label, e.author, e.kind) for e in store.history(a)] == [
        ("Accept", "Ada", "added"),
        ("Set class", "Ada", "changed"),
        ("Delete class", "Grace", "changed"),
    ]
    store.undo()
    assert [e.label for e in store.history(a)] == ["Accept", "Set class"]
    with pytest.raises(InputError):
        store.history("x")


def test_classes(store: ObjectStore, make) -> None:
    assert tuple(store.classes()) == DEFAULT_CLASSES
    assert DEFAULT_CLASSES[0] == ObjectClass("Tumor", (200, 0, 0))
    (a,) = store.add([make(0, 0, class_name="Tumor")])
    store.put_class(ObjectClass("Tumour", (1, 2, 3)), old_name="Tumor")
    assert store.get(a).class_name == "Tumour"
    assert store.classes()[0] == ObjectClass("Tumour", (1, 2, 3))
    store.put_class(ObjectClass("Mine", (9, 9, 9)))
    assert store.classes()[-1].name == "Mine"
    store.delete_class("Tumour")
    assert store.get(a).class_name is None
    assert store.counts_by_class()[None] == 1
    with pytest.raises(InputError, match="already"):
        store.put_class(ObjectClass("Stroma", (0, 0, 0)), old_name="Mine")
    for call in (
        lambda: store.put_class(ObjectClass(" ", (0, 0, 0))),
        lambda: store.put_class(ObjectClass("x", (0, 0, 256))),
        lambda: store.put_class(ObjectClass("x", (0, 0, 0)), old_name="absent"),
        lambda: store.delete_class("absent"),
        lambda: store.delete_class(""),
    ):
        with pytest.raises(InputError):
            call()
    for _ in range(4):
        store.undo()
    assert tuple(store.classes()) == DEFAULT_CLASSES
    for _ in range(4):
        store.redo()
    assert store.counts_by_class()[None] == 1


def test_classes_made_by_adding_have_colours_of_their_own(store: ObjectStore, make) -> None:
    store.add([make(0, 0, class_name=f"class {i}") for i in range(10)])
    colours = [item.colour for item in store.classes()]
    assert len(set(colours)) == len(colours)


def test_counts(store: ObjectStore, make) -> None:
    robot = Provenance(source="automatic")
    store.add([make(0, 0, class_name="Tumor", provenance=robot), make(0, 0), make(9, 9)])
    assert (len(store), store.count("Tumor"), store.count(None), store.count("absent")) == (
        3,
        1,
        2,
        0,
    )
    assert (store.count(source="automatic"), store.count(None, "manual")) == (1, 2)
    assert store.counts_by_class()["Tumor"] == 1


def test_settings(store: ObjectStore) -> None:
    assert store.setting("mpp") is None
    assert store.setting("mpp", [1]) == [1]
    store.set_setting("mpp", [0.25, 0.5])
    store.set_setting("mpp", {"x": 0.25})
    assert store.setting("mpp") == {"x": 0.25}
    assert not store.can_undo


def test_places(store: ObjectStore, make) -> None:
    big, small, far = make(0, 0, 100), make(40, 40, 10), make(1e6 + 0.3, 5, 0.1)
    triangle = SlideObject(shapely.Polygon([(0, 200), (100, 200), (0, 300)]))
    point = SlideObject(shapely.Point(500, 500))
    store.add([big, small, far, triangle, point])
    assert store.at(45, 45) == small.id
    assert store.at(20, 20) == big.id
    assert store.at(1e6 + 0.35, 5.05) == far.id
    assert store.at(90, 290) is None
    assert store.at(503, 500) is None
    assert store.at(503, 500, tolerance=4) == point.id
    assert [item.id for item in store.query((60, 60, 70, 70))] == [big.id]
    assert store.query((80, 280, 99, 299)) == []
    shapes = store.shapes_in((0, 0, 50, 50))
    assert sorted(shapes.boxes.ids) == sorted([big.id, small.id])
    for key, shape, box in zip(
        shapes.boxes.ids, shapes.geometries, shapes.boxes.bounds, strict=True
    ):
        assert store.get(key).geometry == shape
        assert shape.bounds == tuple(box)


def test_everything_is_there_after_reopening(tmp_path, make) -> None:
    path = tmp_path / "a.sqlite"
    with ObjectStore.open(path, slide_identity="s1") as store:
        store.add([make(0, 0, class_name="Tumor")])
        store.add([make(5, 5)])
        store.undo()
        store.set_setting("x", 1)
        before = list(store.iterate())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.sqlite"]
    with ObjectStore.open(path) as store:
        assert list(store.iterate()) == before
        assert store.slide_identity == "s1"
        assert (store.undo_label, store.redo_label, store.setting("x")) == ("Add", "Add", 1)
        assert store.redo() is not None
        assert len(store) == 2


def test_a_step_keeps_only_what_it_changed(tmp_path) -> None:
    """A new class for large outlines does not store the outlines again."""
    path = tmp_path / "a.sqlite"
    items = [SlideObject(shapely.Point(i, 0).buffer(5, quad_segs=500)) for i in range(50)]
    with ObjectStore.open(path) as store:
        store.add(items)
    before = path.stat().st_size
    with ObjectStore.open(path) as store:
        for name in ("Tumor", "Stroma", "Other"):
            store.update([replace(item, class_name=name) for item in store.iterate()])
        store.undo()
        assert store.get(items[0].id).class_name == "Stroma"
        assert store.get(items[0].id).geometry == items[0].geometry
    assert path.stat().st_size < 1.1 * before


def test_classes_that_come_with_a_replacement_are_part_of_its_step(tmp_path):
    with ObjectStore.open(tmp_path / "s.sqlite") as store:
        before = store.classes()
        fresh = ObjectClass("Crypt", (1, 2, 3))
        known = ObjectClass(before[0].name, (9, 9, 9))
        made = SlideObject(shapely.box(0, 0, 9, 9), class_name="Crypt")
        store.replace((), [made], "Import", classes=[fresh, known])
        assert store.classes() == [*before, fresh]
        store.undo()
        assert store.classes() == before
        assert len(store) == 0
        store.redo()
        assert store.classes() == [*before, fresh]
        assert store.get(made.id).class_name == "Crypt"
