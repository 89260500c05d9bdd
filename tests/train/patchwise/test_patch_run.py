"""From labels of patches to a model: no mask is read, stages, resumption, agreement, files."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from napari_histosam.cli import main
from napari_histosam.errors import InputError
from napari_histosam.models.ep_sam.heat import HeatModel
from napari_histosam.models.ep_sam.model import EpSamModel
from napari_histosam.models.ep_sam.network import EpSam
from napari_histosam.models.ep_sam.points import agreement
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.models.trained import base_hash
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.patchwise import classifier, rounds
from napari_histosam.train.patchwise.division import divide_patches
from napari_histosam.train.patchwise.launch import run
from napari_histosam.train.patchwise.plan import PatchPlan
from napari_histosam.train.patchwise.pseudo import Shelf
from napari_histosam.train.patchwise.rounds import viewed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from napari_histosam.train.patchwise.labels import PatchEntry

SIDE = 64
QUICK: dict[str, Any] = {
    **{"epochs": 2, "batch": 8, "rounds": 1, "decoder_epochs": 2, "decoder_rate": 1e-4},
    **{"views": 2, "agreement": 0.0, "percentile": 30.0, "patch_px": SIDE, "accelerator": "cpu"},
}


class _Opened:
    """Hears which files Python opens, while it listens; hooks cannot be taken away again."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.listens = False
        sys.addaudithook(self._heard)

    def _heard(self, event: str, args: tuple[Any, ...]) -> None:
        if self.listens and event == "open":
            self.names.append(str(args[0]))

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        self.listens = True
        try:
            yield self.names
        finally:
            self.listens = False


def embedded(self: EpSam, patch: np.ndarray) -> torch.Tensor:
    """Stand for SAM's encoder: a mix of the patch's colours."""
    x = torch.from_numpy(patch.transpose(2, 0, 1).copy())[None].float() / 255
    mix = torch.randn(256, 3, generator=torch.Generator().manual_seed(0))
    return torch.einsum("kc,nchw->nkhw", mix, functional.adaptive_avg_pool2d(x, 64))


def masked(self: EpSam, embedding: torch.Tensor, points: np.ndarray) -> tuple[torch.Tensor, Any]:
    """Stand for SAM's decoder: some of its weights, on a coarse grid, weighed by the points."""
    decoder = self.sam.mask_decoder
    found = decoder.output_upscaling(functional.adaptive_avg_pool2d(embedding, 8))
    code = decoder.mask_tokens.weight[0, :32] + torch.from_numpy(points).mean() / 1024
    low = torch.einsum("kchw,c->khw", found.float(), code)
    return functional.interpolate(low[None], (256, 256))[0, 0], None


@pytest.fixture
def quick_sam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpSam, "embedded", embedded)
    monkeypatch.setattr(EpSam, "masked", masked)


@pytest.fixture(scope="module")
def data(make_patches: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_patches(tmp_path_factory.mktemp("data") / "discs", 12)


@pytest.fixture
def train(data: Path, tmp_path: Path) -> Callable[..., tuple[PatchPlan, dict[str, Any]]]:
    def trained(out: str = "run", **more: Any) -> tuple[PatchPlan, dict[str, Any]]:
        plan = PatchPlan(data, "ep-small", "patches", tmp_path / out, **{**QUICK, **more})
        plan.check()
        known = base_hash(ModelRegistry(), plan.model)
        return plan, run(plan, divide_patches(plan), known)

    return trained


def same(one: Path, other: Path) -> bool:
    first, second = (load_file(path / "best.safetensors") for path in (one, other))
    assert set(first) == set(second)
    return all(torch.equal(value, second[name]) for name, value in first.items())


def entries_of(plan: PatchPlan) -> list[PatchEntry]:
    return [entry for entry in divide_patches(plan).train if entry.tumour]


def test_from_labels_to_a_model_by_the_command_line_without_a_mask(
    make_patches: Callable,
    picture: Callable,
    disc: Callable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """Two commands with the same folder, the real encoder, and every file that is opened."""
    data, out = make_patches(tmp_path / "discs", 20, 5), tmp_path / "run"
    words = [
        *("train", str(data), "--model", "ep-small", "--out", str(out), "--name", "mine"),
        *("--epochs", "4", "--batch", "8", "--rate", "1e-3", "--patch-px", str(SIDE)),
        *("--rounds", "0", "--decoder-epochs", "1", "--views", "1", "--agreement", "0.2"),
        *("--percentile", "30", "--accelerator", "cpu", "--threads", "1"),
    ]
    opened = _Opened()
    with opened.listening() as names:
        assert main([*words, "--until", "classifier"]) == 0
        registry = ModelRegistry()
        first = registry.get("mine")
        early = registry.load("mine", "cpu")
        assert main([*words]) == 0
    assert sum("images" in name for name in names) >= 20
    assert not [name for name in names if "masks" in name]
    told = capsys.readouterr().out
    assert "without --until goes on" in told

    assert first.trained is not None
    assert first.trained.figures["stage"] == "classifier"
    assert isinstance(early, EpSamModel)
    own = registry.load("ep-small", "cpu")
    assert isinstance(own, EpSamModel)
    for name, value in early.net.sam.state_dict().items():
        assert torch.equal(value, own.net.sam.state_dict()[name]), name

    card = registry.get("mine")
    assert card.trained is not None
    assert (card.window_px, card.mpp) == (SIDE, 0.5)
    assert card.recipe == {
        **{"channel_order": "rgb", "points_frame": "sam", "cam_profile": "camelyon16"},
        **{"percentile": 30.0, "agreement": 0.2, "selection": "weak"},
    }
    figures = card.trained.figures
    assert figures["stages"]["classifier"]["val_auc"] == 1.0
    assert figures["tumour"] == figures["normal"] == 10
    assert len(figures["groups"]) == 4
    status = RunFolder(out).status()
    assert status["state"] == "done"
    assert "no outlines" in card.note or "without outlines" in card.note
    stages = {row["stage"] for row in RunFolder(out).rows()}
    assert stages == {"classifier", "decoder"}

    model = registry.load("mine", "cpu")
    assert isinstance(model, EpSamModel)
    new = [100, 102, 104, 101, 103, 105]
    assert [model.tumour(picture(number)) > 0.5 for number in new] == [True] * 3 + [False] * 3
    heat = HeatModel(model)
    inside = [heat.probabilities(picture(n))[0][disc(n)].mean() for n in new[:3]]
    outside = [heat.probabilities(picture(n))[0][~disc(n)].mean() for n in new[:3]]
    assert np.mean(inside) > np.mean(outside)
    changed = model.net.sam.mask_decoder.state_dict()
    before = own.net.sam.mask_decoder.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in changed.items())

    # The authors' files, and back.
    files = registry.export("mine", tmp_path / "out")
    assert [path.name for path in files] == ["ep_sam_classifier.pth", "ep_sam_decoder.pth"]
    bare = torch.load(files[0], weights_only=True)
    assert set(bare) == set(model.net.classifier.state_dict())
    model.net.classifier.load_state_dict(bare)  # strictly, as anyone's loader does
    encoder = registry.files("ep-small")[0]
    back = registry.import_files([encoder, *files], "back")
    assert (back.window_px, back.mpp, back.recipe) == (card.window_px, card.mpp, card.recipe)
    again = registry.load("back", "cpu")
    assert isinstance(again, EpSamModel)
    for name, value in again.net.state_dict().items():
        assert torch.equal(value, model.net.state_dict()[name]), name


def test_a_run_goes_on_exactly_wherever_it_ended(
    train: Callable, quick_sam: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = train("whole")
    for place, owner, name in (
        ("classifier", classifier.ClassifierStage, "learn"),
        ("decoder", rounds.DecoderStage, "learn"),
        ("masks", rounds.Embedded, "answer"),
    ):
        left = {"classifier": 2, "decoder": 3, "masks": 4}[place]
        real = getattr(owner, name)

        def dies(*args: Any, real: Callable = real) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise RuntimeError("the power went")
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, dies)
            with pytest.raises(RuntimeError, match="the power went"):
                train(place)
        other, status = train(place)
        assert status["state"] == "done"
        assert same(whole.out, other.out), place
        rows, same_rows = (RunFolder(plan.out).rows() for plan in (whole, other))
        assert [row.get("loss") for row in rows] == [row.get("loss") for row in same_rows]


@pytest.mark.slow
def test_a_run_that_was_asked_to_stop_goes_on_exactly(
    train: Callable, quick_sam: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = train("whole")
    asked = 0
    for pauses in range(20):
        with monkeypatch.context() as patch:
            calls = 0

            def stop(self: RunFolder) -> bool:
                nonlocal calls
                calls += 1
                return calls == 3

            patch.setattr(RunFolder, "asked_to_stop", stop)
            other, status = train("stopped")
        if status["state"] == "done":
            break
        assert status["state"] == "paused"
        asked = pauses + 1
    assert asked > 2
    assert same(whole.out, other.out)


def test_masks_lie_over_their_patches_and_only_what_agrees_is_learned_from(
    train: Callable, quick_sam: None
) -> None:
    plan, _ = train(agreement=0.5)
    shelf, learned = Shelf(plan.out, SIDE), {entry.name: entry for entry in entries_of(plan)}
    net = ModelRegistry().load("ep-small", "cpu", None)
    assert isinstance(net, EpSamModel)
    parts = plan.out / "parts"
    net.net.classifier.load_state_dict(load_file(parts / "classifier.safetensors"))
    profile = replace(net.recipe.profile, percentile=30.0)
    net.card = replace(net.card, window_px=SIDE)
    for where in ("initial", "0", "1"):
        judged = shelf.read_list(where)
        assert judged is not None
        assert {one.name for one in judged} == set(learned)
        for one in judged:
            entry = learned[one.name]
            likely, heat = net.heat(entry.read())  # of the patch as it is on disk
            kept = shelf.heat(entry)
            assert kept is not None
            np.testing.assert_array_equal(kept.cells, heat.cells)
            assert one.tumour == pytest.approx(likely)
            mask, warm = shelf.mask(where, entry), heat.mask(profile)
            raw = cv2.imread(str(plan.out / "pseudo" / where / f"{one.name}.png"), -1)
            assert raw.shape == (SIDE, SIDE)
            assert set(np.unique(raw)) <= {0, 255}
            assert one.ids == pytest.approx(agreement(warm, mask))
            assert one.area == pytest.approx(mask.mean())
            if where == "initial":
                np.testing.assert_array_equal(mask, warm)
                assert one.kept == bool(warm.any())
            else:
                assert one.kept == (bool(mask.any()) and one.ids >= 0.5)


def test_where_nothing_agrees_the_rounds_end_and_the_rest_can_be_asked_for_anew(
    train: Callable, quick_sam: None
) -> None:
    plan, status = train(agreement=1.0)  # never reached: the share is below 1
    assert status["state"] == "done"
    assert status["stage"] == "decoder"
    assert "give a lower --agreement" in " ".join(status["notes"])
    kept = (plan.out / "parts" / "classifier.safetensors").read_bytes()
    steps = [row for row in RunFolder(plan.out).rows() if row["stage"] == "classifier"]
    again, status = train(agreement=0.0)
    assert status["stage"] == "round 1"
    assert (plan.out / "parts" / "classifier.safetensors").read_bytes() == kept
    assert [row for row in RunFolder(plan.out).rows() if row["stage"] == "classifier"] == steps
    assert "begin anew" in " ".join(status["notes"])
    fresh, _ = train("fresh", agreement=0.0)
    assert same(again.out, fresh.out)
    _, status = train(agreement=0.0, rounds=2)
    assert status["stage"] == "round 2"
    with pytest.raises(InputError, match="holds a run with epochs 2"):
        train(agreement=0.0, epochs=3)


def test_finishing_early_keeps_what_is_best(
    train: Callable, quick_sam: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "asked_to_finish", lambda self: True)
        plan, status = train("none")
    assert status["early"]
    assert not status["best_epoch"]
    assert not (plan.out / "best.safetensors").exists()
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "asked_to_finish", lambda self: (self.path / "parts").is_dir())
        plan, status = train("one")
    assert status["state"] == "done"
    assert status["stage"] == "classifier"
    assert (plan.out / "best.safetensors").is_file()


def test_batches_larger_than_the_data_and_of_one_patch(train: Callable, quick_sam: None) -> None:
    for batch in (1, 100):
        _, status = train(f"run{batch}", epochs=1, batch=batch, until="classifier")
        assert status["state"] == "done"
        assert status["stage"] == "classifier"


def test_views_turn_pictures_and_masks_alike(picture: Callable, disc: Callable) -> None:
    image, mask = picture(2), disc(2)
    dark = image.mean(2) < 150
    assert (dark == mask).mean() > 0.99
    seen = {viewed(image, view).tobytes() for view in range(4)}
    assert len(seen) == 4
    for view in range(4):
        np.testing.assert_array_equal(viewed(image, view).mean(2) < 150, viewed(dark, view))
