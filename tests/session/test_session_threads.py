"""With a dispatcher: nothing waits for the model, late answers change nothing, closing is safe."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from napari_histosam import Session
from napari_histosam.errors import InputError
from napari_histosam.session import editing


def click(session, at, **how):
    session.add_point(*at[:2], **how)


def test_a_click_returns_before_the_model_answers(threaded, seer, box, helpers):
    heard = helpers.heard(threaded)
    seer.gate.clear()
    click(threaded, helpers.small)
    assert seer.entered.wait(10)
    assert threaded.preview is None
    assert not threaded.settled
    assert heard.busy == ["Thinking…"]
    seer.gate.set()
    box.run_until(lambda: threaded.settled)
    assert threaded.preview.objects["1"].geometry is not None
    box.run_until(lambda: heard.busy[-1] == "")


def test_busy_ends_even_while_neighbours_are_encoded(threaded, box, helpers):
    heard = helpers.heard(threaded)
    for _ in range(3):
        click(threaded, helpers.small)
        box.run_until(lambda: threaded.settled)
    box.run_until(lambda: heard.busy[-1] == "")


def test_a_late_answer_never_overwrites_a_newer_one(threaded, seer, box, helpers):
    seer.gate.clear()
    click(threaded, helpers.small)
    assert seer.entered.wait(10)
    click(threaded, helpers.near)
    seer.gate.set()
    box.run_until(lambda: threaded.settled)
    assert len(threaded.preview.objects["1"].prompts) == 2
    newest = threaded.preview
    # Whatever else arrives, in whatever order, belongs to the past.
    time.sleep(0.1)
    box.deliver()
    assert threaded.preview is newest


def test_an_answer_that_was_under_way_when_all_was_rejected_is_dropped(
    threaded, seer, box, helpers
):
    heard = helpers.heard(threaded)
    seer.gate.clear()
    click(threaded, helpers.small)
    assert seer.entered.wait(10)
    threaded.reject()
    seer.gate.set()
    box.run_until(lambda: heard.busy[-1] == "")
    assert threaded.preview is None
    assert [p for p in heard.previews if p is not None] == []


def test_an_answer_delivered_after_an_undo_is_dropped(threaded, seer, box, helpers):
    click(threaded, helpers.small)
    box.run_until(lambda: threaded.settled)
    first = threaded.preview
    click(threaded, helpers.near)
    end = time.monotonic() + 10
    while box.calls.empty() and time.monotonic() < end:
        time.sleep(0.01)  # the answer waits in the queue
    threaded.undo()
    box.deliver()
    assert threaded.preview.objects == first.objects
    assert threaded.settled


def test_a_burst_of_clicks_costs_two_answers(threaded, seer, box, helpers):
    seer.gate.clear()
    click(threaded, helpers.small)
    assert seer.entered.wait(10)
    for step in range(10):
        threaded.add_point(helpers.small[0] + step, helpers.small[1])
    seer.gate.set()
    box.run_until(lambda: threaded.settled)
    assert len(seer.decoded) == 2
    assert len(threaded.preview.objects["1"].prompts) == 11


def test_nothing_is_accepted_or_corrected_before_its_answer(threaded, seer, box, helpers):
    seer.gate.clear()
    click(threaded, helpers.small)
    with pytest.raises(InputError, match="on its way"):
        threaded.edit(editing.fill_holes(), "Fill holes")
    seer.gate.set()
    box.run_until(lambda: threaded.settled)
    seer.gate.clear()
    click(threaded, helpers.near)
    with pytest.raises(InputError, match="on its way"):
        threaded.accept()
    with pytest.raises(InputError, match="on its way"):
        threaded.edit(editing.fill_holes(), "Fill holes")
    seer.gate.set()
    box.run_until(lambda: threaded.settled)
    (key,) = threaded.accept()
    assert len(threaded.store.get(key).provenance.prompts) == 2


def test_prompts_given_while_the_model_loads_are_answered_then(slide, shelf, box, helpers):
    shelf.gates["seer"] = threading.Event()
    shelf.told = ["No GPU found: running on CPU"]
    session = Session(slide, model="seer", registry=shelf, dispatcher=box)
    heard = helpers.heard(session)
    click(session, helpers.small)
    assert session.device == ""
    with pytest.raises(InputError, match="still loading"):
        session.accept()
    shelf.gates["seer"].set()
    box.run_until(lambda: session.settled)
    assert session.preview.objects["1"].geometry is not None
    assert heard.said == ["No GPU found: running on CPU"]
    session.close()


def test_a_model_that_cannot_be_loaded_is_said_and_the_old_one_stays(threaded, shelf, box, helpers):
    heard = helpers.heard(threaded)
    shelf.models["other"] = helpers.seer("other")
    shelf.missing.add("other")
    threaded.set_model("other")
    box.run_until(lambda: heard.failed)
    assert heard.failed == ["The weights of other are not on this machine."]
    click(threaded, helpers.small)
    box.run_until(lambda: threaded.settled)
    assert threaded.preview.objects["1"].model == "seer"


def test_the_model_chosen_last_wins(threaded, shelf, box, helpers):
    heard = helpers.heard(threaded)
    for name in ("one", "two", "three"):
        shelf.models[name] = helpers.seer(name)
    shelf.gates["one"] = threading.Event()
    threaded.set_model("one")
    while "one" not in shelf.loading:
        time.sleep(0.01)
    threaded.set_model("two")
    threaded.set_model("three")
    shelf.gates["one"].set()
    box.run_until(lambda: bool(heard.models))
    time.sleep(0.05)
    box.deliver()
    assert heard.models == ["three"]
    assert threaded.card.name == "three"


def test_switching_mid_answer_shows_only_the_new_models(threaded, seer, shelf, box, helpers):
    shelf.models["other"] = helpers.seer("other")
    heard = helpers.heard(threaded)
    seer.gate.clear()
    click(threaded, helpers.small)
    assert seer.entered.wait(10)
    threaded.set_model("other")
    seer.gate.set()
    box.run_until(lambda: threaded.card.name == "other" and threaded.settled)
    assert threaded.preview.objects["1"].model == "other"
    (key,) = threaded.accept()
    assert threaded.store.get(key).provenance.weights_hash == "hash of other"
    assert heard.failed == []


def test_a_prompt_that_the_coming_model_does_not_take_keeps_the_old_one(
    threaded, shelf, box, helpers
):
    heard = helpers.heard(threaded)
    shelf.models["boxes"] = helpers.seer("boxes", ("box",))
    shelf.gates["boxes"] = threading.Event()
    threaded.set_model("boxes")
    click(threaded, helpers.small)  # the old model's: it is still at work
    shelf.gates["boxes"].set()
    box.run_until(lambda: bool(heard.failed))
    assert "boxes takes no click" in heard.failed[0]
    box.run_until(lambda: threaded.settled)
    assert threaded.card.name == "seer"


def test_errors_arrive_as_one_sentence_and_old_ones_not_at_all(threaded, seer, box, helpers):
    heard = helpers.heard(threaded)
    seer.error = ValueError("bad\nnews")
    click(threaded, helpers.small)
    box.run_until(lambda: bool(heard.failed))
    assert heard.failed == [
        "Thinking failed (ValueError: bad); what was accepted is safe, so try again or choose "
        "another model."
    ]
    assert threaded.settled  # there is nothing to wait for
    seer.gate.clear()
    seer.entered.clear()
    click(threaded, helpers.near)
    assert seer.entered.wait(10)
    threaded.reject()
    seer.gate.set()
    box.run_until(lambda: heard.busy[-1] == "")
    assert len(heard.failed) == 1
    seer.error = None
    click(threaded, helpers.small)
    box.run_until(lambda: threaded.preview is not None)
    assert len(threaded.accept()) == 1


def test_closing_while_the_model_runs_waits_little_and_brings_nothing(
    slide, shelf, seer, box, helpers, monkeypatch
):
    from napari_histosam.session import working

    monkeypatch.setattr(working, "PATIENCE_S", 0.1)
    session = Session(slide, model="seer", registry=shelf, dispatcher=box)
    box.run_until(lambda: session.settled)
    heard = helpers.heard(session)
    seer.gate.clear()
    click(session, helpers.small)
    assert seer.entered.wait(10)
    start = time.monotonic()
    session.close()
    assert time.monotonic() - start < 2
    slide.close()
    seer.gate.set()
    time.sleep(0.1)
    box.deliver()
    assert heard.previews == []
    assert heard.failed == []
    with pytest.raises(InputError, match="closed"):
        click(session, helpers.near)


def test_neighbours_are_encoded_while_the_user_thinks(threaded, seer, box, helpers):
    click(threaded, helpers.small)
    box.run_until(lambda: threaded.settled)
    end = time.monotonic() + 10
    while len(seer.encoded) < 5 and time.monotonic() < end:
        time.sleep(0.01)
    assert len(seer.encoded) == 5
    threaded.reject()
    x, y = helpers.small[:2]
    threaded.add_point(x + 128, y)  # the window next to it
    box.run_until(lambda: threaded.settled)
    assert threaded.preview.encode_ms == 0


def test_slow_models_encode_nothing_ahead(threaded, seer, box, helpers, monkeypatch):
    from napari_histosam.session import asking

    monkeypatch.setattr(asking, "PREFETCH_BELOW_MS", 0.0)
    click(threaded, helpers.small)
    box.run_until(lambda: threaded.settled)
    time.sleep(0.1)
    assert len(seer.encoded) == 1


def test_a_script_hears_the_same_signals(session, helpers):
    heard = helpers.heard(session)
    session.add_point(*helpers.small[:2])
    session.edit(editing.brush(np.array([helpers.small[:2]]), 5.0), "Brush")
    session.accept()
    assert [p is None for p in heard.previews] == [False, False, True]
    assert heard.busy == []
