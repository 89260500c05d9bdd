"""The row of the model: which answers, absent weights, licences, downloads that fail."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
from qtpy.QtCore import Qt

from napari_histosam.home import shipped
from napari_histosam.models import registry as registry_module
from napari_histosam.models.graphics import keep_compiler_out
from napari_histosam.session import DEFAULT_MODEL
from napari_histosam.session.answer import Answerer

FIRST = (1134.0, 2027.5)
FIELD = (1100.0, 1950.0, 1200.0, 2050.0)


def add_card(home, name, **changes):
    """Add a model to a home: the classical one under another name, or with other terms."""
    card = json.loads((shipped("weights") / "classical.json").read_text("utf-8"))
    folder = home / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({**card, "name": name, **changes}), "utf-8")


@pytest.fixture
def hand(open_dock, slide_copy, histosam_home):
    add_card(histosam_home, "twin")
    add_card(histosam_home, "bought", non_commercial=True, licence="CC BY-NC 4.0")
    add_card(histosam_home, "strange", decoder="no-such-decoder")
    url = "http://127.0.0.1:9/far.pth"
    files = [{"name": "far.pth", "url": url, "bytes": 1000}]
    add_card(histosam_home, "far", decoder="sam", variant="vit_b", files=files)
    made = open_dock(slide_copy)
    made.look(*FIELD)
    return made


def pick(hand, name):
    box = hand.dock.annotate.model
    box.choice.setCurrentIndex(box.choice.findData(name))
    return box


def test_another_model_answers_the_prompts_in_hand(hand):
    hand.click(*FIRST)
    box = pick(hand, "twin")
    hand.ready()
    hand.until(lambda: hand.session.card.name == "twin")
    assert "ready · CPU" in box.state.text()
    hand.ready()
    hand.key(Qt.Key_N)
    (kept,) = hand.session.store.iterate()
    assert kept.provenance.model == "twin"


def test_switching_while_an_answer_is_running(hand, monkeypatch):
    began, go = threading.Event(), threading.Event()
    quick = Answerer.answer

    def slow(self, request, stale=lambda: False):
        began.set()
        go.wait(20)
        return quick(self, request, stale)

    monkeypatch.setattr(Answerer, "answer", slow)
    hand.session.add_point(*FIRST)
    assert began.wait(10)
    pick(hand, "twin")
    pick(hand, "classical")
    pick(hand, "twin")
    hand.session.add_point(FIRST[0] + 3, FIRST[1])
    go.set()
    hand.until(lambda: hand.session.card.name == "twin" and hand.session.settled)
    hand.ready()
    assert hand.session.preview.objects["1"].geometry is not None
    hand.key(Qt.Key_N)
    (kept,) = hand.session.store.iterate()
    assert kept.provenance.model == "twin"
    assert len(kept.provenance.prompts) == 2


def test_the_model_stays_for_the_next_slide(hand, slide_copy):
    pick(hand, "twin")
    hand.until(lambda: hand.session.card.name == "twin")
    hand.viewer.layers.remove(slide_copy.name)
    hand.viewer.open(str(slide_copy), plugin="napari-histosam")
    hand.ready()
    assert hand.session.card.name == "twin"
    assert hand.dock.annotate.model.card.name == "twin"


def test_a_model_that_does_not_load_leaves_the_old_one(hand, slide_copy):
    hand.click(*FIRST)
    box = pick(hand, "strange")
    hand.until(lambda: "no-such-decoder" in hand.said)
    assert hand.said.count(".") <= 2
    hand.until(lambda: box.card.name == DEFAULT_MODEL)
    assert "ready" in box.state.text()
    hand.click(FIRST[0] + 14, FIRST[1] - 12, shift=True)
    hand.key(Qt.Key_N)
    assert len(hand.session.store) == 1
    hand.viewer.layers.remove(slide_copy.name)
    hand.viewer.open(str(slide_copy), plugin="napari-histosam")
    hand.ready()
    assert hand.session.card.name == DEFAULT_MODEL


def test_absent_weights_say_so_and_offer_help(hand):
    box = pick(hand, "far")
    assert "absent" in box.state.text()
    assert box.fetch.isVisible()
    assert box.bring.isVisible()
    assert not box.consent.isVisible()
    # The old model goes on answering meanwhile.
    hand.click(*FIRST)
    assert hand.session.preview is not None


def test_a_wrong_file_is_refused_in_a_sentence(hand, tmp_path):
    box = pick(hand, "far")
    for name, content in (("notes.txt", b"dear diary"), ("x.pth", b"\0" * 400), ("y.pth", b"")):
        wrong = tmp_path / name
        wrong.write_bytes(content)
        hand.dock.say("")
        box.import_files([wrong])
        hand.until(lambda: bool(hand.said) and not hand.dock.status.running.isVisible())
        assert name in hand.said
        assert "Traceback" not in hand.said
        assert "\n" not in hand.said
        assert "please report" not in hand.said
    assert hand.session.card.name == DEFAULT_MODEL


# The window's OpenGL has loaded LLVM when the first SAM is chosen.
LATE = """
import napari, numpy as np
viewer = napari.Viewer()
viewer.add_image(np.zeros((8, 8, 3), np.uint8))
viewer.screenshot(canvas_only=True, flash=False)
from napari_histosam.models import ModelRegistry
from napari_histosam.models.trained import methods_of
print(methods_of(ModelRegistry().get("sam-vit-b")))
viewer.close()
"""


def test_a_first_sam_in_an_open_window_does_not_end_it():
    done = subprocess.run(
        [sys.executable, "-c", LATE], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "decoder" in done.stdout


def test_a_part_of_a_model_says_which_are_lacking(hand, tmp_path):
    import torch

    keep_compiler_out()  # a window is open
    from napari_histosam.models.wsi_sam.decoder import TokenDecoder

    box = hand.dock.annotate.model
    part = tmp_path / "net_high.pth"
    torch.save({"model": TokenDecoder().state_dict()}, part)
    box.import_files([part])
    hand.until(lambda: "still needs" in hand.said)
    assert hand.said.endswith("wsi-sam still needs mobile_sam.pt and net_low.pth.")
    assert "absent" in box.state.text()
    assert hand.session.card.name == DEFAULT_MODEL


def test_a_download_without_a_network_fails_in_a_sentence(hand, monkeypatch):
    from napari_histosam.models import weights

    monkeypatch.setattr(weights._Resuming, "_wait", lambda self, seconds: None)
    box = pick(hand, "far")
    hand.press(box.fetch)
    hand.until(lambda: not hand.dock.status.running.isVisible())
    hand.until(box.fetch.isEnabled)
    assert "far.pth" in hand.said or "127.0.0.1" in hand.said
    assert "\n" not in hand.said
    assert "please report" not in hand.said
    assert box.fetch.isVisible()


def test_a_download_can_be_stopped(hand, monkeypatch):
    started = threading.Event()

    def endless(self, name, progress=None, cancel=None):
        from napari_histosam.errors import Cancelled

        while True:
            started.set()
            progress(10, 1000)
            threading.Event().wait(0.01)
            if cancel():
                raise Cancelled("Stopped.")

    monkeypatch.setattr(registry_module.ModelRegistry, "download", endless)
    box = pick(hand, "far")
    hand.press(box.fetch)
    assert started.wait(5)
    assert not box.fetch.isEnabled()
    hand.press(hand.dock.status.stop)
    hand.until(box.fetch.isEnabled)
    assert "Stopped" in hand.said


def test_non_commercial_weights_ask_once(hand, open_dock, slide_copy):
    box = pick(hand, "bought")
    assert "licence" in box.state.text()
    assert "CC BY-NC 4.0" in box.card_text.text()
    assert hand.session.card.name == DEFAULT_MODEL
    hand.press(box.consent)
    hand.until(lambda: hand.session.card.name == "bought")
    hand.ready()
    assert not box.consent.isVisible()
    assert "ready" in box.state.text()
    pick(hand, "classical")
    hand.until(lambda: hand.session.card.name == "classical")
    pick(hand, "bought")
    hand.until(lambda: hand.session.card.name == "bought")


def test_without_a_slide_a_model_can_be_chosen(open_dock, slide_copy, histosam_home):
    add_card(histosam_home, "twin")
    hand = open_dock()
    box = pick(hand, "twin")
    assert "ready" in box.state.text()
    hand.viewer.open(str(slide_copy), plugin="napari-histosam")
    hand.ready()
    assert hand.session.card.name == "twin"


def test_a_licence_comes_before_the_download(open_dock, slide_copy, histosam_home):
    files = [{"name": "nc.pth", "url": "http://127.0.0.1:9/nc.pth", "bytes": 1000}]
    terms = {"non_commercial": True, "licence": "CC BY-NC-SA 4.0"}
    add_card(histosam_home, "nc", decoder="sam", variant="vit_b", files=files, **terms)
    hand = open_dock(slide_copy)
    box = pick(hand, "nc")
    assert box.consent.isVisible()
    assert not box.fetch.isVisible()
    hand.press(box.consent)
    assert not box.consent.isVisible()
    assert box.fetch.isVisible()
    assert "absent" in box.state.text()
    assert hand.session.card.name == DEFAULT_MODEL
