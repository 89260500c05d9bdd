"""What the raster paints, against geometry itself."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import shapely
from shapely import affinity

from napari_histosam.records import ObjectClass, SlideObject
from napari_histosam.store import ObjectRaster, ObjectStore
from napari_histosam.store.raster import fill_value, outline_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SIZE = 2000


def pyramid(store: ObjectStore, tile: int = 256, levels: int = 5, stretch: float = 1.0) -> Any:
    scales = [(2.0**i, stretch * 2.0**i) for i in range(levels)]
    shapes = [(int(np.ceil(SIZE / sy)), int(np.ceil(SIZE / sx))) for sx, sy in scales]
    return ObjectRaster(store, shapes, scales, tile)


def whole(raster: ObjectRaster, level: int) -> NDArray[np.uint8]:
    rows, cols = raster.grid(level)
    image = np.block(
        [[raster.read_tile(level, row, col) for col in range(cols)] for row in range(rows)]
    )
    assert image.shape == raster.shapes[level]
    assert image.dtype == np.uint8
    return image


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with ObjectStore.open(None) as opened:
        yield opened


def blob(x: float, y: float, r: float, seed: int) -> shapely.Polygon:
    draw = random.Random(seed)
    turns = [2 * np.pi * i / 30 for i in range(30)]
    far = [r * draw.uniform(0.6, 1.0) for _ in turns]
    ring = [(x + f * np.cos(t), y + f * np.sin(t)) for f, t in zip(far, turns, strict=True)]
    hole = [(x + 0.3 * r * np.cos(t), y + 0.4 * r * np.sin(t)) for t in turns]
    return shapely.Polygon(ring, [hole])


@pytest.mark.parametrize(("level", "stretch"), [(1, 1.0), (1, 1.7), (2, 1.7), (3, 1.0)])
def test_pixels_are_filled_where_the_outline_says(store, level: int, stretch: float) -> None:
    parts = shapely.MultiPolygon([blob(500, 500, 300, 1), blob(1300.4, 600.7, 250, 2)])
    shape = shapely.union_all([parts, blob(900, 1500, 700, 3)])
    store.add([SlideObject(shape, "Tumor")])
    raster = pyramid(store, stretch=stretch)
    image = whole(raster, level)
    sx, sy = raster.scales[level]
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    # Distances in pixels: the picture's own frame.
    drawn = affinity.scale(shape, 1 / sx, 1 / sy, origin=(0, 0))
    shapely.prepare(drawn)
    centres = shapely.points(x + 0.5, y + 0.5)
    inside = shapely.contains_xy(drawn, x + 0.5, y + 0.5)
    edge = shapely.distance(drawn.boundary, centres)
    # cv2 draws its lines to within 1.5 px (0.9 px, but for long slanting ones).
    assert (image[inside & (edge > 1.5)] == fill_value(1)).all()
    assert (image[~inside & (edge > 1.5)] == 0).all()
    assert edge[image == outline_value(1)].max() <= 1.5
    assert np.percentile(edge[image == outline_value(1)], 99) < 1
    # The outline is closed: no filled pixel lies side by side with an empty one.
    fill, empty = image == fill_value(1), image == 0
    assert not (fill[1:] & empty[:-1]).any()
    assert not (fill[:-1] & empty[1:]).any()
    assert not (fill[:, 1:] & empty[:, :-1]).any()
    assert not (fill[:, :-1] & empty[:, 1:]).any()


def test_tiles_fit_together(store) -> None:
    """Exactly, where edges are short; long ones may jump by a px (cv2 cuts them at the border)."""
    store.add(
        [
            SlideObject(blob(90 * i, 500 + 100 * j, 80, i + j), "Tumor")
            for i in range(20)
            for j in range(6)
        ]
    )
    store.add([SlideObject(shapely.Point(256 * i, 256 * i)) for i in range(8)])
    store.add([SlideObject(shapely.LineString([(256, 256), (250, 270), (230, 260)]))])
    small, large = pyramid(store, tile=64), pyramid(store, tile=4096)
    for level in range(5):
        np.testing.assert_array_equal(whole(small, level), whole(large, level))


def test_nested_objects_show_and_selected_ones_lie_on_top(store) -> None:
    inner = SlideObject(shapely.box(400, 400, 600, 600), "Stroma")
    outer = SlideObject(shapely.box(100, 100, 1000, 1000), "Tumor")
    store.add([inner, outer])
    raster = pyramid(store)
    image = whole(raster, 0)
    assert (image[500, 500], image[500, 200], image[500, 400]) == (5 + 2, 5, 6 + 2)
    raster.selected = {outer.id}
    image = whole(raster, 0)
    assert (image[500, 500], image[100, 500], image[50, 50]) == (1, 2, 0)
    raster.selected, raster.hidden = set(), {inner.id, "no such id"}
    assert whole(raster, 0)[500, 500] == fill_value(1)
    assert raster.bounds_of([inner.id, "gone"]) == [(400, 400, 600, 600)]


def test_touching_objects_of_one_class_stay_apart(store, make) -> None:
    store.add([make(100, 100, 100, class_name="Tumor"), make(200, 100, 100, class_name="Tumor")])
    row = whole(pyramid(store), 0)[150, 90:310]
    assert (np.flatnonzero(row == outline_value(1)) >= 0).sum() >= 3
    assert row[110] == outline_value(1)


def test_nothing_vanishes_at_coarse_levels(store, make) -> None:
    store.add([make(100 * i + 3, 100 * j + 7, 4) for i in range(20) for j in range(20)])
    raster = pyramid(store)
    for level in range(5):
        image = whole(raster, level)
        scale = 2**level
        for i in range(20):
            for j in range(20):
                at = image[(100 * j + 9) // scale, (100 * i + 5) // scale]
                assert at in (fill_value(0), outline_value(0))
    assert 300 <= (whole(raster, 4) > 0).sum() <= 400


def test_points_lines_and_collections(store) -> None:
    line = shapely.LineString([(100, 100), (300, 100)])
    nested = shapely.GeometryCollection(
        [
            shapely.MultiPoint([(500, 500), (600, 500)]),
            shapely.GeometryCollection([line, shapely.box(700, 700, 800, 800)]),
        ]
    )
    store.add([SlideObject(nested, "Tumor"), SlideObject(shapely.Point(50, 60), "Stroma")])
    image = whole(pyramid(store), 0)
    assert (image[500, 500], image[500, 600], image[60, 50]) == (6, 6, 8)
    assert (image[98:102, 200] == 6).any()
    assert (image[120, 200], image[750, 750]) == (0, 5)
    assert (image[58:63, 48:53] == 8).all()


def test_a_giant_outline_is_right_on_every_tile(store) -> None:
    giant = shapely.box(-3e6, -3e6, 3e6, 1000.5)
    store.add([SlideObject(giant, "Tumor")])
    image = whole(pyramid(store), 0)
    assert (image[:999] == fill_value(1)).all()
    assert (image[1002:] == 0).all()


def test_only_touched_tiles_change(store) -> None:
    raster = pyramid(store, tile=64)
    draw = random.Random(5)
    store.add(
        [SlideObject(blob(draw.uniform(0, 2000), draw.uniform(0, 2000), 60, i)) for i in range(50)]
    )
    everything = {
        (level, row, col)
        for level in range(5)
        for row in range(raster.grid(level)[0])
        for col in range(raster.grid(level)[1])
    }

    def tiles() -> dict[tuple[int, int, int], bytes]:
        return {at: raster.read_tile(*at).tobytes() for at in everything}

    def edit(i: int) -> Any:
        key = store.ids()[i]
        if i % 4 == 0:
            return store.delete([key])
        if i % 4 == 1:
            return store.undo()
        if i % 4 == 2:
            return store.add(
                [
                    SlideObject(shapely.Point(64 * i, 64 * i)),
                    SlideObject(shapely.box(128, 64 * i, 192, 64 * i + 64)),
                ]
            )
        return store.update([replace(store.get(key), geometry=blob(64 * i, 128, 64, i))])

    changes: list[Any] = []
    store.changed.connect(changes.append)
    before = tiles()
    for i in range(12):
        edit(i)
        after = tiles()
        touched = set(raster.touched(changes[-1].bounds))
        differing = {at for at in everything if before[at] != after[at]}
        assert differing
        assert differing <= touched <= everything
        assert len(touched) < len(everything) / 4
        before = after
    assert raster.touched([(-500, -500, -100, -100)]) == []
    assert set(raster.touched([(-1e9, -1e9, 1e9, 1e9)])) == everything


def test_the_raster_follows_every_edit(store, make) -> None:
    """After any edits it paints what a fresh raster paints."""
    raster = pyramid(store)
    draw = random.Random(3)
    ids: list[str] = []
    for step in range(60):
        kind = draw.choice(["add", "bulk", "delete", "update", "undo", "redo", "class"])
        ids = store.ids()
        if kind in ("add", "bulk"):
            n = 1 if kind == "add" else draw.choice([30, 1500])
            store.add([make(draw.uniform(0, 1900), draw.uniform(0, 1900), 30) for _ in range(n)])
        elif kind == "delete" and ids:
            store.delete(draw.sample(ids, min(len(ids), draw.choice([1, 5]))))
        elif kind == "update" and ids:
            item = store.get(draw.choice(ids))
            store.update([replace(item, geometry=shapely.box(5, 5, 90, 90), class_name="Tumor")])
        elif kind == "class" and "Tumor" in store.counts_by_class():
            store.delete_class("Tumor")
        elif kind == "undo":
            store.undo()
        else:
            store.redo()
        if step % 3 == 0:
            np.testing.assert_array_equal(whole(raster, 2), whole(pyramid(store), 2))


def test_the_raster_starts_again_after_a_reset(tmp_path, make) -> None:
    path = tmp_path / "a.sqlite"
    with ObjectStore.open(path) as first, ObjectStore.open(path) as second:
        raster = pyramid(second)
        assert not whole(raster, 0).any()
        first.add([make(0, 0, 50)])
        assert second.refresh()
        assert whole(raster, 0)[25, 25] == fill_value(0)


def test_values_and_colours(store, make) -> None:
    store.add([make(12 * i, 0, 10, class_name=f"class {i:03d}") for i in range(150)])
    store.add([make(0, 100)])
    raster = pyramid(store)
    raster.selected = {store.ids()[3]}
    colours = raster.colours()
    assert set(np.unique(whole(raster, 0))) <= set(colours)
    assert all(0 <= value <= 255 and len(rgba) == 4 for value, rgba in colours.items())
    assert colours[0][3] == 0
    assert colours[fill_value(1)][:3] == pytest.approx((200 / 255, 0, 0))
    assert colours[fill_value(1)][3] < colours[outline_value(1)][3] == 1
    store.put_class(ObjectClass("Tumor", (0, 255, 0)))
    assert raster.colours()[outline_value(1)] == (0, 1, 0, 1)
    assert len({fill_value(k) for k in range(126)}) == 126
    assert outline_value(1000) == 254


def test_shapes_and_scales_must_agree(store) -> None:
    with pytest.raises(ValueError, match="do not go with"):
        ObjectRaster(store, [(1, 1)], [])
