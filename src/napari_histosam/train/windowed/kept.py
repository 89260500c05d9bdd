"""Keeps what is the same of a window in every epoch: features of a frozen encoder, and targets."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

import torch

from napari_histosam.models.devices import once_more
from napari_histosam.models.embedding_cache import EmbeddingCache
from napari_histosam.models.protocols import Embedding
from napari_histosam.models.window_trainable import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.window_trainable import WindowTrainable, WindowTruth
    from napari_histosam.train.windowed.subjects import Reader
    from napari_histosam.train.windowed.windows import Part, Seen

# As `napari_histosam.train.finetune.features`: the whole set must fit.
_DISK_BYTES, _RAM_BYTES = 1 << 42, 1 << 30


class Known(NamedTuple):
    """A window: where it lies, its content, and the same as the model gets it."""

    part: Part
    seen: Seen
    look: Look


class Kept:
    """What `WindowTrainable.encode` says of windows, in memory and in a folder.

    Parameters
    ----------
    model : WindowTrainable
        On the device.
    source : Reader
    folder : Path
    weights_hash : str
        Of the base.
    device : torch.device
    autocast : callable
        Returns the precision's context.
    """

    def __init__(
        self,
        model: WindowTrainable,
        source: Reader,
        folder: Path,
        weights_hash: str,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        self._model, self._source, self._hash = model, source, weights_hash
        self._device, self._autocast = device, autocast
        self._cache = EmbeddingCache(folder, _RAM_BYTES, _DISK_BYTES)

    def prepare(self, parts: Sequence[Part], report: Callable[[int], None]) -> None:
        """Encode all windows that are not kept yet; ``report`` gets how many are done."""
        for number, part in enumerate(parts, 1):
            self.of(part)
            report(number)

    def of(self, part: Part) -> Known:
        """Return a window, with its inputs and what is kept of it, on the device."""
        seen = self._source.read(part)
        prepared = self._model.prepare(*seen.images)
        inputs = {name: value.to(self._device) for name, value in prepared.items()}
        key = EmbeddingCache.key(_identity(part, seen.truth), self._hash, part.window.to_dict())
        found = self._cache.get(key)
        if found is None:
            made = once_more(lambda: self._encoded(inputs, seen), self._device.type)
            found = self._cache.put(key, made)
        kept = {name: torch.from_numpy(a).to(self._device) for name, a in found.arrays.items()}
        return Known(part, seen, Look(inputs, kept, seen.truth))

    def _encoded(self, inputs: dict[str, Tensor], seen: Seen) -> Embedding:
        with torch.no_grad(), self._autocast():
            found = self._model.encode(inputs, seen.truth)
        image = seen.images[0]
        arrays = {name: value.cpu().numpy() for name, value in found.items()}
        return Embedding(arrays, (image.shape[1], image.shape[0]))


def _identity(part: Part, truth: WindowTruth) -> str:
    state = part.entry.image.stat()
    boxes = hashlib.sha256(truth.boxes.round(3).tobytes()).hexdigest()
    entry = part.entry
    return f"{entry.set_name}/{entry.name}/{state.st_size}/{state.st_mtime_ns}/{boxes}"
