"""Windows hold what they must, whatever the prompts, the scale and the zoom."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from napari_histosam.geometry.window import Window
from napari_histosam.models.cards import ModelCard
from napari_histosam.session.windows import (
    COARSEST,
    FILL,
    FINEST,
    TOUCH,
    base_scale,
    first_window,
    is_cut,
    neighbours,
    next_window,
    snapped,
)


@dataclass(frozen=True)
class Stage:
    """As much of a slide as windows need."""

    width: int = 100_000
    height: int = 80_000
    mpp: tuple[float, float] | None = (0.25, 0.25)


def card(window_px: int = 1024, mpp: float | None = None) -> ModelCard:
    return ModelCard("m", "m", "m", "none", ("point",), window_px, mpp)


places = st.floats(0, 80_000)
extents = st.one_of(st.just(0.0), st.floats(0.5, 40_000))
scales = st.one_of(st.none(), st.tuples(st.floats(0.1, 2.0), st.floats(0.1, 2.0)))
zooms = st.one_of(st.none(), st.floats(1e-3, 300))
cards = st.builds(
    card,
    st.sampled_from([224, 256, 512, 1024]),
    st.one_of(st.none(), st.sampled_from([0.25, 0.5, 1.0, 2.0])),
)


@st.composite
def prompts(draw):
    left, top = draw(places), draw(places)
    return left, top, left + draw(extents), top + draw(extents)


def corners(bounds):
    return [bounds[:2], bounds[2:]]


@given(prompts(), scales, zooms, cards)
@example((10.0, 10.0, 10.0, 10.0), (0.25, 0.5), None, card())
def test_prompts_lie_inside_the_window_with_margin(bounds, mpp, zoom, model) -> None:
    window = first_window(Stage(mpp=mpp), model, bounds, view_scale=zoom)
    margin = model.window_px * (1 - FILL) / 2
    assert window.contains(corners(bounds), margin * 0.999)
    assert window.size == (model.window_px, model.window_px)


@given(prompts(), scales, zooms, cards)
def test_the_same_prompts_give_the_same_window(bounds, mpp, zoom, model) -> None:
    stage = Stage(mpp=mpp)
    assert first_window(stage, model, bounds, view_scale=zoom) == first_window(
        stage, model, bounds, view_scale=zoom
    )


@given(prompts(), prompts(), scales, zooms, cards)
def test_the_previous_window_stays_while_prompts_fit(first, second, mpp, zoom, model) -> None:
    stage = Stage(mpp=mpp)
    previous = first_window(stage, model, first)
    window = first_window(stage, model, second, view_scale=zoom, previous=previous)
    if previous.contains(corners(second), TOUCH):
        assert window == previous
    else:
        assert window != previous
    assert window.contains(corners(second), TOUCH)


@given(prompts(), st.floats(0.05, 64), st.sampled_from([256, 1024]))
def test_snapping_never_loses_what_must_be_held(bounds, scale, size) -> None:
    assume(max(bounds[2] - bounds[0], bounds[3] - bounds[1]) <= FILL * size * scale)
    centre = ((bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2)
    window = Window(*centre, (scale, scale), (size, size))
    moved = snapped(window, bounds)
    assert moved.contains(corners(bounds), size * (1 - FILL) / 2 * 0.999)
    assert moved.scale == window.scale
    assert moved.size == window.size


@given(places, places, cards)
def test_clicks_nearby_share_a_window(x, y, model) -> None:
    stage = Stage()
    window = first_window(stage, model, (x, y, x, y))
    # Anything nearer to the window's own centre than a quarter of its side falls to it, too.
    reach = 0.24 * model.window_px * window.scale[0]
    for dx, dy in ((0, 0), (reach, 0), (-reach, reach), (0, -reach)):
        at = (window.cx + dx, window.cy + dy)
        assert first_window(stage, model, (*at, *at)) == window


@given(zooms.filter(bool), st.floats(0.9, 1.1), scales)
def test_zooms_are_rounded_to_powers_of_two(zoom, nearly, mpp) -> None:
    stage = Stage(mpp=mpp)
    sx, _ = base_scale(stage, card(), zoom)
    assert FINEST <= sx <= COARSEST
    assert sx.hex().startswith("0x1.0000000000000p")
    assert base_scale(stage, card(), sx * nearly)[0] == sx


def test_a_card_with_mpp_ignores_the_zoom() -> None:
    assert base_scale(Stage(mpp=(0.25, 0.25)), card(mpp=0.5), 16.0) == (2.0, 2.0)


def test_a_card_with_mpp_follows_the_zoom_on_a_slide_without_one() -> None:
    assert base_scale(Stage(mpp=None), card(mpp=0.5), 4.2) == (4.0, 4.0)
    assert base_scale(Stage(mpp=None), card(mpp=0.5), None) == (1.0, 1.0)


def test_a_script_gets_20x() -> None:
    assert base_scale(Stage(mpp=(0.25, 0.25)), card(), None) == (2.0, 2.0)


@given(st.floats(0.1, 2), st.floats(0.1, 2), zooms)
def test_round_things_stay_round_on_anisotropic_slides(mx, my, zoom) -> None:
    for model in (card(), card(mpp=0.5)):
        sx, sy = base_scale(Stage(mpp=(mx, my)), model, zoom)
        assert sx * mx == pytest.approx(sy * my)


@given(prompts(), st.booleans(), st.floats(0.1, 4), st.data())
def test_the_next_window_holds_mask_and_prompts(bounds, recentred, scale, data) -> None:
    window = first_window(Stage(mpp=None), card(), bounds, view_scale=scale)
    wl, wt, wr, wb = window.bounds
    x0, x1 = sorted(data.draw(st.tuples(st.floats(wl, wr), st.floats(wl, wr))))
    y0, y1 = sorted(data.draw(st.tuples(st.floats(wt, wb), st.floats(wt, wb))))
    mask = (x0, y0, x1, y1)
    after = next_window(window, mask, bounds, recentred=recentred)
    if after is None:
        assert window.scale[0] * 2 > COARSEST
        return
    assert after.contains(corners(bounds), TOUCH)
    assert after.contains(corners(mask), TOUCH)
    assert after.scale[0] in (window.scale[0], 2 * window.scale[0])
    if recentred:
        assert after.scale[0] == 2 * window.scale[0]


def test_a_cut_mask_recentres_first_and_then_goes_coarser() -> None:
    window = Window(1024, 1024, (1.0, 1.0), (1024, 1024))
    mask = (1400.0, 1000.0, 1536.0, 1100.0)
    click = (1450.0, 1050.0, 1450.0, 1050.0)
    moved = next_window(window, mask, click, recentred=False)
    assert moved is not None
    assert moved.scale == window.scale
    assert moved.contains(corners(mask), 100)
    coarser = next_window(moved, mask, click, recentred=True)
    assert coarser is not None
    assert coarser.scale == (2.0, 2.0)


def test_a_mask_that_fills_the_window_goes_coarser_at_once() -> None:
    window = Window(1024, 1024, (1.0, 1.0), (1024, 1024))
    after = next_window(window, window.bounds, (1024.0, 1024.0, 1024.0, 1024.0), recentred=False)
    assert after is not None
    assert after.scale == (2.0, 2.0)


def test_the_slides_own_edges_cut_nothing() -> None:
    stage = Stage(1000, 800)
    over = Window(100, 100, (1.0, 1.0), (512, 512))
    assert not is_cut(stage, over, (0.0, 0.0, 200.0, 200.0))
    assert is_cut(stage, over, (0.0, 0.0, 356.0, 200.0))
    under = Window(900, 700, (1.0, 1.0), (512, 512))
    assert not is_cut(stage, under, (700.0, 500.0, 1000.0, 800.0))
    assert is_cut(stage, under, (700.0, 445.0, 1000.0, 800.0))
    # Its right edge lies on the slide's, give or take a px: nothing is beyond.
    flush = Window(744, 544, (1.0, 1.0), (512, 512))
    assert not is_cut(stage, flush, (700.0, 500.0, 1000.0, 800.0))
    whole = Window(500, 400, (2.0, 2.0), (512, 512))
    assert not is_cut(stage, whole, (0.0, 0.0, 1000.0, 800.0))
    inner = Window(500, 400, (1.0, 1.0), (512, 512))
    assert not is_cut(stage, inner, (300.0, 300.0, 400.0, 400.0))
    assert is_cut(stage, inner, (245.0, 300.0, 400.0, 400.0))


@given(prompts())
def test_neighbours_lie_on_the_grid_and_on_the_slide(bounds) -> None:
    stage = Stage(20_000, 20_000)
    window = first_window(stage, card(), (bounds[0] / 4, bounds[1] / 4) * 2)
    found = neighbours(stage, window)
    assert found
    for one in found:
        # A click in the middle of it, or where the slide ends before, leads to it.
        x, y = min(max(one.cx, 0), stage.width), min(max(one.cy, 0), stage.height)
        assert first_window(stage, card(), (x, y, x, y)) == one


# -- models that look at several scales -----------------------------------------------------------

LEAST, MOST = 36.0, 300.0


def scaling_card() -> ModelCard:
    return ModelCard("s", "s", "s", "none", ("point",), 512, object_px=(LEAST, MOST))


@given(st.floats(30, 60_000), st.floats(0.01, 200), scales)
def test_the_scale_follows_the_size_of_an_object(side, zoom, mpp) -> None:
    at = (40_000.0, 30_000.0, 40_000.0 + side, 30_000.0 + side)
    window = first_window(Stage(mpp=mpp), scaling_card(), at, view_scale=zoom, side=side)
    coarser, finer = max(window.scale), min(window.scale)
    assert coarser >= FINEST or finer >= FINEST / 3
    shown = side / window.scale[0]
    aspect = coarser / finer
    assert shown <= MOST * 1.001
    # Where px are far from square, one step finer would not hold the object along the other axis.
    filled = side / finer > 512 * FILL / 2 * 0.999
    assert shown >= LEAST * 0.999 or coarser <= FINEST * 2 * aspect or filled
    assert window.contains(corners(at), 0)


def test_a_size_that_suits_the_zoom_leaves_it() -> None:
    at = (5000.0, 5000.0, 5100.0, 5100.0)
    plain = first_window(Stage(), scaling_card(), at, view_scale=1.0)
    assert first_window(Stage(), scaling_card(), at, view_scale=1.0, side=100.0) == plain
    small = first_window(Stage(), scaling_card(), at, view_scale=8.0, side=100.0)
    assert small.scale[0] == 2.0


def test_models_of_one_scale_do_not_follow_the_size() -> None:
    at = (5000.0, 5000.0, 5100.0, 5100.0)
    plain = first_window(Stage(), card(), at, view_scale=1.0)
    assert first_window(Stage(), card(), at, view_scale=1.0, side=2000.0) == plain


@pytest.mark.parametrize(
    ("size", "scale"),
    [((224, 224), 0.5), ((1000, 800), 0.5), ((1500, 1500), 1.0), ((90_000,) * 2, 1)],
)
def test_without_zoom_and_mpp_a_picture_is_seen_as_a_whole(size, scale) -> None:
    stage = Stage(*size, mpp=None)
    assert base_scale(stage, scaling_card(), None) == (scale, scale)


def test_without_zoom_several_scales_begin_finer() -> None:
    assert base_scale(Stage(), scaling_card(), None)[0] == 1.0
    assert base_scale(Stage(), card(), None)[0] == 2.0
