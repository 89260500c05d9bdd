"""One contract for everything that calls itself a WindowTrainable."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_histosam.models.automatic import Detections
from napari_histosam.models.catalog import write_card
from napari_histosam.models.des_sam import trainable as des_sam
from napari_histosam.models.des_sam.finding import Settings
from napari_histosam.models.families import family
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.models.trained import methods_of, plain_state, weights_of
from napari_histosam.models.window_trainable import (
    FindsAreas,
    FindsObjects,
    Look,
    WindowTrainable,
    WindowTruth,
    learns_windows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIDE = 128


@dataclass
class Case:
    """A model, and a window of which it learns."""

    model: Any
    base: dict[str, torch.Tensor]
    look: Look


@pytest.fixture(scope="module")
def known(
    tmp_path_factory: pytest.TempPathFactory,
    des_sam_file: Path,
    make_weights: Callable,
    sam_shapes: Callable,
    short_vit: Callable,
) -> Iterator[ModelRegistry]:
    """DES-SAM on MobileSAM; SAM-Lung on the bundled encoder, and on a ViT of two blocks."""
    folder = tmp_path_factory.mktemp("windows")
    with pytest.MonkeyPatch.context() as patch:
        short_vit(patch)
        patch.setattr(des_sam, "_REGIONS", 8)
        patch.setattr(des_sam, "_IN_USE", Settings(score=0.05, most=4))
        made = ModelRegistry(folder / "home", offline_dirs=[])
        made.import_file(des_sam_file)
        made.begin("sam", "histosam-small", "begun")
        torch.save(make_weights(sam_shapes("vit_b"), 3), folder / "vit.pth")
        made.import_file(folder / "vit.pth", "short-vit")
        for base in ("begun", "short-vit"):
            card = made.begin("sam-lung", base, f"lung-{base}")
            write_card(replace(card, window_px=SIDE), made.folder / f"{card.name}.json")
        yield made


@pytest.fixture(
    scope="module",
    params=[
        ("des-sam", "decoder"),
        ("lung-begun", "decoder"),
        ("lung-short-vit", "decoder"),
        ("lung-short-vit", "mona"),
    ],
    ids="-".join,
)
def case(request: pytest.FixtureRequest, known: ModelRegistry, he_image: Callable) -> Case:
    name, method = request.param
    torch.manual_seed(0)
    card, base = known.get(name), weights_of(known, name)
    assert learns_windows(card)
    assert method in methods_of(card)
    made: Any = family(card.decoder)
    model = made.trainable(card, base, method)
    areas = np.zeros((SIDE, SIDE), np.uint8)
    areas[20:60, 24:60], areas[:8] = 1, 255
    truth = WindowTruth.of_areas(areas)
    if card.finds == "objects":
        truth = WindowTruth(np.array([[24, 20, 60, 60.0]]), np.zeros(1, np.int64), [areas == 1])
    if card.decoder == "des-sam":  # few proposals are enough, and quick
        for kept_few in (model.module.rpn._pre_nms_top_n, model.module.rpn._post_nms_top_n):
            kept_few.update(training=20, testing=20)
    inputs = model.prepare(he_image(SIDE, SIDE, 3))
    kept = model.encode(inputs, truth)
    return Case(model, base, Look(inputs, kept, truth))


def test_it_is_trainable_on_windows(case: Case) -> None:
    model = case.model
    assert isinstance(model, WindowTrainable)
    assert isinstance(model, FindsObjects) == (model.card.finds == "objects")
    assert isinstance(model, FindsAreas) == (model.card.finds == "regions")
    assert model.rate > 0
    learns = [part.requires_grad for part in model.module.parameters()]
    assert any(learns)
    assert not all(learns)
    assert not any(value.requires_grad for value in case.look.kept.values())
    assert all(
        value.is_floating_point() or value.dtype == torch.uint8 for value in case.look.kept.values()
    )


def test_a_step_changes_what_learns_alone_and_can_be_taken_back(case: Case) -> None:
    model = case.model
    start = {name: value.clone() for name, value in model.module.state_dict().items()}
    first = model.state()
    optimiser = model.optimiser(1e-4)
    model.teach(True)
    torch.manual_seed(1)
    windows = [case.look] if model.card.finds == "objects" else [case.look, case.look]
    for part in model.losses(windows):
        total = torch.stack(list(part.values())).sum()
        assert torch.isfinite(total)
        total.backward()
    frozen = [p for p in model.module.parameters() if not p.requires_grad]
    assert all(part.grad is None for part in frozen)
    optimiser.step()
    model.teach(False)
    now = model.state()
    assert now.keys() == first.keys()
    assert any(not torch.equal(now[name], first[name]) for name in now)
    plain_state(case.base, now)  # raises if something learned that the base has not
    model.restore(first)
    torch.testing.assert_close(model.state(), first)
    torch.testing.assert_close(dict(model.module.state_dict()), start)


def test_what_it_finds_fits_the_window(case: Case) -> None:
    model = case.model
    if model.card.finds == "objects":
        whole = model.found(case.look.kept, (SIDE, SIDE))
        assert isinstance(whole, Detections)
        boxes = model.found(case.look.kept, (SIDE, SIDE), masks=False)
        np.testing.assert_array_equal(boxes.boxes, whole.boxes)
        np.testing.assert_array_equal(boxes.scores, whole.scores)
        return
    found = model.likely(case.look)
    assert found.shape == (len(model.card.classes), SIDE, SIDE)
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_array_equal(model.likely(case.look), found)
