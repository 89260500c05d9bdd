"""The training command on a folder of a few small pictures: the smoke test of the training."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest
import torch

from napari_histosam.models.cards import ModelCard, WeightFile
from napari_histosam.models.catalog import write_card
from napari_histosam.models.registry import ModelRegistry
from napari_histosam.train.small import command
from napari_histosam.train.small.ship import NAME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TINY = (
    "--steps",
    "4",
    "--every",
    "2",
    "--crops",
    "2",
    "--half",
    "no",
    "--threads",
    "1",
    "--windows",
    "1",
)


@pytest.fixture
def shared(tmp_path: Path, paint: Callable, write_set: Callable, write_splits: Callable) -> Path:
    """Two roots with their sets, as the command expects them."""
    he = paint(100, 110, (30, 30, 9), (70, 60, 14))
    glowing = paint(100, 100, (40, 50, 12), colour=(200, 200, 200), ground=(9, 9, 9))
    gland = paint(140, 140, (70, 60, 35))
    kinds = {
        "nuclei": ("dsb", he),
        "nuclei_fluorescence": ("dsbf", glowing),
        "glands": ("ebhi", gland),
    }
    root = tmp_path / "shared"
    for place, splits, sets in (
        ("training_pool", ("pool_train", "pool_val"), kinds),
        ("data", ("dev_train", "dev_val"), ("nuclei", "glands")),
    ):
        listed = {}
        for name in sets:
            kind, made = kinds[name]
            ids = [f"{kind}_{place}{number}" for number in (1, 2)]
            write_set(root / place / name, dict.fromkeys(ids, made))
            listed[name] = {split: [one] for split, one in zip(splits, ids, strict=True)}
        write_splits(root / place, listed)
    return root


def steps(folder: Path) -> list[int]:
    with (folder / "log.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_the_command_trains_resumes_and_ships(
    shared: Path, tmp_path: Path, histosam_home: Path
) -> None:
    run, weights = tmp_path / "run", histosam_home / "weights"
    weights.mkdir(parents=True)
    card = ModelCard(NAME, NAME, "A test", "BSD-3-Clause", ("point",), 256,
                     files=(WeightFile(f"{NAME}.safetensors"),))  # fmt: skip
    write_card(card, weights / f"{NAME}.json")
    line = [sys.executable, "-m", "napari_histosam.train.small", str(shared), "--out", str(run)]
    line += ["--device", "cpu", *TINY]
    first = subprocess.run(
        [*line, "--until", "2", "--workers", "1"], capture_output=True, text=True, timeout=240
    )
    assert first.returncode == 0, first.stderr
    assert "val_box" in first.stderr
    assert steps(run) == [2]
    assert not (weights / f"{NAME}.safetensors").exists()
    second = subprocess.run(
        [*line, "--workers", "0", "--ship", str(weights)],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    assert "resumed at step 2" in second.stderr
    assert str(weights / f"{NAME}.safetensors") in second.stderr
    assert steps(run) == [2, 4]
    assert (run / "judge.json").is_file()
    assert ModelRegistry().load(NAME, device="cpu").card.files[0].bytes > 1_000_000


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Run the command without training; return what would have been trained, and how."""

    def run(*words: object) -> dict:
        heard: dict = {}

        class Deaf:
            def __init__(self, folder, recipe, pictures, held_out, device, workers) -> None:
                heard.update(folder=folder, recipe=recipe, pictures=pictures, held_out=held_out)
                heard.update(device=device, workers=workers, shipped=False)

            def run(self, until: int | None) -> None:
                heard["until"] = until

        def ship(folder: Path, weights: Path) -> Path:
            heard["shipped"] = (folder, weights)
            return weights

        monkeypatch.setattr(command, "Training", Deaf)
        monkeypatch.setattr(command, "ship", ship)
        monkeypatch.setattr(sys, "argv", ["train", *map(str, words)])
        command.main()
        return heard

    return run


def test_what_is_trained_on_and_validated_with(given: Callable, shared: Path) -> None:
    heard = given(shared, "--out", shared / "run")
    assert [picture.name for picture in heard["pictures"]] == [
        "dsb_training_pool1",
        "dsbf_training_pool1",
        "ebhi_training_pool1",
        "dsb_data1",
        "ebhi_data1",
    ]
    held_out = [picture.name for picture in heard["held_out"]]
    assert sorted(held_out) == ["dsb_training_pool2", "dsbf_training_pool2", "ebhi_training_pool2"]
    assert (heard["folder"], heard["until"], heard["shipped"]) == (shared / "run", None, False)
    assert heard["recipe"] == command.Recipe()


def test_every_part_of_the_recipe_is_an_option(given: Callable, shared: Path) -> None:
    before = torch.get_num_threads()
    recipe = command.Recipe(
        steps=9, seed=8, crops=7, rate=6e-3, decay=0.5, warm_up=4, freeze=0.3, average=0.2,
        half=False, every=1, windows=2, start="old.safetensors",
    )  # fmt: skip
    words = [w for k, v in asdict(recipe).items() for w in (f"--{k.replace('_', '-')}", v)]
    more = ("--until", 7, "--workers", 3, "--device", "cpu", "--ship", shared / "w")
    heard = given(shared, "--out", shared, *words, *more)
    assert heard["recipe"] == recipe
    assert all(value != getattr(command.Recipe(), key) for key, value in asdict(recipe).items())
    assert (heard["until"], heard["workers"], heard["device"]) == (7, 3, "cpu")
    assert heard["shipped"] == (shared, shared / "w")
    assert torch.get_num_threads() == before
    for word, value in (("True", True), ("yes", True), ("1", True), ("no", False), ("0", False)):
        assert given(shared, "--out", shared, "--half", word)["recipe"].half is value


def test_a_folder_is_asked_for(given: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        given("somewhere")
    assert "--out" in capsys.readouterr().err
