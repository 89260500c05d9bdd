"""The training loop: its schedule, its log, and that it can be stopped or killed and goes on."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_histosam.errors import InputError
from napari_histosam.models.small.load import save_net
from napari_histosam.train.small import loop
from napari_histosam.train.small.loop import COLUMNS, Recipe, Training

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_histosam.train.small.batches import Batch
    from napari_histosam.train.small.pool import Picture

TINY = Recipe(steps=6, crops=2, every=2, half=False, windows=2)


def training(folder: Path, pictures: Sequence[Picture], recipe: Recipe = TINY) -> Training:
    return Training(folder, recipe, pictures, pictures, workers=0)


@pytest.fixture(scope="module")
def pictures(nuclei: list[Picture]) -> list[Picture]:
    """In the order of their names, as the child reads them."""
    return sorted(nuclei, key=lambda picture: picture.name)


@pytest.fixture(scope="module")
def undisturbed(pictures: list[Picture], tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A run in one go."""
    run = training(tmp_path_factory.mktemp("undisturbed"), pictures)
    run.run()
    return run


def weights(of: Training) -> dict[str, Any]:
    parts = {"net": of.net, "averaged": of.averaged}
    return {f"{n} {k}": v for n, net in parts.items() for k, v in net.state_dict().items()}


def same(a: Training, b: Training) -> bool:
    ours, theirs = weights(a), weights(b)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(tuple(row) == COLUMNS for row in rows)
    # The only figure that is no function of the seed.
    assert all(float(row.pop("minutes")) >= 0 for row in rows)
    return rows


# the recipe


def test_the_rate_rises_then_falls() -> None:
    recipe = Recipe(steps=1000, rate=0.01, warm_up=100)
    rates = [recipe.rate_at(step) for step in range(1001)]
    assert rates[0] == pytest.approx(0.0001)
    assert rates[49] == pytest.approx(0.005)
    assert rates[99] == pytest.approx(0.01)
    assert rates[100] == pytest.approx(0.01)
    assert rates[550] == pytest.approx(0.01 * (0.01 + 0.99 / 2))  # half way down
    assert rates[325] == pytest.approx(0.01 * (0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2))
    assert rates[1000] == pytest.approx(0.0001)
    assert np.allclose(np.diff(rates[:100]), 0.0001)
    assert (np.diff(rates[100:]) < 0).all()


def test_the_rate_of_a_run_that_is_all_warm_up() -> None:
    recipe = Recipe(steps=6, rate=0.01, warm_up=6)
    assert recipe.rate_at(5) == pytest.approx(0.01)
    assert 0 < recipe.rate_at(6) <= 0.01


# a run


def test_a_run_leaves_a_log_and_a_state(undisturbed: Training) -> None:
    rows = log(undisturbed.folder)
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    for row in rows:
        assert all(math.isfinite(float(value)) for value in row.values())
        assert float(row["loss"]) > float(row["mask_loss"])
        for name in COLUMNS[5:]:
            assert 0 <= float(row[name]) <= 1
        assert float(row["rate"]) == pytest.approx(TINY.rate_at(int(row["step"])))
    state = torch.load(undisturbed.folder / "state.pt", weights_only=True)
    assert state["step"] == undisturbed.step == 6
    files = {path.name for path in undisturbed.folder.iterdir()}
    assert files == {"state.pt", "log.csv", "judge.json"}
    judged = json.loads((undisturbed.folder / "judge.json").read_text("utf-8"))
    assert judged["examples"] > judged["held_out_examples"] > 0
    assert 0 <= judged["click"] <= judged["oracle"] <= 1
    for name, value in undisturbed.averaged.state_dict().items():
        assert torch.equal(state["averaged"][name], value)


def test_weights_move_and_their_average_follows(undisturbed: Training) -> None:
    torch.manual_seed(TINY.seed)
    at_first = loop.SmallNet().state_dict()
    moved = undisturbed.net.state_dict()
    averaged = undisturbed.averaged.state_dict()
    for name, value in undisturbed.net.named_parameters():
        if name.startswith("judge."):
            continue  # taught apart at the end
        assert not torch.equal(value, at_first[name]), name
        far = (moved[name] - at_first[name]).norm()
        assert (averaged[name] - at_first[name]).norm() < far
        assert (moved[name] - averaged[name]).norm() < far
    learned = math.ceil(TINY.freeze * TINY.steps)  # after that, the norms stand still
    assert moved["encoder.stem.1.num_batches_tracked"] == learned


def test_the_seed_decides(undisturbed: Training, pictures: list[Picture], tmp_path: Path) -> None:
    recipe = replace(TINY, seed=2)
    other = training(tmp_path, pictures, recipe)
    other.run(2)
    assert log(tmp_path)[0]["loss"] != log(undisturbed.folder)[0]["loss"]


def test_norms_keep_their_statistics_after_a_while(pictures: list[Picture], tmp_path: Path) -> None:
    run = training(tmp_path, pictures, replace(TINY, steps=4, freeze=0.5))

    def statistics() -> list[torch.Tensor]:
        norms = [m for m in run.net.modules() if isinstance(m, nn.BatchNorm2d)]
        return [norm.running_mean.clone() for norm in norms]

    seen = [statistics()]
    for until in (1, 2, 3):
        run.run(until)
        seen.append(statistics())
    for before, after, equal in zip(seen, seen[1:], (False, False, True), strict=False):
        assert all(torch.equal(a, b) is equal for a, b in zip(before, after, strict=True))


def test_the_average_is_a_moving_one() -> None:
    averaged, net = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    nn.init.constant_(net.weight, 5.0)
    net.running_mean.fill_(1.0)
    net.num_batches_tracked.fill_(7)
    loop._follow(averaged, net, 0.75)
    assert averaged.weight.tolist() == [2.0, 2.0]
    assert averaged.running_mean.tolist() == [0.25, 0.25]
    assert averaged.num_batches_tracked == 7


def test_only_convolutions_and_matrices_decay(undisturbed: Training) -> None:
    heavy, light = loop._groups(undisturbed.net, 0.03)
    assert (heavy["weight_decay"], light["weight_decay"]) == (0.03, 0.0)
    assert all(parameter.ndim >= 2 for parameter in heavy["params"])
    assert all(parameter.ndim == 1 for parameter in light["params"])
    judging = len(list(undisturbed.net.judge.parameters()))
    assert len(heavy["params"]) + len(light["params"]) + judging == len(
        list(undisturbed.net.parameters())
    )


def test_answers_are_corrected_in_training(
    pictures: list[Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, heard = loop.simulate, []

    def simulate(net: nn.Module, batch: Batch, *more: Any) -> None:
        before = [len(one.points) for one in batch.asked]
        real(net, batch, *more)
        for one, count in zip(batch.asked, before, strict=True):
            heard.append((len(one.points) - count, one.corrections))

    monkeypatch.setattr(loop, "simulate", simulate)
    training(tmp_path, pictures, Recipe(steps=3, crops=3, half=False, windows=0)).run()
    assert len(heard) == 18
    # What an untrained network answers is never right.
    assert all(added == wanted for added, wanted in heard)
    assert any(added for added, _ in heard)


def test_the_judge_is_taught_last_and_only_it(
    undisturbed: Training, pictures: list[Picture], tmp_path: Path
) -> None:
    recipe = replace(TINY, windows=0)
    run = training(tmp_path, pictures, recipe)
    run.run()
    assert log(tmp_path) == log(undisturbed.folder)
    ours, theirs = weights(run), weights(undisturbed)
    differ = {name for name in ours if not torch.equal(ours[name], theirs[name])}
    assert differ
    assert all(name.startswith("averaged judge.") for name in differ)


def test_half_precision_runs_too(pictures: list[Picture], tmp_path: Path) -> None:
    run = training(tmp_path, pictures, Recipe(steps=1, crops=2, windows=1))
    run.run()
    assert all(math.isfinite(float(row["loss"])) for row in log(tmp_path))
    assert len(log(tmp_path)) == 1
    assert all(p.dtype == torch.float32 for p in run.net.parameters())


def test_a_run_can_begin_with_weights_that_are_there(
    undisturbed: Training, pictures: list[Picture], tmp_path: Path
) -> None:
    file = tmp_path / "earlier.safetensors"
    begun = undisturbed.averaged.state_dict()
    save_net({name: v for name, v in begun.items() if not name.startswith("judge.")}, file)
    run = training(tmp_path / "run", pictures, replace(TINY, start=str(file)))
    for name, value in begun.items():
        if name.startswith("judge."):
            continue
        torch.testing.assert_close(run.net.state_dict()[name], value, atol=1e-3, rtol=1e-3)
        assert torch.equal(run.net.state_dict()[name], run.averaged.state_dict()[name])
    with pytest.raises(InputError, match=r"nothing\.safetensors"):
        training(tmp_path / "other", pictures, replace(TINY, start="nothing.safetensors"))


# stopped and resumed


def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    undisturbed: Training, pictures: list[Picture], tmp_path: Path
) -> None:
    first = training(tmp_path, pictures)
    first.run(until=2)
    assert first.step == 2
    assert not same(first, undisturbed)
    torch.manual_seed(99)  # what others draw in between does not matter
    second = training(tmp_path, pictures)
    assert second.step == 2
    assert same(second, first)
    second.run()
    assert second.step == 6
    assert same(second, undisturbed)
    assert log(tmp_path) == log(undisturbed.folder)
    third = training(tmp_path, pictures)
    third.run()  # there is nothing left to do
    assert same(third, undisturbed)
    assert log(tmp_path) == log(undisturbed.folder)


def test_a_run_of_another_recipe_is_not_gone_on_with(
    undisturbed: Training, pictures: list[Picture]
) -> None:
    with pytest.raises(InputError, match="was run with steps 6, seed 1"):
        training(undisturbed.folder, pictures, replace(TINY, steps=7, seed=2))


@pytest.mark.parametrize(
    ("moment", "kept"), [("step", 2), ("checkpoint", 2), ("log", 4), ("judge", 6)]
)
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    undisturbed: Training, pictures: list[Picture], tmp_path: Path, moment: str, kept: int
) -> None:
    stored, folder = tmp_path / "pictures.npz", tmp_path / "run"
    arrays = {}
    for picture in pictures:
        arrays[f"{picture.name}.image"] = picture.image
        arrays[f"{picture.name}.labels"] = picture.labels
    np.savez(stored, **arrays)
    child = Path(__file__).with_name("killed_child.py")
    done = subprocess.run(
        [sys.executable, child, folder, stored, json.dumps(asdict(TINY)), moment],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode != 0
    assert done.stderr == ""  # killed, not failed
    assert (folder / "state.pt").is_file()
    run = training(folder, pictures)
    assert run.step == kept
    run.run()
    assert same(run, undisturbed)
    assert log(folder) == log(undisturbed.folder)
