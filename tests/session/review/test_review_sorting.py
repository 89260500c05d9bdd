"""The job that sorts a store for review: in chunks, off the owner's thread, and with reasons."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest
import shapely

from napari_histosam import Session
from napari_histosam.errors import Cancelled, InputError
from napari_histosam.jobs import CancelToken, JobRunner
from napari_histosam.records import Provenance, Review, SlideObject
from napari_histosam.session.review import Plan, again, sort_objects
from napari_histosam.session.review.again import deepest
from napari_histosam.session.review.looks import features
from napari_histosam.slide.open import open_array
from napari_histosam.store import reviews


def nothing(_progress) -> None:
    """Hear no progress."""


def disc(x, y, r=10.0, **more) -> SlideObject:
    kind = more.pop("made", Provenance("automatic"))
    return SlideObject(shapely.Point(x, y).buffer(r), "Gland", provenance=kind, **more)


@pytest.fixture
def field():
    """Forty dark discs of radius 10 in rows; the last one is brown."""
    picture = np.full((500, 500, 3), 235, np.uint8)
    spots = [(40 + 50 * (i % 8), 40 + 50 * (i // 8)) for i in range(40)]
    for i, (x, y) in enumerate(spots):
        shade = i % 5
        colour = (60 + shade, 40 + shade, 110 + shade) if i < 39 else (120, 70, 20)
        cv2.circle(picture, (x, y), 10, colour, -1)
    return picture, spots


def sorted_ids(session, plan=None):
    found = sort_objects(session, plan or Plan(), nothing, CancelToken())
    return found, {found.entry(int(i)).id: found.entry(int(i)).reason for i in found.order}


def test_every_reason_finds_its_object(field, helpers) -> None:
    picture, spots = field
    with open_array([picture], None, "field") as slide:
        with Session(slide, model="seer", registry=helpers.shelf(helpers.seer())) as session:
            made = [disc(x, y) for x, y in spots]
            made[3] = disc(*spots[3], made=Provenance("automatic", score=0.2))
            first = shapely.Point(spots[5]).buffer(5)
            made[5] = disc(*spots[5], made=Provenance("prompted", first_mask=first))
            made[7] = disc(*spots[7], r=22)
            star = [(20 if i % 2 else 5) * np.exp(1j * np.pi * i / 8) for i in range(16)]
            x, y = spots[9]
            star = shapely.Polygon([(x + p.real, y + p.imag) for p in star])
            made[9] = SlideObject(star, "Gland", provenance=Provenance("automatic"))
            session.store.add(made)
            session.store.add([SlideObject(shapely.box(0, 0, 500, 500), "Region*"),
                               SlideObject(shapely.Point(3, 3), "Gland")])  # fmt: skip
            found, told = sorted_ids(session, Plan(left_out=lambda name: name == "Region*"))
    assert len(found) == 40  # neither the region nor the point
    assert told[made[3].id] == "low score 0.20"
    assert "the model's first mask overlaps it by only 25%" in told[made[5].id]
    assert "x larger than most Gland" in told[made[7].id]
    assert "more ragged or elongated than most Gland" in told[made[9].id]
    assert "looks unlike most Gland: browner" in told[made[39].id]
    assert set(found.ids[:5]) == {made[i].id for i in (3, 5, 7, 9, 39)}
    assert told[made[20].id] == ""


def test_looks_are_judged_by_those_that_a_person_stands_for(field, helpers) -> None:
    picture, spots = field
    lower = picture[120:]
    lower[lower < 200] = 20  # most of them, but nobody has said that these are right
    yes = Review("accepted", "Ada")
    made = [disc(x, y, review=yes if y < 120 else None) for x, y in spots]
    with open_array([picture], None, "field") as slide:
        with Session(slide, model="seer", registry=helpers.shelf(helpers.seer())) as session:
            session.store.add(made)
            _, told = sorted_ids(session)
    assert [bool(told[one.id]) for one in made] == [y > 120 for _, y in spots]
    assert told[made[39].id].startswith("looks unlike most Gland: ")


def test_asked_again_the_model_names_what_it_would_draw_otherwise(helpers) -> None:
    picture = helpers.paint(600, 500, *[(60 + 80 * i, 100, 20) for i in range(6)])
    with open_array([picture], None, "row") as slide:
        shelf = helpers.shelf(helpers.seer())
        with Session(slide, model="seer", registry=shelf) as session:
            made = [disc(60.5 + 80 * i, 100.5, 20.5) for i in range(6)]
            made[4] = disc(60.5 + 80 * 4, 100.5, 10)
            made += [disc(300, 400, 8)]  # nothing there: the model's mask is empty
            session.store.add(made)
            found, told = sorted_ids(session, Plan(ask_model=True))
            assert "asked again" in told[made[4].id]
            assert told[made[6].id].startswith("asked again, the model overlaps it by only 0%")
            assert "asked again" not in told[made[0].id]
            assert set(found.ids[:2]) == {made[4].id, made[6].id}
            few = sorted_ids(session, Plan(ask_model=True, asked=2))[1]
            assert sum("asked again" in reason for reason in few.values()) <= 2


def test_a_model_that_loads_cannot_be_asked(slide, helpers, box) -> None:
    shelf = helpers.shelf(helpers.seer())
    shelf.gates["seer"] = threading.Event()
    session = Session(slide, model="seer", registry=shelf, dispatcher=box)
    try:
        session.store.add([disc(300, 300, 20)])
        with pytest.raises(InputError, match="still loading"):
            sorted_ids(session, Plan(ask_model=True))
    finally:
        shelf.gates["seer"].set()
        session.close()


def test_a_slide_that_closes_ends_the_asking(threaded, monkeypatch) -> None:
    threaded.store.add([disc(300, 300, 20)])
    real = threaded.aside

    def closing(work):
        threaded.close()
        return real(work)

    monkeypatch.setattr(threaded, "aside", closing)
    with pytest.raises(Cancelled):
        sorted_ids(threaded, Plan(ask_model=True))


def test_the_model_is_asked_on_its_own_thread_and_prompts_go_first(threaded, box) -> None:
    names = []
    made = [disc(300, 300, 20), disc(360, 300, 16)]
    threaded.store.add(made)
    decode = threaded.registry.models["seer"].decode
    threaded.registry.models["seer"].decode = lambda *a, **k: (
        names.append(threading.current_thread().name) or decode(*a, **k)
    )
    sorted_ids(threaded, Plan(ask_model=True))
    assert names
    assert set(names) == {"histosam-model"}


def test_fifty_thousand_are_read_in_chunks_by_the_job(helpers, box, monkeypatch) -> None:
    """Nothing happens on the thread that starts the job, and no piece of reading is large."""
    count = 50_000
    x = np.arange(count) % 250 * 20.0
    y = np.arange(count) // 250 * 20.0
    moved = shapely.box(x, y, x + 10, y + 10)
    made = [
        SlideObject(g, "Tumor", provenance=Provenance("automatic", score=(i % 997) / 997))
        for i, g in enumerate(moved)
    ]
    who, sizes = set(), []

    def spied(real):
        def call(con, *args):
            rows = real(con, *args)
            who.add(threading.current_thread().name)
            sizes.append(len(rows))
            return rows

        return call

    monkeypatch.setattr(reviews, "columns", spied(reviews.columns))
    monkeypatch.setattr(reviews, "outlines", spied(reviews.outlines))
    heard = []
    with open_array([np.full((4000, 5000, 3), 200, np.uint8)], None, "wide") as slide:
        with Session(slide, model="seer", registry=helpers.shelf(helpers.seer())) as session:
            session.store.add(made)
            runner = JobRunner(box)
            running = runner.start(
                "Sorting",
                lambda report, cancel: sort_objects(session, Plan(looked_at=200), report, cancel),
            )
            running.progressed.connect(heard.append)
            box.run_until(running.future.done, 120)
            found = running.future.result()
            runner.close()
    box.deliver()
    assert len(found) == count
    assert all(name.startswith("histosam-job") for name in who)
    assert max(sizes) <= 2000
    texts = [p.text for p in heard]
    assert texts.count("Reading objects") == 25
    assert texts.count("Comparing outlines") == 50
    assert found.entry(int(found.order[0])).score == 0.0


def test_it_stops_at_the_next_chunk(session, monkeypatch) -> None:
    monkeypatch.setattr(reviews, "CHUNK", 2)
    session.store.add([disc(50 * i + 50, 50) for i in range(10)])
    token, heard = CancelToken(), []

    def report(progress) -> None:
        heard.append(progress.done)
        if progress.done == 4:
            token.cancel()

    with pytest.raises(Cancelled):
        sort_objects(session, Plan(), report, token)
    assert heard == [2, 4]


def test_an_object_that_goes_meanwhile_does_no_harm(session, monkeypatch) -> None:
    made = [disc(50 * i + 50, 50) for i in range(10)]
    session.store.add(made)
    token = CancelToken()

    def report(progress) -> None:
        if progress.text == "Reading objects":
            session.store.delete([made[2].id])
        if progress.text == "Comparing outlines" and made[5].id in session.store:
            session.store.delete([made[5].id])

    found = sort_objects(session, Plan(ask_model=True), report, token)
    assert len(found) == 10


def test_the_deepest_point_lies_in_the_largest_part_and_not_in_a_hole() -> None:
    ring = shapely.Point(0, 0).buffer(20).difference(shapely.Point(0, 0).buffer(15))
    assert ring.contains(deepest(ring))
    two = shapely.union(shapely.box(0, 0, 4, 4), shapely.box(100, 100, 130, 140))
    assert deepest(two).distance(shapely.Point(115, 120)) < 6
    bow = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    assert shapely.make_valid(bow).contains(deepest(bow))


def test_features_say_what_they_are_called() -> None:
    inside = np.zeros((40, 40), bool)
    inside[10:30, 10:30] = True

    def seen(colour, around=(220, 220, 220)):
        picture = np.full((40, 40, 3), around, np.uint8)
        picture[inside] = colour
        return features(picture, inside)

    plain = seen((120, 90, 160))
    assert seen((80, 60, 110))[0] > plain[0]  # darker
    assert seen((80, 90, 160))[1] > plain[1]  # bluer: takes more red
    assert seen((120, 90, 60))[2] > plain[2]  # browner: takes more blue
    assert seen((120, 90, 160), (120, 90, 160))[4] == pytest.approx(0)
    assert plain[4] > 0.3
    assert np.isnan(features(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool))).all()
    assert again.SAME < 1
