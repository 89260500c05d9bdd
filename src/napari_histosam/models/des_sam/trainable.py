"""DES-SAM as it is trained: pyramid, detector and one token, from boxes alone or from outlines.

By its authors' recipe, but for what they themselves would hardly want: colours and mask are
compared in the same box and at the same distance, no row of a window is left out, and the boxes of
regions are compared as shifts, so that a detector can begin from random weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from napari_histosam.models.automatic import Detections
from napari_histosam.models.des_sam.assign import (
    ANCHORS,
    IGNORED,
    NEGATIVE,
    PROPOSALS,
    assigned,
    sampled,
)
from napari_histosam.models.des_sam.colours import crops
from napari_histosam.models.des_sam.detector import clipped
from napari_histosam.models.des_sam.finding import Settings, detected
from napari_histosam.models.des_sam.frame import Square, normalised
from napari_histosam.models.des_sam.loss import objectness_loss
from napari_histosam.models.des_sam.mask_learning import Lesson, Recipe, mask_losses
from napari_histosam.models.des_sam.model import cropped
from napari_histosam.models.prompts import check_image
from napari_histosam.models.sam.frame import LOW
from napari_histosam.models.trainable import check_method, trained_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from torch.optim import Optimizer

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.des_sam.detector import Objectness
    from napari_histosam.models.des_sam.network import DesSam
    from napari_histosam.models.trainable import Method
    from napari_histosam.models.window_trainable import Look, WindowTruth

METHODS: tuple[Method, ...] = ("decoder",)
# Upstream: 0.02 for eight windows a step.
_RATE = 0.02 / 8
_ANCHORS, _ANCHORS_OF_OBJECTS = 256, 128
_REGIONS, _REGIONS_OF_OBJECTS = 512, 128
_CHUNK = 4
# In use a model trained here draws where the logit is above 0, as its targets were made.
_IN_USE = Settings(score=0.05, mask_logit=0.0)


class DesSamTrainable:
    """DES-SAM as a `WindowTrainable`.

    Parameters
    ----------
    card : ModelCard
        With the classes that are to be learned; where the network has another number of them,
        each begins as what the network calls a nucleus.
    net : DesSam
        With the base's weights; it is changed in place.
    method : {"decoder"}
    recipe : Recipe

    Raises
    ------
    InputError
        If the method is another one.
    """

    rate = _RATE

    def __init__(
        self, card: ModelCard, net: DesSam, method: str, recipe: Recipe | None = None
    ) -> None:
        self.card = card
        self.method = check_method(card, method, METHODS)
        self.recipe = recipe or Recipe()
        if net.box_head.classes != len(card.classes):
            _with_classes(net, len(card.classes))
        self.module: Any = net.requires_grad_(False).eval()
        for part in net.taught():
            part.requires_grad_(True)

    def prepare(self, *images: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Return ``"rgb"``, the padded square (1024, 1024, 3) uint8, and the ``"size"``."""
        (image,) = images
        check_image(image)
        square = Square((image.shape[1], image.shape[0]))
        return {
            "rgb": torch.from_numpy(square.pixels(image)),
            "size": torch.tensor(square.size),
        }

    def encode(self, inputs: Mapping[str, Tensor], truth: WindowTruth) -> dict[str, Tensor]:
        """Return ``"embedding"`` (256, 64, 64), and ``"teacher"``, the boxes' masks as bits."""
        net = self.module
        device = inputs["rgb"].device
        with torch.no_grad():
            x = normalised(inputs["rgb"].cpu().numpy()).to(device)
            embedding = net.backbone(x).float()
            boxes = torch.from_numpy(self._square(inputs).boxes(truth.boxes)).to(device)
            masks = [
                (net.taught_masks(embedding, part) > 0).cpu().numpy()
                for part in (boxes.split(_CHUNK) if len(boxes) else ())
            ]
        bits = [np.packbits(part.reshape(len(part), -1), axis=1) for part in masks]
        packed = np.concatenate(bits) if bits else np.zeros((0, LOW * LOW // 8), np.uint8)
        return {"embedding": embedding[0], "teacher": torch.from_numpy(packed).to(device)}

    def losses(self, windows: Sequence[Look]) -> Iterator[dict[str, Tensor]]:
        """Yield, of one window after another, the losses of detector and masks."""
        for window in windows:
            for part in self._losses(*window):
                yield {name: value / len(windows) for name, value in part.items()}

    def _losses(
        self, inputs: Mapping[str, Tensor], kept: Mapping[str, Tensor], truth: WindowTruth
    ) -> Iterator[dict[str, Tensor]]:
        """Yield the detector's losses, then those of the masks of few proposals at a time."""
        net, square = self.module, self._square(inputs)
        embedding = kept["embedding"].float()[None]
        device = embedding.device
        boxes = torch.from_numpy(square.boxes(truth.boxes)).to(device)
        kinds = torch.from_numpy(truth.kinds).to(device)
        unknown = _on_square(truth.ignore, square, device)
        levels = net.neck(embedding)
        seen = net.rpn.objectness(levels)
        out = self._objectness(seen, boxes, unknown)
        with torch.no_grad():
            proposals, _ = net.rpn.proposals(seen)
            proposals = torch.cat([boxes, proposals])
            of = _without_unknown(assigned(proposals, boxes, PROPOSALS), proposals, unknown)
            positive, negative = sampled(of, _REGIONS, _REGIONS_OF_OBJECTS)
        objects = of[positive] - 1
        chosen = proposals[torch.cat([positive, negative])]
        logits, shifts = net.box_head(levels, chosen)
        wanted = torch.full((len(chosen),), net.box_head.classes, device=device)
        wanted[: len(positive)] = kinds[objects]
        named = wanted >= 0
        sorting = torch.nn.functional.cross_entropy
        out["loss_cls"] = sorting(logits[named], wanted[named]) if named.any() else logits.sum() * 0
        off = self._off(shifts[: len(positive)], chosen[: len(positive)], boxes[objects])
        out["loss_bbox"] = self.recipe.box_factor * off / max(len(chosen), 1)
        yield out
        if len(positive):
            lesson = self._lesson(inputs, kept, truth, boxes)
            yield from mask_losses(
                net, embedding, proposals[positive], objects, lesson, self.recipe, _CHUNK
            )

    def found(
        self, kept: Mapping[str, Tensor], size: tuple[int, int], masks: bool = True
    ) -> Detections:
        """Return what is found, down to little certainty, so that precision can be averaged."""
        net, square = self.module, Square(size)
        embedding = kept["embedding"].float()[None]
        drawn = []
        with torch.no_grad():
            seen = detected(net, embedding, _IN_USE)
            for start in range(0, len(seen.boxes) if masks else 0, _CHUNK):
                low = net.box_masks(embedding, seen.boxes[start : start + _CHUNK])
                full = square.window_logits(low) > _IN_USE.mask_logit
                drawn += [cropped(mask) for mask in full.cpu().numpy()]
        if not len(seen.boxes):
            return Detections.none()
        return Detections(
            square.window_boxes(seen.boxes.float().cpu().numpy()),
            seen.scores.double().cpu().numpy(),
            seen.kinds.cpu().numpy().astype(np.int64),
            tuple(mask for mask, _, _ in drawn),
            np.array([corner for _, *corner in drawn], np.int64).reshape(-1, 2),
        )

    def optimiser(self, rate: float) -> Optimizer:
        """Return stochastic gradient descent with momentum."""
        learns = [p for p in self.module.parameters() if p.requires_grad]
        return torch.optim.SGD(learns, lr=rate, momentum=0.9, weight_decay=1e-4)

    def teach(self, on: bool, epoch: int = 0) -> None:
        """Have the proposal network keep more candidates; nothing else differs."""
        self.module.rpn.train(on)

    def state(self) -> dict[str, Tensor]:
        """Return the trained parameters under upstream's names, float32."""
        return {self.module.published(k): v for k, v in trained_state(self.module).items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take trained parameters."""
        own = {self.module.published(name): name for name, _ in self.module.named_parameters()}
        self.module.load_state_dict({own[k]: v for k, v in state.items()}, strict=False)

    def _off(self, shifts: Tensor, regions: Tensor, truth: Tensor) -> Tensor:
        """Return by how much the boxes of regions are off, summed."""
        coder = self.module.box_head.coder
        if self.recipe.in_pixels:
            return (clipped(coder.decoded(shifts, regions)) - truth).abs().sum()
        return (shifts - coder.encoded(truth, regions)).abs().sum()

    def _objectness(
        self, seen: Objectness, boxes: Tensor, unknown: Tensor | None
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            of = _without_unknown(assigned(seen.anchors, boxes, ANCHORS), seen.anchors, unknown)
            positive, negative = sampled(of, _ANCHORS, _ANCHORS_OF_OBJECTS)
            wanted = self.module.rpn.coder.encoded(boxes[of[positive] - 1], seen.anchors[positive])
        rows = torch.cat([positive, negative])
        sorting, place = objectness_loss(
            seen.logits[rows], seen.shifts[positive], wanted, len(rows)
        )
        return {"loss_rpn_cls": sorting, "loss_rpn_bbox": place}

    def _lesson(
        self,
        inputs: Mapping[str, Tensor],
        kept: Mapping[str, Tensor],
        truth: WindowTruth,
        boxes: Tensor,
    ) -> Lesson:
        square, device = self._square(inputs), boxes.device
        bits = np.unpackbits(kept["teacher"].cpu().numpy(), axis=1).astype(bool)
        masks = bits.reshape(-1, LOW, LOW)
        outlined = np.zeros(len(masks), bool)
        for row, mask in enumerate(truth.masks or ()):
            if mask is not None:
                masks[row], outlined[row] = _cells(mask, square), True
        rgb = inputs["rgb"].permute(2, 0, 1)
        return Lesson(
            boxes,
            torch.from_numpy(masks).to(device),
            torch.from_numpy(outlined).to(device),
            crops(rgb, boxes, square.inner, self.recipe.invalid_rows),
        )

    def _square(self, inputs: Mapping[str, Tensor]) -> Square:
        width, height = inputs["size"].tolist()
        return Square((width, height))


def _with_classes(net: DesSam, count: int) -> None:
    """Give the region head so many classes, each beginning as the mean of those that it has."""
    old = net.box_head.fc_cls
    new = torch.nn.Linear(old.in_features, count + 1)
    with torch.no_grad():
        for ours, theirs in ((new.weight, old.weight), (new.bias, old.bias)):
            ours[:-1] = theirs[:-1].mean(0)
            ours[-1] = theirs[-1]
        # Together they are as likely as before.
        new.bias[:-1] -= float(np.log(count / (len(old.bias) - 1)))
    net.box_head.fc_cls, net.box_head.classes = new, count


def _cells(mask: NDArray[np.bool_], square: Square) -> NDArray[np.bool_]:
    """Return which cells (256, 256) of the square a mask (h, w) of the window covers by half."""
    out = np.zeros((LOW, LOW), np.float32)
    width, height = (max(round(side / 4), 1) for side in square.inner)
    shrinks = width * height < mask.size
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    out[:height, :width] = cv2.resize(mask.astype(np.float32), (width, height), interpolation=how)
    return out >= 0.5


def _on_square(
    ignore: NDArray[np.bool_] | None, square: Square, device: torch.device
) -> Tensor | None:
    """Return unknown parts (1024, 1024) of the square."""
    if ignore is None or not ignore.any():
        return None
    pixels = square.pixels(np.repeat(ignore[..., None], 3, 2).astype(np.uint8) * 255)
    return torch.from_numpy(pixels[..., 0] > 127).to(device)


def _without_unknown(of: Tensor, boxes: Tensor, unknown: Tensor | None) -> Tensor:
    """Take background whose middle is not known to be any out of an assignment."""
    if unknown is None:
        return of
    last = unknown.shape[0] - 1
    x, y = ((boxes[:, i] + boxes[:, i + 2]).div(2).long().clamp(0, last) for i in (0, 1))
    return torch.where((of == NEGATIVE) & unknown[y, x], IGNORED, of)
