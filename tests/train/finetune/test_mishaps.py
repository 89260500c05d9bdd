"""Full disks, too little memory, damaged and odd data: a clear state, one sentence, no loss."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch

from napari_histosam.errors import InputError
from napari_histosam.models.small.trainable import SmallTrainable
from napari_histosam.train.finetune import validation
from napari_histosam.train.finetune.folder import RunFolder
from napari_histosam.train.finetune.loop import Loop
from napari_histosam.train.finetune.step import Memory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from napari_histosam.train.finetune.plan import Plan


def curve(out: Path) -> list[tuple[Any, ...]]:
    rows = [row for row in RunFolder(out).rows() if row["kind"] == "epoch"]
    return [tuple(row[name] for name in ("step", "loss", "train_iou", "val_iou")) for row in rows]


def fails(train: Callable, plan: Plan, sentence: str) -> str:
    """Run a plan that must fail in one sentence, which is in ``run.json``, too; return it."""
    with pytest.raises(InputError, match=sentence) as caught:
        train(plan)
    said = str(caught.value)
    assert "\n" not in said
    told = RunFolder(plan.out).status()
    assert (told["state"], told["message"]) == ("failed", said)
    return said


# --- memory ---


def out_of_memory(
    monkeypatch: pytest.MonkeyPatch, name: str, when: Callable[..., bool]
) -> list[int]:
    """Have a method of the model run out of memory; return a list that grows each time."""
    real, times = getattr(SmallTrainable, name), []

    def short(self: SmallTrainable, *given: Any) -> Any:
        if when(*given):
            times.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, *given)

    monkeypatch.setattr(SmallTrainable, name, short)
    return times


@pytest.mark.parametrize("name", ["encode", "decode"])
def test_memory_that_is_short_once_is_tried_again(
    plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Encoding comes first, and the first to decode is the validation of the base."""
    whole, short = plan("whole", epochs=1), plan("short", epochs=1)
    train(whole)
    times: list[int] = []
    times = out_of_memory(monkeypatch, name, lambda *_: not times)
    assert train(short)["state"] == "done"
    assert len(times) == 1
    assert curve(short.out) == curve(whole.out)


@pytest.mark.parametrize("name", ["encode", "decode"])
def test_memory_that_is_never_enough_is_one_sentence(
    plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patch:
        out_of_memory(patch, name, lambda *_: True)
        fails(train, plan(), "not enough memory to train histosam-small by decoder: close other")
    assert train(plan())["state"] == "done"


def test_memory_that_is_short_of_many_objects_takes_them_in_parts(
    plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, short = plan("whole", epochs=1), plan("short", epochs=1)
    train(whole)
    out_of_memory(
        monkeypatch, "decode", lambda features, of, *_: len(of) > 1 and torch.is_grad_enabled()
    )
    status = train(short)
    assert status["state"] == "done"
    told = [note for note in status["notes"] if "Not enough memory" in note]
    assert told[-1].endswith("1 windows and 1 objects at once; the result stays the same.")
    assert len(told) == 3  # 2 windows and 4 objects by halves
    first, second = (np.array(curve(one.out)[1:], float) for one in (whole, short))
    np.testing.assert_allclose(first, second, atol=2e-3)


def test_a_validation_between_steps_that_is_short_goes_on(
    plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, short = plan("whole"), plan("short")
    train(whole)
    judge, inside, tried = validation._one, [], []

    def judged(*given: Any) -> list[float]:
        inside.append(1)
        try:
            return judge(*given)
        finally:
            inside.pop()

    def late(features: Any, of: Any, places: Any, prompts: Any) -> bool:
        """The box of the second validation, after its clicks."""
        if inside and prompts[0].box is not None:
            tried.append(1)
            return len(tried) == 2
        return False

    monkeypatch.setattr(validation, "_one", judged)
    out_of_memory(monkeypatch, "decode", late)
    assert train(short)["state"] == "done"
    assert len(tried) == 4  # three epochs, and one that was tried again
    assert curve(short.out) == curve(whole.out)


def test_an_optimiser_that_finds_no_memory_is_one_sentence(
    plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)")

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", never)
        fails(train, plan(), "go on from the last checkpoint")
    assert train(plan())["state"] == "done"


def test_no_more_objects_at_once_than_there_are() -> None:
    assert Memory(2, 16).objects == 16
    assert Memory(2, 1000).objects == Memory(2).objects == 64


# --- disk ---


@pytest.mark.parametrize(
    ("part", "after"),
    [
        (".run.json.", 3),
        (".best.safetensors.", 0),
        (".last.pt.", 1),
    ],
)
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_with_room(
    plan: Callable,
    train: Callable,
    full_disk: Callable,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    after: int,
) -> None:
    one = plan(epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr("napari_histosam.train.finetune.loop._SAVE_EVERY", 0.0)
        full_disk(part, after)
        with pytest.raises(InputError, match=r"The disk is full: .* was not written") as caught:
            train(one)
        patch.undo()
    monkeypatch.undo()
    monkeypatch.setattr(validation, "_OBJECTS", 1)
    told = RunFolder(one.out).status()
    if part == ".run.json.":  # nothing more can be written there
        assert told["state"] == "running"
    else:
        assert (told["state"], told["message"]) == ("failed", str(caught.value))
    assert list(one.out.glob(".*.tmp")) == []
    assert train(one)["state"] == "done"
    assert [row[0] for row in curve(one.out)] == [0, 2]


def test_features_that_find_no_room_stay_in_memory_and_it_is_said(
    plan: Callable, train: Callable, full_disk: Callable
) -> None:
    whole, short = plan("whole", epochs=1), plan("short", epochs=1)
    train(whole)
    full_disk(".npz.")
    status = train(short)
    assert status["state"] == "done"
    (said,) = [note for note in status["notes"] if "features" in note]
    assert "kept in memory" in said
    assert list((short.out / "features").iterdir()) == []
    assert curve(short.out) == curve(whole.out)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")
def test_progress_that_cannot_be_written_is_one_sentence(
    plan: Callable, train: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = plan(epochs=1)
    path = one.out / "progress.jsonl"
    learn = Loop._learn

    def filling(self: Loop) -> None:
        path.unlink()
        path.symlink_to("/dev/full")
        learn(self)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_learn", filling)
        fails(train, one, "cannot be written .No space left on device.: make room")
    path.unlink()
    assert train(one)["state"] == "done"


# --- data ---


def mask_of(data: Path, name: str) -> Path:
    return data / "nuclei" / "masks" / f"{name}.png"


@pytest.mark.parametrize("name", ["own_1", "own_3"])
@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_damaged_file_is_named_before_training(
    plan: Callable, train: Callable, data: Path, part: str, name: str
) -> None:
    path = data / "nuclei" / part / f"{name}.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    said = fails(train, plan(), "is missing or no image: restore it")
    assert str(path) in said


def test_a_mask_of_another_size_is_named(plan: Callable, train: Callable, data: Path) -> None:
    cv2.imwrite(str(mask_of(data, "own_1")), np.ones((50, 96), np.uint16))
    assert "own_1.png" in fails(train, plan(), "a mask has one channel and the size of its image")


def test_a_file_that_is_damaged_later_is_named_and_the_run_goes_on_when_it_is_back(
    plan: Callable, train: Callable, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, whole = plan(), plan("whole")
    train(whole)
    path = mask_of(data, "own_0")
    kept, about = path.read_bytes(), path.stat()
    learn = Loop._learn

    def damaging(self: Loop) -> None:
        if self.step == 2:
            path.write_bytes(b"\x89PNG nothing")
            self._teacher.reader._images.clear()
        learn(self)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_learn", damaging)
        fails(train, one, r"own_0.png is missing or no image: restore it")
    path.write_bytes(kept)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert train(one)["state"] == "done"
    assert curve(one.out) == curve(whole.out)


def test_empty_masks_are_told_or_refused(plan: Callable, train: Callable, data: Path) -> None:
    empty = np.zeros((100, 96), np.uint16)
    cv2.imwrite(str(mask_of(data, "own_1")), empty)
    status = train(plan("told", epochs=1))
    assert status["state"] == "done"
    assert "own_1 shows no object and is left out." in status["notes"]
    cv2.imwrite(str(mask_of(data, "own_3")), empty)
    fails(train, plan("refused"), r"No mask shows an object \(own_3\): label some first")


def test_one_image_to_learn_from_is_enough(
    plan: Callable, train: Callable, write_splits: Callable, data: Path
) -> None:
    write_splits(data, {"nuclei": {"train": ["own_0"], "val": ["own_3"]}})
    status = train(plan(batch=4))
    assert (status["state"], status["steps"]) == ("done", 2)


def test_a_class_that_is_on_one_side_only_is_told(
    plan: Callable, train: Callable, data: Path
) -> None:
    path = data / "nuclei" / "index.json"
    index = json.loads(path.read_text("utf-8"))
    index["items"][0]["classes"] = {"1": "Tumour", "*": "Stroma"}
    index["items"][3]["classes"] = {"1": "Vessel", "*": "Stroma"}
    path.write_text(json.dumps(index), "utf-8")
    status = train(plan(epochs=1))
    assert status["state"] == "done"
    told = " ".join(status["notes"])
    assert "No image that is held out has the class Tumour, nucleus" in told
    assert "No image that is trained on has the class Vessel" in told
    last = [row for row in RunFolder(plan().out).rows() if row["kind"] == "epoch"][-1]
    assert set(last["dice"]) <= {"Vessel", "Stroma"}
