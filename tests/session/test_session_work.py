"""A session as a script uses it: prompts, undo, accept, refine, several objects, refusals."""

from __future__ import annotations

import doctest
import shutil
from dataclasses import replace

import numpy as np
import pytest
import shapely

import napari_histosam.session.session as session_module
from napari_histosam import Session
from napari_histosam.errors import HistosamError, InputError
from napari_histosam.exchange import read
from napari_histosam.records import Prompt, SlideObject
from napari_histosam.session import editing
from napari_histosam.store import ObjectStore


def disc(x, y, r):
    return shapely.Point(x, y).buffer(r + 0.5)


def iou(a, b):
    return a.intersection(b).area / a.union(b).area


def shown(session):
    return session.preview.objects[session.active[0]].geometry


def test_the_example_of_the_docstring_runs(sample_slide_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(sample_slide_path, tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(Session, "Session")
    assert len(example.examples) >= 3
    runner = doctest.DocTestRunner()
    runner.run(example)
    assert runner.summarize() == (0, len(example.examples))
    assert len(read(tmp_path / "nuclei.geojson").objects) == 2


def test_click_accept_and_full_provenance(session, helpers):
    x, y, r = helpers.small
    session.add_point(x, y)
    first = shown(session)
    session.add_point(helpers.near[0], helpers.near[1])
    session.add_point(helpers.near[0], helpers.near[1], positive=False)
    (key,) = session.accept("Tumor")
    kept = session.store.get(key)
    came = kept.provenance
    assert iou(kept.geometry, disc(x, y, r)) > 0.93
    assert kept.class_name == "Tumor"
    assert (came.source, came.author, came.model) == ("prompted", "Ada", "seer")
    assert came.weights_hash == "hash of seer"
    assert came.window.contains([[x, y]])
    assert [p.role for p in came.prompts] == ["positive", "positive", "negative"]
    assert came.score == 0.9
    assert came.first_mask.equals(first)
    assert 0 <= came.seconds < 60
    assert session.preview is None
    assert len(session.prompts) == 0


def test_the_class_comes_from_prompt_or_call_or_choice(session, helpers):
    classes = []
    for given, called in ((None, None), (None, "B"), ("C", "B")):
        session.set_class("A")
        session.add_prompts([Prompt(shapely.Point(helpers.small[:2]), "positive", "1", given)])
        (key,) = session.accept(called)
        classes.append(session.store.get(key).class_name)
    assert classes == ["A", "B", "C"]


def test_box_scribble_and_mask_find_the_same_thing(session, helpers):
    x, y, r = helpers.small
    session.add_box(x + r + 2, y - r - 2, x - r - 2, y + r + 2)  # corners in any order
    assert iou(shown(session), disc(x, y, r)) > 0.93
    session.reject()
    session.add_scribble([(x - 10, y), (x, y + 5), (x + 10, y)])
    assert iou(shown(session), disc(x, y, r)) > 0.93
    session.reject()
    session.add_prompts([Prompt(disc(x, y, r - 4), "mask")])
    assert iou(shown(session), disc(x, y, r - 4)) > 0.93


def test_a_scribble_of_one_point_is_a_click_and_an_empty_one_is_refused(session, helpers):
    session.add_scribble([helpers.small[:2]])
    assert session.prompts.all()[0].geometry.geom_type == "Point"
    with pytest.raises(InputError, match="scribble is empty"):
        session.add_scribble([])


@pytest.mark.parametrize(
    "give",
    [
        lambda s: s.add_point(-5, 10),
        lambda s: s.add_point(10, 1201),
        lambda s: s.add_point(float("nan"), 10),
        lambda s: s.add_box(-50, -50, -10, -10),
        lambda s: s.add_box(10, 10, 10, 50),
        lambda s: s.add_scribble([(-5, -5), (-9, -9)]),
        lambda s: s.refine("no such object"),
    ],
)
def test_what_lies_outside_is_refused_and_leaves_nothing(session, give):
    with pytest.raises(InputError):
        give(session)
    assert len(session.prompts) == 0
    assert session.preview is None


def test_a_box_half_outside_is_cut_to_the_slide(session, helpers):
    x, y, r = helpers.corner
    session.add_box(x - 100, y - r - 5, x + r + 5, y + 100)
    (prompt,) = session.prompts.all()
    assert prompt.geometry.bounds == (0, y - r - 5, x + r + 5, 1200)
    (key,) = session.accept()
    left, _, _, bottom = session.store.get(key).geometry.bounds
    assert (left, bottom) == (0, 1200)


def test_of_many_prompts_one_bad_one_refuses_all(session, helpers):
    good = Prompt(shapely.Point(helpers.small[:2]), "positive", "a")
    bad = Prompt(shapely.Point(-1, -1), "positive", "b")
    with pytest.raises(InputError, match="object b"):
        session.add_prompts([good, bad])
    assert len(session.prompts) == 0


def test_undo_and_redo_of_prompts_then_of_edits(session, helpers):
    session.add_point(*helpers.near[:2])
    (key,) = session.accept()
    session.add_point(*helpers.small[:2])
    one = shown(session)
    session.add_point(*helpers.near[:2])
    two = shown(session)
    assert session.undo() == "prompt"
    assert shown(session).equals(one)
    assert session.undo() == "prompt"
    assert session.preview is None
    assert session.undo() == "Accept"
    assert len(session.store) == 0
    assert session.undo() is None
    # And forward in the opposite order.
    assert session.redo() == "Accept"
    assert session.store.ids() == [key]
    assert session.redo() == "prompt"
    assert shown(session).equals(one)
    assert session.redo() == "prompt"
    assert shown(session).equals(two)
    assert session.redo() is None


def test_undo_brings_back_a_correction_by_hand_without_asking_the_model(session, seer, helpers):
    x, y, r = helpers.small
    session.add_point(x, y)
    before = shown(session)
    session.edit(editing.brush(np.array([[x, y + 2.0 * r]]), 6.0), "Brush")
    drawn = shown(session)
    session.add_point(x + 2, y)
    clicked = shown(session)
    asked = len(seer.decoded)
    assert session.undo() == "prompt"
    assert shown(session).equals(drawn)
    assert session.undo() == "correction"
    assert shown(session).equals(before)
    assert session.redo() == "correction"
    assert shown(session).equals(drawn)
    assert session.redo() == "prompt"
    assert shown(session).equals(clicked)
    assert len(seer.decoded) == asked


def test_a_new_prompt_ends_what_could_be_redone(session, helpers):
    session.add_point(*helpers.small[:2])
    session.undo()
    session.add_point(*helpers.near[:2])
    assert session.redo() is None
    assert len(session.prompts) == 1


def test_cycling_keeps_scores_beside_masks(session, helpers):
    session.add_point(*helpers.small[:2])
    seen = []
    for _ in range(4):
        one = session.preview.objects["1"]
        seen.append((one.score, round(one.geometry.area)))
        session.next_candidate()
    assert [s for s, _ in seen] == [0.9, 0.7, 0.4, 0.9]
    assert seen[0] == seen[3]
    assert seen[0][1] < seen[1][1]
    (key,) = session.accept()
    assert session.store.get(key).provenance.score == 0.7
    assert session.store.get(key).geometry.area == pytest.approx(seen[1][1], abs=1)
    assert session.store.get(key).provenance.first_mask.area == pytest.approx(seen[0][1], abs=1)


def test_cycling_without_alternatives_does_nothing(session, helpers):
    session.next_candidate()
    session.add_point(*helpers.small[:2])
    session.add_point(*helpers.small[:2])
    before = session.preview
    session.next_candidate()
    assert session.preview is before


def test_several_objects_at_once_are_one_undo_step(session, seer, helpers):
    session.add_point(*helpers.small[:2])
    alone = session.preview.objects["1"]
    session.next_object()
    session.add_point(*helpers.near[:2])
    assert session.preview.objects["1"] is alone
    assert session.active[0] == "2"
    ids = session.accept("Stroma")
    assert len(ids) == len(session.store) == 2
    assert session.undo() == "Accept 2"
    assert len(session.store) == 0


def test_empty_masks_are_refused_alone_and_left_out_among_others(session, helpers):
    heard = helpers.heard(session)
    with pytest.raises(InputError, match="no mask to accept"):
        session.accept()
    session.add_point(700, 40)  # glass
    with pytest.raises(InputError, match="mask is empty"):
        session.accept()
    with pytest.raises(InputError, match="mask is empty"):
        session.edit(editing.fill_holes(), "Fill")
    session.next_object()
    session.add_point(*helpers.small[:2])
    assert len(session.accept()) == 1
    assert heard.said == ["1 of 2 masks were empty and have been left out."]


def test_a_mask_that_was_erased_whole_is_empty(session, helpers):
    session.add_point(*helpers.small[:2])
    session.edit(editing.brush(np.array([helpers.small[:2]]), 60.0, erase=True), "Erase")
    with pytest.raises(InputError, match="empty"):
        session.accept()
    assert session.undo() == "correction"
    assert len(session.accept()) == 1


def test_negative_clicks_alone_wait_for_a_positive_one(session, helpers):
    session.add_point(*helpers.near[:2], positive=False)
    assert session.preview is None
    with pytest.raises(InputError, match="no mask"):
        session.accept()
    session.add_point(*helpers.small[:2])
    assert len(session.preview.objects["1"].prompts) == 2


def test_a_pixel_can_be_kept(session, helpers):
    x, y, _ = helpers.dot
    session.add_box(x - 3, y - 3, x + 4, y + 4)
    (key,) = session.accept()
    assert session.store.get(key).geometry.area == 1


def test_refining_keeps_the_object_and_says_how(session, helpers):
    x, y, r = helpers.small
    old = SlideObject(
        geometry=disc(x, y, r - 6),
        class_name="Tumor",
        name="the one",
        object_type="detection",
        measurements={"Area": 5.0},
        metadata={"from": "elsewhere"},
    )
    session.store.add([old])
    session.objects.select([old.id])
    session.refine(old.id)
    assert session.prompts.all()[0].role == "mask"
    session.add_point(x, y + r - 3)
    assert session.accept() == [old.id]
    new = session.store.get(old.id)
    assert len(session.store) == 1
    assert iou(new.geometry, disc(x, y, r)) > 0.93
    assert (new.class_name, new.name, new.object_type) == ("Tumor", "the one", "detection")
    assert new.created == old.created
    assert new.metadata == {"from": "elsewhere"}
    assert not new.measurements
    assert [p.role for p in new.provenance.prompts] == ["mask", "positive"]
    assert new.provenance.model == "seer"
    assert [entry.label for entry in session.store.history(old.id)] == ["Add", "Refine"]
    session.undo()
    assert session.store.get(old.id).geometry.equals(old.geometry)


def test_refining_survives_undo_and_redo(session, helpers):
    x, y, r = helpers.small
    (key,) = session.store.add([SlideObject(geometry=disc(x, y, r))])
    session.refine(key)
    session.undo()
    assert session.redo() == "prompt"
    assert session.accept() == [key]
    session.refine(key)
    session.undo()
    session.add_point(*helpers.near[:2])  # something new, not the refinement
    assert session.accept() != [key]
    assert len(session.store) == 2


def test_refining_beside_a_new_object_is_one_step(session, helpers):
    x, y, r = helpers.small
    (key,) = session.store.add([SlideObject(geometry=disc(x, y, r), class_name="Tumor")])
    session.refine(key)
    session.next_object()
    session.add_point(*helpers.near[:2])
    ids = session.accept("Stroma")
    assert ids[0] == key
    assert len(session.store) == 2
    session.undo()
    assert session.store.ids() == [key]


def test_an_object_that_goes_while_it_is_refined_becomes_a_new_one(session, helpers):
    x, y, r = helpers.small
    (key,) = session.store.add([SlideObject(geometry=disc(x, y, r))])
    session.refine(key)
    session.store.delete([key])
    (fresh,) = session.accept()
    assert fresh != key


def test_what_cannot_be_refined_is_said_and_leaves_the_prompts(session, helpers):
    x, y, r = helpers.small
    locked, dot = session.store.add(
        [
            SlideObject(geometry=disc(x, y, r), locked=True),
            SlideObject(geometry=shapely.Point(5, 5)),
        ]
    )
    session.add_point(*helpers.near[:2])
    with pytest.raises(InputError, match="locked"):
        session.refine(locked)
    with pytest.raises(InputError, match="with an area"):
        session.refine(dot)
    assert len(session.prompts) == 1


def test_a_model_without_masks_refines_nothing(slide, helpers):
    shelf = helpers.shelf(helpers.seer("clicks", ("point", "negative")))
    with Session(slide, model="clicks", registry=shelf) as session:
        (key,) = session.store.add([SlideObject(geometry=disc(50, 50, 9))])
        with pytest.raises(InputError, match="clicks takes no mask"):
            session.refine(key)
        with pytest.raises(InputError, match="clicks takes no box"):
            session.add_box(1, 1, 9, 9)
        assert len(session.prompts) == 0


def test_switching_the_model_mid_prompt_answers_anew(session, shelf, helpers):
    other = helpers.seer("other")
    boxes = helpers.seer("boxes", ("box",))
    shelf.models |= {"other": other, "boxes": boxes}
    session.add_point(*helpers.small[:2])
    heard = helpers.heard(session)
    session.set_model("other")
    assert heard.models == ["other"]
    assert session.card.name == "other"
    assert session.preview.objects["1"].model == "other"
    with pytest.raises(InputError, match="boxes takes no click"):
        session.set_model("boxes")
    with pytest.raises(InputError, match="No model"):
        session.set_model("nothing")
    shelf.missing.add("boxes")
    session.reject()
    with pytest.raises(InputError, match="not on this machine"):
        session.set_model("boxes")
    assert session.card.name == "other"
    session.add_point(*helpers.small[:2])
    (key,) = session.accept()
    assert session.store.get(key).provenance.model == "other"


def test_undo_after_a_switch_asks_the_new_model(session, shelf, helpers):
    shelf.models["other"] = helpers.seer("other")
    session.add_point(*helpers.small[:2])
    session.add_point(*helpers.near[:2])
    session.set_model("other")
    session.undo()
    assert session.preview.objects["1"].model == "other"
    assert len(session.preview.objects["1"].prompts) == 1


def test_a_models_error_is_one_sentence_and_the_session_lives_on(session, seer, helpers):
    heard = helpers.heard(session)
    session.add_point(*helpers.small[:2])
    good = session.preview
    seer.error = RuntimeError("shape mismatch\nwith a second line")
    with pytest.raises(HistosamError, match=r"^Thinking failed \(RuntimeError: shape mismatch\)"):
        session.add_point(*helpers.near[:2])
    assert len(heard.failed) == 1
    assert "\n" not in heard.failed[0]
    assert session.settled
    with pytest.raises(InputError, match="gave no answer"):
        session.accept()
    seer.error = None
    session.undo()
    assert session.preview.objects == good.objects
    assert len(session.accept()) == 1


def test_running_out_of_memory_is_said_plainly(session, seer, helpers):
    seer.error = MemoryError()
    with pytest.raises(HistosamError, match="not enough free memory"):
        session.add_point(*helpers.small[:2])


def test_what_a_model_has_to_say_while_it_works_is_passed_on(session, seer, helpers):
    heard = helpers.heard(session)
    seer.say("Not enough memory on cuda: going on on the CPU, which is slower.")
    assert heard.said == ["Not enough memory on cuda: going on on the CPU, which is slower."]


def test_a_read_only_store_gives_one_sentence_and_keeps_the_mask(slide, shelf, tmp_path, helpers):
    path = tmp_path / "s.histosam.sqlite"
    with ObjectStore.open(path, slide_identity=slide.identity) as writer:
        (key,) = writer.add([SlideObject(geometry=disc(300, 300, 15))])
        second = ObjectStore.open(path, slide_identity=slide.identity)
        with second, Session(slide, store=second, model="seer", registry=shelf) as session:
            session.add_point(*helpers.small[:2])
            for act in (session.accept, lambda: session.accept("New")):
                with pytest.raises(InputError) as caught:
                    act()
                assert "\n" not in str(caught.value)
            assert session.preview is not None
            session.reject()
            session.objects.select([key])
            with pytest.raises(InputError):
                session.objects.delete()
            with pytest.raises(InputError):
                session.set_class("Tumor")
            assert len(second) == 1


def test_a_thousand_objects_at_once(session, seer):
    rng = np.random.default_rng(3)
    spots = rng.uniform(20, 1180, (1000, 2))
    session.add_prompts(
        Prompt(shapely.Point(*at), "positive", str(i)) for i, at in enumerate(spots)
    )
    found = sum(one.geometry is not None for one in session.preview.objects.values())
    assert found > 50
    assert len(session.accept()) == found
    assert len(seer.encoded) < 200
    session.undo()
    assert len(session.store) == 0


def test_the_zoom_chooses_the_window_of_a_model_without_mpp(session, helpers):
    session.view_scale = 2.2
    assert session.view_scale == 2.2
    session.add_point(*helpers.small[:2])
    assert session.preview.objects["1"].window.scale == (2.0, 2.0)


def test_edits_go_to_the_selection_when_nothing_is_previewed(session, helpers):
    ring = disc(*helpers.small).difference(disc(helpers.small[0], helpers.small[1], 5))
    (key,) = session.store.add([SlideObject(geometry=ring)])
    session.objects.select([key])
    session.edit(editing.fill_holes(), "Fill holes")
    assert not session.store.get(key).geometry.interiors
    session.set_class("Stroma")
    assert session.store.get(key).class_name == "Stroma"


def test_a_session_that_cannot_begin_leaves_nothing_open(slide, shelf):
    shelf.missing.add("seer")
    with pytest.raises(InputError, match="not on this machine"):
        Session(slide, model="seer", registry=shelf)
    with pytest.raises(InputError, match="No model"):
        Session(slide, model="nothing", registry=shelf)


def test_a_closed_session_says_so(slide, shelf):
    session = Session(slide, model="seer", registry=shelf)
    session.close()
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.add_point(5, 5)


def test_a_store_that_was_handed_in_stays_open(slide, shelf):
    with ObjectStore.open(None) as store:
        Session(slide, store=store, model="seer", registry=shelf).close()
        assert store.add([SlideObject(geometry=disc(5, 5, 3))])


def test_the_default_model_is_there_without_any_download(sample):
    with Session(sample) as session:
        assert session.card.name == session_module.DEFAULT_MODEL
        assert session.device == "cpu"
        assert session.settled


def test_aliases_name_the_same_model(slide, helpers, histosam_home):
    shelf = helpers.shelf(helpers.seer("seer"))
    model = shelf.models["seer"]
    model.card = replace(model.card, aliases=("eye",))
    shelf.models["eye"] = model
    with Session(slide, model="eye", registry=shelf) as session:
        assert session.card.name == "seer"
        assert session.settled
