"""Automatic runs: the grid leaves no trace, nothing is lost, and what was stopped goes on."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from napari_histosam.errors import InputError
from napari_histosam.jobs import CancelToken, PauseSwitch
from napari_histosam.records import SlideObject
from napari_histosam.session.automate import AutomateRequest, automate, plan_tiles
from napari_histosam.slide import open_array
from napari_histosam.store import ObjectStore, RunJournal


@pytest.fixture
def store(tmp_path):
    with ObjectStore.open(tmp_path / "run.sqlite", author="Ada") as opened:
        yield opened
        assert opened.integrity_check() == []


def shapes(store) -> np.ndarray:
    return np.array([o.geometry for o in store.iterate()], object)


def best_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """For each shape of the first, the best IoU with one of the second."""
    found = np.zeros(len(first))
    i, j = shapely.STRtree(second).query(first, predicate="intersects")
    common = shapely.area(shapely.intersection(first[i], second[j]))
    iou = common / (shapely.area(first[i]) + shapely.area(second[j]) - common)
    np.maximum.at(found, i, iou)
    return found


def normal(store) -> list[str]:
    """What a store holds, without what differs from run to run."""
    return sorted(f"{o.geometry.wkt} {o.class_name} {o.provenance.score}" for o in store.iterate())


def run(slide, store, model, region=None, shift=(0, 0), **more):
    given = {k: more.pop(k) for k in ("least_score", "class_name", "skip_glass") if k in more}
    plan = plan_tiles(slide, model.card, region, shift=shift)
    return automate(slide, store, model, AutomateRequest(plan, **given), **more)


def test_every_object_is_found_once_whole_and_with_its_origin(crowded, crowd, finder, store):
    outcome = run(crowded, store, finder)
    assert outcome.finished
    assert len(finder.seen) == outcome.tiles > 20
    assert outcome.objects == len(store) == crowd[1]
    assert (outcome.cut, outcome.known) == (0, 0)
    truth = finder.find(crowd[0])
    areas = sorted(float(np.count_nonzero(m)) for m in truth.masks)
    assert np.allclose(sorted(shapely.area(shapes(store))), areas, rtol=0.06)
    one = next(iter(store.iterate()))
    made = one.provenance
    assert (made.source, made.model, made.weights_hash) == (
        "automatic",
        "finder",
        "hash of finder",
    )
    assert made.score is not None
    assert made.window is not None
    assert one.object_type == "detection"
    assert set(store.counts_by_class()) >= {"Nucleus", "Large"}
    assert store.count(class_name="Large") == sum(a > 900 for a in areas)


@pytest.mark.parametrize("shift", [(64, 0), (64, 64), (17, 101)])
def test_objects_do_not_depend_on_the_grid(crowded, finder, store, shift):
    run(crowded, store, finder)
    with ObjectStore.open(None) as other:
        run(crowded, other, finder, shift=shift)
        assert len(other) == len(store)
        assert best_iou(shapes(store), shapes(other)).min() > 0.9


def test_real_nuclei_do_not_depend_on_the_grid(sample_slide_path, store):
    from napari_histosam import open_slide
    from napari_histosam.models import ModelRegistry

    model = ModelRegistry().load("classical")
    region = shapely.box(600, 1300, 1400, 2100)
    with open_slide(sample_slide_path) as slide, ObjectStore.open(None) as other:
        run(slide, store, model, region)
        run(slide, other, model, region, shift=(384, 384))
        first, second = shapes(store), shapes(other)
    away = region.buffer(-30)
    first = first[shapely.within(first, away)]
    assert len(first) > 200
    assert (best_iou(first, second) >= 0.9).mean() >= 0.99


def test_a_nucleus_on_a_seam_is_found_once(finder, store, paint_discs):
    image, _ = paint_discs(700, 700, pitch=700)
    image[:] = 235
    yy, xx = np.mgrid[:700, :700]
    plan_core = 256 - 2 * 64
    for x, y in ((2 * plan_core, 300), (3 * plan_core, 3 * plan_core), (200, plan_core)):
        image[(xx - x) ** 2 + (yy - y) ** 2 < 15**2] = (60, 40, 110)
    with open_array([image], None, "seams") as slide:
        assert run(slide, store, finder).objects == 3


def test_what_no_tile_sees_whole_is_counted_and_not_cut(finder, store):
    image = np.full((900, 900, 3), 235, np.uint8)
    image[300:320, 100:800] = (60, 40, 110)
    with open_array([image], None, "long") as slide:
        outcome = run(slide, store, finder)
    assert outcome.objects == 0
    assert outcome.cut > 0
    assert "larger than the overlap of the tiles was left out" in outcome.text


def test_a_region_keeps_whole_objects_whose_middle_lies_in_it(crowded, crowd, finder, store):
    region = shapely.Polygon([(200, 150), (800, 200), (700, 700), (250, 600)])
    run(crowded, store, finder, region)
    with ObjectStore.open(None) as whole:
        run(crowded, whole, finder)
        inside = [s for s in shapes(whole) if region.contains(shapely.box(*s.bounds).centroid)]
    assert len(inside) == len(store) > 30
    assert best_iou(np.array(inside, object), shapes(store)).min() == pytest.approx(1)


def test_it_is_one_step_among_the_users_own(crowded, finder, store):
    mine = []

    def meanwhile(number: int) -> None:
        if number in (5, 20):
            (key,) = store.add([SlideObject(shapely.box(2, 2, 6, 6))], label="Mine")
            mine.append(key)

    finder.hook = meanwhile
    heard = []
    outcome = run(crowded, store, finder, announce=heard.append)
    assert sum(len(c.added) for c in heard) == outcome.objects
    assert len(heard) > 1
    assert len(store) == outcome.objects + 2
    labels = []
    while store.undo_label:
        labels.append(store.undo_label)
        store.undo()
    assert labels.count("Find with finder") == 1
    assert len(labels) == 3
    assert len(store) == 0
    while store.redo():
        pass
    assert len(store) == outcome.objects + 2


def test_a_run_that_is_undone_ends_and_adds_nothing(crowded, finder, store):
    finder.hook = lambda number: store.undo() if number == 30 else None
    with pytest.raises(InputError, match="taken back by Undo"):
        run(crowded, store, finder)
    assert len(store) == 0
    finder.hook = lambda number: None
    outcome = run(crowded, store, finder)
    assert not outcome.resumed
    assert len(store) == outcome.objects > 0


@pytest.mark.parametrize("how", ["cancelled", "broken"])
def test_a_stopped_run_goes_on_and_ends_with_the_same_objects(
    crowded, finder, store, how, make_finder
):
    token = CancelToken()

    def stop(number: int) -> None:
        if number == 13 and how == "broken":
            raise InputError("The slide has gone.")
        if number == 13:
            token.cancel()

    finder.hook = stop
    if how == "broken":
        with pytest.raises(InputError, match="has gone"):
            run(crowded, store, finder)
    else:
        outcome = run(crowded, store, finder, cancel=token)
        assert not outcome.finished
        assert "go on" in outcome.text
    assert 0 < len(store)
    again = make_finder()
    outcome = run(crowded, store, again)
    assert outcome.finished
    assert outcome.resumed
    assert len(again.seen) < outcome.tiles - 10
    with ObjectStore.open(None) as fresh:
        run(crowded, fresh, make_finder())
        assert normal(fresh) == normal(store)
    store.undo()
    assert len(store) == 0


def test_other_settings_begin_another_run_that_leaves_what_is_there(crowded, finder, store):
    first = run(crowded, store, finder)
    second = run(crowded, store, finder, least_score=0.01)
    assert second.run != first.run
    assert (second.objects, second.known) == (0, first.objects)
    assert "were there already" in second.text
    assert len(store) == first.objects


def test_scores_and_class_are_as_asked(crowded, finder, store):
    outcome = run(crowded, store, finder, least_score=0.7, class_name="Mine")
    scores = [o.provenance.score for o in store.iterate()]
    assert min(scores) >= 0.7
    assert store.count(class_name="Mine") == outcome.objects == len(scores) > 0


def test_bare_glass_gives_nothing_and_says_so(finder, store):
    with open_array([np.full((600, 600, 3), 240, np.uint8)], None, "glass") as slide:
        outcome = run(slide, store, finder)
    assert outcome.finished
    assert outcome.objects == len(finder.seen) == 0
    assert outcome.text.startswith("There is only glass here")
    assert store.undo_label is None


def test_a_pause_holds_it_between_tiles(crowded, finder, store):
    import threading

    pause, told = PauseSwitch(), []
    finder.hook = lambda number: pause.pause() if number == 3 else None

    def report(progress) -> None:
        told.append(progress)
        if progress.text == "Paused":
            held = len(finder.seen)
            threading.Timer(
                0.3, lambda: (held_at.append(len(finder.seen) - held), pause.go_on())
            ).start()

    held_at: list[int] = []
    outcome = run(crowded, store, finder, pause=pause, report=report)
    assert outcome.finished
    assert held_at == [0]
    assert told[-1].done == told[-1].total == outcome.tiles
    assert any("left" in t.text for t in told)


def test_a_model_that_cannot_is_refused_in_a_sentence(crowded, store):
    from napari_histosam.models import ModelRegistry
    from napari_histosam.session.automate import check_automatic

    cards = ModelRegistry().cards()
    with pytest.raises(InputError, match=r"needs prompts .* choose one that can \(.*classical"):
        check_automatic(cards["histosam-small"], cards.values())


def test_the_journal_names_a_runs_objects(crowded, finder, store):
    outcome = run(crowded, store, finder)
    extra = store.add([SlideObject(shapely.box(0, 0, 5, 5))])
    journal = RunJournal(store)
    ids = journal.ids(outcome.run)
    assert len(ids) == outcome.objects
    assert set(extra).isdisjoint(ids)
    last = journal.last()
    assert last is not None
    assert last.ended is not None
    assert last.number == outcome.run.number
