"""Features of windows: encoded once and kept on disk where the encoder is not trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_histosam.models.devices import once_more
from napari_histosam.models.embedding_cache import EmbeddingCache
from napari_histosam.models.protocols import Embedding
from napari_histosam.train.finetune.windows import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from torch import Tensor

    from napari_histosam.models.trainable import Place, Trainable
    from napari_histosam.train.finetune.windows import Sample, View

# The cache must hold the whole set, or each epoch would encode again what fell out.
_DISK_BYTES = 1 << 42
_RAM_BYTES = 1 << 30


class Encoded:
    """Features of a base's frozen encoder, float16, in memory and in a folder.

    Parameters
    ----------
    model : Trainable
        Of the method ``"decoder"``.
    folder : Path, optional
        Where features are kept between epochs and runs; None keeps them in memory.
    weights_hash : str
        Of the base.
    device : torch.device
    autocast : callable
        Returns the precision's context.
    note : callable of str
        Gets a sentence if the folder does not take them.
    """

    def __init__(
        self,
        model: Trainable,
        folder: Path | None,
        weights_hash: str,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager],
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._model, self._hash = model, weights_hash
        self._device, self._autocast = device, autocast
        self._folder, self._note, self._told = folder, note, False
        self._cache = EmbeddingCache(folder, _RAM_BYTES, _DISK_BYTES)
        self.encoded = 0
        """How many windows were encoded and not found."""

    def of(self, samples: Sequence[Sample], views: Sequence[View]) -> dict[str, Tensor]:
        """Return the features of samples, stacked, on the device, float16."""
        found = [self._one(sample, view) for sample, view in zip(samples, views, strict=True)]
        return {
            name: torch.from_numpy(np.stack([one.arrays[name] for one in found])).to(self._device)
            for name in found[0].arrays
        }

    def prepare(self, samples: Sequence[Sample], report: Callable[[int], None]) -> None:
        """Encode all samples that are not kept yet; ``report`` gets how many are done."""
        reader = Reader()
        for number, sample in enumerate(samples, 1):
            self._one(sample, None, reader)
            report(number)

    def _one(self, sample: Sample, view: View | None, reader: Reader | None = None) -> Embedding:
        key = EmbeddingCache.key(_identity(sample), self._hash, sample.window.to_dict())
        found = self._cache.get(key)
        if found is None:
            if view is None:
                assert reader is not None
                view = reader.read(sample)
            taken = view  # not None, also in the call
            made = once_more(lambda: self._encode(taken), self._device.type)
            found = self._cache.put(key, made)
            self.encoded += 1
            self._look(key)
        return found

    def _look(self, key: str) -> None:
        """Say it once if what was encoded did not get onto the disk."""
        if self._folder is None or self._told or (self._folder / f"{key}.npz").is_file():
            return
        self._told = True
        self._note(
            f"The features of windows cannot be kept in {self._folder}: they are kept in memory as "
            "far as they fit, else encoded in each epoch again, which is slower; make room there."
        )

    @torch.no_grad()
    def _encode(self, view: View) -> Embedding:
        inputs = {k: v[None].to(self._device) for k, v in self._model.prepare(*view.images).items()}
        with self._autocast():
            features = self._model.encode(inputs)
        arrays = {k: v[0].float().cpu().numpy() for k, v in features.items()}
        return Embedding(arrays, (view.image.shape[1], view.image.shape[0]))


def fresh(
    model: Trainable, views: Sequence[View], places: Collection[Place], device: torch.device
) -> dict[str, Tensor]:
    """Return the features of windows as the encoder makes them now, with gradients where on."""
    needed = model.needed(places)
    prepared = [model.prepare(*view.images) for view in views]
    inputs = {k: torch.stack([one[k] for one in prepared]).to(device) for k in sorted(needed)}
    return model.encode(inputs)


def _identity(sample: Sample) -> str:
    state = sample.entry.image.stat()
    return f"{sample.entry.set_name}/{sample.entry.name}/{state.st_size}/{state.st_mtime_ns}"
