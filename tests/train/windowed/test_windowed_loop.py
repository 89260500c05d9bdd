"""The loop over windows, on a model of two numbers: seeds, pauses, kills, ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.automatic import Detections
from napari_histosam.models.cards import ModelCard
from napari_histosam.models.window_trainable import WindowTrainable
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.finetune.plan import Plan
from napari_histosam.train.labelled import entries
from napari_histosam.train.windowed.kept import Kept
from napari_histosam.train.windowed.loop import WindowLoop
from napari_histosam.train.windowed.validation import Tally
from napari_histosam.train.windowed.windows import Source, cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CARD = ModelCard("toy", "toy", "t", "none", (), 64, 0.25, finds="objects", classes=("Nucleus",))


class Toy:
    """Learns how far to grow its boxes; finds the true ones, grown so far."""

    method = "decoder"
    rate = 0.2

    def __init__(self) -> None:
        self.card = CARD
        self.module = torch.nn.ParameterDict({"grow": torch.tensor([8.0, 8.0])})
        self.encoded = 0
        self.drawn: list[float] = []

    def prepare(self, *images: np.ndarray) -> dict[str, torch.Tensor]:
        return {"pixels": torch.from_numpy(images[0])}

    def encode(self, inputs: Any, truth: Any) -> dict[str, torch.Tensor]:
        self.encoded += 1
        return {"boxes": torch.from_numpy(truth.boxes).float()}

    def losses(self, windows: Any) -> Iterator[dict[str, torch.Tensor]]:
        noise = torch.rand(1)
        self.drawn.append(float(noise))
        for grow in self.module["grow"]:
            yield {"off": (grow + 0.1 * noise[0]) ** 2}

    def found(self, kept: Any, size: tuple[int, int], masks: bool = True) -> Detections:
        boxes = kept["boxes"].double().numpy()
        grow = self.module["grow"].detach().numpy()
        grown = boxes + np.concatenate([-grow, grow])
        count = len(boxes)
        whole = grown.round().astype(np.int64).clip(0, size[0])
        masks = tuple(np.ones((b - t, r - x), bool) for x, t, r, b in whole)
        return Detections(grown, np.ones(count), np.zeros(count, np.int64), masks, whole[:, :2])

    def optimiser(self, rate: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.module.parameters(), lr=rate, momentum=0.5)

    def teach(self, on: bool, epoch: int = 0) -> None:
        pass

    def state(self) -> dict[str, torch.Tensor]:
        return {k: v.detach().clone() for k, v in self.module.items()}

    def restore(self, state: Any) -> None:
        for name, value in state.items():
            self.module[name].data.copy_(value)


@pytest.fixture
def data(tmp_path: Path, paint: Callable, write_set: Callable) -> Path:
    root = tmp_path / "nuclei"
    pictures = {f"own_{n}": paint(64, 64, (20 + n, 20, 9), (45, 40 + n, 8)) for n in range(4)}
    items = write_set(root, pictures, mpp=0.25)
    for item in items:
        item["mpp"] = 0.25
    (root / "index.json").write_text(json.dumps({"items": items}), "utf-8")
    return root


@pytest.fixture
def loop(data: Path, tmp_path: Path) -> Callable[..., tuple[WindowLoop, Toy, RunFolder]]:
    def made(out: str = "run", **more: Any) -> tuple[WindowLoop, Toy, RunFolder]:
        asked = {"epochs": 3, "batch": 1, "accelerator": "cpu", **more}
        plan = Plan(data, "toy", "decoder", tmp_path / out, **asked)
        folder, model = RunFolder(plan.out), Toy()
        folder.make()
        source = Source(CARD.classes, boxes_only=False)
        train, val = (cut(part, CARD, source) for part in (entries(data)[:3], entries(data)[3:]))
        kept = Kept(model, source, folder.features, "sha256:0", torch.device("cpu"))
        return WindowLoop(plan, model, train, val, folder, kept, {}, Tally), model, folder

    return made


def test_it_learns_and_keeps_what_is_the_same(loop: Callable) -> None:
    one, model, folder = loop()
    assert isinstance(model, WindowTrainable)
    assert one.run().state == "done"
    rows = folder.rows()
    epochs = [row for row in rows if row["kind"] == "epoch"]
    assert [row["epoch"] for row in epochs] == [0, 1, 2, 3]
    assert epochs[-1]["val_ap50"] > epochs[0]["val_ap50"]
    assert epochs[-1]["val_iou"] > epochs[0]["val_iou"]
    assert len([row for row in rows if row["kind"] == "step"]) == 9
    assert model.encoded == 4  # each window once
    assert folder.best.is_file()
    assert "val_ap50" in (folder.path / "log.csv").read_text().splitlines()[0]


def test_a_paused_run_goes_on_as_if_it_had_not_been(loop: Callable) -> None:
    whole, model, _ = loop("whole")
    whole.run()
    first, _, folder = loop("parted")
    for _ in range(4):
        first._learn() if first._epochs else first._close_epoch()
    folder.ask_to_stop()
    end = first.run()
    assert end.state == "paused"
    folder._stop.unlink()
    second, again, _ = loop("parted")
    assert second.step == first.step
    assert second.run().state == "done"
    torch.testing.assert_close(again.state(), model.state())
    assert again.drawn == model.drawn[-len(again.drawn) :]
    assert [r for r in folder.rows() if r["kind"] == "epoch"][-1]["epoch"] == 3


def test_other_options_or_data_are_refused(loop: Callable) -> None:
    one, _, folder = loop()
    folder.ask_to_stop()
    one.run()
    with pytest.raises(InputError, match="epochs 3"):
        loop(epochs=5)


def test_it_ends_when_nothing_gets_better_or_when_asked_to(loop: Callable) -> None:
    one, _, folder = loop("stale", epochs=50, patience=2, rate=1e-9)
    end = one.run()
    assert "brought nothing better" in end.message
    assert one.step == 6
    one, _, folder = loop("early")
    folder.ask_to_finish()
    end = one.run()
    assert end.early
    assert "no new model" in end.message
    # A run that was ended stays so.
    again, _, _ = loop("early")
    assert again.run().early


def test_a_loss_that_is_no_number_is_told(loop: Callable) -> None:
    one, model, _ = loop()
    model.module["grow"].data.fill_(float("inf"))
    with pytest.raises(InputError, match="no number any more"):
        one._learn()
