"""DES-SAM in use: what it finds, the files that it takes, and those that it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.automatic import AutomaticModel
from napari_histosam.models.checkpoint import read_checkpoint
from napari_histosam.models.des_sam import finding
from napari_histosam.models.des_sam.finding import Settings, chosen, stability
from napari_histosam.models.des_sam.frame import Square
from napari_histosam.models.des_sam.load import fresh, network
from napari_histosam.models.des_sam.model import DesSamModel, cropped
from napari_histosam.models.des_sam.network import LEARNED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_histosam.models.protocols import Embedding
    from napari_histosam.models.registry import ModelRegistry

SIZE = (200, 150)


@pytest.fixture(scope="module")
def model(session_registry: ModelRegistry, des_sam_file: Path) -> DesSamModel:
    found = session_registry.load("des-sam", "cpu", [des_sam_file])
    assert isinstance(found, DesSamModel)
    return found


@pytest.fixture(scope="module")
def embedding(model: DesSamModel, he_image: Callable) -> Embedding:
    return model.encode([he_image(*SIZE[::-1], 4)])


@pytest.fixture(scope="module")
def all_candidates(model: DesSamModel, embedding: Embedding) -> tuple[torch.Tensor, torch.Tensor]:
    """What the detector says, once for all tests: it takes seconds."""
    few = {"training": 100, "testing": 100}
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(model.net.rpn, "_post_nms_top_n", few)
        seen = torch.from_numpy(embedding.arrays["embedding"])[None]
        return finding.candidates(model.net, seen, Settings())


@pytest.fixture
def seen_once(all_candidates: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "candidates", lambda *_: all_candidates)


@pytest.mark.usefixtures("seen_once")
def test_found_objects_have_the_promised_form(model: DesSamModel, embedding: Embedding) -> None:
    assert isinstance(model, AutomaticModel)
    assert model.card.finds == "objects"
    assert model.card.classes == ("Nucleus",)
    said: list[str] = []
    model._say = said.append
    before, model.settings = model.settings, Settings(score=0.0, most=6, mask_logit=-1.0)
    found = model.find_in(embedding)
    model.settings = before
    assert 0 < len(found) <= 6
    assert "more than 6 objects" in said[0]
    assert (np.diff(found.scores) <= 0).all()
    assert ((found.scores > 0) & (found.scores <= 1)).all()
    assert (found.kinds == 0).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] <= SIZE).all()
    for mask, (x, y) in zip(found.masks, found.corners, strict=True):
        assert mask.dtype == bool
        # Each is cropped to what is set and lies in the window.
        assert mask[0].any()
        assert mask[-1].any()
        assert mask[:, 0].any()
        assert mask[:, -1].any()
        assert x >= 0
        assert y >= 0
        assert x + mask.shape[1] <= SIZE[0]
        assert y + mask.shape[0] <= SIZE[1]


@pytest.mark.usefixtures("seen_once")
def test_nothing_found_is_empty_and_no_error(model: DesSamModel, embedding: Embedding) -> None:
    # An untrained detector is never more than about half sure.
    before, model.settings = model.settings, Settings(score=0.99)
    found = model.find_in(embedding)
    model.settings = before
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_the_likeliest_class_wins_and_each_object_is_found_once() -> None:
    boxes = torch.tensor([[0, 0, 40, 40], [2, 0, 42, 40], [100, 100, 140, 140], [5, 5, 5, 30.0]])
    logits = torch.tensor([[2.0, 0, 0], [0, 3.0, 0], [0, 0, 4.0], [9.0, 0, 0]])
    found = chosen(logits, boxes, Settings(score=0.3))
    assert found.kinds.tolist() == [1]
    assert found.boxes.tolist() == [[2, 0, 42, 40]]
    assert not found.cut
    both = chosen(logits, boxes, Settings(score=0.3, overlap=0.99))
    assert both.kinds.tolist() == [1, 0]
    assert chosen(logits, boxes, Settings(score=0.3, overlap=0.99, most=1)).cut


def test_stability_is_low_for_a_vague_outline_and_nought_for_nothing() -> None:
    steep = torch.linspace(-30, 30, 61).expand(1, 61, 61)
    found = stability(torch.cat([steep, steep / 30, steep - 99]), 0.0)
    assert found[0] > 0.9
    assert found[1] < 0.1
    assert found[2] == 0


def test_specks_go_and_the_rest_is_cut_out() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:30, 20:50] = True
    mask[15:18, 25:28] = False
    mask[50, 70] = True
    part, x, y = cropped(mask)
    assert (x, y) == (20, 10)
    assert part.shape == (20, 30)
    assert part.all()
    small = np.zeros((20, 20), bool)
    small[3:6, 4:8] = small[10, 10] = True
    part, x, y = cropped(small)
    assert (x, y) == (4, 3)
    assert part.shape == (3, 4)
    assert cropped(np.zeros((5, 5), bool))[0].size == 0


@pytest.mark.parametrize("size", [(512, 512), (600, 400), (333, 1000), (1, 7), (2048, 1500)])
def test_boxes_go_to_the_square_and_back(size: tuple[int, int]) -> None:
    square = Square(size)
    assert max(square.inner) == 1024
    box = np.array([[0.0, 0.0, size[0], size[1]], [0.25, 0.5, size[0] * 0.7, size[1] * 0.6]])
    there = square.boxes(box)
    np.testing.assert_allclose(there[0, 2:], square.inner)
    np.testing.assert_allclose(square.window_boxes(there), box, atol=1e-3)
    image = np.full((size[1], size[0], 3), 200, np.uint8)
    seen = square.pixels(image)
    assert (seen[: square.inner[1], : square.inner[0]] == 200).all()
    assert seen.sum() == 600 * square.inner[0] * square.inner[1]


def saved(state: dict[str, torch.Tensor], path: Path) -> Path:
    torch.save(state, path)
    return path


def refused(call: Callable, *args: object) -> str:
    with pytest.raises(InputError) as caught:
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_a_file_without_token_or_teacher_is_taken(
    registry: ModelRegistry, des_sam_file: Path, tmp_path: Path
) -> None:
    state = read_checkpoint(des_sam_file)
    few = {k: v for k, v in state.items() if "mask_label_head" not in k and k != LEARNED}
    said: list[str] = []
    path = saved({f"module.{k}": v for k, v in few.items()}, tmp_path / "few.pth")
    model = registry.load("des-sam", "cpu", [path], said.append)
    assert not model.settings.token  # type: ignore[attr-defined]
    assert "no learned token" in said[0]
    name = "transformer.layers.0.mlp.lin1.weight"
    own = model.net.state_dict()  # type: ignore[attr-defined]
    assert torch.equal(own[f"teacher.{name}"], own[f"student.{name}"])


def test_a_detector_without_masks_gets_those_of_its_sam(
    registry: ModelRegistry, des_sam_file: Path, mobile_file: Path, tmp_path: Path
) -> None:
    state = read_checkpoint(des_sam_file)
    parts = tuple(f"roi_head.{p}." for p in ("mask_head", "mask_label_head", "prompt_encoder"))
    bare = {k: v for k, v in state.items() if not k.startswith(parts)}
    path = saved({"state_dict": bare}, tmp_path / "fsrcnn.pth")
    for call in (
        lambda: registry.load("des-sam", "cpu", [path]),
        lambda: registry.import_file(path),
    ):
        assert "without its masks" in refused(call)
    said: list[str] = []
    model = registry.load("des-sam", "cpu", [mobile_file, path], said.append)
    own = model.net.state_dict()  # type: ignore[attr-defined]
    assert torch.equal(
        own["student.iou_token.weight"], state["roi_head.mask_head.iou_token.weight"]
    )
    assert "not a DES-SAM and the SAM" in refused(
        registry.load, "des-sam", "cpu", [mobile_file, mobile_file]
    )
    card = registry.import_files([path, mobile_file], "cells")
    assert card.decoder == "des-sam"
    assert registry.is_ready("cells")
    again = registry.load("cells", "cpu")
    whole = again.net.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(whole[k], v) for k, v in own.items())
    assert "taken" in refused(registry.import_files, [path, mobile_file], "cells")


def test_wrong_files_are_refused_in_a_sentence(
    registry: ModelRegistry, des_sam_file: Path, mobile_file: Path, tmp_path: Path
) -> None:
    state = read_checkpoint(des_sam_file)

    def load(wrong: dict[str, torch.Tensor]) -> str:
        return refused(registry.load, "des-sam", "cpu", [saved(wrong, tmp_path / "wrong.pth")])

    short = {k: v for k, v in state.items() if k != "neck.stages.3.4.bias"}
    assert "missing neck.stages.3.4.bias" in load(short)
    assert "missing neck.stages.3.4.bias" in refused(
        registry.import_file, saved(short, tmp_path / "short.pth")
    )
    assert "shape of rpn_head.rpn_cls.bias" in load(
        {**state, "rpn_head.rpn_cls.bias": torch.zeros(5)}
    )
    assert "DES-SAM" in load({LEARNED: torch.ones(1)})
    assert refused(registry.load, "des-sam", "cpu", [mobile_file])
    whole = des_sam_file.read_bytes()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(whole[: len(whole) // 2])
    assert "cut off" in refused(registry.load, "des-sam", "cpu", [cut])
    text = refused(registry.load, "des-sam", "cpu")
    assert "des_sam.pth" in text


def test_an_imported_file_is_the_published_model_or_its_own(
    registry: ModelRegistry, des_sam_file: Path
) -> None:
    assert registry.import_file(des_sam_file).name == "des-sam"
    assert registry.is_ready("des-sam")
    card = registry.import_file(des_sam_file, "My cells")
    assert (card.name, card.decoder, card.finds) == ("my-cells", "des-sam", "objects")
    assert card.classes == ("Nucleus",)


def test_more_classes_and_other_seeds(mobile_file: Path) -> None:
    sam = read_checkpoint(mobile_file)
    state = fresh(sam, 3, seed=1)
    assert state["roi_head.bbox_head.fc_cls.weight"].shape == (4, 1024)
    net = network(state, "three")
    assert net.box_head.classes == 3
    # What SAM has is SAM's, in both decoders; the rest follows the seed alone.
    key = "transformer.norm_final_attn.weight"
    for part in ("mask_head", "mask_label_head"):
        assert torch.equal(state[f"roi_head.{part}.{key}"], sam[f"mask_decoder.{key}"])
    assert torch.equal(fresh(sam, 3, seed=1)[LEARNED], state[LEARNED])
    assert not torch.equal(fresh(sam, 3, seed=2)[LEARNED], state[LEARNED])
    assert float(state["neck.stages.0.1.weight"].mean()) == 1
    assert "looks like" in refused(fresh, {"fc.weight": torch.zeros(2, 2)})
