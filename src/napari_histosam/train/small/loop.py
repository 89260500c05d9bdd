"""Trains the bundled network: seeded, logged, and resumable at every checkpoint."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from napari_histosam.errors import InputError
from napari_histosam.models.files import atomic_file, write_bytes_atomic
from napari_histosam.models.small.encoder import Features
from napari_histosam.models.small.layers import in_channels_last
from napari_histosam.models.small.load import load_net
from napari_histosam.models.small.network import SmallNet
from napari_histosam.train.small.batches import Batches, feed
from napari_histosam.train.small.judging import fit_judge, gather, worth
from napari_histosam.train.small.loss import losses
from napari_histosam.train.small.prompting import batch_of
from napari_histosam.train.small.simulation import precision, simulate
from napari_histosam.train.small.validation import validate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_histosam.train.small.batches import Batch
    from napari_histosam.train.small.pool import Picture

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    steps : int
        Optimiser steps in all.
    seed : int
    crops : int
        Per step; two objects are asked for in each. Every fourth step has small ones.
    rate, decay : float
        AdamW's peak learning rate and weight decay.
    warm_up : int
        Steps until the peak.
    freeze : float
        Share of the steps after which batch norm keeps its statistics.
    average : float
        Decay per step of the moving average that becomes the model.
    half : bool
        Compute in bfloat16 where autocast allows.
    every : int
        Steps between checkpoints, each with a validation.
    windows : int
        Windows from which, at the end, the judge learns what masks are worth.
    start : str
        A weights file to go on from; without one, weights are drawn by the seed.
    """

    steps: int = 4_500
    seed: int = 1
    crops: int = 16
    rate: float = 2e-3
    decay: float = 0.03
    warm_up: int = 200
    freeze: float = 0.4
    average: float = 0.998
    half: bool = True
    every: int = 400
    windows: int = 3_000
    start: str = ""

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step: linear up, then a half cosine down to 1 %."""
        if step < self.warm_up:
            return self.rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        return self.rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


COLUMNS = (
    "step",
    "minutes",
    "rate",
    "loss",
    "mask_loss",
    "score_error",
    "train_iou",
    "val_click1",
    "val_click3",
    "val_box",
    "val_score_error",
)


class Training:
    """One run of training in a folder, which may hold an earlier part of the same run.

    Parameters
    ----------
    folder : Path
        Gets ``state.pt`` (to resume from, with the averaged weights) and ``log.csv``.
    recipe : Recipe
    pictures, held_out : sequence of Picture
        To train on and to validate with.
    device : str
    workers : int
        Processes that make batches; 0 makes them in this one.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        pictures: Sequence[Picture],
        held_out: Sequence[Picture],
        device: str = "cpu",
        workers: int = 1,
    ) -> None:
        self.folder, self.recipe = folder, recipe
        self._pictures, self._held_out = pictures, held_out
        self._device, self._workers = device, workers
        torch.manual_seed(recipe.seed)
        begun = load_net(Path(recipe.start), judged=False) if recipe.start else SmallNet()
        self.net = in_channels_last(begun.to(device))
        self.averaged = in_channels_last(SmallNet().to(device)).eval()
        self.averaged.requires_grad_(False)
        self.averaged.load_state_dict(self.net.state_dict())
        self.net.judge.requires_grad_(False)  # it learns last, and alone
        self._optimiser = torch.optim.AdamW(_groups(self.net, recipe.decay), lr=recipe.rate)
        self.step, self._seconds = 0, 0.0
        self._judged = False
        self._rows: list[dict[str, Any]] = []
        if (folder / "state.pt").is_file():
            self._resume()

    def run(self, until: int | None = None) -> None:
        """Train to the end of the recipe, or until a step."""
        recipe = self.recipe
        end = recipe.steps if until is None else min(until, recipe.steps)
        batches = Batches(self._pictures, recipe.seed, recipe.crops, end)
        sums: dict[str, float] = {}
        count, begun = 0, time.monotonic()
        for batch in feed(batches, self.step, self._workers):
            for name, value in self._learn(batch).items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            if self.step % recipe.every == 0 or self.step == end:
                self._seconds += time.monotonic() - begun
                self._checkpoint({name: value / count for name, value in sums.items()})
                sums, count, begun = {}, 0, time.monotonic()
        if self.step == recipe.steps and recipe.windows and not self._judged:
            self._teach_judge()
            self._seconds += time.monotonic() - begun
            self._judged = True
            self._save()

    def _teach_judge(self) -> None:
        recipe, net = self.recipe, self.averaged
        examples = gather(net, self._pictures, recipe.seed, recipe.windows, self._workers)
        fit_judge(net.judge, examples, recipe.seed)
        unseen = gather(
            net, self._held_out, recipe.seed, max(recipe.windows // 10, 1), self._workers
        )
        found = worth(net.judge, unseen)._asdict()
        _log.info("judge  %s", "  ".join(f"{name} {_short(v)}" for name, v in found.items()))
        told = {"examples": len(examples), "held_out_examples": len(unseen), **found}
        text = json.dumps(told, indent=1) + "\n"
        write_bytes_atomic(self.folder / "judge.json", text.encode("utf-8"))

    def _learn(self, batch: Batch) -> dict[str, float]:
        recipe, net = self.recipe, self.net
        rng = np.random.default_rng((recipe.seed, self.step, 1))
        pixels = batch.pixels.to(self._device, memory_format=torch.channels_last)
        frozen = self.step >= recipe.freeze * recipe.steps
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.rate_at(self.step)
        # Batches with few clicks and many have other statistics, so clicks are simulated with the
        # lasting ones.
        net.eval()
        if frozen:
            features = self._encoded(pixels)
            seen = Features(*(level.detach() for level in features))
            simulate(net, batch, seen, rng, recipe.half)
        else:
            with torch.no_grad():
                seen = self._encoded(pixels)
            simulate(net, batch, seen, rng, recipe.half)
            net.train()
            features = self._encoded(pixels)
        ambiguous = torch.tensor([one.ambiguous for one in batch.asked], device=self._device)
        truth = torch.from_numpy(np.stack([one.truth for one in batch.asked])).to(self._device)
        with precision(self._device, recipe.half):
            picked = features.pick(batch.of.to(self._device))
            logits, scores = net.decode(picked, batch_of(batch.asked, self._device))
        found = losses(logits, scores, truth, batch.areas.to(self._device), ambiguous)
        self._optimiser.zero_grad(set_to_none=True)
        found.total.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        self._optimiser.step()
        self.step += 1
        _follow(self.averaged, net, min(recipe.average, (1 + self.step) / (10 + self.step)))
        return {
            "loss": float(found.total.detach()),
            "mask_loss": float(found.mask),
            "score_error": float(found.score),
            "train_iou": float(found.iou),
        }

    def _encoded(self, pixels: torch.Tensor) -> Features:
        with precision(self._device, self.recipe.half):
            return self.net.encode(pixels)

    def _checkpoint(self, means: dict[str, float]) -> None:
        row: dict[str, Any] = {
            "step": self.step,
            "minutes": self._seconds / 60,
            "rate": self.recipe.rate_at(self.step),
            **means,
            **validate(self.averaged, self._held_out, self._device),
        }
        self._rows.append(row)
        _log.info("%s", "  ".join(f"{name} {_short(row[name])}" for name in COLUMNS))
        self._save()

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "seconds": self._seconds,
            "net": self.net.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "judged": self._judged,
            "rows": self._rows,
        }
        with atomic_file(self.folder / "state.pt") as out:
            torch.save(state, out)
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS)
        table.writeheader()
        table.writerows({k: _short(v) for k, v in one.items()} for one in self._rows)
        write_bytes_atomic(self.folder / "log.csv", text.getvalue().encode("utf-8"))

    def _resume(self) -> None:
        state = torch.load(self.folder / "state.pt", map_location=self._device, weights_only=True)
        ours = asdict(self.recipe)
        other = {k: v for k, v in state["recipe"].items() if ours.get(k, v) != v}
        if other:
            listed = ", ".join(f"{name} {value}" for name, value in other.items())
            raise InputError(
                f"{self.folder} was run with {listed}: give the same options, or another folder."
            )
        self.net.load_state_dict(state["net"])
        self.averaged.load_state_dict(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self._seconds = int(state["step"]), float(state["seconds"])
        self._judged = bool(state.get("judged", False))
        self._rows = list(state["rows"])
        _log.info("resumed at step %d", self.step)


def _groups(net: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Decay the weights of convolutions, not norms and biases."""
    learning = [p for p in net.parameters() if p.requires_grad]
    heavy = [p for p in learning if p.ndim > 1]
    light = [p for p in learning if p.ndim <= 1]
    return [{"params": heavy, "weight_decay": decay}, {"params": light, "weight_decay": 0.0}]


@torch.no_grad()
def _follow(averaged: nn.Module, net: nn.Module, decay: float) -> None:
    theirs = net.state_dict()
    for name, mine in averaged.state_dict().items():
        if mine.is_floating_point():
            mine.lerp_(theirs[name], 1 - decay)
        else:
            mine.copy_(theirs[name])


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.5g}"
