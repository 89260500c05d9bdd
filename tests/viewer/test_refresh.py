"""Refreshes wait for napari's slicing, and one stands for many."""

from __future__ import annotations

from napari_histosam.viewer.refresh import Refresher


class FakeLayer:
    def __init__(self):
        self.loaded = True
        self.refreshes = []

    def refresh(self, **how):
        self.refreshes.append(how)


class Later:
    def __init__(self):
        self.calls = []

    def call(self, func):
        self.calls.append(func)

    def later(self, seconds, func):
        self.calls.append(func)

    def run(self):
        calls, self.calls = self.calls, []
        for func in calls:
            func()


def test_at_once_where_nothing_is_under_way():
    layer = FakeLayer()
    Refresher(Later(), lambda _: True, thumbnail=True).refresh(layer)
    assert layer.refreshes == [{"extent": False, "highlight": False, "thumbnail": True}]
    layer.loaded = False
    Refresher(None, lambda _: True).refresh(layer)
    assert len(layer.refreshes) == 2


def test_one_waits_for_all_while_a_layer_is_sliced():
    layer, later = FakeLayer(), Later()
    refresher = Refresher(later, lambda _: True)
    layer.loaded = False
    for _ in range(40):
        refresher.refresh(layer)
        later.run()
    assert len(later.calls) == 1
    layer.loaded = True
    later.run()
    assert len(layer.refreshes) == 1
    assert not later.calls
    refresher.refresh(layer)
    assert len(layer.refreshes) == 2


def test_a_layer_that_was_removed_meanwhile_is_forgotten():
    layer, later = FakeLayer(), Later()
    shown = [layer]
    refresher = Refresher(later, shown.__contains__)
    layer.loaded = False
    refresher.refresh(layer)
    shown.clear()
    later.run()
    assert not later.calls
    assert not layer.refreshes
