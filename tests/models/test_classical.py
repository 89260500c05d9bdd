"""Decoder `classical`: what it must always do, and how well it does on real objects."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from skimage.color import rgb2hed

from napari_histosam.errors import InputError
from napari_histosam.models.automatic import AutomaticModel
from napari_histosam.models.classical import regions
from napari_histosam.models.classical.model import ClassicalModel
from napari_histosam.models.classical.refine import edited, snapped
from napari_histosam.models.classical.stain import UNITS, haematoxylin
from napari_histosam.models.protocols import ObjectPrompts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_histosam.models.registry import ModelRegistry


@pytest.fixture
def model(session_registry: ModelRegistry) -> ClassicalModel:
    loaded = session_registry.load("classical")
    assert isinstance(loaded, ClassicalModel)
    return loaded


def clicks(*places: tuple[float, float], labels: list[int] | None = None) -> ObjectPrompts:
    return ObjectPrompts(
        points=np.array(places, float), labels=np.array(labels or [1] * len(places))
    )


def nuclei_image(*discs: tuple[int, int, int], size: int = 160) -> np.ndarray:
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:size, :size] + 0.5
    image = np.full((size, size, 3), (232, 190, 214), np.float64)
    for x, y, r in discs:
        image[(xx - x) ** 2 + (yy - y) ** 2 < r * r] = (90, 62, 140)
    return (image + rng.normal(0, 3, image.shape)).clip(0, 255).astype(np.uint8)


def disc(x: float, y: float, r: float, size: int = 160) -> np.ndarray:
    return regions.disc((size, size), x, y, r)


def test_stain_is_scikit_images_haematoxylin() -> None:
    image = np.random.default_rng(0).integers(1, 256, (40, 50, 3), dtype=np.uint8)
    # skimage gives densities in units of -ln(1e-6).
    wanted = rgb2hed(image)[..., 0] * -np.log(1e-6) * UNITS
    found = haematoxylin(image, blur=1e-3).astype(float)
    assert np.abs(found - wanted.clip(0, 255)).max() <= 1.01


def test_a_click_takes_the_nucleus_and_not_its_neighbour(model: ClassicalModel) -> None:
    embedding = model.encode([nuclei_image((60, 60, 14), (86, 60, 14), (120, 120, 10))])
    (answer,) = model.decode(embedding, [clicks((58, 60))])
    assert regions.overlap(answer.masks[0], disc(60, 60, 14)) > 0.85
    assert answer.scores[0] > 0.5


def test_two_clicks_join_two_nuclei_and_a_negative_one_parts_them(model: ClassicalModel) -> None:
    embedding = model.encode([nuclei_image((60, 60, 14), (86, 60, 14))])
    both = disc(60, 60, 14) | disc(86, 60, 14)
    joined, parted = model.decode(
        embedding, [clicks((58, 60), (88, 60)), clicks((58, 60), (88, 60), labels=[1, 0])]
    )
    assert regions.overlap(joined.masks[0], both) > 0.85
    assert regions.overlap(parted.masks[0], disc(60, 60, 14)) > 0.8
    assert not parted.masks[:, 60, 88].any()


def test_candidates_differ(model: ClassicalModel, he_image: Callable) -> None:
    embedding = model.encode([he_image(256, 256, 4)])
    (answer,) = model.decode(embedding, [clicks((128, 128))])
    for i, mask in enumerate(answer.masks):
        for other in answer.masks[:i]:
            assert regions.overlap(mask, other) < 0.8


@pytest.mark.parametrize("grey", [255, 240, 128, 0])
def test_on_plain_ground_a_click_gives_a_small_disc_and_a_low_score(
    model: ClassicalModel, grey: int
) -> None:
    embedding = model.encode([np.full((100, 120, 3), grey, np.uint8)])
    for place in ((60, 50), (0, 0), (120, 100), (-5, 300)):
        (answer,) = model.decode(embedding, [clicks(place)])
        x, y = np.clip(place, 0, (119, 99))
        assert answer.masks[0, y, x]
        assert answer.masks[0].sum() < 200
        assert answer.scores[0] < 0.1


def test_glass_with_noise_scores_low(model: ClassicalModel) -> None:
    rng = np.random.default_rng(1)
    image = (243 + rng.normal(0, 2, (300, 300, 1)) + np.zeros(3)).clip(0, 255).astype(np.uint8)
    (answer,) = model.decode(model.encode([image]), [clicks((150.5, 150.5))])
    assert answer.masks[0, 150, 150]
    assert answer.scores[0] < 0.25


def test_positive_clicks_are_always_inside_and_negative_outside(
    model: ClassicalModel, he_image: Callable
) -> None:
    embedding = model.encode([he_image(200, 220, 8)])
    rng = np.random.default_rng(3)
    for _ in range(30):
        # Not in one pixel: that would be a contradiction.
        places = rng.choice(220 * 200, rng.integers(1, 7), replace=False)
        points = np.stack([places % 220, places // 220], 1) + 0.5
        labels = rng.integers(0, 2, len(points))
        labels[0] = 1
        prompts = ObjectPrompts(points=points, labels=labels)
        (answer,) = model.decode(embedding, [prompts])
        for mask in answer.masks:
            for (x, y), label in zip(points, labels, strict=True):
                if label:
                    assert mask[int(y), int(x)]


def test_only_negative_clicks_give_nothing(model: ClassicalModel) -> None:
    embedding = model.encode([nuclei_image((60, 60, 14))])
    (answer,) = model.decode(embedding, [clicks((60, 60), labels=[0])])
    assert not answer.masks.any()
    assert answer.scores.tolist() == [0.0]


def test_a_box_keeps_its_answer_inside(model: ClassicalModel) -> None:
    embedding = model.encode([nuclei_image((60, 60, 14), (86, 60, 14))])
    box = np.array([45.5, 45.5, 74.5, 74.5])
    (answer,) = model.decode(embedding, [ObjectPrompts(box=box)])
    assert regions.overlap(answer.masks[0], disc(60, 60, 14)) > 0.85
    outside = answer.masks.copy()
    outside[:, 45:75, 45:75] = False
    assert not outside.any()


@pytest.mark.parametrize(
    "box", [[5.2, 5.2, 5.3, 5.3], [0, 0, 160, 160], [-9, -9, -2, -2], [150, 3, 400, 3]]
)
def test_any_box_gets_an_answer(model: ClassicalModel, box: list[float]) -> None:
    embedding = model.encode([nuclei_image((60, 60, 14))])
    (answer,) = model.decode(embedding, [ObjectPrompts(box=np.array(box, float))])
    assert answer.masks.any((1, 2)).all()


def test_a_mask_is_kept_corrected_and_snapped(model: ClassicalModel) -> None:
    image = nuclei_image((60, 60, 20))
    embedding = model.encode([image])
    rough = disc(62, 60, 21)
    (alone,) = model.decode(embedding, [ObjectPrompts(mask=rough)])
    assert regions.overlap(alone.masks[0], disc(60, 60, 20)) > 0.93
    negative = ObjectPrompts(mask=rough, points=np.array([[80.0, 60]]), labels=np.array([0]))
    (cut,) = model.decode(embedding, [negative])
    assert not cut.masks[0, 60, 80]
    assert regions.overlap(cut.masks[0], rough) > 0.8
    positive = ObjectPrompts(mask=rough, points=np.array([[90.0, 60]]), labels=np.array([1]))
    (grown,) = model.decode(embedding, [positive])
    assert grown.masks[0, 60, 90]
    assert (grown.masks[0] & rough).sum() == rough.sum()


def test_a_scribble_over_several_nuclei_takes_them_all(model: ClassicalModel) -> None:
    nuclei = [(30, 80, 10), (70, 80, 10), (110, 80, 10)]
    embedding = model.encode([nuclei_image(*nuclei)])
    line = [(x + 0.5, 80.5) for x in range(28, 113, 2)]
    (answer,) = model.decode(embedding, [clicks(*line)])
    for x, y, r in nuclei:
        assert (answer.masks[0] & disc(x, y, r)).sum() > 0.7 * disc(x, y, r).sum()
    assert answer.masks[0].sum() < 5 * 314


def test_editing_reaches_about_as_far_as_the_error() -> None:
    mask = disc(80, 80, 30)
    grown = edited(mask, [(80, 80), (118, 80)], [])
    assert grown[80, 118]
    assert grown.sum() > mask.sum()
    cut = edited(mask, [(80, 80)], [(104, 80)])
    assert not cut[80, 104]
    assert 0.7 * mask.sum() < cut.sum() < mask.sum()
    assert not edited(np.zeros((10, 10), bool), [], [(3, 3)]).any()


def test_snapping_an_empty_or_full_mask_keeps_it() -> None:
    stain = haematoxylin(nuclei_image((60, 60, 14)))
    assert not snapped(np.zeros((160, 160), bool), stain).any()
    assert snapped(np.ones((160, 160), bool), stain).all()


def test_lobes_of_a_dumb_bell() -> None:
    labels = regions.lobes(disc(50, 80, 20) | disc(85, 80, 20))
    assert labels.max() == 2
    assert labels[80, 50] != labels[80, 85]
    assert not regions.lobes(np.zeros((5, 5), bool)).any()


def test_weights_cannot_be_given(session_registry: ModelRegistry, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights"):
        session_registry.load("classical", files=[tmp_path / "x.pth"])


def test_it_works_without_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from napari_histosam.models.registry import ModelRegistry\n"
        "from napari_histosam.models.protocols import ObjectPrompts\n"
        "model = ModelRegistry().load('classical')\n"
        "e = model.encode([np.full((64, 64, 3), 200, np.uint8)])\n"
        "model.decode(e, [ObjectPrompts(points=np.ones((1, 2)), labels=np.ones(1, int))])\n"
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def real_objects(
    shared: Path, name: str, images: int, objects: int
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    from PIL import Image

    folder = shared / "data" / name
    index = json.loads((folder / "index.json").read_text("utf-8"))["items"]
    splits = json.loads((shared / "data" / "splits.json").read_text("utf-8"))
    chosen = set(splits["sets"][name]["dev_val"])
    rng = np.random.default_rng(0)
    # Every image once in a while: all sources, not the first one only.
    items = [i for i in index if i["id"] in chosen and i["mask_kind"] == "instance"]
    for item in items[:: max(1, len(items) // images)]:
        labels = np.asarray(Image.open(folder / item["mask"]))
        numbers = np.unique(labels[labels > 0])
        picked = rng.choice(numbers, min(objects, len(numbers)), replace=False)
        image = np.asarray(Image.open(folder / item["image"]).convert("RGB"))
        yield image, [labels == n for n in picked]


@pytest.mark.parametrize(
    ("name", "by_click", "by_box"), [("nuclei", 0.5, 0.72), ("glands", 0.33, 0.7)]
)
def test_real_objects(
    model: ClassicalModel, shared_dir: Path, name: str, by_click: float, by_box: float
) -> None:
    from scipy.ndimage import distance_transform_edt

    rng = np.random.default_rng(0)
    click, box = [], []
    for image, wanted in real_objects(shared_dir, name, 11, 12):
        prompts = []
        for mask in wanted:
            inner = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
            y, x = np.unravel_index(int(inner.argmax()), mask.shape)
            prompts.append(clicks((x + 0.5, y + 0.5)))
            rows, columns = np.nonzero(mask)
            tight = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
            side = np.tile(tight[2:] - tight[:2], 2)
            prompts.append(ObjectPrompts(box=tight + rng.uniform(-0.05, 0.05, 4) * side))
        answers = model.decode(model.encode([image]), prompts, multimask=False)
        overlaps = [regions.overlap(a.masks[0], wanted[i // 2]) for i, a in enumerate(answers)]
        click += overlaps[::2]
        box += overlaps[1::2]
    assert np.mean(click) > by_click
    assert np.mean(box) > by_box


def test_it_finds_nuclei_by_itself_and_parts_those_that_touch(model: ClassicalModel) -> None:
    assert isinstance(model, AutomaticModel)
    assert (model.card.finds, model.card.classes) == ("objects", ("Nucleus",))
    places = [(40, 40, 12), (61, 40, 12), (110, 110, 14), (40, 120, 10)]
    found = model.find(nuclei_image(*places))
    assert len(found) == len(places)
    assert (np.diff(found.scores) <= 0).all()
    assert (0 < found.scores).all()
    assert (found.scores <= 1).all()
    for mask, (x, y), box in zip(found.masks, found.corners, found.boxes, strict=True):
        whole = np.zeros((160, 160), bool)
        whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
        assert (*box[:2],) == (x, y)
        assert max(regions.overlap(whole, disc(*place)) for place in places) > 0.8


def test_it_finds_nothing_on_glass(model: ClassicalModel) -> None:
    rng = np.random.default_rng(0)
    glass = (240 + rng.normal(0, 2, (200, 200, 3))).clip(0, 255).astype(np.uint8)
    assert len(model.find(glass)) == 0


def test_what_it_finds_does_not_depend_on_what_is_far_away(model: ClassicalModel) -> None:
    image = nuclei_image((60, 60, 14), (300, 300, 14), size=400)
    (alone,) = [m for m, c in _found(model, image) if max(c) < 100]
    image[250:] = 20
    (beside,) = [m for m, c in _found(model, image) if max(c) < 100]
    assert np.array_equal(alone, beside)


def _found(model: ClassicalModel, image: np.ndarray) -> list:
    found = model.find(image)
    return list(zip(found.masks, found.corners.tolist(), strict=True))
