"""Slides that do not say how large a pixel is, and images that are in napari already."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import Qt
from skimage.draw import disk

# Dark discs on a light ground, and their centres as (x, y): what a click must hit.
DISCS = ((150.0, 120.0), (420.0, 300.0), (520.0, 90.0))
RADIUS = 22


def picture(width=640, height=420) -> np.ndarray:
    """Return an H&E-like picture whose objects are known to the pixel."""
    rng = np.random.default_rng(7)
    image = np.full((height, width, 3), (232, 196, 214), np.uint8)
    for x, y in DISCS:
        rows, columns = disk((y - 0.5, x - 0.5), RADIUS, shape=image.shape[:2])
        image[rows, columns] = (88, 52, 128)
    noisy = image + rng.integers(-6, 7, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture
def bare_file(tmp_path):
    """A TIFF without any scale."""
    path = tmp_path / "bare.tif"
    Image.fromarray(picture()).save(path)
    return path


def near(hand, x, y):
    hand.look(x - 60, y - 60, x + 60, y + 60)


def layer(hand, name):
    return next(x for x in hand.viewer.layers if x.name == name)


def areas(hand):
    table = hand.dock.annotate.objects.model
    return [table.index(r, 2).data() for r in range(table.rowCount())]


def test_a_missing_scale_is_asked_for_once(open_dock, bare_file):
    hand = open_dock(bare_file)
    bar = hand.dock.slide_bar
    assert bar.scale_row.isVisible()
    assert "scale unknown" in bar.facts.text()
    assert str(hand.controller.layer.units[0]) == "pixel"
    near(hand, *DISCS[0])
    hand.click(*DISCS[0])
    hand.key(Qt.Key_N)
    assert areas(hand)[0].endswith("px²")
    area_px = next(iter(hand.session.store.iterate())).geometry.area
    assert area_px == pytest.approx(np.pi * RADIUS**2, rel=0.1)

    # A prompt is pending while the scale is set.
    near(hand, *DISCS[1])
    hand.click(*DISCS[1])
    bar.mpp_x.setValue(0.25)
    hand.press(bar.set_scale)
    assert not bar.scale_row.isVisible()
    assert "0.25 µm/px" in bar.facts.text()
    assert "remembered" in hand.said
    for shown in hand.viewer.layers:
        assert {str(u) for u in shown.units} == {"micrometer"}, shown.name
    for name in ("bare.tif", "Objects", "Clicks"):
        assert tuple(layer(hand, name).scale) == (0.25, 0.25)
    assert areas(hand) == [f"{area_px / 16:.0f} µm²"]
    assert hand.session.preview is not None
    near(hand, *DISCS[1])
    hand.key(Qt.Key_N)
    near(hand, *DISCS[2])
    hand.click(*DISCS[2])
    at = hand.session.preview.objects["1"].geometry.centroid
    assert (at.x, at.y) == pytest.approx(DISCS[2], abs=2)
    hand.key(Qt.Key_Escape)
    hand.dock.end()
    hand.viewer.close()

    # Not asked again.
    again = open_dock(bare_file)
    assert not again.dock.slide_bar.scale_row.isVisible()
    assert tuple(again.controller.layer.scale) == (0.25, 0.25)
    assert len(areas(again)) == 2
    assert all(a.endswith("µm²") for a in areas(again))


def test_an_impossible_scale_is_refused_in_a_sentence(open_dock, bare_file, histosam_home):
    hand = open_dock(bare_file)
    (histosam_home / "slides.json").mkdir(parents=True)
    hand.press(hand.dock.slide_bar.set_scale)
    assert hand.said
    assert "Traceback" not in hand.said


def test_pixels_that_are_not_square(open_dock, bare_file):
    hand = open_dock(bare_file)
    bar = hand.dock.slide_bar
    bar.mpp_x.setValue(0.5)
    bar.mpp_y.setValue(1.0)
    hand.press(bar.set_scale)
    assert "0.5 x 1 µm/px" in bar.facts.text()
    assert tuple(hand.controller.layer.scale) == (1.0, 0.5)
    for x, y in DISCS[:2]:
        near(hand, x, y)
        hand.click(x, y)
        (prompt,) = hand.session.prompts.all()
        step = hand.controller.unit
        assert (prompt.geometry.x, prompt.geometry.y) == pytest.approx((x, y), abs=2 * step)
        hand.key(Qt.Key_N)
    found = [o.geometry for o in hand.session.store.iterate()]
    assert [(g.centroid.x, g.centroid.y) for g in found] == [
        pytest.approx(c, abs=3) for c in DISCS[:2]
    ]
    assert areas(hand) == [f"{g.area * 0.5:.0f} µm²" for g in found[::-1]]


def rgba(image):
    return np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])


def half(image):
    return image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, 3).mean((1, 3))


def lazy(image):
    import dask.array as da

    return da.from_array(image, chunks=(128, 128, 3))


IMAGES = {
    "numpy": lambda: (picture(), {}),
    "rgba, scaled": lambda: (rgba(picture()), {"scale": (3.0, 3.0)}),
    "multiscale, moved": lambda: (
        [picture(), half(picture()).astype(np.uint8)],
        {"multiscale": True, "translate": (500.0, -300.0)},
    ),
    "dask, µm, moved": lambda: (
        lazy(picture()),
        {"scale": (0.25, 0.25), "translate": (40.0, 80.0), "units": ("um", "um")},
    ),
    "mm, not square": lambda: (
        picture(),
        {"scale": (0.0005, 0.00025), "translate": (1.0, 2.0), "units": ("mm", "mm")},
    ),
    "affine": lambda: (picture(), {"affine": [[2.0, 0, 30], [0, 2.0, -10], [0, 0, 1]]}),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_a_click_on_an_own_image_lands_where_it_should(open_dock, kind):
    hand = open_dock()
    data, place = IMAGES[kind]()
    own = hand.viewer.add_image(data, rgb=True, name="mine", **place)
    combo = hand.dock.slide_bar.slides
    assert combo.currentIndex() == -1
    combo.setCurrentIndex(combo.findText("Work on the image “mine”"))
    hand.ready()
    assert hand.controller.layer == own
    for x, y in DISCS:
        near(hand, x, y)
        before = hand.canvas_pixels()
        spot = hand.at(x, y)
        # The mouse really is over a dark disc there.
        ratio = before.shape[1] / hand.canvas.width()
        under = before[round(spot.y() * ratio), round(spot.x() * ratio)]
        assert under.astype(int) == pytest.approx((88, 52, 128), abs=30), (x, y)
        hand.click(x, y)
        (prompt,) = hand.session.prompts.all()
        tolerance = 1.5 * hand.controller.unit
        assert (prompt.geometry.x, prompt.geometry.y) == pytest.approx((x, y), abs=tolerance)
        # What napari says is under the mouse is what the prompt says, but for half a pixel.
        data_yx = np.asarray(own.world_to_data(hand.viewer.cursor.position))
        assert data_yx[::-1] + 0.5 == pytest.approx((prompt.geometry.x, prompt.geometry.y))
        hand.key(Qt.Key_N)
    found = [o.geometry.centroid for o in hand.session.store.iterate()]
    assert [(c.x, c.y) for c in found] == [pytest.approx(c, abs=3) for c in DISCS]


def test_an_own_images_scale_is_remembered(open_dock):
    hand = open_dock()
    combo = hand.dock.slide_bar.slides
    hand.viewer.add_image(picture(), rgb=True, name="mine")
    combo.setCurrentIndex(0)
    hand.ready()
    assert hand.dock.slide_bar.scale_row.isVisible()
    hand.dock.slide_bar.mpp_x.setValue(0.4)
    hand.press(hand.dock.slide_bar.set_scale)
    hand.viewer.layers.remove("mine")
    assert hand.controller is None
    own = hand.viewer.add_image(picture(), rgb=True, name="again")
    combo.setCurrentIndex(0)
    hand.ready()
    assert not hand.dock.slide_bar.scale_row.isVisible()
    assert tuple(own.scale) == (0.4, 0.4)
    assert tuple(layer(hand, "Objects").scale) == (0.4, 0.4)


@pytest.mark.parametrize(
    ("place", "word"), [({"rotate": 30.0}, "rotated"), ({"scale": (1.0, -1.0)}, "mirrored")]
)
def test_an_image_that_does_not_lie_upright_is_refused(open_dock, bare_file, place, word):
    hand = open_dock(bare_file)
    before = hand.controller
    hand.viewer.add_image(picture(), rgb=True, name="askew", **place)
    combo = hand.dock.slide_bar.slides
    combo.setCurrentIndex(combo.findText("Work on the image “askew”"))
    hand.ready()
    assert "askew" in hand.said
    assert word in hand.said
    assert hand.controller is before
    assert combo.currentText() == "bare.tif"


def test_grey_images_and_volumes_are_not_on_offer(open_dock):
    hand = open_dock()
    hand.viewer.add_image(np.zeros((50, 50)), name="grey")
    hand.viewer.add_image(np.zeros((4, 50, 50, 3), np.uint8), rgb=True, name="volume")
    assert hand.dock.slide_bar.slides.count() == 0


def test_a_layer_in_other_units_does_not_move_the_clicks(open_dock, slide_copy):
    """napari's world takes the smallest unit of all layers: µm becomes nm when such one comes."""
    hand = open_dock(slide_copy)
    hand.viewer.add_image(np.zeros((30, 30)), scale=(50.0, 50.0), units=("nm", "nm"), name="em")
    spot = (1134.0, 2027.5)
    hand.look(spot[0] - 50, spot[1] - 50, spot[0] + 50, spot[1] + 50)
    hand.click(*spot)
    (prompt,) = hand.session.prompts.all()
    assert (prompt.geometry.x, prompt.geometry.y) == pytest.approx(spot, abs=1)
    assert hand.controller.unit < 1


def test_a_slide_that_the_user_moves_takes_its_objects_along(open_dock, bare_file):
    hand = open_dock(bare_file)
    near(hand, *DISCS[0])
    hand.click(*DISCS[0])
    hand.key(Qt.Key_N)
    hand.controller.layer.translate = (100.0, -50.0)
    hand.controller.layer.scale = (2.0, 2.0)
    assert tuple(layer(hand, "Objects").translate) == (100.0, -50.0)
    assert tuple(layer(hand, "Objects").scale) == (2.0, 2.0)
    near(hand, *DISCS[1])
    hand.click(*DISCS[1])
    at = hand.session.preview.objects["1"].geometry.centroid
    assert (at.x, at.y) == pytest.approx(DISCS[1], abs=2)
    hand.controller.layer.rotate = 20.0
    assert "rotated" in hand.said
