"""The walk through a review without a window: it follows the store, whatever happens there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import shapely
from napari.components import ViewerModel

from napari_histosam.errors import InputError
from napari_histosam.exchange import read
from napari_histosam.jobs import CancelToken
from napari_histosam.records import Provenance, SlideObject
from napari_histosam.session.review import Plan, sort_objects
from napari_histosam.store import ObjectStore
from napari_histosam.viewer.review_walk import Wanted, sorting
from napari_histosam.viewer.workbench import Workbench


def found(n: int, **more) -> SlideObject:
    made = Provenance("automatic", score=0.1 + n / 100)
    return SlideObject(
        shapely.box(30 * n, 0, 30 * n + 9, 9), "Tumor", f"o{n}", provenance=made, **more
    )


@pytest.fixture
def controller(make_png, tmp_path):
    bench = Workbench(ViewerModel())
    bench.set_model("classical")
    bench.open(make_png)
    yield bench.controller
    bench.close()


@pytest.fixture
def make_png(tmp_path):
    import numpy as np
    from PIL import Image

    path = tmp_path / "plain.png"
    Image.fromarray(np.full((200, 400, 3), 220, np.uint8)).save(path)
    return path


def begin(controller, count=6, wanted=None, **more):
    controller.session.store.add([found(n, **more) for n in range(count)], label="Import")
    job = sorting(controller.session, ask_model=False)
    walk = controller.review
    walk.active = True
    walk.begin(job(lambda _: None, CancelToken()), wanted)
    return walk, controller.session.store


def at(walk):
    return walk.current.id if walk.current else None


def test_accept_reject_undo_and_redo_move_along(controller) -> None:
    walk, store = begin(controller)
    assert (at(walk), walk.position, len(walk)) == ("o0", 0, 6)
    controller.accept()
    controller.delete()
    assert (at(walk), walk.position) == ("o2", 2)
    controller.undo()
    assert at(walk) == "o1"
    controller.undo()
    assert at(walk) == "o0"
    assert walk.in_hand
    controller.redo()
    controller.redo()
    assert at(walk) == "o2"
    assert [r.object.id for r in store.rejected()] == ["o1"]
    assert store.get("o0").review.author == store.author
    assert store.undo_label == "Reject in review"


def test_what_is_deleted_or_accepted_elsewhere_is_passed_over(controller) -> None:
    walk, store = begin(controller)
    store.delete(["o1", "o2", "o4"])
    assert at(walk) == "o0"
    controller.accept()
    assert at(walk) == "o3"
    store.delete(["o3"])
    assert at(walk) == "o5"
    walk.back()
    assert at(walk) == "o0"  # also when it is done: one may look again
    controller.next_candidate()
    assert at(walk) == "o5"
    store.delete(["o5"])
    assert walk.current is None
    assert walk.position == 6
    controller.undo()
    assert at(walk) == "o5"


def test_many_that_went_at_once_are_passed_over(controller) -> None:
    walk, store = begin(controller, 450)
    store.delete([f"o{n}" for n in range(1, 440)])
    controller.accept()
    assert at(walk) == "o440"
    walk.back()
    assert at(walk) == "o0"


def test_a_second_look_keeps_what_was_said(controller) -> None:
    walk, store = begin(controller, wanted=Wanted(unreviewed=False))
    controller.accept()
    said = store.get("o0").review
    walk.back()
    controller.accept()
    assert store.get("o0").review == said
    assert at(walk) == "o1"
    walk.back()
    controller.choose_class(1)
    assert at(walk) == "o0"  # a change that decides nothing does not go on
    assert store.get("o0").review == said
    controller.delete()
    assert at(walk) == "o1"
    controller.undo()
    assert at(walk) == "o0"
    assert store.get("o0").review == said


def test_locked_objects_can_be_accepted_only(controller) -> None:
    walk, store = begin(controller, 2, locked=True)
    heard = []
    controller.said.connect(heard.append)
    controller.delete()
    controller.next_object()
    assert heard == [
        "The object is locked: unlock it, then reject it.",
        "The object is locked: unlock it, then edit it.",
    ]
    assert len(store) == 2
    controller.accept()
    assert at(walk) == "o1"


def test_a_model_without_masks_leaves_the_brush(controller) -> None:
    walk, _ = begin(controller, 2)
    heard = []
    controller.said.connect(heard.append)
    card = replace(controller.session.card, prompts=("point", "box"))
    controller.session._asking.card = card
    controller.next_object()
    assert controller.tool.name == "BRUSH"
    assert "The brush works" in heard[-1]
    assert walk.in_hand


def test_nothing_is_decided_while_something_else_is_in_hand(controller) -> None:
    walk, store = begin(controller, 2)
    controller.session.objects.select(["o1"])
    assert not walk.in_hand
    with pytest.raises(InputError, match="in hand"):
        walk.accept()
    walk.show()
    assert walk.in_hand
    walk.end()
    with pytest.raises(InputError, match="sort the objects first"):
        walk.reject()
    assert store.review_counts()[None] == 2


def test_another_tab_and_another_slide(controller) -> None:
    walk, store = begin(controller)
    walk.active = False
    controller.session.objects.select(["o4"])
    store.delete(["o0"])
    assert at(walk) == "o1"
    assert controller.session.objects.selection == ("o4",)
    walk.active = True
    assert controller.session.objects.selection == ("o1",)
    queue = sort_objects(controller.session, Plan(), lambda _: None, CancelToken())
    controller.close()
    walk.begin(queue)
    assert walk.current is None


def test_a_store_that_may_only_be_looked_at(make_png) -> None:
    from napari_histosam.slide import open_slide
    from napari_histosam.store.places import beside

    with open_slide(make_png) as slide:
        identity = slide.identity
    with ObjectStore.open(beside(make_png), slide_identity=identity) as first:
        first.add([found(0), found(1)])
        bench = Workbench(ViewerModel())
        bench.set_model("classical")
        bench.open(make_png)
        controller, heard = bench.controller, []
        controller.said.connect(heard.append)
        assert controller.session.store.read_only
        job = sorting(controller.session, ask_model=False)
        controller.review.active = True
        controller.review.begin(job(lambda _: None, CancelToken()))
        controller.accept()
        assert "open in another window" in heard[-1]
        assert at(controller.review) == "o0"
        bench.close()


def test_reviews_travel_with_geojson(controller, tmp_path) -> None:
    _, store = begin(controller, 3)
    controller.accept()
    controller.delete()
    controller.session.export(tmp_path / "out.geojson")
    back = {one.id: one for one in read(tmp_path / "out.geojson").objects}
    by_uuid = [one.review for one in back.values()]
    assert sorted(str(r and r.state) for r in by_uuid) == ["None", "accepted"]
    assert store.get("o0").review in by_uuid
