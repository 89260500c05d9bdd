"""What goes wrong becomes a sentence; what nobody foresaw is logged too."""

from __future__ import annotations

import logging

from psygnal import Signal

from napari_histosam.errors import Cancelled, InputError
from napari_histosam.viewer.attempt import attempt, told


class Desk:
    rang = Signal()

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)

    @told
    def work(self, error):
        if error is not None:
            raise error

    @told
    def ring(self):
        self.rang.emit()


def test_what_was_foreseen_is_said_as_it_is(caplog):
    desk = Desk()
    desk.work(InputError("Choose another file."))
    desk.work(Cancelled("Stopped."))
    desk.work(None)
    assert desk.said == ["Choose another file.", "Stopped."]
    assert not caplog.records


def test_what_nobody_foresaw_is_logged_with_its_trace(caplog):
    desk = Desk()
    with caplog.at_level(logging.ERROR):
        desk.work(KeyError("x"))
    assert "KeyError" in desk.said[0]
    assert "safe" in desk.said[0]
    assert "Traceback" not in desk.said[0]
    assert caplog.records[0].exc_info is not None
    caplog.clear()


def test_an_error_in_a_listener_is_told_as_itself():
    desk = Desk()

    def listener():
        raise InputError("The drive is full.")

    desk.rang.connect(listener)
    desk.ring()
    assert desk.said == ["The drive is full."]


def test_attempt_tells_whether_it_went_well():
    said = []
    assert attempt(lambda: None, said.append)
    assert not attempt(lambda: 1 / 0, said.append)
    assert len(said) == 1
