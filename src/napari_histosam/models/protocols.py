"""What every decoder offers: encode a window once, answer many prompts from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_histosam.models.cards import ModelCard


@dataclass(frozen=True)
class Embedding:
    """What a model remembers of one window.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Plain numpy arrays, float16 or float32 (or uint8 where the image itself is the memory),
        so that they can be cached in memory and on disk; the model knows their meaning.
    size : tuple of int
        Width and height of the (finest) window in px.
    """

    arrays: Mapping[str, NDArray[Any]]
    size: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes held by the arrays."""
        return sum(int(a.nbytes) for a in self.arrays.values())


@dataclass(frozen=True)
class ObjectPrompts:
    """All prompts of one object, in window px, corner based (pixel centre = index + 0.5).

    Parameters
    ----------
    points : (n, 2) float array of x, y, or None
    labels : (n,) int array, 1 positive and 0 negative, or None
    box : (4,) float array: left, top, right, bottom, or None
    mask : (height, width) bool array of the window's size, or None
        An existing object or a previous answer.
    logits : (h, w) float32 array, or None
        Low-resolution logits of a previous answer of the same model on the same window; used in
        place of ``mask`` where the decoder takes them.
    side : float, optional
        The side (root of the area) in window px that such objects had so far; decoders that are
        unsure of the object's size may use it.
    """

    points: NDArray[np.float64] | None = None
    labels: NDArray[np.int64] | None = None
    box: NDArray[np.float64] | None = None
    mask: NDArray[np.bool_] | None = None
    logits: NDArray[np.float32] | None = None
    side: float | None = None


@dataclass(frozen=True)
class Candidates:
    """The masks that a decoder offers for one object, the best first.

    Parameters
    ----------
    masks : (k, height, width) bool array in window px
    scores : (k,) float array
        The estimate that belongs to each mask, best first, 0 to 1.
    logits : (k, h, w) float32 array
        Low-resolution logits in the order of ``masks``; (k, 0, 0) where the decoder has none.
    finer : int
        Mask px per window px: masks are (k, finer * height, finer * width).
    """

    masks: NDArray[np.bool_]
    scores: NDArray[np.float64]
    logits: NDArray[np.float32] = field(repr=False)
    finer: int = 1


@runtime_checkable
class PromptModel(Protocol):
    """A decoder with its weights loaded. Calls come from one worker thread at a time."""

    card: ModelCard
    weights_hash: str
    device: str

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> Embedding:
        """Encode the windows of one view.

        Parameters
        ----------
        images : sequence of (height, width, 3) uint8 RGB arrays
            One per entry of ``card.window_scales``, all around the same centre, finest first.
        """
        ...

    def decode(
        self,
        embedding: Embedding,
        objects: Sequence[ObjectPrompts],
        *,
        multimask: bool = True,
    ) -> list[Candidates]:
        """Answer the prompts of several objects in one call.

        Parameters
        ----------
        embedding : Embedding
            What `encode` returned, perhaps from a cache.
        objects : sequence of ObjectPrompts
        multimask : bool
            Offer several masks per object where the decoder can.

        Returns
        -------
        list of Candidates, one per object and in their order
        """
        ...


@runtime_checkable
class DrawsFiner(Protocol):
    """A prompt model whose masks may be finer than its window."""

    def decode_finer(
        self, embedding: Embedding, objects: Sequence[ObjectPrompts], finer: int
    ) -> list[Candidates]:
        """Answer as `PromptModel.decode`, with one mask each, of ``finer`` px per window px."""
        ...
