"""The pixels on the canvas: exact tiles, objects where they are, with napari's async on and off."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt

FIRST = (1134.0, 2027.5)
FIELD = (1100.0, 1950.0, 1200.0, 2050.0)
NEUTRAL = (1300.0, 1500.0)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request, monkeypatch):
    """napari's own slicing on the main thread or beside it."""
    from napari.settings import get_settings

    experimental = get_settings().experimental
    monkeypatch.setattr(experimental, "async_", request.param)
    return request.param


def one_to_one(hand, x, y):
    """Show level 0 with one screen px per slide px, slide px (x, y) in the middle of the canvas."""
    camera = hand.viewer.scene.camera
    camera.center = (0.0, *hand.controller.viewport.to_world(x, y))
    camera.zoom = 1 / hand.controller.frame.step[0]
    drawn(hand)


def drawn(hand):
    """Wait until tiles are in, napari has sliced them and the canvas shows them."""
    hand.ready()
    for _ in range(3):
        hand.qtbot.wait(100)
        hand.until(lambda: all(x.loaded for x in hand.viewer.layers))
    hand.ready()


def block(pixels, dx=0, dy=0, side=160):
    """Return the square around the canvas's middle, moved by whole px."""
    top = pixels.shape[0] // 2 - side // 2 + dy
    left = pixels.shape[1] // 2 - side // 2 + dx
    return pixels[top : top + side, left : left + side].astype(int)


def least_difference(shown, exact):
    """Return the mean difference at the best of nine alignments: the middle may lie between px."""
    inner = exact[1:-1, 1:-1]
    side = inner.shape[0]
    moves = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    return min(abs(block(shown, dx, dy, side) - inner).mean() for dx, dy in moves)


def test_what_is_on_screen_is_the_slide_itself(open_dock, slide_copy, asynchronous):
    hand = open_dock(slide_copy)
    x, y = NEUTRAL
    one_to_one(hand, x, y)
    exact = hand.session.slide.read_region(int(x) - 81, int(y) - 81, 0, 162, 162).astype(int)
    assert exact.std() > 5
    assert least_difference(hand.canvas_pixels(), exact) < 1.0
    # Out, far away, and back: still so.
    hand.viewer.reset_view()
    hand.viewer.scene.camera.zoom *= 1.5
    drawn(hand)
    one_to_one(hand, 500, 400)
    one_to_one(hand, x, y)
    assert least_difference(hand.canvas_pixels(), exact) < 1.0


def test_an_accepted_object_is_drawn_where_it_is(open_dock, slide_copy, asynchronous):
    hand = open_dock(slide_copy)
    hand.look(*FIELD)
    drawn(hand)
    before = hand.canvas_pixels().astype(int)
    hand.key(Qt.Key_8)
    hand.click(*FIRST)
    drawn(hand)
    preview = hand.canvas_pixels().astype(int)
    hand.key(Qt.Key_N)
    drawn(hand)
    after = hand.canvas_pixels().astype(int)
    (kept,) = hand.session.store.iterate()
    colour = next(c.colour for c in hand.session.store.classes() if c.name == kept.class_name)
    edge = np.array(kept.geometry.exterior.coords)
    spots = [hand.at(x, y) for x, y in edge[:: max(1, len(edge) // 24)]]
    seen = [after[s.y() - 2 : s.y() + 3, s.x() - 2 : s.x() + 3].reshape(-1, 3) for s in spots]
    nearest = [abs(p - colour).max(1).min() for p in seen]
    # The outline goes along the polygon's own edge, in its class's colour.
    assert np.median(nearest) < 40, nearest
    centre = hand.at(kept.geometry.centroid.x, kept.geometry.centroid.y)
    inside = (centre.y(), centre.x())
    assert abs(after[inside] - before[inside]).max() > 10
    assert abs(preview[inside] - after[inside]).max() > 10
    far = hand.at(FIRST[0] + 40, FIRST[1] - 40)
    assert abs(after[far.y(), far.x()] - before[far.y(), far.x()]).max() < 6

    # Zoomed out to the coarsest level it is still there; undone it is gone everywhere.
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    drawn(hand)
    assert abs(hand.canvas_pixels().astype(int) - before).mean() < 0.5


def test_zooming_from_far_to_near_ends_sharp(open_dock, slide_copy, asynchronous):
    hand = open_dock(slide_copy)
    camera = hand.viewer.scene.camera
    camera.center = (0.0, *hand.controller.viewport.to_world(*NEUTRAL))
    for _ in range(6):
        camera.zoom *= 1.4
        hand.qtbot.wait(30)
    one_to_one(hand, *NEUTRAL)
    x, y = (int(v) for v in NEUTRAL)
    exact = hand.session.slide.read_region(x - 81, y - 81, 0, 162, 162).astype(int)
    assert least_difference(hand.canvas_pixels(), exact) < 1.0


@pytest.fixture
def profiled(tmp_path):
    """A slide whose colour profile is not sRGB (here: its primaries swapped), and its pixels."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (40, 50, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    path = tmp_path / "profiled.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), iccprofile=swapped_profile())
    return path, pixels


def swapped_profile() -> bytes:
    """Return sRGB with the red and the green primary exchanged."""
    import struct

    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", profile, 128)
    places = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = places[b"rXYZ"], places[b"gXYZ"]
    profile[red + 4 : red + 12], profile[green + 4 : green + 12] = (
        profile[green + 4 : green + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(profile)


def test_a_colour_profile_changes_the_screen_alone(open_dock, profiled, slide_copy):
    path, pixels = profiled
    hand = open_dock(path)
    tick = hand.dock.slide_bar.icc
    assert tick.isVisible()
    assert not tick.isChecked()
    one_to_one(hand, 400, 300)
    raw = hand.canvas_pixels().astype(int)
    tick.click()
    drawn(hand)
    corrected = hand.canvas_pixels().astype(int)
    assert abs(corrected - raw).mean() > 5
    np.testing.assert_array_equal(hand.session.slide.read_region(0, 0, 0, 800, 640), pixels)
    assert (hand.session.slide.thumbnail(64) == hand.session.slide.thumbnail(64)).all()

    # Another slide has its own tick, and this one's is remembered on the way back.
    hand.viewer.open(str(slide_copy), plugin="napari-histosam")
    hand.ready()
    other = hand.session.slide.icc_profile is not None
    assert tick.isVisible() == other
    assert not tick.isChecked()
    combo = hand.dock.slide_bar.slides
    combo.setCurrentIndex(combo.findText(path.name))
    hand.ready()
    assert tick.isChecked()
    hand.viewer.layers.remove(slide_copy.name)
    one_to_one(hand, 400, 300)
    assert least_difference(hand.canvas_pixels(), block(corrected, side=162)) < 2
    tick.click()
    drawn(hand)
    assert least_difference(hand.canvas_pixels(), block(raw, side=162)) < 2


def test_without_a_profile_there_is_no_tick(open_dock, tmp_path):
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, np.full((300, 300, 3), 200, np.uint8), photometric="rgb")
    hand = open_dock(path)
    assert not hand.dock.slide_bar.icc.isVisible()
