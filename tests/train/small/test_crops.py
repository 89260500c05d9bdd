"""Training crops: masks lie on their objects, glass is glass, one state gives one crop."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from napari_histosam.train.small import crops, stain
from napari_histosam.train.small.crops import OBJECTS, SIDE, SMALL_SIDE, CropMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_histosam.train.small.crops import Crop
    from napari_histosam.train.small.pool import Picture

RED, BLUE, GREEN = (210, 20, 20), (20, 20, 190), (20, 200, 20)


@pytest.fixture
def as_painted(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Crops in the colours of their pictures: no other look, no bare glass, nothing added."""
    monkeypatch.setattr(stain, "recoloured", lambda image, rng: image)
    monkeypatch.setattr(crops, "_BARE", 0.0)
    monkeypatch.setattr(crops, "_CONTINUED", 0.0)
    return monkeypatch


@pytest.fixture
def sized(as_painted: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Crops as painted whose objects have a given side (root of the area)."""
    return lambda side: as_painted.setattr(crops, "_size", lambda rng: side)


def make(
    pictures: Sequence[Picture], count: int, start: int = 0, side: int = SIDE, **more: object
) -> list[Crop]:
    maker = CropMaker(pictures, **more)
    return [maker.make(np.random.default_rng((start, seed)), side) for seed in range(count)]


def redder(crop: Crop) -> np.ndarray:
    """Pixels that are rather red than blue (glass is neither)."""
    image = crop.image.astype(int)
    return image[..., 0] - image[..., 2] > 35


def centroid(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(0)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def touches_border(mask: np.ndarray) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def same(a: Crop, b: Crop) -> bool:
    pairs = zip(vars(a).values(), vars(b).values(), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def test_the_same_state_gives_the_same_crop(nuclei: list[Picture]) -> None:
    first = make(nuclei, 60)
    maker = CropMaker(nuclei)
    for seed in reversed(range(60)):  # whatever was made before
        assert same(maker.make(np.random.default_rng((0, seed))), first[seed])
    others = make(nuclei, 60, start=1)
    assert not any(same(a, b) for a, b in zip(first, others, strict=True))
    assert not any(same(a, b) for a, b in pairwise(first))


@pytest.mark.parametrize("side", [SIDE, SMALL_SIDE])
def test_what_a_crop_is_made_of(nuclei: list[Picture], side: int) -> None:
    for crop in make(nuclei, 60, side=side):
        assert crop.image.shape == (side, side, 3)
        assert crop.image.dtype == np.uint8
        assert crop.masks.shape == (OBJECTS, side, side)
        assert crop.masks.dtype == crop.glass.dtype == bool
        assert crop.glass.shape == (side, side)
        assert crop.areas.shape == (OBJECTS,)
        assert not (crop.masks & crop.glass).any()


@pytest.mark.parametrize("side", [SIDE, SMALL_SIDE])
@pytest.mark.parametrize("radius", [7, 14, 40, 110])
@pytest.mark.parametrize("wanted", [18, 40])
def test_masks_lie_on_their_objects(
    sized, picture: Callable, radius: int, wanted: int, side: int
) -> None:
    sized(wanted)
    size = 4 * radius + 60
    place = (size / 2 - 3, size / 2 + 8, radius)
    one = picture(size, size, place, colour=RED, ground=BLUE)
    for crop in make([one], 25, side=side):
        pixels = redder(crop)
        for mask in crop.masks:
            assert mask.any()
            assert overlap(mask, pixels) > 0.87
            assert np.abs(centroid(mask) - centroid(pixels)).max() < 0.4
            assert abs(mask.sum() / pixels.sum() - 1) < 0.1
        if not touches_border(mask):
            assert np.sqrt(mask.sum()) == pytest.approx(wanted, rel=0.05)


def test_sizes_vary_and_nothing_is_enlarged_much(as_painted, picture: Callable) -> None:
    large = picture(500, 500, (250, 250, 120), colour=RED, ground=BLUE)
    sides = np.sqrt([crop.areas[0] for crop in make([large], 300)])
    assert 28 < np.median(sides) < 40
    assert sides.min() < 15
    assert sides.max() > 90
    small = picture(60, 60, (30, 30, 5), colour=RED, ground=BLUE)
    sides = np.sqrt([crop.areas[0] for crop in make([small], 100)])
    assert sides.max() < 3.3 * 5 * np.sqrt(np.pi)


def test_plain_crops_are_of_every_size_and_hardly_recoloured(
    as_painted, picture: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = []
    monkeypatch.setattr(stain, "recoloured", lambda image, rng: changed.append(1) or image)
    large = picture(500, 500, (250, 250, 120), colour=RED, ground=BLUE)
    usual = np.sqrt([crop.areas[0] for crop in make([large], 200)])
    assert len(changed) == 200
    plain = np.sqrt([crop.areas[0] for crop in make([large], 200, plain=True)])
    assert 20 < len(changed) - 200 < 100
    assert np.log(plain).std() > 1.4 * np.log(usual).std()
    assert (plain > 60).mean() > 1.5 * (usual > 60).mean()


def test_of_a_very_large_object_a_part_is_shown(sized, picture: Callable) -> None:
    sized(300)
    one = picture(500, 500, (250, 250, 120), colour=RED, ground=BLUE)
    shares = []
    for crop in make([one], 40):
        assert crop.masks[0].any()
        assert overlap(crop.masks[0], redder(crop)) > 0.87
        assert crop.areas[0] == pytest.approx(300**2, rel=0.02)
        shares.append(crop.masks[0].mean())
    assert min(shares) < 0.6  # some show its border
    assert max(shares) == 1


def test_objects_of_any_shape_are_turned_and_mirrored(sized, paint: Callable) -> None:
    sized(40)
    from napari_histosam.train.small.pool import measured

    image, labels = np.full((120, 120, 3), BLUE, np.uint8), np.zeros((120, 120), np.uint16)
    shape = np.zeros((120, 120), bool)
    shape[40:80, 40:52], shape[70:80, 40:70] = True, True  # an L
    image[shape], labels[shape] = RED, 5
    angles, hands = [], []
    for crop in make([measured("dsb_1", image, labels)], 80):
        mask = crop.masks[0]
        assert overlap(mask, redder(crop)) > 0.85
        if touches_border(mask):
            continue
        moments = cv2.moments(mask.astype(np.uint8))
        angles.append(np.arctan2(2 * moments["mu11"], moments["mu20"] - moments["mu02"]) / 2)
        hu = cv2.HuMoments(moments).ravel()
        hands.append(np.sign(hu[6]))  # its sign is the mirror's
    assert len(set(np.round(np.array(angles) * 4))) > 8
    assert 0.25 < np.mean(np.array(hands) > 0) < 0.75


@pytest.mark.parametrize("side", [60, 80, 110])
def test_areas_count_what_the_crop_cuts_off(sized, picture: Callable, side: int) -> None:
    sized(side)
    one = picture(500, 500, (250, 250, 120), colour=RED, ground=BLUE)
    cut = whole = 0
    for crop in make([one], 40):
        mask, area = crop.masks[0], crop.areas[0]
        assert area == pytest.approx(side**2, rel=0.02)
        if touches_border(mask):
            assert area >= mask.sum()
            cut += area > 1.05 * mask.sum()
        else:
            assert mask.sum() == pytest.approx(side**2, rel=0.02)
            whole += 1
    assert whole > 20 if side == 60 else cut > 5


def test_a_neighbour_is_asked_for_as_well(sized, picture: Callable) -> None:
    sized(34)
    two = picture(200, 200, (80, 100, 15), (114, 100, 15), colour=RED, ground=BLUE)
    alone = picture(200, 200, (80, 100, 15), colour=RED, ground=BLUE)
    both = 0
    for crop in make([two], 40):
        first, second = crop.masks
        if not np.array_equal(first, second):
            both += 1
            assert not (first & second).any()
            assert overlap(first | second, redder(crop)) > 0.85
        else:
            assert crop.areas[0] == crop.areas[1]
    assert both > 20
    assert all(np.array_equal(*crop.masks) for crop in make([alone], 20))


def test_slivers_of_neighbours_are_not_asked_for(sized, picture: Callable) -> None:
    sized(30)
    grid = [(30 + 30 * i, 30 + 30 * j, 12) for i in range(9) for j in range(9)]
    one = picture(300, 300, *grid, colour=RED, ground=BLUE)
    shown = np.array([crop.masks[1].sum() / crop.areas[1] for crop in make([one], 150)])
    assert (shown > 0.55).mean() > 0.97  # of the first one, too, a part may be all there is
    assert (shown > 0.97).mean() > 0.25


def dark_picture(picture: Callable, name: str = "dsb_1", height: int = 70) -> Picture:
    return picture(height, 70, (35, 35, 12), name=name, colour=RED, ground=BLUE)


def test_glass_is_marked_only_where_there_is_glass(sized, picture: Callable) -> None:
    sized(30)
    some, black = 0, 0
    for crop in make([dark_picture(picture)], 100):
        # What the picture shows is dark in one channel; glass is bright in all.
        bright = crop.image.min(2) >= 225
        inner = cv2.erode(crop.glass.astype(np.uint8), np.ones((9, 9)), borderValue=1) > 0
        assert bright[inner].all()
        outer = cv2.dilate(crop.glass.astype(np.uint8), np.ones((9, 9))) > 0
        assert not bright[~outer].any()
        some += crop.glass.any()
        nothing = (crop.image.max(2) == 0).mean() > 0.02
        if nothing:
            black += 1
            assert not crop.glass.any()
    assert some > 50
    assert 2 < black < 40


def test_other_tissue_may_stand_beyond_the_border(as_painted, sized, picture: Callable) -> None:
    sized(34)
    small = dark_picture(picture)
    other = picture(400, 400, (200, 200, 30), name="dsb_2", colour=GREEN, ground=(20, 90, 20))
    as_painted.setattr(crops, "_CONTINUED", 1.0)
    continued = 0
    for crop in make([small, other], 150):
        image = crop.image.astype(int)
        from_small = (image[..., 2] > 100) & (image[..., 1] < 60)
        from_other = (image[..., 1] > 60) & (image[..., 2] < 60)
        bright = crop.image.min(2) >= 225
        inner = cv2.erode(crop.glass.astype(np.uint8), np.ones((9, 9)), borderValue=1) > 0
        assert bright[inner].all()
        if from_small.mean() > 0.1 and from_other.mean() > 0.1:
            continued += 1
            assert overlap(crop.masks[0], redder(crop)) > 0.85
            assert not (crop.masks & from_other).any()
    assert continued > 4


def test_without_continuation_nothing_of_another_picture_is_shown(sized, picture) -> None:
    sized(34)
    small = dark_picture(picture)
    other = picture(400, 400, (200, 200, 30), name="dsb_2", colour=GREEN, ground=(20, 90, 20))
    for crop in make([small, other], 60):
        image = crop.image.astype(int)
        assert not (
            ((image[..., 2] > 100) & (image[..., 1] < 60)).mean() > 0.1
            and ((image[..., 1] > 60) & (image[..., 2] < 60)).mean() > 0.1
        )


def test_bare_glass(monkeypatch: pytest.MonkeyPatch, nuclei: list[Picture]) -> None:
    monkeypatch.setattr(crops, "_BARE", 1.0)
    made = make(nuclei, 20)
    for crop in made:
        assert crop.glass.all()
        assert not crop.masks.any()
        assert not crop.areas.any()
        assert crop.image.mean() > 210
        assert crop.image.std((0, 1)).max() < 8
    assert len({crop.image.tobytes() for crop in made}) == 20


def test_how_often_glass_is_bare(nuclei: list[Picture]) -> None:
    bare = sum(bool(crop.glass.all()) for crop in make(nuclei, 400))
    assert 1 <= bare <= 16  # 1.5 %


@pytest.mark.parametrize("continued", [0.0, 1.0])
def test_fluorescence_is_shown_dark_on_bright(
    as_painted, sized, picture: Callable, continued: float
) -> None:
    sized(40)
    as_painted.setattr(crops, "_CONTINUED", continued)
    glowing = picture(
        150, 150, (75, 75, 20), name="dsbf_1", colour=(180, 180, 180), ground=(10, 10, 10)
    )
    for crop in make([glowing], 30):
        light = crop.image.mean(2)
        around = cv2.dilate(crop.masks[0].astype(np.uint8), np.ones((9, 9))) > 0
        around &= ~crop.masks[0] & ~crop.glass & (light > 0)
        assert light[crop.masks[0]].mean() < light[around].mean() - 10
        pale = crop.image[cv2.erode(crop.glass.astype(np.uint8), np.ones((9, 9))) > 0]
        assert (pale >= 225).all()


def test_data_sets_are_drawn_by_their_shares(sized, picture: Callable) -> None:
    sized(34)
    colours = {"a": RED, "b": GREEN, "c": BLUE}
    pictures = [
        picture(300, 300, (150, 150, 20), name=f"{kind}_1", colour=colour, ground=(9, 9, 9))
        for kind, colour in colours.items()
    ]
    pictures += [
        picture(300, 300, (150, 150, 20), name=f"a_{n}", colour=RED, ground=(9, 9, 9))
        for n in range(2, 8)
    ]

    def drawn(**shares: float) -> Counter[str]:
        made = make(pictures, 200, shares=shares)
        return Counter("abc"[crop.image[crop.masks[0]].sum(0).argmax()] for crop in made)

    found = drawn(a=0.1, b=0.6, c=0.3, absent=5.0)
    assert abs(found["a"] - 20) < 15
    assert abs(found["b"] - 120) < 25
    assert abs(found["c"] - 60) < 25
    # A set that is not named gets a small share.
    found = drawn(a=0.9)
    assert abs(found["a"] - 180) < 12
    assert found["b"]
    assert found["c"]
