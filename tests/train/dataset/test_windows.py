"""The plan: every object whole in one window that is its home, alike whatever the order."""

from __future__ import annotations

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from napari_histosam.records import SlideObject
from napari_histosam.train.dataset.kinds import Marked, mark
from napari_histosam.train.dataset.scale import Scale, margin_of
from napari_histosam.train.dataset.windows import plan, plan_background

SIDE = 128
HALF = (0.5, 0.5)
SCALE = Scale(0.5, 1.0, 110.0, "")

sizes = st.tuples(st.integers(40, 900), st.integers(40, 900))
rectangles = st.tuples(st.floats(0, 880), st.floats(0, 880), st.floats(1, 600), st.floats(1, 600))


def marked(size: tuple[int, int], boxes, **more) -> Marked:
    found = [
        SlideObject(shapely.box(x, y, x + w, y + h), id=f"{n:04d}")
        for n, (x, y, w, h) in enumerate(boxes)
    ]
    return mark([*found, *more.get("extra", ())], size)


@given(sizes, st.lists(rectangles, max_size=25), st.sampled_from([HALF, (0.25, 0.4), None]))
def test_each_object_is_whole_in_its_home(size, boxes, mpp) -> None:
    found = marked(size, boxes)
    planned = plan(found, size, mpp, SCALE, SIDE)
    homes = [index for one in planned for index in one.homes]
    assert sorted(homes) == list(range(len(found.objects)))
    for one in planned:
        fine = SCALE.of(mpp)
        assert one.window.scale == (fine[0] * 2**one.octave, fine[1] * 2**one.octave)
        assert all(side <= SIDE for side in one.window.size)
        for index in one.homes:
            shape = found.shapes[index]
            assert one.octave == SCALE.octave(shape, mpp)
            left, top, right, bottom = shape.bounds
            assert one.window.contains([[left, top], [right, bottom]], -1e-3)


@given(sizes, st.lists(rectangles, min_size=1, max_size=25))
def test_windows_stay_on_a_slide_that_is_large_enough(size, boxes) -> None:
    for one in plan(marked(size, boxes), size, None, SCALE, SIDE):
        left, top, right, bottom = one.window.bounds
        assert left >= -1e-6
        assert top >= -1e-6
        # Beyond the slide by less than a px of the window, where the slide is smaller than that.
        assert right < size[0] + one.window.scale[0]
        assert bottom < size[1] + one.window.scale[1]


@given(st.lists(rectangles, min_size=2, max_size=12), st.randoms())
def test_the_order_of_the_objects_does_not_matter(boxes, random) -> None:
    size = (900, 900)
    first = marked(size, boxes)
    pairs = list(zip(first.objects, first.shapes, strict=True))
    random.shuffle(pairs)
    other = Marked(tuple(one for one, _ in pairs), tuple(shape for _, shape in pairs))

    def told(found: Marked) -> list:
        return [
            (one.window, sorted(found.objects[index].id for index in one.homes))
            for one in plan(found, size, None, SCALE, SIDE)
        ]

    assert told(first) == told(other)


def test_near_objects_share_a_window_and_have_a_margin() -> None:
    size = (2000, 2000)
    near = [(300.0 + 12 * n, 305.0, 8.0, 8.0) for n in range(4)]
    (one,) = plan(marked(size, near), size, None, SCALE, SIDE)
    assert len(one.homes) == 4
    wide = margin_of(SIDE)
    for x, y, w, h in near:
        assert one.window.contains([[x, y], [x + w, y + h]], wide)


def test_dense_objects_do_not_make_many_windows() -> None:
    size = (1024, 1024)
    dense = [(x, y, 8.0, 8.0) for x in range(0, 1016, 12) for y in range(0, 1016, 12)]
    planned = plan(marked(size, dense), size, None, SCALE, SIDE)
    # 64 windows would cover the slide without overlap.
    assert len(planned) <= 100


def test_larger_objects_get_coarser_windows() -> None:
    size = (2000, 1500)
    made = marked(size, [(100, 100, 20, 20), (50, 50, 900, 700)])
    fine, coarse = plan(made, size, HALF, SCALE, SIDE)
    assert (fine.octave, coarse.octave) == (0, 4)
    assert coarse.window.size == (125, 94)  # the whole slide is smaller than a window
    assert (fine.homes, coarse.homes) == ((0,), (1,))


def region(*box: float) -> SlideObject:
    return SlideObject(shapely.box(*box), "Region*")


def test_background_comes_from_regions_without_objects() -> None:
    size = (1024, 1024)
    unknown = SlideObject(shapely.box(260, 260, 300, 300), "Ignore*")
    made = marked(size, [(10, 10, 20, 20)], extra=[region(0, 0, 512, 512), unknown])
    planned = plan_background(made, size, None, SCALE, SIDE, 99, "s")
    places = {(one.window.bounds[0], one.window.bounds[1]) for one in planned}
    cells = {(x, y) for x in range(0, 512, 128) for y in range(0, 512, 128)}
    assert places == cells - {(0, 0), (256, 256)}
    assert all(one.homes == () and one.octave == 0 for one in planned)
    assert plan_background(made, size, None, SCALE, SIDE, 0, "s") == []
    assert plan_background(marked(size, []), size, None, SCALE, SIDE, 9, "s") == []


def test_the_choice_of_background_is_by_seed_and_does_not_jump() -> None:
    size = (1024, 1024)
    made = marked(size, [], extra=[region(0, 0, 1024, 1024)])
    three = plan_background(made, size, None, SCALE, SIDE, 3, "a")
    five = plan_background(made, size, None, SCALE, SIDE, 5, "a")
    assert (len(three), len(five)) == (3, 5)
    assert {one.window for one in three} < {one.window for one in five}
    assert {one.window for one in plan_background(made, size, None, SCALE, SIDE, 3, "b")} != {
        one.window for one in three
    }


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_background_is_labelled_for_the_most_part(share: float) -> None:
    size = (512, 512)
    made = marked(size, [], extra=[region(0, 0, 128 * share, 128)])
    assert len(plan_background(made, size, None, SCALE, SIDE, 9, "s")) == (share > 0.5)
