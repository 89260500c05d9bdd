"""Trains SAM's decoder and the neck before it: seeded, logged, resumable at every checkpoint."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from napari_histosam.errors import InputError
from napari_histosam.models.files import atomic_file, write_bytes_atomic
from napari_histosam.models.sam.build import PATCH
from napari_histosam.models.sam.decode import answers, gathered, layout
from napari_histosam.models.sam.loss import Weights, per_object
from napari_histosam.train.sam_small.batches import Batches, feed
from napari_histosam.train.small.prompting import correct
from napari_histosam.train.small.simulation import precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from segment_anything.modeling import Sam
    from torch import Tensor

    from napari_histosam.models.losses import PerObject
    from napari_histosam.train.sam_small.batches import Batch
    from napari_histosam.train.small.pool import Picture
    from napari_histosam.train.small.prompting import Asked

_log = logging.getLogger(__name__)
COLUMNS = ("step", "minutes", "rate", "loss", "train_iou", "val_iou_click", "val_iou_box")
# Px of SAM's square for each px that prompts are in.
_FACTOR = 2.0
_HELD_OUT_BATCHES = 24
_WEIGHTS = Weights(4.0, None)


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    steps, seed : int
    rate, decay : float
        AdamW's peak learning rate and weight decay.
    warm_up : int
        Steps until the peak.
    average : float
        Decay per step of the moving average that becomes the model.
    half : bool
        Compute in bfloat16 where autocast allows.
    corrected : float
        Share of the steps that learn from a corrective click after the first answer.
    every : int
        Steps between checkpoints, each with a validation.
    start : str
        A file that an earlier run wrote, to go on from; without one, weights are drawn.
    """

    steps: int = 2_400
    seed: int = 1
    rate: float = 5e-4
    decay: float = 0.01
    warm_up: int = 100
    average: float = 0.998
    half: bool = True
    corrected: float = 0.4
    every: int = 200
    start: str = ""

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step: linear up, then a half cosine down to 1 %."""
        if step < self.warm_up:
            return self.rate * (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        return self.rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


class Training:
    """One run of training in a folder, which may hold an earlier part of the same run.

    The trunk stays as `histosam-small` has it; neck, prompt encoder and decoder learn.

    Parameters
    ----------
    folder : Path
        Gets ``state.pt`` and ``log.csv``.
    recipe : Recipe
    sam : Sam
        Of the variant ``"bundled"``; it is changed in place.
    pictures, held_out : sequence of Picture
    workers : int
        Processes that make batches; 0 makes them in this one.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        sam: Sam,
        pictures: Sequence[Picture],
        held_out: Sequence[Picture],
        workers: int = 1,
    ) -> None:
        self.folder, self.recipe, self.sam = folder, recipe, sam.eval()
        self._pictures, self._held_out, self._workers = pictures, held_out, workers
        sam.requires_grad_(True)
        encoder: Any = sam.image_encoder
        encoder.trunk.requires_grad_(False)
        encoder.skip.requires_grad_(False)
        learning = dict(sam.named_parameters())
        self._learning = {name: p for name, p in learning.items() if p.requires_grad}
        self.averaged = {name: p.detach().clone() for name, p in self._learning.items()}
        heavy = [p for p in self._learning.values() if p.ndim > 1]
        light = [p for p in self._learning.values() if p.ndim <= 1]
        self._optimiser = torch.optim.AdamW(
            [
                {"params": heavy, "weight_decay": recipe.decay},
                {"params": light, "weight_decay": 0.0},
            ],
            lr=recipe.rate,
        )
        self.step, self._seconds = 0, 0.0
        self._rows: list[dict[str, Any]] = []
        if (folder / "state.pt").is_file():
            self._resume()

    def run(self, until: int | None = None) -> None:
        """Train to the end of the recipe, or until a step."""
        recipe = self.recipe
        end = recipe.steps if until is None else min(until, recipe.steps)
        sums, count, begun = np.zeros(2), 0, time.monotonic()
        batches = Batches(self._pictures, recipe.seed, end)
        for batch in feed(batches, self.step, self._workers):
            sums += self._learn(batch)
            count += 1
            if self.step % recipe.every == 0 or self.step == end:
                self._seconds += time.monotonic() - begun
                self._checkpoint(sums / count)
                sums, count, begun = np.zeros(2), 0, time.monotonic()

    def state(self) -> dict[str, Tensor]:
        """Return the averaged model's weights under SAM's names."""
        return {**self.sam.state_dict(), **self.averaged}

    def _learn(self, batch: Batch) -> tuple[float, float]:
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, self.step, 1))
        for group in self._optimiser.param_groups:
            group["lr"] = recipe.rate_at(self.step)
        features = self._encoded(batch)
        if rng.random() < recipe.corrected:
            with torch.no_grad():
                self._correct(batch, features.detach(), rng)
        found, _ = self._ask(batch, features)
        loss = torch.cat([one.total for one in found]).mean()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._learning.values(), 1.0)
        self._optimiser.step()
        self.step += 1
        decay = min(recipe.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, mine in self.averaged.items():
                mine.lerp_(self._learning[name], 1 - decay)
        return float(loss.detach()), float(torch.cat([one.iou for one in found]).mean())

    def _encoded(self, batch: Batch) -> Tensor:
        encoder: Any = self.sam.image_encoder
        with precision("cpu", self.recipe.half):
            with torch.no_grad():
                joined = encoder.joined(batch.pixels)
            features: Tensor = encoder.neck(joined)
        return features.float()

    def _ask(
        self, batch: Batch, features: Tensor
    ) -> tuple[list[PerObject], list[tuple[list[int], Tensor, Tensor]]]:
        groups: dict[tuple[int, bool, bool], list[int]] = {}
        for row, one in enumerate(batch.asked):
            groups.setdefault(layout(one), []).append(row)
        losses, said = [], []
        for rows in groups.values():
            told = [_moved(batch.asked[row], batch.corner) for row in rows]
            with precision("cpu", self.recipe.half):
                logits, scores = answers(
                    self.sam, features[batch.of[rows]], gathered(told, _FACTOR, "cpu"), batch.corner
                )
            truth = torch.from_numpy(np.stack([batch.asked[row].truth for row in rows]))
            ambiguous = torch.tensor([batch.asked[row].ambiguous for row in rows])
            logits, scores = logits.float(), scores.float()
            losses.append(per_object(logits, scores, truth, batch.areas[rows], ambiguous, _WEIGHTS))
            said.append((rows, logits, scores))
        return losses, said

    def _correct(self, batch: Batch, features: Tensor, rng: np.random.Generator) -> None:
        """Show every object its first answer, and click where that is wrong."""
        _, said = self._ask(batch, features)
        for rows, logits, scores in said:
            for row, masks, score in zip(rows, logits, scores, strict=True):
                asked = batch.asked[row]
                best = 1 + int(score[1:].argmax()) if asked.ambiguous else 0
                asked.previous = masks[best].sigmoid().numpy()
                full = nn.functional.interpolate(masks[best][None, None], scale_factor=2.0)
                correct(asked, (full[0, 0] > 0).numpy(), rng)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Return mean IoUs at one click and by box, on batches of images held out."""
        kept = {name: p.detach().clone() for name, p in self._learning.items()}
        self._take(self.averaged)
        by: dict[str, list[float]] = {"click": [], "box": []}
        for batch in feed(Batches(self._held_out, 0, _HELD_OUT_BATCHES, plain=True), 0, 0):
            features = self._encoded(batch)
            for kind, iou in self._ious(batch, features):
                by[kind].append(iou)
        self._take(kept)
        return {f"val_iou_{kind}": float(np.mean(found)) for kind, found in by.items()}

    def _ious(self, batch: Batch, features: Tensor) -> list[tuple[str, float]]:
        _, said = self._ask(batch, features)
        out = []
        for rows, logits, scores in said:
            for row, masks, score in zip(rows, logits, scores, strict=True):
                asked = batch.asked[row]
                if not asked.truth.any() or not (asked.ambiguous or asked.box is not None):
                    continue
                best = 1 + int(score[1:].argmax()) if asked.ambiguous else 0
                full = nn.functional.interpolate(
                    masks[best][None, None], scale_factor=2.0, mode="bilinear"
                )
                mask = (full[0, 0] > 0).numpy()
                common = float((mask & asked.truth).sum())
                iou = common / max(float(batch.areas[row]) + mask.sum() - common, 1.0)
                out.append(("click" if asked.ambiguous else "box", iou))
        return out

    def _take(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._learning[name].data.copy_(value)

    def _checkpoint(self, means: np.ndarray) -> None:
        row: dict[str, Any] = {
            "step": self.step,
            "minutes": self._seconds / 60,
            "rate": self.recipe.rate_at(self.step),
            "loss": float(means[0]),
            "train_iou": float(means[1]),
            **self._validate(),
        }
        self._rows.append(row)
        _log.info("%s", "  ".join(f"{name} {_short(row[name])}" for name in COLUMNS))
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "seconds": self._seconds,
            "learning": {name: p.detach() for name, p in self._learning.items()},
            "averaged": self.averaged,
            "optimiser": self._optimiser.state_dict(),
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
        state = torch.load(self.folder / "state.pt", map_location="cpu", weights_only=True)
        ours = asdict(self.recipe)
        other = {k: v for k, v in state["recipe"].items() if ours.get(k, v) != v}
        if other:
            listed = ", ".join(f"{name} {value}" for name, value in other.items())
            raise InputError(
                f"{self.folder} was run with {listed}: give the same options, or another folder."
            )
        self._take(state["learning"])
        self.averaged = state["averaged"]
        self._optimiser.load_state_dict(state["optimiser"])
        self.step, self._seconds = int(state["step"]), float(state["seconds"])
        self._rows = list(state["rows"])
        _log.info("resumed at step %d", self.step)


def _moved(asked: Asked, corner: tuple[int, int]) -> Asked:
    """Return prompts of a part as prompts of the whole square, in the same px."""
    shift = np.array([corner[1], corner[0]]) * (PATCH / _FACTOR)
    points = [(x + float(shift[0]), y + float(shift[1])) for x, y in asked.points]
    box = None if asked.box is None else asked.box + np.tile(shift, 2)
    return replace(asked, points=points, box=box)


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.5g}"
