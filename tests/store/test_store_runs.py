"""The journal of runs: tiles and objects in one transaction, one step, whatever else is edited."""

from __future__ import annotations

import pytest

from napari_histosam.errors import InputError
from napari_histosam.records import ObjectClass
from napari_histosam.store import ObjectStore, RunJournal
from napari_histosam.store.runs import RunTakenBack


@pytest.fixture
def journal(store) -> RunJournal:
    return RunJournal(store)


def test_tiles_and_objects_are_there_together_after_reopening(tmp_path, make):
    path = tmp_path / "s.sqlite"
    with ObjectStore.open(path) as store:
        journal = RunJournal(store)
        run = journal.begin("key", "Find", {"model": "m"})
        change = journal.add(run, {3: {"objects": 2}}, [make(0, 0), make(20, 0)], ["Nucleus"])
        assert change is not None
        assert len(change.added) == 2
        assert change.classes_changed
        assert journal.add(run, {4: {}}) is None
        with pytest.raises(InputError, match="already"):
            journal.add(run, {5: {}}, [make(0, 0, id=change.added[0])])
    with ObjectStore.open(path) as store:
        journal = RunJournal(store)
        again = journal.resumable("key")
        assert again == run
        assert journal.done(again) == {3: {"objects": 2}, 4: {}}  # not 5: it came with an error
        assert journal.ids(again) == list(change.added)
        assert journal.resumable("other") is None
        journal.end(again)
        assert journal.resumable("key") is None
        ended = journal.resumable("key", ended=True)
        assert ended is not None
        assert ended.ended


def test_batches_are_one_step_around_the_users_own(store, journal, make):
    run = journal.begin("key", "Find", {})
    journal.add(run, {0: {}}, [make(0, 0, class_name="Nucleus")], ["Nucleus"])
    (mine,) = store.add([make(50, 0)], label="Mine")
    change = journal.add(run, {1: {}}, [make(20, 0, class_name="Nucleus")], ["Nucleus"])
    assert not change.classes_changed
    assert store.undo_label == "Mine"
    assert len(store) == 3
    store.undo()
    assert store.undo_label == "Find"
    store.undo()
    assert len(store) == 0
    assert "Nucleus" not in store.counts_by_class()
    store.redo()
    assert store.count(class_name="Nucleus") == 2
    store.redo()
    assert mine in store


def test_objects_can_come_while_a_later_step_is_undone(store, journal, make):
    run = journal.begin("key", "Find", {})
    journal.add(run, {0: {}}, [make(0, 0)])
    (mine,) = store.add([make(50, 0, class_name="Fresh")], label="Mine")
    store.undo()
    journal.add(run, {1: {}}, [make(20, 0)])
    store.redo()
    assert mine in store
    assert len(store) == 3


def test_a_run_that_was_undone_takes_no_more(store, journal, make):
    run = journal.begin("key", "Find", {})
    journal.add(run, {0: {}}, [make(0, 0)])
    store.undo()
    with pytest.raises(RunTakenBack, match="Undo"):
        journal.add(run, {1: {}}, [make(20, 0)])
    assert journal.resumable("key") is None
    assert set(journal.done(run)) == {0}
    store.redo()
    assert journal.resumable("key") == run
    store.undo()
    store.add([make(90, 0)])  # now it cannot be redone either
    with pytest.raises(RunTakenBack):
        journal.add(run, {1: {}}, [make(20, 0)])


@pytest.mark.parametrize("then", ["delete", "rename", "delete and make again"])
def test_a_class_that_changes_meanwhile_leaves_nothing_torn(store, journal, make, then):
    run = journal.begin("key", "Find", {})
    journal.add(run, {0: {}}, [make(0, 0, class_name="Nucleus")], ["Nucleus"])
    if then == "rename":
        store.put_class(ObjectClass("Kern", (1, 2, 3)), "Nucleus")
    else:
        store.delete_class("Nucleus")
    if then == "delete and make again":
        store.put_class(ObjectClass("Nucleus", (1, 2, 3)))
    journal.add(run, {1: {}}, [make(20, 0, class_name="Nucleus")], ["Nucleus"])
    assert store.count(class_name=None) == (0 if then == "rename" else 2)
    assert store.count(class_name="Kern") == (2 if then == "rename" else 0)
    while store.undo():
        assert store.integrity_check() == []
    while store.redo():
        assert store.integrity_check() == []
    assert len(store) == 2


def test_which_objects_are_its_own(store, journal, make):
    store.add([make(50, 0)])
    run = journal.begin("key", "Find", {})
    journal.add(run, {0: {}}, [make(0, 0), make(20, 0)])
    numbers = store.boxes().numbers.tolist()
    assert journal.own(run, numbers) == set(numbers[1:])
    assert journal.last() == run
