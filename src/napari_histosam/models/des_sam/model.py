"""The model of decoder `des-sam`: finds all objects of a window, and answers boxes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from napari_histosam.geometry.components import fill_small_holes, largest, remove_islands
from napari_histosam.models.automatic import Detections
from napari_histosam.models.des_sam.finding import Settings, detected, stability
from napari_histosam.models.des_sam.frame import Square, normalised
from napari_histosam.models.devices import with_fallback
from napari_histosam.models.prompts import check_image, check_prompts
from napari_histosam.models.protocols import Candidates, Embedding
from napari_histosam.models.sam.frame import Frame
from napari_histosam.models.sam.prompts import batches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.des_sam.finding import Found
    from napari_histosam.models.des_sam.network import DesSam
    from napari_histosam.models.protocols import ObjectPrompts

_log = logging.getLogger(__name__)
T = TypeVar("T")
# Objects per decoder step, as `napari_histosam.models.sam.model` has them.
_BATCH_GPU, _BATCH_CPU = 50, 4
# Holes and islands of fewer window px are no part of a nucleus.
_SPECK_PX = 70


class DesSamModel:
    """DES-SAM as a `PromptModel` and as an `AutomaticModel`.

    Parameters
    ----------
    card : ModelCard
        Its classes are those of the network.
    net : DesSam
        With its weights, in eval mode.
    weights_hash : str
        SHA-256 of the weights file.
    device : str
    say : callable of str, optional
        Gets one sentence when memory runs out, or a window holds more objects than are kept.
    settings : Settings
        Replaced to find more or fewer objects; embeddings stay good.
    """

    def __init__(
        self,
        card: ModelCard,
        net: DesSam,
        weights_hash: str,
        device: str = "cpu",
        say: Callable[[str], None] | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.card = card
        self.weights_hash = weights_hash
        self.device = device
        self.settings = settings or Settings()
        self._say = say or _log.warning
        self._batch = _BATCH_CPU if device == "cpu" else _BATCH_GPU
        self._net = net.requires_grad_(False)
        self._place = "cpu"

    @property
    def net(self) -> DesSam:
        """The network, on whatever device it was used last."""
        return self._net

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> Embedding:
        """Encode one window of any size.

        Parameters
        ----------
        images : sequence of one (height, width, 3) uint8 RGB array

        Returns
        -------
        Embedding
            With the array ``"embedding"``, (256, 64, 64) float32.
        """
        (image,) = images
        check_image(image)
        square = Square((image.shape[1], image.shape[0]))
        pixels = normalised(square.pixels(image))

        def run(device: str, _: int) -> NDArray[np.float32]:
            with torch.inference_mode():
                return self._on(device).backbone(pixels.to(device))[0].float().cpu().numpy()

        array, self.device, _ = with_fallback(run, self.device, 1, self._say)
        return Embedding({"embedding": array}, square.size)

    def decode(
        self,
        embedding: Embedding,
        objects: Sequence[ObjectPrompts],
        *,
        multimask: bool = True,
    ) -> list[Candidates]:
        """Answer the prompts of several objects.

        A box goes where the detector's go, with the learned token. Points and masks, which the
        token never learned, get the answer of the SAM inside.

        Parameters
        ----------
        embedding : Embedding
            Of this model.
        objects : sequence of ObjectPrompts
        multimask : bool
            Without effect: there is one answer.

        Returns
        -------
        list of Candidates
            Logits are (1, 256, 256). Scores are the `stability` of the outline, no predicted IoU.
        """
        del multimask
        size = embedding.size
        checked = check_prompts(objects, size)
        boxed = [n for n, one in enumerate(checked) if _is_box(one)]
        others = [n for n in range(len(checked)) if n not in set(boxed)]
        corners = np.array([checked[n].box for n in boxed], np.float64).reshape(-1, 4)
        square = Square(size)
        boxes = torch.from_numpy(square.boxes(corners))
        rest = [checked[n] for n in others]

        def run(device: str, batch: int) -> dict[int, Candidates]:
            net, out = self._on(device), {}
            features = self._features(embedding, device)
            with torch.inference_mode():
                for start in range(0, len(boxed), batch):
                    part = boxes[start : start + batch].to(device)
                    low = net.box_masks(features, part, self.settings.token)
                    for row, number in enumerate(boxed[start : start + batch]):
                        out[number] = self._candidates(low[row], square, self.settings.mask_logit)
                for group in batches(rest, Frame(size), batch):
                    low = net.prompted_masks(features, group.to(device))
                    for row, number in enumerate(group.numbers):
                        out[others[number]] = self._candidates(low[row], square, 0.0)
            return out

        answers = self._run(run)
        return [answers[number] for number in range(len(checked))]

    def find(self, image: NDArray[np.uint8]) -> Detections:
        """Find all objects of a window; see `AutomaticModel.find`."""
        return self.find_in(self.encode([image]))

    def find_in(self, embedding: Embedding) -> Detections:
        """Find all objects of an encoded window.

        Masks have no islands and holes of less than 70 px; one that comes out empty is left out.

        Parameters
        ----------
        embedding : Embedding
            Of this model.
        """
        square = Square(embedding.size)

        def run(device: str, batch: int) -> tuple[Found, list[tuple[NDArray[np.bool_], int, int]]]:
            net, masks = self._on(device), []
            features = self._features(embedding, device)
            with torch.inference_mode():
                found = detected(net, features, self.settings)
                for start in range(0, len(found.boxes), batch):
                    boxes = found.boxes[start : start + batch]
                    low = net.box_masks(features, boxes, self.settings.token)
                    full = square.window_logits(low) > self.settings.mask_logit
                    masks += [cropped(mask) for mask in full.cpu().numpy()]
            return found, masks

        found, masks = self._run(run)
        if found.cut:
            self._say(
                f"A window holds more than {self.settings.most} objects, and the least certain are "
                "left out: choose a finer scale."
            )
        kept = [n for n, (mask, _, _) in enumerate(masks) if mask.any()]
        if not kept:
            return Detections.none()
        return Detections(
            square.window_boxes(found.boxes.float().cpu().numpy())[kept],
            found.scores.double().cpu().numpy()[kept],
            found.kinds.cpu().numpy().astype(np.int64)[kept],
            tuple(masks[n][0] for n in kept),
            np.array([masks[n][1:] for n in kept], np.int64),
        )

    def _features(self, embedding: Embedding, device: str) -> Tensor:
        array = np.asarray(embedding.arrays["embedding"], np.float32)
        return torch.from_numpy(array)[None].to(device)

    def _candidates(self, low: Tensor, square: Square, at: float) -> Candidates:
        masks = square.window_logits(low[None]) > at
        score = stability(low[None], at).cpu().numpy()
        return Candidates(masks.cpu().numpy(), score, low[None].float().cpu().numpy())

    def _run(self, run: Callable[[str, int], T]) -> T:
        out, device, self._batch = with_fallback(run, self.device, self._batch, self._say)
        if device != self.device:
            self.device, self._batch = device, _BATCH_CPU
        return out

    def _on(self, device: str) -> DesSam:
        if device != self._place:
            self._net = self._net.to(device)
            self._place = device
        return self._net


def _is_box(prompts: ObjectPrompts) -> bool:
    return (
        prompts.box is not None
        and prompts.points is None
        and prompts.mask is None
        and prompts.logits is None
    )


def cropped(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int, int]:
    """Return a tidied mask (h, w) cut to what is set, with the x and y of its corner."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros((0, 0), np.bool_), 0, 0
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    part = fill_small_holes(part, _SPECK_PX)
    whole = remove_islands(part, _SPECK_PX)
    part = whole if whole.any() else largest(part)
    rows, columns = (np.flatnonzero(part.any(axis)) for axis in (1, 0))
    inner = part[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(inner), left + int(columns[0]), top + int(rows[0])
