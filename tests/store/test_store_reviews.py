"""What was said of objects in a review: kept, undone, counted, and brought into older files."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from napari_histosam.errors import InputError
from napari_histosam.records import ObjectClass, Provenance, Review
from napari_histosam.store import ObjectStore, schema

if TYPE_CHECKING:
    from pathlib import Path

YES = Review("accepted", "Ada", "2026-01-02T03:04:05.000+00:00")


def test_a_review_is_kept_with_its_author_and_time(store, make) -> None:
    (key,) = store.add([make(0, 0)])
    assert store.get(key).review is None
    store.update([replace(store.get(key), review=YES)], label="Accept in review")
    assert store.get(key).review == YES
    assert store.review_states([key, "nobody"]) == {key: "accepted"}
    assert store.review_counts() == {None: 0, "accepted": 1, "corrected": 0, "rejected": 0}
    assert next(iter(store.iterate())).review == YES


def test_a_review_is_undone_and_redone_like_every_edit(store, make) -> None:
    (key,) = store.add([make(0, 0)])
    store.update([replace(store.get(key), review=YES)], label="Accept in review")
    assert store.undo().updated == (key,)
    assert store.get(key).review is None
    store.redo()
    assert store.get(key).review == YES
    # A later edit of something else leaves it as it is, there and back.
    store.update([replace(store.get(key), class_name="Gland")])
    store.undo()
    assert store.get(key).review == YES


def test_what_is_rejected_goes_and_is_remembered_until_it_comes_back(store, make) -> None:
    wrong = make(5, 5, class_name="Gland", provenance=Provenance("automatic", score=0.3))
    key, other = store.add([wrong, make(50, 50)])
    store.reject([key], label="Reject")
    assert store.ids() == [other]
    (found,) = store.rejected()
    assert found.object == wrong
    assert (found.author, bool(found.time)) == ("Ada", True)
    assert store.review_counts()["rejected"] == 1
    store.undo()
    assert store.ids() == [key, other]
    assert store.rejected() == []
    store.redo()
    assert [r.object.id for r in store.rejected()] == [key]
    store.add([wrong])  # an import brings it back
    assert store.rejected() == []
    assert store.review_counts()["rejected"] == 0
    store.reject([key])
    assert [r.object.id for r in store.rejected()] == [key]
    assert store.review_counts()["rejected"] == 1


def test_a_rejected_objects_class_is_known_after_that_class_changed(store, make) -> None:
    store.put_class(ObjectClass("Rare", (1, 2, 3)))
    store.reject(store.add([make(0, 0, class_name="Rare"), make(9, 0)]))

    def told() -> list[str | None]:
        return [r.object.class_name for r in store.rejected()]

    assert told() == ["Rare", None]
    store.put_class(ObjectClass("Rarer", (1, 2, 3)), old_name="Rare")
    assert told() == ["Rarer", None]
    store.delete_class("Rarer")
    assert told() == ["Rarer", None]
    store.put_class(ObjectClass("Another", (3, 2, 1)))  # gets the number that became free
    assert told() == ["Rarer", None]
    for _ in range(4):
        store.undo()
    assert told() == []


def test_what_is_merely_deleted_is_no_mistake(store, make) -> None:
    store.delete(store.add([make(0, 0)]))
    assert store.rejected() == []


def test_a_rejection_that_was_undone_and_overtaken_is_forgotten(store, make) -> None:
    (key,) = store.add([make(0, 0)])
    store.reject([key])
    store.undo()
    store.add([make(20, 20)])
    assert store.rejected() == []
    with pytest.raises(InputError, match="no object gone"):
        store.reject(["gone"])


def test_columns_come_in_chunks_in_the_order_of_the_numbers(store, make, monkeypatch) -> None:
    from napari_histosam.store import reviews

    monkeypatch.setattr(reviews, "CHUNK", 3)
    keys = store.add(
        [make(i, 0, class_name="Gland", provenance=Provenance(score=i / 10)) for i in range(7)]
    )
    got, after, chunks = [], 0, 0
    while part := store.review_columns(after):
        got, after, chunks = got + part, part[-1][0], chunks + 1
    assert chunks == 3
    assert [row[1] for row in got] == keys
    assert got[4][2:] == ("Gland", "manual", 0.4, 100.0, 4.0, 0.0, 14.0, 10.0, None, "annotation")


def test_a_store_from_before_reviews_is_brought_up_to_date(tmp_path: Path, make) -> None:
    path = tmp_path / "old.histosam.sqlite"
    with ObjectStore.open(path) as store:
        kept, gone = store.add([make(0, 0, class_name="Gland"), make(30, 0)])
        store.update([replace(store.get(kept), name="first")])
        store.delete([gone])
        before = store.get(kept)
    con = sqlite3.connect(path, isolation_level=None)
    for table in ("objects", "deltas"):
        con.execute("DROP INDEX IF EXISTS objects_review")
        for column in ("review", "reviewer", "reviewed"):
            con.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    for table in ("run_tiles", "runs", "patches", "patch_deltas"):
        con.execute(f"DROP TABLE {table}")
    con.execute("DROP INDEX edits_rejects")
    con.execute("ALTER TABLE edits DROP COLUMN rejects")
    con.execute("PRAGMA user_version = 1")
    now = [row[0] for row in con.execute("SELECT sql FROM sqlite_master WHERE name = 'objects'")]
    con.close()
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(fresh, schema.STEPS[:1])
    made = fresh.execute("SELECT sql FROM sqlite_master WHERE name = 'objects'").fetchone()
    assert "".join(now[0].split()) == "".join(made[0].split())  # it is what version 1 made

    with ObjectStore.open(path) as store:
        assert store.get(kept) == before
        assert store.rejected() == []
        store.update([replace(store.get(kept), review=YES)])
        store.undo()  # the review
        store.undo()  # the deletion, made by the older version
        assert store.get(gone).review is None
        store.undo()
        assert store.get(kept).name is None
        assert store.integrity_check() == []
