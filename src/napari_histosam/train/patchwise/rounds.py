"""Stages 3 and 4: teaches SAM's decoder by pseudo-masks, each round from SAM's own decoder again.

The authors' recipe: encoders frozen, the whole mask decoder by Dice and IoU loss, AdamW, batches of
four. Embeddings are made once and kept; so a patch is shown as it is (half of the time) or mirrored
or turned by a quarter, and not, as theirs, shifted, scaled and turned by small angles.

No outline is there to validate with. A decoder is the better, the more of what it outlines in the
positive patches held out is warm (IDS), and the better it agrees with the heat map's mask as a
whole (Dice): the mean of both. IDS alone would choose the smallest outlines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_histosam.models.devices import once_more
from napari_histosam.models.embedding_cache import EmbeddingCache
from napari_histosam.models.ep_sam.loss import DECODER_DECAY, DECODER_RATE, mask_loss
from napari_histosam.models.ep_sam.model import answered
from napari_histosam.models.ep_sam.network import over_patch
from napari_histosam.models.ep_sam.points import agreement, drawn
from napari_histosam.models.protocols import Embedding
from napari_histosam.train.patchwise.course import round_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from napari_histosam.models.ep_sam.cam import Heat
    from napari_histosam.models.ep_sam.frame import Recipe
    from napari_histosam.models.ep_sam.network import EpSam
    from napari_histosam.train.patchwise.labels import PatchEntry
    from napari_histosam.train.patchwise.patches import Patches
    from napari_histosam.train.patchwise.plan import PatchPlan

_BATCH = 4
# As `napari_histosam.train.finetune.features`: the whole set must fit.
_DISK_BYTES, _RAM_BYTES = 1 << 42, 1 << 30


def viewed(array: NDArray, view: int) -> NDArray:
    """Return a picture (h, w, …) as it is, mirrored across, mirrored down, or turned: 0 to 3."""
    if view == 0:
        return array
    made = (array[:, ::-1], array[::-1], np.rot90(array))[view - 1]
    return np.ascontiguousarray(made)


class Embedded:
    """SAM's embeddings of patches, made once and kept in memory and in a folder.

    Parameters
    ----------
    net : EpSam
        On the device.
    recipe : Recipe
    patches : Patches
    folder : Path
    weights_hash : str
        Of the base, whose encoder is not trained.
    device : torch.device
    """

    def __init__(
        self,
        net: EpSam,
        recipe: Recipe,
        patches: Patches,
        folder: Path,
        weights_hash: str,
        device: torch.device,
    ) -> None:
        self._net, self._recipe, self._patches = net, recipe, patches
        self._hash, self._device = weights_hash, device
        self._cache = EmbeddingCache(folder, _RAM_BYTES, _DISK_BYTES)

    def patch(self, entry: PatchEntry) -> NDArray[np.uint8]:
        """Return a patch in the networks' channel order."""
        return self._recipe.ordered(self._patches.of(entry))

    def of(self, entry: PatchEntry, view: int = 0) -> Tensor:
        """Return the embedding (1, 256, 64, 64) of a patch as `viewed`, float32, on the device."""
        state = entry.image.stat()
        name = f"{entry.image.resolve()}/{state.st_size}/{state.st_mtime_ns}"
        key = EmbeddingCache.key(name, self._hash, {"view": view, "side": self._patches.side})
        found = self._cache.get(key)
        if found is None:
            patch = viewed(self.patch(entry), view)
            made = once_more(lambda: self._made(patch), self._device.type)
            found = self._cache.put(key, made)
        return torch.from_numpy(found.arrays["embedding"]).float().to(self._device)

    def _made(self, patch: NDArray[np.uint8]) -> Embedding:
        with torch.no_grad():
            made = self._net.embedded(patch)
        return Embedding({"embedding": made.float().cpu().numpy()}, patch.shape[1::-1])

    def answer(self, entry: PatchEntry, heat: Heat) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return the heat map's mask of a patch, and the decoder's answer to its points."""
        with torch.no_grad():
            warm, _, likely = answered(
                self._net, self._recipe, self.patch(entry), heat, self.of(entry)
            )
        return warm, likely > 0.5


class DecoderStage:
    """The decoder as `napari_histosam.train.patchwise.loop.Stage`.

    Parameters
    ----------
    plan : PatchPlan
    number : int
        0 for what comes before the rounds.
    net : EpSam
        On the device, with SAM's own decoder in it.
    recipe : Recipe
    embedded : Embedded
    learn_from : sequence of PatchEntry and (side, side) bool array
        Masks are not empty.
    val : sequence of PatchEntry and Heat
        Positive patches held out.
    autocast : callable
        Makes the context in which the network computes.
    """

    option = "--decoder-rate"

    def __init__(
        self,
        plan: PatchPlan,
        number: int,
        net: EpSam,
        recipe: Recipe,
        embedded: Embedded,
        learn_from: Sequence[tuple[PatchEntry, NDArray[np.bool_]]],
        val: Sequence[tuple[PatchEntry, Heat]],
        autocast: Callable[[], AbstractContextManager],
    ) -> None:
        self.name, self._number = round_name(number), number
        self.epochs = plan.decoder_epochs
        self._batch = min(_BATCH, len(learn_from))
        self.per_epoch = -(-len(learn_from) // self._batch)
        net.requires_grad_(False)
        self.module: nn.Module = net.sam.mask_decoder.requires_grad_(True)
        self._plan, self._net, self._recipe, self._embedded = plan, net, recipe, embedded
        self._train, self._val, self._autocast = learn_from, val, autocast
        self._rate = plan.decoder_rate or DECODER_RATE
        self.optimiser = torch.optim.AdamW(
            self.module.parameters(), lr=self._rate, weight_decay=DECODER_DECAY
        )

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step: up to the peak, then down as a cosine."""
        return self._plan.rate_at(step, self.epochs * self.per_epoch, self._rate)

    def learn(self, step: int) -> float:
        """Propagate the loss of a batch, one patch after another, so that memory holds one."""
        epoch, place = divmod(step, self.per_epoch)
        seed = (self._plan.seed, 41, self._number)
        order = np.random.default_rng((*seed, epoch)).permutation(len(self._train))
        rng = np.random.default_rng((*seed, 1, step))
        total = 0.0
        for i in range(place * self._batch, (place + 1) * self._batch):
            entry, mask = self._train[order[i % len(order)]]
            view = 0
            if self._plan.views > 1 and rng.random() < 0.5:
                view = int(rng.integers(1, self._plan.views))
            target = viewed(mask, view)
            points = self._recipe.at(drawn(target, rng), target.shape)
            with self._autocast():
                low, _ = self._net.masked(self._embedded.of(entry, view), points)
            truth = torch.from_numpy(target)[None].to(low.device)
            loss = mask_loss(over_patch(low[None].float(), target.shape), truth) / self._batch
            loss.backward()
            total += float(loss.detach())
        return total

    def judge(self) -> tuple[float, dict[str, float]]:
        """Return the mean of IDS and of Dice with the heat map's mask, and both."""
        ids, dice = [], []
        for entry, heat in self._val:
            warm, mask = self._embedded.answer(entry, heat)
            ids.append(agreement(warm, mask))
            both = int(warm.sum() + mask.sum())
            dice.append(2 * int((warm & mask).sum()) / both if both else 0.0)
        found = {"val_ids": float(np.mean(ids)), "val_dice_heat": float(np.mean(dice))}
        return sum(found.values()) / 2, found
