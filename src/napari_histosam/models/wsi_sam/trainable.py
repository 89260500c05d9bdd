"""WSI-SAM as it is trained: what it adds to SAM's decoder, in both windows, by its own recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from napari_histosam.models.losses import PerObject, ious
from napari_histosam.models.protocols import ObjectPrompts
from napari_histosam.models.sam.build import SIDE
from napari_histosam.models.sam.frame import LOW
from napari_histosam.models.sam.prompts import batches
from napari_histosam.models.single_answer import SingleAnswer
from napari_histosam.models.trainable import Answers, Place, check_method
from napari_histosam.models.wsi_sam.frame import frame_of, in_both
from napari_histosam.models.wsi_sam.load import added, network
from napari_histosam.models.wsi_sam.loss import enlarged, loss
from napari_histosam.models.wsi_sam.model import check_windows
from napari_histosam.models.wsi_sam.network import View
from napari_histosam.models.wsi_sam.score import scores

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_histosam.models.cards import ModelCard
    from napari_histosam.models.parts import Part
    from napari_histosam.models.trainable import Method, NetPrompts

METHODS: tuple[Method, ...] = ("decoder",)
_RATE = 1e-3
_NET = 2 * LOW
# Window px per net px: windows are never scaled, only padded.
_FACTOR = SIDE / _NET
_WINDOWS, _SIDES = ("fine", "coarse"), ("high", "low")


class WsiSamTrainable(SingleAnswer):
    """WSI-SAM as a `Trainable`: 25 tensors in each of its two decoders learn, all else is frozen.

    The loss is upstream's: soft Dice and cross entropy of the token's mask, without SAM's own, in
    both windows. In the coarse window the truth is the object that was asked for, whole, where
    upstream takes all foreground: a prompt names one object.

    Parameters
    ----------
    card : ModelCard
    parts : mapping of str to Part
        ``"encoder"``, ``"high"`` and ``"low"``.
    method : {"decoder"}

    Raises
    ------
    InputError
        If the method is another one, or a part does not fit.
    """

    object_px = 64.0

    def __init__(self, card: ModelCard, parts: Mapping[str, Part], method: str) -> None:
        from napari_histosam.models.wsi_sam.load import NO_BIASES

        self.card = card
        self.method = check_method(card, method, METHODS)
        self.rate = _RATE
        net = network(parts, lambda _: None, biases=card.variant != NO_BIASES)
        self.module: Any = net.requires_grad_(False)
        for part in self.learned().values():
            part.requires_grad_(True)

    def prepare(self, *images: NDArray[np.uint8]) -> dict[str, Tensor]:
        """Return ``"fine"`` and ``"coarse"`` (3, 1024, 1024) float32 of two windows (h, w, 3)."""
        frame = frame_of(check_windows(images, self.card.name))
        return {name: frame.image(image)[0] for name, image in zip(_WINDOWS, images, strict=True)}

    def needed(self, places: Collection[Place]) -> set[str]:
        """Return both windows."""
        return set(_WINDOWS)

    def encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the arrays of `WsiSamModel.encode`, (n, …) each."""
        found = {}
        for name in _WINDOWS:
            view = self.module.view(inputs[name])
            found[f"{name}_embedding"], found[f"{name}_early"] = view.embedding, view.early
        return found

    def places(
        self, prompts: ObjectPrompts, earlier: NDArray[np.float32] | None, size: tuple[int, int]
    ) -> list[Place]:
        """Return the whole of the fine window's square."""
        return [Place(0, 0, _NET, _NET, _FACTOR)]

    def decode(
        self,
        features: Mapping[str, Tensor],
        of: Sequence[int],
        places: Sequence[Place],
        prompts: Sequence[NetPrompts],
    ) -> list[Answers]:
        """Answer prompts; objects of one layout go through both decoders together."""
        size = (SIDE, SIDE)
        views = [
            View(features[f"{w}_embedding"].float(), features[f"{w}_early"].float())
            for w in _WINDOWS
        ]
        device = views[0].embedding.device
        pairs = [in_both(_in_window(one), size) for one in prompts]
        frame = frame_of(size)
        fine, coarse = ([pair[i] for pair in pairs] for i in range(2))
        both = zip(
            batches(fine, frame, len(fine)), batches(coarse, frame, len(coarse)), strict=True
        )
        out = []
        for high, low in both:
            at = torch.tensor([of[row] for row in high.numbers], device=device)
            # Each group is propagated by itself, so none may share a part of its graph.
            shown, place = at.unique(return_inverse=True)
            ahead = self.module.window_features(
                *(View(view.embedding[shown], view.early[shown]) for view in views)
            )
            seen = [View(view.embedding[at], view.early[at]) for view in views]
            fused = self.module(
                *seen,
                high.to(str(device)),
                low.to(str(device)),
                tuple(part[place] for part in ahead),
            )
            # As `Fused.fine`; but the token is not to learn from what it does to SAM's own mask.
            plain = fused.high.plain[:, 0].detach().float()
            logits = fused.high.token_logits(fused.kernel).float() + plain
            with torch.no_grad():
                score = scores(logits, fused.coarse().float(), size)
            more = {
                "plain": plain,
                "coarse": fused.low.token_logits(fused.kernel).float(),
            }
            out.append(Answers(high.numbers, logits[:, None], score[:, None], more))
        return out

    def loss(
        self,
        answers: Answers,
        truth: Tensor,
        areas: Tensor,
        ambiguous: Tensor,
        around: Tensor | None = None,
    ) -> PerObject:
        """Return upstream's loss for each object; without ``around``, of the fine window alone."""
        size = (int(truth.shape[1]), int(truth.shape[2]))
        logits = answers.logits[:, 0].float()
        token = enlarged(logits - answers.more["plain"], size)
        if around is None:
            coarse, wide = token, truth
        else:
            coarse, wide = enlarged(answers.more["coarse"], size), around[:, 0]
        total = loss(token, coarse, truth, wide)
        with torch.no_grad():
            masks = enlarged(logits, size)[:, None] > 0
            iou = ious(masks, truth, areas)[:, 0]
            error = (self.estimates(answers)[:, 0] - iou).abs()
        return PerObject(total, total, error, iou)

    def pace(self, name: str) -> float:
        """Return 1: all learns at one rate."""
        return 1.0

    def teach(self, on: bool, epoch: int = 0) -> None:
        """Do nothing: there is no dropout, and norms keep their statistics."""

    def learned(self) -> dict[str, Any]:
        """Return the trained parameters as ``"high/name"`` and ``"low/name"``."""
        return {
            f"{side}/{name}": value
            for side in _SIDES
            for name, value in added(getattr(self.module, side)).items()
        }


def _in_window(asked: NetPrompts) -> ObjectPrompts:
    """Return prompts in window px, as the prompt model gets them.

    An earlier mask counts only where there is nothing else, see `in_both`.
    """
    points = labels = box = mask = None
    if len(asked.points):
        points = np.array(asked.points, np.float64) * _FACTOR
        labels = np.array(asked.labels, np.int64)
    if asked.box is not None:
        box = np.asarray(asked.box, np.float64) * _FACTOR
    if points is None and box is None and asked.previous is not None:
        shown = (np.asarray(asked.previous) > 0.5).astype(np.uint8)
        grown = cv2.resize(shown, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        mask = grown.astype(bool)
    return ObjectPrompts(points, labels, box, mask)
