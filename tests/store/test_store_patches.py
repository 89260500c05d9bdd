"""Labels of patches: set, changed, cleared, undone; a second window; an older file."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.errors import InputError
from napari_histosam.geometry.grid import PatchGrid
from napari_histosam.records import PatchLabel, SlideObject
from napari_histosam.store import ObjectStore, PatchBook, schema

if TYPE_CHECKING:
    from pathlib import Path

GRID = PatchGrid((100.0, 100.0), (1000, 800))


def cell(column: int, row: int, kind: str = "tumour", grid: PatchGrid = GRID) -> PatchLabel:
    return PatchLabel(*grid.box(column, row), kind)


def said(book: PatchBook) -> dict[tuple[float, float, float], str]:
    return {(one.width, one.x, one.y): one.label for one in book.all()}


@pytest.fixture
def store(tmp_path: Path):
    with ObjectStore.open(tmp_path / "a.histosam.sqlite", author="Ada") as opened:
        yield opened


def test_set_change_and_clear_are_steps_beside_the_objects(store) -> None:
    book, heard = PatchBook(store), []
    store.changed.connect(heard.append)
    assert book.put([cell(1, 1), cell(2, 1), cell(3, 1, "normal")], "Label 3 patches") == 3
    (first, *_) = book.all()
    assert (first.author, first.label, first.middle) == ("Ada", "tumour", (150.0, 150.0))
    assert first.time.endswith("+00:00")
    from shapely import box

    (key,) = store.add([SlideObject(box(0, 0, 9, 9))])
    # One stays as it is, one changes, one is new.
    assert book.put([cell(1, 1), cell(2, 1, "normal"), cell(4, 1)]) == 2
    assert book.all()[0].time == first.time
    assert book.count(100, 100).tumour == 2
    assert book.count(100, 100).normal == 2
    assert book.clear([GRID.box(1, 1), GRID.box(9, 9)]) == 1
    assert [change.patches_changed for change in heard] == [True, False, True, True]
    assert store.undo_label == "Clear patch labels"

    store.undo()
    assert book.count(100, 100).tumour == 2
    store.undo()
    assert said(book) == {
        (100, 100, 100): "tumour",
        (100, 200, 100): "tumour",
        (100, 300, 100): "normal",
    }
    assert key in store
    store.undo()
    assert key not in store
    store.undo()
    assert book.all() == []
    assert store.undo() is None
    for _ in range(4):
        assert store.redo() is not None
    assert book.count(100, 100).tumour == 1
    assert key in store
    assert store.integrity_check() == []


def test_what_is_undone_is_gone_for_good_after_another_step(store) -> None:
    book = PatchBook(store)
    book.put([cell(0, 0)])
    store.undo()
    book.put([cell(0, 0, "normal")])
    assert store.redo() is None
    assert [one.label for one in book.all()] == ["normal"]
    with store._db.read() as con:
        assert con.execute("SELECT count(*) FROM patch_deltas").fetchone()[0] == 1


def test_nothing_new_is_no_step(store) -> None:
    book = PatchBook(store)
    assert book.put([]) == 0
    assert book.clear([GRID.box(0, 0)]) == 0
    book.put([cell(0, 0)])
    assert book.put([cell(0, 0)]) == 0
    store.undo()
    assert store.undo() is None


def test_patches_of_one_size_make_room_others_do_not(store) -> None:
    book = PatchBook(store)
    rounded = PatchLabel(302, 299, 100.4, 100.4, "normal")
    coarse = PatchLabel(300, 300, 400, 400, "tumour")
    between = PatchLabel(150, 150, 100, 100, "normal")  # of a lattice between the cells
    book.put([rounded, coarse, between])
    assert book.count(100, 100).normal == 2
    assert book.count(400, 400).tumour == 1
    book.put([cell(3, 3), cell(1, 1)])
    assert book.count(100, 100).tumour == 2
    assert book.count(100, 100).normal == 1
    assert book.clear([between_box := (150, 150, 100, 100)]) == 1
    assert between_box not in [(one.x, one.y, one.width, one.height) for one in book.all()]
    assert [(one.width, one.tumour) for one in book.counts()] == [(100, 2), (400, 1)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["tumour", "normal", "clear", "undo", "redo"]),
            st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=6),
        ),
        max_size=12,
    )
)
def test_undo_and_redo_walk_through_what_was(steps) -> None:
    past: list[dict] = [{}]
    at = 0
    with ObjectStore.open(None) as store:
        book = PatchBook(store)
        for kind, cells in steps:
            now = dict(past[at])
            if kind == "undo":
                store.undo()
                at = max(0, at - 1)
            elif kind == "redo":
                store.redo()
                at = min(len(past) - 1, at + 1)
            else:
                if kind == "clear":
                    book.clear(GRID.box(*one) for one in cells)
                    for one in cells:
                        now.pop(one, None)
                else:
                    book.put(cell(*one, kind) for one in dict.fromkeys(cells))
                    now.update(dict.fromkeys(cells, kind))
                if now != past[at]:
                    past[at + 1 :] = [now]
                    at += 1
            assert {GRID.at(*one.middle): one.label for one in book.all()} == past[at]


def test_refusals_change_nothing(store) -> None:
    book = PatchBook(store)
    for wrong, why in (
        ([cell(0, 0, "perhaps")], "tumour or normal"),
        ([cell(0, 0), cell(0, 0, "normal")], "both tumour and normal"),
        ([PatchLabel(0, 0, 0, 10, "tumour")], "no place or size"),
        ([PatchLabel(float("nan"), 0, 10, 10, "tumour")], "no place or size"),
    ):
        with pytest.raises(InputError, match=why):
            book.put([cell(5, 5), *wrong])
    assert book.all() == []


def test_a_second_window_reads_and_says_why_it_cannot_write(store) -> None:
    PatchBook(store).put([cell(1, 1)])
    with ObjectStore.open(store.path) as other:
        book = PatchBook(other)
        assert book.count(100, 100).tumour == 1
        for do in (lambda: book.put([cell(2, 2)]), lambda: book.clear([GRID.box(1, 1)])):
            with pytest.raises(InputError, match="another window"):
                do()
        PatchBook(store).clear([GRID.box(1, 1)])
        assert book.all() == []


def test_a_file_of_version_3_is_brought_up_to_date(tmp_path: Path) -> None:
    from shapely import box

    path = tmp_path / "old.histosam.sqlite"
    with ObjectStore.open(path) as store:
        (key,) = store.add([SlideObject(box(0, 0, 9, 9), "Tumor")])
    con = sqlite3.connect(path, isolation_level=None)
    for table in ("patches", "patch_deltas"):
        con.execute(f"DROP TABLE {table}")
    con.execute("PRAGMA user_version = 3")
    now = {row[0] for row in con.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")}
    con.close()
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(fresh, schema.STEPS[:3])
    made = {row[0] for row in fresh.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")}
    assert now == made  # it is what version 3 made
    fresh.close()

    with ObjectStore.open(path) as store:
        assert schema.version(store._db._main) == len(schema.STEPS)
        PatchBook(store).put([cell(0, 0)])
        store.undo()
        store.undo()  # the step that the older version made
        assert key not in store
        store.redo()
        assert key in store
        assert store.integrity_check() == []


def test_labels_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "kept.histosam.sqlite"
    grid = PatchGrid.of((2000, 2000), (0.499, 0.251), 128.0)
    with ObjectStore.open(path) as store:
        PatchBook(store).put([cell(3, 2, "normal", grid)])
    with ObjectStore.open(path) as store:
        (one,) = PatchBook(store).sized(*grid.side)
        assert (one.x, one.y, one.width, one.height) == grid.box(3, 2)
        store.undo()
        assert PatchBook(store).all() == []
