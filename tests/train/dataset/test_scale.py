"""The scale: a model's, or one at which the objects have a fitting size."""

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.train.dataset.request import Settings
from napari_histosam.train.dataset.scale import Scale, choose_scale, longer_side

HALF = (0.5, 0.5)
FREE = Settings(object_px=(36, 300))


def boxes(*sides: float) -> list[shapely.Polygon]:
    return [shapely.box(0, 0, side, side / 2) for side in sides]


def test_a_given_scale_stands() -> None:
    scale = choose_scale(Settings(mpp=0.25, model="patho"), [(HALF, boxes(900))])
    assert (scale.mpp, scale.px) == (0.25, 1.0)
    assert scale.of((0.5, 0.25)) == (0.5, 1.0)
    assert scale.of(None) == (1.0, 1.0)
    assert scale.why == "0.25 µm/px, as the model patho wants"
    assert "as the user wants" in choose_scale(Settings(mpp=0.25), [(HALF, [])]).why


@pytest.mark.parametrize(("side", "mpp"), [(20, 0.25), (80, 1.0), (300, 4.0), (5, 0.25)])
def test_objects_get_a_fitting_size(side: float, mpp: float) -> None:
    # At 0.5 µm/px; never finer than a twofold enlargement.
    scale = choose_scale(FREE, [(HALF, boxes(side, side, side, side * 9))])
    assert scale.mpp == mpp
    assert scale.why == f"{mpp:g} µm/px, so that most objects are 36 to 300 px long"
    if side > 9:
        assert 36 <= longer_side(boxes(side)[0], scale.of(HALF)) < 72


def test_slides_without_mpp_go_by_their_px() -> None:
    scale = choose_scale(FREE, [(None, boxes(160, 170)), (HALF, boxes(80))])
    assert (scale.mpp, scale.px) == (1.0, 4.0)
    assert scale.of(None) == (4.0, 4.0)
    assert "4 level-0 px per px where a slide has no µm" in scale.why
    assert choose_scale(FREE, [(None, boxes(160))]).mpp is None
    assert choose_scale(FREE, [(None, [])]).px == 1.0


def test_the_scale_of_the_folder_stays() -> None:
    slides = [(HALF, boxes(80))]
    first = choose_scale(FREE, slides)
    wider = [(HALF, boxes(8, 8, 8, 80))]
    assert choose_scale(FREE, wider) != first
    assert choose_scale(FREE, wider, (first.mpp, None, first.why)) == first
    both = choose_scale(FREE, [*wider, (None, boxes(80))], (first.mpp, None, first.why))
    assert (both.mpp, both.px) == (1.0, 2.0)


def test_a_slide_that_is_much_coarser_is_not_enlarged() -> None:
    scale = choose_scale(FREE, [(HALF, boxes(20, 20)), ((8.0, 8.0), boxes(20))])
    assert scale.mpp == 0.25
    assert (scale.first_octave(HALF), scale.first_octave((8.0, 8.0))) == (0, 4)
    assert scale.octave(boxes(1)[0], (8.0, 8.0)) == 4
    # A model that wants its scale gets it.
    assert choose_scale(Settings(mpp=0.25), [((8.0, 8.0), boxes(1))]).first_octave((8.0, 8.0)) == 0


@given(st.floats(0.5, 1e5), st.sampled_from([(0.5, 0.5), (0.25, 0.5), None]))
def test_coarsening_makes_every_object_fit(side: float, mpp: tuple[float, float] | None) -> None:
    scale = Scale(0.5, 1.0, 300.0, "")
    (shape,) = boxes(side)
    octave = scale.octave(shape, mpp)
    length = longer_side(shape, scale.of(mpp))
    assert length / 2**octave <= 300.001
    assert octave == 0 or length / 2 ** (octave - 1) > 299.999
